//! `tracklens models`: what models there are, how to get them, and whether they are whole.

use std::io::Write;
use std::path::Path;

use crate::args::ModelsCommand;

mod catalogue;
mod checksum;
mod description;
mod download;
mod export;
mod folders;
mod list;
mod pull;
mod verify;

pub(crate) use folders::Installed;

pub(crate) fn models(command: &ModelsCommand, out: &mut dyn Write) -> eyre::Result<bool> {
    match command {
        ModelsCommand::List => list::list(out),
        ModelsCommand::Pull(arguments) => pull::pull(arguments, out),
        ModelsCommand::Export(arguments) => export::export(arguments, out),
        ModelsCommand::Verify(arguments) => {
            let folder = match find(&arguments.model) {
                Ok(model) => model.folder,
                // A folder without a model.toml: that is what there is to say of it.
                Err(_) if Path::new(&arguments.model).is_dir() => arguments.model.clone().into(),
                Err(error) => return Err(error),
            };
            verify::verify(&folder, out)
        }
    }
}

/// The model of this name, or in this folder.
pub(crate) fn find(model: &str) -> eyre::Result<Installed> {
    folders::find(model, &folders::searched())
}

/// Every model that is there.
pub(crate) fn installed() -> Vec<Installed> {
    folders::installed(&folders::searched())
}
