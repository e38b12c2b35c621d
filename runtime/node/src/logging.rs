//! The log of a node: `tracing` to standard error, where dora picks it up.

use tracing_subscriber::EnvFilter;

/// Chatty libraries are kept at warnings; `RUST_LOG` overrides.
const DEFAULT_FILTER: &str =
    "info,dora_node_api=error,ort=warn,zenoh=warn,zenoh_transport=error,zenoh_shm=error";
/// Nothing overrides this: at `debug` the HTTP client logs whole addresses, and with them keys.
const SECRETIVE: &str = "ureq=warn,ureq_proto=warn";

/// Starts logging; later calls change nothing.
pub(crate) fn start() {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let parsed = EnvFilter::try_new(filter(&wanted));
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new(filter("")));
    let _already_started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}

fn filter(wanted: &str) -> String {
    let wanted = if wanted.trim().is_empty() {
        DEFAULT_FILTER
    } else {
        wanted
    };
    let harmless = |directive: &&str| !directive.trim_start().starts_with("ureq");
    let kept: Vec<&str> = wanted.split(',').filter(harmless).collect();
    format!("{},{SECRETIVE}", kept.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_lets_the_http_client_tell_addresses() {
        assert_eq!(filter(" "), format!("{DEFAULT_FILTER},{SECRETIVE}"));
        let all = "trace, ureq=trace,ureq_proto::client=debug,my=info";
        assert_eq!(filter(all), format!("trace,my=info,{SECRETIVE}"));
    }
}
