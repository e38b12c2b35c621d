//! Opening a decoder: threads, device, limits.

use std::sync::Once;

use ffmpeg_next::codec::context::Context;
use ffmpeg_next::{Codec, Dictionary, Error, decoder};

use crate::hardware::{self, Hwaccel};

/// Opens a decoder on a context that was made for the codec. `low_delay` threads decode slices of
/// one picture, so that no picture waits for the next; otherwise pictures are decoded side by side.
pub(crate) fn open(
    mut context: Context,
    codec: Codec,
    threads: usize,
    low_delay: bool,
    hwaccel: &Hwaccel,
    max_pixels: Option<i64>,
    prepare: impl FnOnce(&mut decoder::Decoder),
) -> Result<decoder::Video, Error> {
    if *hwaccel != Hwaccel::None {
        say_once(hardware::attach(&mut context, &codec, hwaccel), hwaccel);
    }
    let mut decoder = context.decoder();
    prepare(&mut decoder);
    let mut options = Dictionary::new();
    let threads = match threads {
        0 => "auto".into(),
        threads => threads.to_string(),
    };
    options.set("threads", &threads);
    if let Some(pixels) = max_pixels {
        options.set("max_pixels", &pixels.to_string());
    }
    if low_delay {
        options.set("thread_type", "slice");
    }
    decoder
        .open_as_with(codec, options)
        .and_then(decoder::Opened::video)
}

fn say_once(device: Option<String>, wanted: &Hwaccel) {
    static SAID: Once = Once::new();
    SAID.call_once(|| match device {
        Some(device) => tracing::info!(device, "decoding in hardware"),
        None => tracing::info!(
            ?wanted,
            "no such decoding hardware here: decoding in software"
        ),
    });
}
