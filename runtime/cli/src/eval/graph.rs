//! The graph of an evaluation: one of the project's own, with some variables set, and written where
//! nothing depends on the folder it lies in.

use std::fs;
use std::path::{Path, PathBuf};

use eyre::{OptionExt, WrapErr};
use serde_yaml::{Mapping, Value};

use crate::project;

/// A graph read for changes.
pub(crate) struct Graph {
    name: &'static str,
    folder: PathBuf,
    yaml: Value,
}

impl Graph {
    /// A graph of the project, for example `graphs/sam2.yml`.
    pub(crate) fn read(name: &'static str) -> eyre::Result<Self> {
        let path = project::find(&[name]).ok_or_eyre(format!(
            "there is no {name} here: type this in the project's folder"
        ))?;
        let path = path.canonicalize()?;
        let text = fs::read_to_string(&path)?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::parse(name, folder, &text)
    }

    fn parse(name: &'static str, folder: PathBuf, text: &str) -> eyre::Result<Self> {
        let wrong = || format!("the graph {name}");
        let mut graph = Self {
            name,
            folder,
            yaml: serde_yaml::from_str(text).wrap_err_with(wrong)?,
        };
        graph.settle().wrap_err_with(wrong)?;
        Ok(graph)
    }

    /// Sets a variable of a node, whatever the graph or the environment say. A node is known by its
    /// program; its id may be another.
    pub(crate) fn set(&mut self, node: &str, variable: &str, value: &str) -> eyre::Result<()> {
        let name = self.name;
        let program = format!("tracklens-{node}");
        let is_it = |found: &&mut Value| {
            let path = found.get("path").and_then(Value::as_str);
            path.is_some_and(|path| Path::new(path).file_name() == Some(program.as_ref()))
        };
        let found = self.nodes()?.iter_mut().find(is_it);
        let node = found.ok_or_eyre(format!("{name} has no node {program}"))?;
        set(node, variable, value)
    }

    /// Sets a variable of every node.
    pub(crate) fn set_all(&mut self, variable: &str, value: &str) -> eyre::Result<()> {
        self.nodes()?
            .iter_mut()
            .try_for_each(|node| set(node, variable, value))
    }

    /// Writes the graph.
    pub(crate) fn write(&self, path: &Path) -> eyre::Result<()> {
        let text = serde_yaml::to_string(&self.yaml)?;
        fs::write(path, text).wrap_err_with(|| format!("cannot write {}", path.display()))
    }

    fn nodes(&mut self) -> eyre::Result<&mut Vec<Value>> {
        let nodes = self.yaml.get_mut("nodes").and_then(Value::as_sequence_mut);
        nodes.ok_or_eyre("expected a list `nodes`")
    }

    /// Makes the nodes' paths absolute, and leaves out the types, which are looked for beside the
    /// graph.
    fn settle(&mut self) -> eyre::Result<()> {
        let folder = self.folder.clone();
        for node in self.nodes()? {
            let node = node
                .as_mapping_mut()
                .ok_or_eyre("expected nodes to be mappings")?;
            for types in ["input_types", "output_types"] {
                node.remove(types);
            }
            if let Some(path) = node.get("path").and_then(Value::as_str) {
                let path = folder.join(path);
                eyre::ensure!(
                    path.is_file(),
                    "the node {} is not built: type `make build`",
                    path.display()
                );
                let path = path.canonicalize()?.to_string_lossy().into_owned();
                node.insert("path".into(), path.into());
            }
        }
        Ok(())
    }
}

fn set(node: &mut Value, variable: &str, value: &str) -> eyre::Result<()> {
    let node = node
        .as_mapping_mut()
        .ok_or_eyre("expected nodes to be mappings")?;
    let env = node
        .entry("env".into())
        .or_insert_with(|| Mapping::new().into());
    let env = env
        .as_mapping_mut()
        .ok_or_eyre("expected env to be a mapping")?;
    env.insert(variable.into(), value.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "
nodes:
  - id: source
    path: bin/tracklens-decoder
    outputs: [frames]
    output_types: { frames: tracklens/v1/Frames }
    env: { A: 1, B: 2 }
  - id: publisher
    path: bin/tracklens-publisher
";

    #[test]
    fn variables_are_set_and_paths_made_absolute() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Graph::parse("g.yml", folder.path().into(), TEXT)
            .err()
            .unwrap();
        assert!(format!("{missing:#}").contains("make build"), "{missing:#}");
        fs::create_dir(folder.path().join("bin")).unwrap();
        for program in ["decoder", "publisher"] {
            fs::write(folder.path().join(format!("bin/tracklens-{program}")), "").unwrap();
        }
        let mut graph = Graph::parse("g.yml", folder.path().into(), TEXT).unwrap();
        graph.set("decoder", "B", "x: y").unwrap();
        graph.set_all("C", "5").unwrap();
        let error = graph.set("buffer", "B", "").unwrap_err();
        assert_eq!(error.to_string(), "g.yml has no node tracklens-buffer");
        let path = folder.path().join("out.yml");
        graph.write(&path).unwrap();
        let yaml: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let decoder = &yaml["nodes"][0];
        assert!(decoder["path"].as_str().unwrap().starts_with('/'));
        assert!(decoder.get("output_types").is_none());
        assert_eq!(decoder["env"]["A"].as_i64(), Some(1));
        assert_eq!(decoder["env"]["B"].as_str(), Some("x: y"));
        assert_eq!(yaml["nodes"][1]["env"]["C"].as_str(), Some("5"));
    }
}
