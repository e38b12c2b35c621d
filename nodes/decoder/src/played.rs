//! A stream from the list of sources.

use tracklens_decoder::{Source, StreamItem, StreamWorker};
use tracklens_node::Context;
use tracklens_schemas::{
    Epoch, FrameId, FrameIndex, Header, StreamEvent, StreamEventKind, StreamId, wall_clock_ns,
};
use tracklens_video::{Damage, Picture, VideoError, VideoInfo, redact};

use crate::{BAD_PACKETS, decoded};

/// A source that is being played.
pub(crate) struct Played {
    source: Source,
    worker: StreamWorker,
    rounds: u64,
    /// The next frame: number and time so far.
    next: Header,
    /// Something has been said of it.
    announced: bool,
    /// It is open in this epoch.
    open: bool,
    /// It was open before, or is known to be away.
    lost: bool,
    closed: bool,
}

impl Played {
    pub(crate) fn new(source: Source, worker: StreamWorker, epoch: Epoch, rounds: u64) -> Self {
        let id = FrameId {
            stream: source.id.clone(),
            epoch,
            frame: FrameIndex(0),
        };
        let next = Header {
            id,
            pts_ns: 0,
            capture_ns: wall_clock_ns(),
        };
        Self {
            source,
            worker,
            rounds,
            next,
            announced: false,
            open: false,
            lost: false,
            closed: false,
        }
    }

    pub(crate) fn id(&self) -> &StreamId {
        &self.source.id
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.announced
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn stop(&mut self) {
        self.worker.stop();
    }

    /// Takes the next item of the worker, if there is one.
    pub(crate) fn take_next(&mut self, ctx: &mut Context<Picture>) -> eyre::Result<bool> {
        let Some(item) = self.worker.try_next() else {
            return Ok(false);
        };
        self.take(item, ctx)?;
        Ok(true)
    }

    fn take(&mut self, item: StreamItem, ctx: &mut Context<Picture>) -> eyre::Result<()> {
        match item {
            StreamItem::Opened(info) => {
                self.announced = true;
                if std::mem::take(&mut self.lost) {
                    self.next.id.epoch.0 = self.next.id.epoch.0.saturating_add(1);
                    self.next.id.frame = FrameIndex(0);
                    tracing::info!(stream_id = %self.source.id, "source is back");
                }
                self.open = true;
                let detail = opened(&self.source, &info, self.rounds);
                self.say(ctx, StreamEventKind::Opened, detail)
            }
            StreamItem::Frame {
                picture,
                pts_ns,
                capture_ns,
            } => {
                self.next.pts_ns = pts_ns;
                self.next.capture_ns = capture_ns;
                ctx.queue(self.next.clone(), picture);
                decoded(&self.next);
                self.next.id.frame.0 += 1;
                Ok(())
            }
            StreamItem::Lost { error, damage } => {
                self.announced = true;
                let reason = error.map_or("the source has ended".into(), |error| error.to_string());
                let detail = format!("{reason}; trying again from time to time");
                self.report(ctx, &damage, Some(detail))?;
                self.lost = true;
                self.close(ctx)
            }
            StreamItem::Ended { error, damage } => {
                self.announced = true;
                self.closed = true;
                self.report(ctx, &damage, error.as_ref().map(VideoError::to_string))?;
                self.open = true;
                self.close(ctx)
            }
        }
    }

    /// Says what was wrong with it.
    fn report(
        &mut self,
        ctx: &mut Context<Picture>,
        damage: &Damage,
        error: Option<String>,
    ) -> eyre::Result<()> {
        metrics::counter!(BAD_PACKETS, "stream_id" => self.source.id.to_string())
            .increment(damage.packets);
        let mut wrong: Vec<String> = error.into_iter().collect();
        if damage.any() {
            wrong.push(format!("{}: damaged: {damage}", redact(&self.source.url)));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let detail = format!("stream {}: {}", self.source.id, wrong.join("; "));
        tracing::warn!(stream_id = %self.source.id, "{detail}");
        self.say(ctx, StreamEventKind::Error, detail)
    }

    fn close(&mut self, ctx: &mut Context<Picture>) -> eyre::Result<()> {
        if std::mem::take(&mut self.open) {
            self.say(ctx, StreamEventKind::Closed, String::new())?;
        }
        Ok(())
    }

    fn say(
        &self,
        ctx: &mut Context<Picture>,
        event: StreamEventKind,
        detail: String,
    ) -> eyre::Result<()> {
        ctx.emit(&self.next, StreamEvent { event, detail })
    }
}

/// The detail of `opened`: what is known of the source, as JSON.
fn opened(source: &Source, info: &VideoInfo, rounds: u64) -> String {
    let expected_frames = match rounds {
        0 => None,
        rounds => info
            .expected_frames
            .map(|frames| frames.saturating_mul(rounds)),
    };
    serde_json::json!({
        "url": redact(&source.url),
        "width": info.width,
        "height": info.height,
        "fps": info.fps(),
        "expected_frames": expected_frames,
    })
    .to_string()
}
