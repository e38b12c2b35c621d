//! What a sink is: something that tracks, and sometimes frames, are written to.

use std::path::PathBuf;

use tracklens_schemas::{
    Crop, Epoch, Header, Identification, Image, StreamEventKind, StreamId, Track, TracksInfo,
};

use crate::{SinkError, SourceInfo};

/// One kind of output. Frames and tracks of a stream come in frame order; after a restart of the
/// process some may come that an earlier one has written.
///
/// An error is for the one call: the sink is called again for the next frame, and either goes on
/// or fails again.
pub trait Sink {
    /// The name in `SINKS`, logs, metrics and the summary.
    fn name(&self) -> &'static str;

    /// A stream has been opened, or more is known about its source.
    ///
    /// # Errors
    /// Where the sink cannot take the stream.
    fn stream_opened(&mut self, _stream: &StreamId, _source: &SourceInfo) -> Result<(), SinkError> {
        Ok(())
    }

    /// All tracks of one frame. Returns how many rows were written, now or with frames before.
    ///
    /// # Errors
    /// Where they cannot be written.
    fn tracks(
        &mut self,
        header: &Header,
        info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError>;

    /// Whether the sink has use for frames.
    fn wants_frames(&self) -> bool {
        false
    }

    /// Whether the sink works again once calls succeed after one that failed. A video does not: after
    /// an error it takes frames without writing them.
    fn recovers(&self) -> bool {
        !self.wants_frames()
    }

    /// A frame; its pixels are lent for the call.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn frame(&mut self, _header: &Header, _image: &Image<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    /// What objects are. Returns how many rows were written.
    ///
    /// # Errors
    /// Where they cannot be written.
    fn identifications(
        &mut self,
        _header: &Header,
        _rows: &[Identification],
    ) -> Result<u64, SinkError> {
        Ok(0)
    }

    /// Objects cut out of a frame.
    fn crops(&mut self, _header: &Header, _crops: &[Crop]) {}

    /// Whether the sink has use for crops.
    fn wants_crops(&self) -> bool {
        false
    }

    /// Anything that is said about a stream, `opened` and `closed` included.
    fn stream_event(
        &mut self,
        _stream: &StreamId,
        _epoch: Epoch,
        _event: StreamEventKind,
        _detail: &str,
    ) {
    }

    /// What keeps the sink from working at the moment, though nothing is lost: a broker that is
    /// down, an address in use. The sink logs it itself.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Where others find what the sink offers.
    fn address(&self) -> Option<String> {
        None
    }

    /// The last frame of a stream has been handed over.
    ///
    /// # Errors
    /// Where what is left of it cannot be written.
    fn stream_closed(&mut self, _stream: &StreamId) -> Result<(), SinkError> {
        Ok(())
    }

    /// The end: everything is written out.
    ///
    /// # Errors
    /// Where it cannot be.
    fn finish(&mut self) -> Result<(), SinkError>;

    /// The files made, in the order of their making.
    fn files(&self) -> Vec<SinkFile>;
}

/// A file that a sink has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkFile {
    /// Where it is.
    pub path: PathBuf,
    /// Rows in it, for files of rows.
    pub rows: Option<u64>,
    /// Frames in it, for videos, where known.
    pub frames: Option<u64>,
}

/// The sinks by their names in `SINKS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// `tracks.jsonl`.
    Jsonl,
    /// `mot-<stream>.txt`.
    Mot,
    /// `overlay.mp4`.
    Overlay,
    /// `coco-<stream>.json`.
    Coco,
    /// Rows to an AMQP broker.
    Amqp,
    /// Rows to whoever connects by WebSocket.
    Websocket,
    /// The live page.
    Page,
    /// `tracklens.rrd`, where the feature `rerun` is built in.
    Rerun,
    /// Nothing: frames and tracks are counted.
    None,
}
