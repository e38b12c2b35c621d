//! A RabbitMQ of our own: own ports, own folder, gone with the test.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Under the range from which the system takes ports for outgoing connections: what is free now
/// stays free until it is used, also over a restart of who listens there.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

/// A port that nobody uses, and that this process has not given before.
///
/// # Panics
/// Where none is left.
#[must_use]
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many ports in a row that are free, low enough for METRICS_PORT. None of them is given again.
#[must_use]
pub fn free_ports(count: u16) -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // The same for every count, or rows of different lengths would begin at different places and overlap.
    let places = PORTS.end - PORTS.start - u32::from(u8::MAX);
    assert!(count <= u8::MAX.into(), "{count} ports in a row");
    // Test programs that run beside each other begin at different places.
    let begin = std::process::id().wrapping_mul(97) % places;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..places)
        .map(|_| begin + GIVEN.fetch_add(count.into(), Ordering::Relaxed))
        .filter_map(|place| u16::try_from(PORTS.start + place % places).ok())
        .find(|first| (*first..*first + count).all(free))
        .expect("free ports in a row")
}

/// A broker, running or not.
#[derive(Debug)]
pub struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    distribution_port: u16,
    epmd_port: u16,
    child: Option<Child>,
}

impl Broker {
    /// Starts a broker; panics with its log where it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let mut broker = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            port: free_port(),
            distribution_port: free_port(),
            epmd_port: free_port(),
            child: None,
        };
        broker.run();
        broker
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Starts it again on its data.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let folder = self.folder.path();
        let at = |name: &str| folder.join(name);
        std::fs::write(at("plugins"), "[].\n").expect("plugins");
        std::fs::write(at("rabbitmq.conf"), "").expect("rabbitmq.conf");
        let log = std::fs::File::create(at("broker.log")).expect("broker.log");
        let spawn = || {
            let log = || log.try_clone().expect("broker.log");
            Command::new(server())
                .env("HOME", folder)
                .env("ERL_EPMD_PORT", self.epmd_port.to_string())
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
                .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
                .env("RABBITMQ_NODE_PORT", self.port.to_string())
                .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
                .env("RABBITMQ_MNESIA_BASE", at("data"))
                .env("RABBITMQ_LOG_BASE", at("log"))
                .env("RABBITMQ_LOGS", "-")
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
                .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
                .env("RABBITMQ_PID_FILE", at("pid"))
                .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
                .stdin(Stdio::null())
                .stdout(log())
                .stderr(log())
                .spawn()
                .expect("rabbitmq-server starts")
        };
        let mut child = spawn();
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = std::fs::read_to_string(at("broker.log")).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "no broker:\n{log}"
            );
            // On a busy machine it can miss the port mapper that it has just started, and gives up.
            if let Ok(Some(_)) = child.try_wait() {
                child = spawn();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.child = Some(child);
    }

    /// Stops it in order, as a restart of its machine would. Its data stay.
    pub fn stop(&mut self) {
        self.end("-TERM");
    }

    fn end(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // The script has replaced itself by, or waits for, the machine with the pid in the file.
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap_or_default();
        let _status = Command::new("kill").args([signal, pid.trim()]).status();
        let start = Instant::now();
        while child
            .try_wait()
            .expect("the child can be waited for")
            .is_none()
        {
            if start.elapsed() > Duration::from_secs(20) {
                let _gone = child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end("-KILL");
        let _status = Command::new("epmd")
            .args(["-port", &self.epmd_port.to_string(), "-kill"])
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// The server's own script. (The one on the PATH changes to the user rabbitmq.)
fn server() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib");
    versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("sbin/rabbitmq-server"))
        .find(|path| path.is_file())
        .expect("RabbitMQ is installed (scripts/setup.sh --tests)")
}
