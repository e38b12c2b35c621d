//! The sink `page`: the live page, where a person sees all streams side by side.

use std::sync::Arc;
use std::time::Instant;

use tracklens_schemas::{
    Crop, Epoch, Header, Identification, Image, StreamEventKind, StreamId, Track, TracksInfo,
};

use crate::live::{Live, StreamLife};
use crate::{Sink, SinkError, SinkFile, SourceInfo};

/// Shows everything on the board of the live page.
pub struct Page {
    live: Arc<Live>,
}

impl Page {
    /// Shows on this scene, which a server makes visible.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Self {
        Self { live }
    }
}

impl Sink for Page {
    fn name(&self) -> &'static str {
        "page"
    }

    fn stream_opened(&mut self, stream: &StreamId, source: &SourceInfo) -> Result<(), SinkError> {
        self.live.scene().board.opened(stream, Some(source));
        Ok(())
    }

    fn stream_event(
        &mut self,
        stream: &StreamId,
        _epoch: Epoch,
        event: StreamEventKind,
        detail: &str,
    ) {
        let mut scene = self.live.scene();
        match event {
            StreamEventKind::Opened => scene.board.opened(stream, None),
            StreamEventKind::Active => scene.board.state(stream, StreamLife::Open),
            StreamEventKind::Stale => scene.board.state(stream, StreamLife::Stale),
            StreamEventKind::Error => scene.board.error(stream, detail),
            StreamEventKind::Closed => {
                scene.board.state(stream, StreamLife::Closed);
                scene.pictures.close(stream);
            }
            StreamEventKind::Closing | StreamEventKind::Exhausted => {}
        }
    }

    fn tracks(
        &mut self,
        header: &Header,
        info: &TracksInfo,
        tracks: &[Track],
    ) -> Result<u64, SinkError> {
        let now = Instant::now();
        let mut scene = self.live.scene();
        scene.board.tracks(header, info, tracks, now);
        let watched = scene.wanted(&header.id.stream).is_some();
        if watched && scene.pictures.tracks(header, info, tracks, now) {
            self.live.show();
        }
        Ok(tracks.len() as u64)
    }

    fn wants_frames(&self) -> bool {
        !self.live.scene().unwatched()
    }

    fn frame(&mut self, header: &Header, image: &Image<'_>) -> Result<(), SinkError> {
        let mut scene = self.live.scene();
        let Some(width) = scene.wanted(&header.id.stream) else {
            return Ok(());
        };
        let shown = scene.pictures.frame(header, image, width, Instant::now())?;
        if shown {
            self.live.show();
        }
        Ok(())
    }

    fn identifications(
        &mut self,
        header: &Header,
        rows: &[Identification],
    ) -> Result<u64, SinkError> {
        self.live.scene().board.identified(header, rows);
        Ok(rows.len() as u64)
    }

    fn wants_crops(&self) -> bool {
        true
    }

    fn crops(&mut self, header: &Header, crops: &[Crop]) {
        let mut scene = self.live.scene();
        for crop in crops {
            scene.album.add(&header.id, crop.clone());
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.live.scene().board.finish();
        Ok(())
    }

    fn files(&self) -> Vec<SinkFile> {
        Vec::new()
    }
}
