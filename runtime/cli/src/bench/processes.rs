//! What the processes of a dataflow have used, from /proc (proc(5)).

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

/// Milliseconds of one tick of the times in /proc/PID/stat: user space sees 100 a second on Linux.
const TICK_MS: f64 = 10.0;

/// What one process used between two samples.
#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) cpu_ms: f64,
    /// Memory that no other process shares.
    pub(super) own_mib: f64,
    /// Shared samples included.
    pub(super) resident_mib: f64,
}

/// Times of all cores since the machine started, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cores {
    all: u64,
    stolen: u64,
}

impl Cores {
    /// Nothing where the kernel does not tell.
    pub(super) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&text)
    }

    fn parse(stat: &str) -> Self {
        let line = stat
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("cpu "));
        let times = line.unwrap_or_default().split_whitespace();
        // Guests' times after the eighth are contained in the first two.
        let times: Vec<u64> = times.take(8).map_while(|time| time.parse().ok()).collect();
        Self {
            all: times.iter().sum(),
            stolen: times.get(7).copied().unwrap_or(0),
        }
    }

    /// Percent of the cores' time that a virtual machine's host gave to others: a run in which it is
    /// much says little.
    pub(super) fn stolen_percent(self, later: Self) -> f64 {
        let all = later.all.saturating_sub(self.all).max(1);
        100.0 * later.stolen.saturating_sub(self.stolen) as f64 / all as f64
    }
}

/// Where a run stands.
pub(super) struct Sample {
    pub(super) frames: u64,
    pub(super) seconds: f64,
    pub(super) cores: Cores,
    processes: BTreeMap<String, Usage>,
}

#[derive(Clone, Copy, Default)]
struct Usage {
    ticks: u64,
    own_kib: u64,
    resident_kib: u64,
}

impl Sample {
    /// Of everything that this process has started; `None` where nothing of it is there any more.
    pub(super) fn take(frames: u64, seconds: f64) -> Option<Self> {
        let all: BTreeMap<u32, (u32, String, u64)> = fs::read_dir("/proc")
            .ok()?
            .flatten()
            .filter_map(|entry| {
                let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                Some((pid, parse(&stat)?))
            })
            .collect();
        let own = std::process::id();
        let is_ours = |mut pid: u32| {
            for _ in 0..16 {
                match all.get(&pid) {
                    Some((parent, ..)) if *parent == own => return true,
                    Some((parent, ..)) => pid = *parent,
                    None => return false,
                }
            }
            false
        };
        let mut processes: BTreeMap<String, Usage> = BTreeMap::new();
        for (pid, (_, name, ticks)) in &all {
            if !is_ours(*pid) {
                continue;
            }
            let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
            let program = program.and_then(|path| {
                let name = path.file_name()?.to_string_lossy();
                Some(name.trim_start_matches("tracklens-").to_string())
            });
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let usage = processes
                .entry(program.unwrap_or_else(|| name.clone()))
                .or_default();
            usage.ticks += ticks;
            usage.own_kib += kib(&status, "RssAnon:");
            usage.resident_kib += kib(&status, "VmRSS:");
        }
        let alive = processes.len() > 1;
        alive.then_some(Self {
            frames,
            seconds,
            cores: Cores::now(),
            processes,
        })
    }

    /// Whether every process of another sample is still there.
    pub(super) fn has_all_of(&self, other: &Self) -> bool {
        other
            .processes
            .keys()
            .all(|name| self.processes.contains_key(name))
    }

    /// What each process used from here to there, by frame; memory as it was there.
    pub(super) fn until(&self, later: &Self) -> Vec<Process> {
        let frames = later.frames.saturating_sub(self.frames).max(1) as f64;
        let used = later.processes.iter().map(|(name, now)| {
            let before = self.processes.get(name).copied().unwrap_or_default();
            Process {
                name: name.clone(),
                cpu_ms: now.ticks.saturating_sub(before.ticks) as f64 * TICK_MS / frames,
                own_mib: now.own_kib as f64 / 1024.0,
                resident_mib: now.resident_kib as f64 / 1024.0,
            }
        });
        used.collect()
    }
}

/// Parent, name, and ticks in user and system mode.
fn parse(stat: &str) -> Option<(u32, String, u64)> {
    // The name is in brackets and may have brackets and blanks of its own.
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_string();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let parent = u32::try_from(number(1)?).ok()?;
    Some((parent, name, number(11)? + number(12)?))
}

fn kib(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_brackets_and_blanks() {
        let stat = "42 (a) b) S 7 42 42 0 -1 4194304 1 2 3 4 30 12 0 0 20 0 1 0 9";
        assert_eq!(parse(stat), Some((7, "a) b".to_string(), 42)));
        assert_eq!(parse("nothing"), None);
    }

    #[test]
    fn what_the_host_takes_is_a_share_of_all_cores() {
        let before = Cores::parse("cpu  10 0 10 70 5 0 0 5 3 0\ncpu0 1 2 3\n");
        let after = Cores::parse("cpu  40 0 20 110 5 0 0 25 3 0\n");
        assert_eq!(
            before,
            Cores {
                all: 100,
                stolen: 5
            }
        );
        assert!((before.stolen_percent(after) - 20.0).abs() < 1e-9);
        assert_eq!(Cores::parse("nothing"), Cores::default());
    }

    #[test]
    fn memory_is_read_by_its_field() {
        let status = "VmRSS:\t  2048 kB\nRssAnon:\t 1024 kB\n";
        assert_eq!(
            (kib(status, "VmRSS:"), kib(status, "RssAnon:")),
            (2048, 1024)
        );
        assert_eq!(kib(status, "VmSwap:"), 0);
    }
}
