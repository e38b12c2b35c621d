//! Room on a node's way out, and fewer threads to wake on its way in.
//!
//! Dora's direct path throws a message away when it finds no room for a millisecond, and there is room
//! for two: a few frames in a row, while all cores are busy, are too many. What is lost is sent again
//! (acknowledgements see to it), but at the cost of a window of frames.
//!
//! Zenoh hears of what has come in on one thread, which wakes another that reads it. Where both are
//! the same, a message costs one wake-up less at each of its ends.

use std::env;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What dora tells a node it starts.
const NODE: &str = "DORA_NODE_CONFIG";
/// A file with settings of zenoh that are laid over dora's own.
const OVERLAY: &str = "DORA_ZENOH_CONFIG_OVERLAY";
/// A file with all of zenoh's settings; dora refuses both.
const WHOLE: &str = "ZENOH_CONFIG";

/// The most messages zenoh lets wait, and microseconds to wait for room: a window bounds what is on its
/// way, so a receiver that stands still is not waited for often.
const SETTINGS: &str = "{transport: {link: {tx: {queue: {size: {real_time: 16}, \
     congestion_control: {drop: {wait_before_drop: 20000}}}}}}}";

/// Settings of zenoh's threads, and those that let connections be served where they are read.
const THREADS: &str = "ZENOH_RUNTIME";
const READING: &str = "(net: (handover: rx), acc: (handover: rx))";

/// Starts this program anew, in the same process, with room on its way out. Dora and zenoh take such settings
/// from the environment alone. Does nothing outside a dataflow, and where somebody has set them.
pub(crate) fn make_room() {
    let set = |name| env::var_os(name).is_some();
    if !set(NODE) || set(OVERLAY) || set(WHOLE) {
        return;
    }
    let error = match start_anew() {
        Ok(error) | Err(error) => error,
    };
    tracing::warn!(
        %error,
        "cannot make room for messages on their way out; name a file with {SETTINGS} in {OVERLAY}"
    );
}

/// Returns only where it fails.
fn start_anew() -> io::Result<io::Error> {
    let (settings, mut into) = io::pipe()?;
    into.write_all(SETTINGS.as_bytes())?;
    drop(into);
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    Ok(Command::new(env::current_exe()?)
        .arg0(name)
        .args(arguments)
        .env(OVERLAY, "/dev/stdin")
        .env(
            THREADS,
            env::var_os(THREADS).unwrap_or_else(|| READING.into()),
        )
        .stdin(settings)
        .exec())
}
