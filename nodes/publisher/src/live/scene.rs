//! What the node's thread and the server's thread have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};
use tracklens_schemas::StreamId;

use super::{Album, Board, Pictures};

/// Bytes of crops that are kept.
const ALBUM: usize = 64 << 20;
/// Messages of the feed that may wait for a slow reader, before it misses some.
const FEED: usize = 1024;

/// What is shown.
pub struct Scene {
    /// Streams and tracks.
    pub board: Board,
    /// Crops.
    pub album: Album,
    /// Frames.
    pub pictures: Pictures,
    /// Who looks, and at what.
    views: BTreeMap<u64, View>,
    next_view: u64,
}

/// What somebody looks at.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Widest picture of use, in pixels.
    pub(crate) width: u32,
    /// These streams only.
    pub(crate) streams: Option<BTreeSet<StreamId>>,
}

impl View {
    pub(crate) fn shows(&self, stream: &StreamId) -> bool {
        self.streams
            .as_ref()
            .is_none_or(|some| some.contains(stream))
    }
}

impl Scene {
    /// The width of the pictures that somebody wants of a stream; `None`: nobody looks.
    #[must_use]
    pub fn wanted(&self, stream: &StreamId) -> Option<u32> {
        let views = self.views.values().filter(|view| view.shows(stream));
        views.map(|view| view.width).max()
    }

    /// Whether nobody looks at anything.
    #[must_use]
    pub fn unwatched(&self) -> bool {
        self.views.is_empty()
    }

    pub(crate) fn look(&mut self, number: Option<u64>, view: View) -> u64 {
        let number = number.unwrap_or(self.next_view);
        self.next_view = self.next_view.max(number + 1);
        self.views.insert(number, view);
        number
    }

    pub(crate) fn look_away(&mut self, number: u64) {
        self.views.remove(&number);
        if self.views.is_empty() {
            self.pictures.rest();
        }
    }
}

/// A message of the feed.
pub(crate) struct Said {
    pub(crate) stream: StreamId,
    /// JSON.
    pub(crate) text: String,
}

/// The scene, and the means to tell the server's thread of changes.
pub struct Live {
    scene: Mutex<Scene>,
    /// Counts new pictures.
    pub(crate) shown: watch::Sender<u64>,
    /// Messages of the feed.
    pub(crate) feed: broadcast::Sender<Arc<Said>>,
    /// The run is over: say what is left, and end.
    pub(crate) over: watch::Sender<bool>,
}

impl Live {
    /// Nothing to see yet.
    #[must_use]
    pub fn new(pictures: Pictures) -> Arc<Self> {
        Arc::new(Self {
            scene: Mutex::new(Scene {
                board: Board::default(),
                album: Album::new(ALBUM),
                pictures,
                views: BTreeMap::new(),
                next_view: 1,
            }),
            shown: watch::Sender::new(0),
            feed: broadcast::Sender::new(FEED),
            over: watch::Sender::new(false),
        })
    }

    /// The scene. Hold it briefly.
    pub fn scene(&self) -> MutexGuard<'_, Scene> {
        // A panic elsewhere leaves nothing half-done that would matter to a picture.
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has those who look be sent the new picture.
    pub fn show(&self) {
        self.shown.send_modify(|count| *count += 1);
    }
}
