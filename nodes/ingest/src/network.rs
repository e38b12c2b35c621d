//! The network side, on a thread of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use axum_server::Handle;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::IngestError;
use crate::amqp::{self, Answer, Broker, Taken, Wires};
use crate::doors::Doors;
use crate::websocket::{self, Gate, Limits, Opened, TlsFiles};

/// How long connections have to end when everything ends.
const GRACE: Duration = Duration::from_millis(500);

/// The WebSocket server to be.
#[derive(Debug)]
pub struct Server {
    /// Address to listen on.
    pub host: String,
    /// Port; 0 is any.
    pub port: u16,
    /// TLS, if wanted.
    pub tls: Option<TlsFiles>,
    /// What it goes by.
    pub limits: Limits,
}

/// What is to run.
#[derive(Debug)]
pub struct Config {
    /// The WebSocket server.
    pub server: Option<Server>,
    /// The broker.
    pub broker: Option<Broker>,
    /// Streams at once.
    pub doors: Doors,
    /// Bytes that may wait in memory, over all streams.
    pub memory: usize,
}

/// The running network side. Dropping it ends it.
#[derive(Debug)]
pub struct Network {
    /// Connections that have been let in.
    pub opened: std_mpsc::Receiver<Opened>,
    /// Messages from the broker.
    pub taken: mpsc::UnboundedReceiver<Taken>,
    /// What became of them.
    pub answers: mpsc::UnboundedSender<Answer>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Starts it. `wake` is called from its thread whenever something has come in.
    ///
    /// # Errors
    /// What can be known to be wrong before the first connection.
    pub fn start(
        config: Config,
        wake: impl Fn() + Send + Sync + Clone + 'static,
    ) -> Result<Self, IngestError> {
        if config.server.is_none() && config.broker.is_none() {
            return Err(IngestError::NoSource);
        }
        let thread_error = |error: std::io::Error| IngestError::Thread {
            reason: error.to_string(),
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(thread_error)?;
        let (opened_in, opened) = std_mpsc::channel();
        let (taken_in, taken) = mpsc::unbounded_channel();
        let (answers, answers_out) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let memory = Arc::new(Semaphore::new(config.memory.min(Semaphore::MAX_PERMITS)));
        let mut tasks = Tasks {
            runtime,
            stopped: stopped.clone(),
            handle: Handle::new(),
        };
        if let Some(server) = config.server {
            let gate = |limits| {
                let memory = Arc::clone(&memory);
                Gate::new(
                    limits,
                    config.doors.clone(),
                    memory,
                    opened_in,
                    wake.clone(),
                )
            };
            tasks.serve(server, gate)?;
        }
        if let Some(broker) = config.broker {
            let wires = Wires {
                taken: taken_in,
                answers: answers_out,
                memory,
                stop: stopped,
                wake: Box::new(wake),
            };
            tasks.runtime.spawn(amqp::consume(broker, wires));
        }
        let thread = std::thread::Builder::new()
            .name("network".into())
            .spawn(move || tasks.run())
            .map_err(thread_error)?;
        Ok(Self {
            opened,
            taken,
            answers,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on standard error.
            let _ended = thread.join();
        }
    }
}

struct Tasks {
    runtime: Runtime,
    stopped: watch::Receiver<bool>,
    handle: Handle<SocketAddr>,
}

impl Tasks {
    fn serve(
        &mut self,
        server: Server,
        gate: impl FnOnce(Limits) -> Gate,
    ) -> Result<(), IngestError> {
        let address = address(&server)?;
        let failed = |error: std::io::Error| IngestError::Listen {
            address: address.to_string(),
            reason: error.to_string(),
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = match &server.tls {
            Some(files) => Some(self.runtime.block_on(websocket::tls(files))?),
            None => None,
        };
        let scheme = if tls.is_some() { "wss" } else { "ws" };
        tracing::info!("listening on {scheme}://{address}/streams/{{stream_id}}");
        let serving = websocket::serve(listener, tls, gate(server.limits), self.handle.clone());
        self.runtime.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the WebSocket server has ended");
            }
        });
        Ok(())
    }

    fn run(mut self) {
        self.runtime.block_on(async {
            // An error means that the other side is gone, which is a stop as well.
            let _stopped = self.stopped.wait_for(|stop| *stop).await;
            self.handle.graceful_shutdown(Some(GRACE));
            tokio::time::sleep(GRACE).await;
        });
        self.runtime.shutdown_timeout(GRACE);
    }
}

/// Where to listen. Without a token nobody but this machine is let in.
fn address(server: &Server) -> Result<SocketAddr, IngestError> {
    let host: IpAddr = server.host.trim().parse().map_err(|_| IngestError::Host {
        host: server.host.clone(),
    })?;
    if server.limits.token.is_some() || host.is_loopback() {
        return Ok(SocketAddr::new(host, server.port));
    }
    tracing::info!("no INGEST_TOKEN: only senders on this machine are let in");
    Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), server.port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::secret::Secret;

    fn server(host: &str, token: Option<&str>) -> Server {
        Server {
            host: host.into(),
            port: 1,
            tls: None,
            limits: Limits {
                token: Secret::new(token.map(Into::into)),
                max_message: 1,
                max_rate_mbit: 1.0,
                silence: Duration::from_secs(1),
            },
        }
    }

    #[test]
    fn without_a_token_only_this_machine() {
        let at = |host, token| address(&server(host, token)).unwrap().ip().to_string();
        assert_eq!(at("0.0.0.0", None), "127.0.0.1");
        assert_eq!(at("::", None), "127.0.0.1");
        assert_eq!(at("::1", None), "::1");
        assert_eq!(at("0.0.0.0", Some("t")), "0.0.0.0");
        assert!(address(&server("localhost", None)).is_err());
    }

    fn refusal(server: Option<Server>) -> String {
        let config = Config {
            server,
            broker: None,
            doors: Doors::new(1),
            memory: 1,
        };
        Network::start(config, || {}).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_work_is_said_before_the_first_connection() {
        assert!(refusal(None).contains("INGEST_AMQP_URL"));
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let in_use = Server {
            port: taken.local_addr().unwrap().port(),
            ..server("127.0.0.1", None)
        };
        assert!(refusal(Some(in_use)).contains("INGEST_PORT"));
        let no_files = Server {
            port: 0,
            tls: Some(TlsFiles {
                cert: "no/cert.pem".into(),
                key: "no/key.pem".into(),
            }),
            ..server("127.0.0.1", None)
        };
        assert!(refusal(Some(no_files)).contains("no/cert.pem"));
    }
}
