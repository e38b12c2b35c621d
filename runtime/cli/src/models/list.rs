//! `tracklens models list`: the sizes, which are installed where, and what to type for the others.

use std::io::Write;

use comfy_table::{Table, presets};

use super::catalogue::{self, SIZES, Size};
use super::description::{Description, FILE};
use super::folders::{self, Installed};

pub(crate) fn list(out: &mut dyn Write) -> eyre::Result<bool> {
    let searched = folders::searched();
    let models = folders::installed(&searched);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "size",
        "parameters",
        "licence",
        "installed in, or what to type",
    ]);
    for size in &SIZES {
        let here = models.iter().find(|model| model.name == size.name);
        table.add_row([
            size.name.to_string(),
            size.parameters.into(),
            size.licence.into(),
            here.map_or_else(|| how(size), |model| model.folder.display().to_string()),
        ]);
    }
    for model in models
        .iter()
        .filter(|model| catalogue::size(&model.name).is_none())
    {
        table.add_row([
            model.name.clone(),
            "-".into(),
            licence(model),
            model.folder.display().to_string(),
        ]);
    }
    writeln!(out, "{}\n", table.trim_fmt())?;
    writeln!(out, "Looked for in:")?;
    for folder in &searched {
        writeln!(out, "  {}", folder.display())?;
    }
    Ok(true)
}

fn how(size: &Size) -> String {
    match size.checkpoint {
        Some(checkpoint) => format!(
            "tracklens models export {} (fetches {:.0} MB, needs Python)",
            size.name,
            checkpoint.size as f64 / 1e6
        ),
        None => "part of the project: nodes/sam2-tracker/models is not here".into(),
    }
}

/// As its description says.
fn licence(model: &Installed) -> String {
    let text = std::fs::read_to_string(model.folder.join(FILE)).unwrap_or_default();
    Description::read(&text).licence
}
