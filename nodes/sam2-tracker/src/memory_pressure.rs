//! When memory gets short, a smaller model goes on.

use std::path::Path;

use tracklens_sam2::model_folder::installed;

/// Names of models, the largest first.
const BY_SIZE: [&str; 5] = ["large", "base", "small", "tiny", "nano"];

/// Installed models that are smaller than this one, the largest first.
#[must_use]
pub fn smaller(model: &str, folders: &[std::path::PathBuf]) -> Vec<&'static str> {
    let installed = installed(folders);
    let below = BY_SIZE.iter().skip_while(|name| **name != model).skip(1);
    below
        .copied()
        .filter(|name| installed.iter().any(|other| other == name))
        .collect()
}

/// Mebibytes that the system can still give: of the machine, or of the control group where that
/// is less. `None` where the system does not say.
#[must_use]
pub fn available_mib() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(mem_available);
    let group = Path::new("/sys/fs/cgroup");
    let number = |file: &str| -> Option<u64> {
        let text = std::fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse().ok()
    };
    let group = number("memory.max").zip(number("memory.current"));
    let group = group.map(|(most, now)| most.saturating_sub(now) >> 20);
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// `MemAvailable` of `/proc/meminfo`, in mebibytes.
fn mem_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib >> 10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_next_smaller_model_is_one_that_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["base", "tiny", "nano", "mine"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("model.toml"), "").unwrap();
        }
        let folders = [folder.path().to_owned()];
        assert_eq!(smaller("base", &folders), ["tiny", "nano"]);
        assert_eq!(smaller("small", &folders), ["tiny", "nano"]);
        assert!(smaller("nano", &folders).is_empty());
        assert!(smaller("mine", &folders).is_empty());
    }

    #[test]
    fn available_memory_is_read_as_mebibytes() {
        let text = "MemTotal:       16000000 kB\nMemAvailable:    2097152 kB\n";
        assert_eq!(mem_available(text), Some(2048));
        assert_eq!(mem_available("MemAvailable: much"), None);
        assert!(available_mib().is_some());
    }
}
