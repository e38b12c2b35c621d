//! Where models are looked for, and which are there.

use std::env;
use std::path::{Path, PathBuf};

use eyre::OptionExt;

use super::description;
use crate::project;

/// A model that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    /// The folder's name, which is what SAM2_MODEL_SIZE calls it.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

impl Installed {
    /// The model in this folder, if one is there.
    fn at(folder: PathBuf) -> Option<Self> {
        let name = folder.file_name()?.to_str()?.to_string();
        folder
            .join(description::FILE)
            .is_file()
            .then_some(Self { name, folder })
    }

    /// The folder that it lies in: SAM2_MODEL_DIR for the node.
    pub(crate) fn parent(&self) -> &Path {
        self.folder.parent().unwrap_or(Path::new("/"))
    }
}

/// The folders that hold models, the first one first: SAM2_MODEL_DIR, the project's own,
/// TRACKLENS_MODELS, the user's.
pub(crate) fn searched() -> Vec<PathBuf> {
    let given = env::var_os("SAM2_MODEL_DIR").filter(|path| !path.is_empty());
    let mut folders: Vec<PathBuf> = given.map(PathBuf::from).into_iter().collect();
    folders.extend(project::find(&["nodes/sam2-tracker/models"]));
    folders.extend(project::models());
    folders.extend(home().ok());
    folders
}

/// The user's folder of models.
pub(crate) fn home() -> eyre::Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let data = match set("XDG_DATA_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let home =
                set("HOME").ok_or_eyre("neither XDG_DATA_HOME nor HOME is set: give --dir")?;
            Path::new(&home).join(".local/share")
        }
    };
    Ok(data.join("tracklens/models"))
}

/// Every model in these folders, by name; of equal names the first folder's counts.
pub(crate) fn installed(folders: &[PathBuf]) -> Vec<Installed> {
    let mut models: Vec<Installed> = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut here: Vec<Installed> = entries
            .filter_map(|entry| Installed::at(entry.path()))
            .collect();
        here.sort_by(|a, b| a.name.cmp(&b.name));
        here.retain(|model| models.iter().all(|known| known.name != model.name));
        models.extend(here);
    }
    models
}

/// The model of this name, or in this folder.
pub(crate) fn find(name: &str, folders: &[PathBuf]) -> eyre::Result<Installed> {
    let named = folders.iter().find_map(|folder| {
        let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        Installed::at(folder.join(plain.then_some(name)?))
    });
    let there = named.or_else(|| Installed::at(Path::new(name).canonicalize().ok()?));
    there.ok_or_else(|| {
        let places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        eyre::eyre!(
            "there is no model {name:?}: no {name}/{} in {}; `tracklens models list` says how to get one",
            description::FILE,
            places.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_folders_model_counts() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let model = folder.path().join(name);
            std::fs::create_dir_all(&model).unwrap();
            std::fs::write(model.join(description::FILE), "").unwrap();
            model
        };
        let (first, _) = (make("a/tiny"), make("b/tiny"));
        let other = make("b/nano");
        std::fs::create_dir_all(folder.path().join("b/export")).unwrap();
        let folders = ["a", "b", "c"].map(|name| folder.path().join(name));
        let models = installed(&folders);
        let found: Vec<&Path> = models.iter().map(|model| model.folder.as_path()).collect();
        assert_eq!(found, [first.as_path(), other.as_path()]);
        assert_eq!(find("tiny", &folders).unwrap().folder, first);
        let by_path = find(other.to_str().unwrap(), &folders).unwrap();
        assert_eq!(
            (by_path.name.as_str(), by_path.parent()),
            ("nano", folders[1].as_path())
        );
        let error = find("large", &folders).unwrap_err().to_string();
        assert!(error.contains("large/model.toml in "), "{error}");
    }
}
