//! The graph in a recording: as it was written, but with paths that hold in any folder.

use std::path::Path;

/// Makes the paths of nodes absolute, where the file is there; `folder` is where they start. `dora
/// replay` looks for them from the recording's folder. It also takes the timers of replaced nodes away,
/// without which they would be killed as silent: health checks are left out.
#[must_use]
pub fn absolute_paths(yaml: &str, folder: &Path) -> String {
    let mut out = String::with_capacity(yaml.len() + 256);
    for line in yaml.split_inclusive('\n') {
        if line.trim_start().starts_with("health_check_timeout:") {
            continue;
        }
        let found = line
            .split_once("path:")
            .filter(|(before, _)| before.chars().all(|c| c == ' ' || c == '-'));
        let path = found.map(|(before, after)| (before, after.trim().trim_matches(['"', '\''])));
        let absolute = path.and_then(|(before, path)| {
            let absolute = std::path::absolute(folder.join(path))
                .ok()?
                .canonicalize()
                .ok()?;
            Some((before, absolute))
        });
        match absolute {
            Some((before, path)) if path.is_file() => {
                out += &format!("{before}path: '{}'\n", path.display());
            }
            _ => out += line,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_of_files_that_are_there_become_absolute_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("graphs")).unwrap();
        std::fs::write(root.join("decoder"), "").unwrap();
        let yaml = "nodes: # all\n  - id: a\n    health_check_timeout: 30\n    path: ../decoder\n  - path: \"../decoder\"\n    \
                    path: ../other\n    env: {A: 'path: ../decoder'}";
        let found = absolute_paths(yaml, &root.join("graphs"));
        let decoder = root.join("decoder").display().to_string();
        let expected = format!(
            "nodes: # all\n  - id: a\n    path: '{decoder}'\n  - path: '{decoder}'\n    \
             path: ../other\n    env: {{A: 'path: ../decoder'}}"
        );
        assert_eq!(found, expected);
    }
}
