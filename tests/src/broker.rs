//! A real RabbitMQ, as a process of the test's own: its ports, its data, its name.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server itself; the command on the PATH of Debian changes the user first.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Time that a start may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker. It ends with its value, and so does its data.
#[derive(Debug)]
pub struct Broker {
    folder: tempfile::TempDir,
    /// AMQP, between nodes, and of Erlang's port mapper.
    ports: [u16; 3],
    child: Option<Child>,
}

fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("its address").port()
}

impl Broker {
    /// Starts a broker; panics with its log where it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let mut broker = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            ports: [free_port(), free_port(), free_port()],
            child: None,
        };
        broker.run();
        broker
    }

    /// Its address, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports[0])
    }

    /// Starts it again, with its data.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let folder = self.folder.path();
        let log = File::create(folder.join("broker.log")).expect("broker.log");
        std::fs::write(folder.join("plugins"), "[].\n").expect("plugins");
        let [port, between, mapper] = self.ports;
        let server = Path::new(SERVER);
        let server = if server.is_file() {
            server.to_path_buf()
        } else {
            PathBuf::from("rabbitmq-server")
        };
        let child = Command::new(server)
            .env("HOME", folder)
            .env("RABBITMQ_NODENAME", format!("tracklens{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", between.to_string())
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("none"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("broker.log"))
            .stderr(log)
            .spawn()
            .expect("RabbitMQ is installed (make setup)");
        self.child = Some(child);
        let start = Instant::now();
        while !self.answers() {
            let ended = self.child.as_mut().map(Child::try_wait);
            assert!(
                start.elapsed() < PATIENCE && matches!(ended, Some(Ok(None))),
                "the broker does not come up: {ended:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether it speaks AMQP.
    fn answers(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.ports[0])) else {
            return false;
        };
        let mut byte = [0];
        let limit = Some(Duration::from_secs(5));
        socket.set_read_timeout(limit).is_ok()
            && socket.write_all(b"AMQP\0\0\x09\x01").is_ok()
            && socket.read_exact(&mut byte).is_ok()
            && byte == [1]
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default()
    }

    /// Stops it in order, as a restart of the service would. Its data stay.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().to_string();
            let _gone = Command::new("kill").args(["-TERM", &pid]).status();
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(30) {
                if let Ok(Some(_)) = child.try_wait() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
        // Erlang's port mapper stays behind otherwise.
        let mapper = self.ports[2].to_string();
        let _gone = Command::new("epmd")
            .args(["-port", &mapper, "-kill"])
            .env("ERL_EPMD_RELAXED_COMMAND_CHECK", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
