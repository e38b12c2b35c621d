//! What can keep ingest from starting.

/// Why ingest cannot start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Nothing to take chunks from.
    #[error("nothing to take chunks from: set INGEST_WEBSOCKET=true, or INGEST_AMQP_URL")]
    NoSource,
    /// The address to listen on is none.
    #[error("INGEST_HOST={host:?}: expected an IP address, like 0.0.0.0, 127.0.0.1 or ::")]
    Host {
        /// What was set.
        host: String,
    },
    /// The port cannot be had.
    #[error("cannot listen on {address}: {reason}; set INGEST_PORT to a free port")]
    Listen {
        /// Address and port.
        address: String,
        /// The system's reason.
        reason: String,
    },
    /// One half of TLS is missing.
    #[error("INGEST_TLS_CERT and INGEST_TLS_KEY belong together: only {set} is set")]
    HalfTls {
        /// The one that is set.
        set: &'static str,
    },
    /// The TLS files cannot be used.
    #[error(
        "TLS with certificate {cert} and key {key}: {reason}; expected PEM files that fit together"
    )]
    Tls {
        /// The certificate.
        cert: String,
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The system gives no thread or no event queue.
    #[error("cannot start the network thread: {reason}")]
    Thread {
        /// The system's reason.
        reason: String,
    },
}
