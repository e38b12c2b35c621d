//! The log of a node: `tracing` to standard error, where dora picks it up.

use tracing_subscriber::EnvFilter;

/// Chatty libraries are kept at warnings; `RUST_LOG` overrides.
const DEFAULT_FILTER: &str =
    "info,dora_node_api=error,ort=warn,zenoh=warn,zenoh_transport=error,zenoh_shm=error";

/// Starts logging; later calls change nothing.
pub(crate) fn start() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let _already_started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}
