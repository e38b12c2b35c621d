//! `tracklens export`: a recording as an MCAP file, which Foxglove and the like open.
//!
//! One channel per stream and output, JSON with a JSON Schema each. Frames are `foxglove.CompressedImage`
//! (JPEG), tracks come as rows and once more as `foxglove.ImageAnnotations`, to be drawn over the frames.

mod mcap_file;
mod messages;

use std::collections::BTreeMap;
use std::io::Write;

use eyre::ensure;
use indicatif::{ProgressBar, ProgressStyle};
use tracklens_recording::{End, Reader};

use crate::args::McapArguments;
use mcap_file::McapFile;
use messages::Converter;

pub(crate) fn export(arguments: &McapArguments, out: &mut dyn Write) -> eyre::Result<bool> {
    let target = match &arguments.output {
        Some(path) => path.clone(),
        None => arguments.file.with_extension("mcap"),
    };
    ensure!(
        target != arguments.file,
        "the recording would be overwritten: give another --output"
    );
    let mut reader = Reader::open(&arguments.file)?;
    let mut file = McapFile::create(&target)?;
    let mut converter = Converter::new(arguments.max_width);
    let start = reader.start_nanos();
    let bar = ProgressBar::new(reader.length());
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {bytes}/{total_bytes} {msg}",
    )?);
    let mut left_out: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let fault = loop {
        let record = match reader.next() {
            Ok(Some(record)) => record,
            Ok(None) => break reader.end().and_then(End::fault),
            Err(fault) => break Some(fault.to_string()),
        };
        bar.set_position(record.position + record.size);
        let at = start.saturating_add(u64::try_from(record.offset.as_nanos()).unwrap_or(u64::MAX));
        match converter.messages(&record, at) {
            Ok(messages) => {
                for message in messages {
                    file.write(&message, at)?;
                }
            }
            Err(reason) => {
                let name = format!("{}/{}", record.node, record.output);
                let (count, _) = left_out.entry(name).or_insert((0, reason));
                *count += 1;
            }
        }
    };
    bar.finish_and_clear();
    for (topic, count) in file.finish()? {
        writeln!(out, "{topic}: {count}")?;
    }
    for (topic, (count, reason)) in &left_out {
        writeln!(out, "{topic}: {count} left out: {reason}")?;
    }
    if let Some(reason) = &fault {
        writeln!(out, "exported up to the fault: {reason}")?;
    }
    writeln!(out, "written: {}", target.display())?;
    Ok(fault.is_none())
}
