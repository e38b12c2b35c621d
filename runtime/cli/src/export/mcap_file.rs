//! The MCAP file: channels and schemas as they are needed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use eyre::WrapErr;
use mcap::records::MessageHeader;

use super::messages::Message;

/// A file under way.
pub(super) struct McapFile {
    path: PathBuf,
    writer: mcap::Writer<BufWriter<File>>,
    /// Number and messages of a channel, by topic.
    channels: BTreeMap<String, (u16, u32)>,
}

impl McapFile {
    /// Makes the file, in the place of one that is there.
    pub(super) fn create(path: &Path) -> eyre::Result<Self> {
        let fails = || format!("cannot write {}", path.display());
        let file = File::create(path).wrap_err_with(fails)?;
        let options = mcap::WriteOptions::new().compression(None);
        let writer = options.create(BufWriter::new(file)).wrap_err_with(fails)?;
        Ok(Self {
            path: path.into(),
            writer,
            channels: BTreeMap::new(),
        })
    }

    /// Writes a message that was recorded at this time, in nanoseconds since 1970.
    pub(super) fn write(&mut self, message: &Message, at: u64) -> eyre::Result<()> {
        let fails = |path: &Path| format!("cannot write {}", path.display());
        let channel = match self.channels.get(&message.topic) {
            Some((channel, _)) => *channel,
            None => {
                let (name, schema) = message.schema;
                let schema = self
                    .writer
                    .add_schema(name, "jsonschema", schema.as_bytes())?;
                let none = BTreeMap::new();
                let channel = self
                    .writer
                    .add_channel(schema, &message.topic, "json", &none)?;
                self.channels.insert(message.topic.clone(), (channel, 0));
                channel
            }
        };
        let count = self.channels.get_mut(&message.topic).map(|(_, count)| {
            *count += 1;
            *count
        });
        let header = MessageHeader {
            channel_id: channel,
            sequence: count.unwrap_or(0),
            log_time: at,
            publish_time: message.sent.unwrap_or(at),
        };
        self.writer
            .write_to_known_channel(&header, &serde_json::to_vec(&message.body)?)
            .wrap_err_with(|| fails(&self.path))
    }

    /// Ends the file; how many messages there are, by topic.
    pub(super) fn finish(mut self) -> eyre::Result<Vec<(String, u32)>> {
        let path = &self.path;
        let ended = self.writer.finish();
        ended.wrap_err_with(|| format!("cannot write {}", path.display()))?;
        let channels = self.channels.into_iter();
        Ok(channels.map(|(topic, (_, count))| (topic, count)).collect())
    }
}
