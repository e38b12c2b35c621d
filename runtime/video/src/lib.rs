//! FFmpeg for TrackLens: reading, writing and drawing on video.
//!
//! Everything that talks to FFmpeg is here, so that no other crate needs foreign functions. The
//! pure parts (palette, labels, overlay) draw on a packed yuv420p buffer, the layout in which
//! frames travel between nodes.

mod arrivals;
mod chunk_decoder;
mod codec_context;
mod contact_sheet;
mod damage;
mod error;
mod ffmpeg;
mod hardware;
mod jpeg;
mod label;
mod overlay;
mod palette;
mod parameter_sets;
mod parser;
mod picture;
mod reader;
mod scaler;
mod stamps;
mod stop;
mod timeline;
mod url;
mod writer;

pub use chunk_decoder::{ChunkCounts, ChunkDecoder, ChunkOptions, ChunkTimes};
pub use contact_sheet::contact_sheet;
pub use damage::Damage;
pub use error::VideoError;
pub use hardware::Hwaccel;
pub use jpeg::{JpegEncoder, Shrinker, Still};
pub use label::{draw_caption, glyph_scale};
pub use overlay::draw_tracks;
pub use palette::{Color, track_color};
pub use picture::Picture;
pub use reader::{Reader, ReaderOptions, VideoInfo};
pub use stop::StopHandle;
pub use url::{is_file, redact};
pub use writer::Mp4Writer;
