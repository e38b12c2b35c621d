//! `tracklens tracks`: a table of the tracks in a `tracks.jsonl`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use comfy_table::{Table, presets};
use eyre::WrapErr;
use tracklens_schemas::jsonl::TrackRow;

use crate::args::TracksArguments;

#[derive(Default)]
struct Life {
    first: u64,
    last: u64,
    seen: u64,
    area: u64,
    score: f64,
}

pub(crate) fn tracks(arguments: &TracksArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    writeln!(out, "{}", table(&arguments.file, arguments.limit)?)?;
    Ok(true)
}

/// The rows of a file, read one by one; other kinds of rows are passed over.
pub(crate) fn rows(path: &Path) -> eyre::Result<impl Iterator<Item = eyre::Result<TrackRow>>> {
    let name = path.display().to_string();
    let file = File::open(path).wrap_err_with(|| format!("cannot open {name}"))?;
    let lines = BufReader::new(file).lines().enumerate();
    Ok(lines.filter_map(move |(number, line)| {
        let at = || format!("{name}, line {}", number + 1);
        let line = match line.wrap_err_with(at) {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        if line.contains("\"kind\"") {
            return None;
        }
        Some(serde_json::from_str(&line).wrap_err_with(at))
    }))
}

/// The `limit` longest tracks (0: all), and how many there are.
pub(crate) fn table(path: &Path, limit: usize) -> eyre::Result<String> {
    let mut lives: BTreeMap<(String, u32), Life> = BTreeMap::new();
    for row in rows(path)? {
        let row = row?;
        let life = lives.entry((row.stream_id, row.track_id)).or_insert(Life {
            first: row.frame,
            ..Life::default()
        });
        life.last = row.frame;
        if row.visible {
            life.seen += 1;
            life.area += u64::from(row.area);
            life.score += f64::from(row.score);
        }
    }
    let count = lives.len();
    let mut longest: Vec<_> = lives.into_iter().collect();
    longest.sort_by_key(|(_, life)| std::cmp::Reverse(life.seen));
    if limit > 0 {
        longest.truncate(limit);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["stream", "track", "first", "last", "seen", "area", "score"]);
    for ((stream, track), life) in &longest {
        let seen = life.seen.max(1);
        table.add_row([
            stream.clone(),
            track.to_string(),
            life.first.to_string(),
            life.last.to_string(),
            life.seen.to_string(),
            (life.area / seen).to_string(),
            format!("{:.2}", life.score / seen as f64),
        ]);
    }
    Ok(format!("{table}\n{} of {count} tracks", longest.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sums_up_a_track_and_names_a_broken_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tracks.jsonl");
        let row = |frame: u64| {
            format!(
                r#"{{"stream_id":"a","epoch":0,"frame":{frame},"pts_ns":0,"track_id":7,"bbox":[0,0,1,1],"score":0.5,"area":20,"visible":true,"state":"tracked","mask":{{"size":[1,1],"counts":"1"}}}}"#
            ) + "\n"
        };
        std::fs::write(&path, row(3) + &row(4)).unwrap();
        let text = table(&path, 20).unwrap();
        assert!(text.ends_with("1 of 1 tracks"), "{text}");
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["a", "7", "3", "4", "2", "20", "0.50"]);
        std::fs::write(&path, row(3) + "{\n").unwrap();
        assert!(format!("{:#}", table(&path, 20).unwrap_err()).contains("line 2"));
    }
}
