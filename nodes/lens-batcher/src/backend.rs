//! What all services have in common, and which there are.
//!
//! A new one is a file here, a variant of [`Service`], and a line in docs/nodes.md; or a plug-in.

mod gallery;
mod http_client;
mod http_service;
mod image_server;
mod picture_place;
mod plug_in;
mod serpapi;
mod template;
mod vision;

use std::sync::Arc;

use tracklens_schemas::TrackId;

pub use gallery::{Gallery, GalleryBackend};
pub use http_client::HttpClient;
pub use http_service::{HttpService, HttpServiceBackend};
pub use image_server::ImageServer;
pub use picture_place::{NAME, PicturePlace, Shown};
pub(crate) use plug_in::row as crop_row;
pub use plug_in::{PlugIn, PlugInBackend};
pub use serpapi::{SerpApi, SerpApiBackend};
pub use vision::{Vision, VisionBackend};

use crate::LensError;
use crate::call_error::CallError;
use crate::candidate::View;
use crate::hash_cache::Answer;
use crate::question::CallResult;

/// A picture to be identified.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The object's track.
    pub track: TrackId,
    /// Its picture, enhanced where the backend wants that.
    pub view: Arc<View>,
}

/// Somebody who knows what pictures show. An instance stays on one thread, which it may block.
pub trait Backend {
    /// Whether pictures are enhanced before they are shown.
    fn wants_enhanced(&self) -> bool {
        true
    }

    /// Identifies these pictures: one result each, in their order.
    ///
    /// # Errors
    /// Where the call as a whole has no answers.
    fn identify(&mut self, shots: &[Shot]) -> CallResult;
}

/// A service as set up: what can be opened on every thread that asks.
#[derive(Clone, Debug)]
pub enum Service {
    /// A folder of pictures.
    Gallery(Arc<Gallery>),
    /// Google Cloud Vision, web detection.
    Vision(Vision),
    /// Google Lens through a service like SerpApi.
    SerpApi(SerpApi),
    /// Any JSON service.
    Http(HttpService),
    /// A plug-in.
    PlugIn(PlugIn),
}

impl Service {
    /// The name in `LENS_BACKEND`, rows and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Gallery(_) => "gallery",
            Self::Vision(_) => "vision",
            Self::SerpApi(_) => "serpapi",
            Self::Http(_) => "http",
            Self::PlugIn(plugin) => plugin.name(),
        }
    }

    /// Most pictures in a call.
    #[must_use]
    pub fn most(&self) -> usize {
        match self {
            Self::Gallery(_) | Self::PlugIn(_) => usize::MAX,
            Self::Vision(_) => vision::MOST,
            Self::SerpApi(_) => 1,
            Self::Http(service) => service.most(),
        }
    }

    /// Whether calls leave this machine and are limited in rate.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Gallery(_) | Self::PlugIn(_))
    }

    /// What changes answers: a cache made with another is not used.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Gallery(gallery) => format!("gallery {}", gallery.fingerprint()),
            Self::Vision(vision) => format!("vision {}", vision.url()),
            Self::SerpApi(serpapi) => format!("serpapi {}", serpapi.url()),
            Self::Http(service) => format!("http {}", service.fingerprint()),
            Self::PlugIn(plugin) => format!("plugin {}", plugin.fingerprint()),
        }
    }

    /// A connection for this thread.
    ///
    /// # Errors
    /// Where a plug-in refuses.
    pub fn open(&self) -> Result<Box<dyn Backend>, LensError> {
        Ok(match self {
            Self::Gallery(gallery) => Box::new(GalleryBackend::new(gallery.clone())),
            Self::Vision(vision) => Box::new(VisionBackend::new(vision.clone())),
            Self::SerpApi(serpapi) => Box::new(SerpApiBackend::new(serpapi.clone())),
            Self::Http(service) => Box::new(HttpServiceBackend::new(service.clone())),
            Self::PlugIn(plugin) => Box::new(plugin.open()?),
        })
    }
}

/// The pictures as JPEG files.
fn jpegs(shots: &[Shot]) -> Result<Vec<Vec<u8>>, CallError> {
    let file = |shot: &Shot| shot.view.picture.to_jpeg();
    let files: Result<Vec<_>, _> = shots.iter().map(file).collect();
    files.map_err(|error| CallError::Own {
        reason: format!("a picture cannot be made a JPEG: {error}"),
    })
}

fn wrong_count(expected: usize, found: usize) -> CallError {
    CallError::Malformed {
        expected: format!("{expected} answers for {expected} pictures"),
        found: format!("{found}"),
    }
}

/// An answer that says that the service knows no name.
fn unknown() -> Answer {
    Answer::default()
}
