//! FFmpeg's start-up, once per process.

use std::sync::OnceLock;

use ffmpeg_next::util::log;

use crate::VideoError;

/// Starts FFmpeg. Its own messages to standard error are switched off: they name no stream, and one
/// damaged file makes thousands; what matters comes back as errors and counters.
pub(crate) fn start() -> Result<(), VideoError> {
    static STARTED: OnceLock<Result<(), VideoError>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            let started = ffmpeg_next::init().map_err(|error| VideoError::Start {
                reason: error.to_string(),
            });
            log::set_level(log::Level::Fatal);
            started
        })
        .clone()
}
