//! Two machines on one: a coordinator and two daemons of dora, in network namespaces of their own where this process may
//! make them, else beside each other on loopback.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::dora;
use crate::{Output, free_port, root};

/// The variable that marks every process of these machines.
const MARK: &str = "TRACKLENS_TEST_MACHINES";
const EDGE: &str = "edge";
const GPU: &str = "gpu";

/// Two namespaces joined by a cable; gone when dropped.
#[derive(Debug)]
struct Network {
    edge: String,
    gpu: String,
}

impl Network {
    /// `None` where it is not permitted (or `ip` is missing).
    fn new() -> Option<Self> {
        let of = |machine| format!("tracklens-{}-{machine}", std::process::id());
        let network = Self {
            edge: of(EDGE),
            gpu: of(GPU),
        };
        let (edge, gpu) = (network.edge.as_str(), network.gpu.as_str());
        let done = ip(&["netns", "add", edge])
            && ip(&["netns", "add", gpu])
            && ip(&[
                "link", "add", "cable", "netns", edge, "type", "veth", "peer", "name", "cable",
                "netns", gpu,
            ])
            && ip(&["-n", edge, "addr", "add", "10.77.0.1/24", "dev", "cable"])
            && ip(&["-n", gpu, "addr", "add", "10.77.0.2/24", "dev", "cable"])
            && [edge, gpu].iter().all(|space| {
                ip(&["-n", space, "link", "set", "lo", "up"])
                    && ip(&["-n", space, "link", "set", "cable", "up"])
            });
        done.then_some(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.edge]);
        ip(&["netns", "del", &self.gpu]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let output = Command::new("ip").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// The coordinator (on the machine `gpu`) and the daemons of both machines.
#[derive(Debug)]
pub struct Machines {
    network: Option<Network>,
    coordinator: Ipv4Addr,
    port: u16,
    folder: tempfile::TempDir,
    output: Option<Output>,
    children: Vec<Child>,
}

impl Machines {
    /// Starts them. Nodes get the environment of the daemon of their machine, to which this is added.
    #[must_use]
    pub fn start(environment: &[(&str, &str)]) -> Self {
        let network = Network::new();
        let coordinator = match network {
            Some(_) => Ipv4Addr::new(10, 77, 0, 2),
            None => Ipv4Addr::LOCALHOST,
        };
        let mut machines = Self {
            network,
            coordinator,
            port: free_port(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            output: Some(Output {
                folder: tempfile::tempdir().expect("a temporary folder"),
            }),
            children: Vec::new(),
        };
        let address = machines.coordinator.to_string();
        let coordinator = ["coordinator", "--store", "memory", "--interface", &address];
        machines.spawn(GPU, &coordinator, "--port", &[]);
        machines.wait_until("the coordinator", |machines| machines.dora(&["list"]).0);
        for machine in [EDGE, GPU] {
            let listen = free_port().to_string();
            let daemon = [
                "daemon",
                "--machine-id",
                machine,
                "--local-listen-port",
                &listen,
            ];
            let daemon = [daemon.as_slice(), &["--coordinator-addr", &address]].concat();
            machines.spawn(machine, &daemon, "--coordinator-port", environment);
        }
        machines
    }

    /// Whether the machines have networks of their own.
    #[must_use]
    pub fn are_apart(&self) -> bool {
        self.network.is_some()
    }

    fn command(&self, machine: &str) -> Command {
        let space = self.network.as_ref().map(|network| match machine {
            EDGE => &network.edge,
            _ => &network.gpu,
        });
        let mut command = match space {
            Some(space) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", space]).arg(dora());
                command
            }
            None => Command::new(dora()),
        };
        // A home of its own: no token, no store and no folder of anybody else's dora.
        command
            .env("HOME", self.folder.path())
            .env(MARK, self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn spawn(
        &mut self,
        machine: &str,
        arguments: &[&str],
        port: &str,
        environment: &[(&str, &str)],
    ) {
        // Paths of nodes count from where the daemon was started.
        let place = self.folder.path().join(machine);
        std::fs::create_dir_all(&place).expect("a folder for the machine");
        if !place.join("target").exists() {
            symlink(root().join("target"), place.join("target")).expect("target");
        }
        let log = self
            .folder
            .path()
            .join(format!("{machine}-{}.log", arguments[0]));
        let log = File::create(log).expect("a log");
        let child = self
            .command(machine)
            .args(arguments)
            .args([port, &self.port.to_string()])
            .current_dir(place)
            .env("METRICS_ENABLED", "false")
            .env("OUT_DIR", self.output().folder())
            .envs(environment.iter().copied())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("dora starts (make setup)");
        self.children.push(child);
    }

    /// A command to the coordinator: whether it went well, and what it said.
    #[must_use]
    pub fn dora(&self, arguments: &[&str]) -> (bool, String) {
        self.dora_with(arguments, &[])
    }

    fn dora_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
        let output = self
            .command(GPU)
            .args(arguments)
            .args(["--coordinator-addr", &self.coordinator.to_string()])
            .args(["--coordinator-port", &self.port.to_string()])
            .envs(environment.iter().copied())
            .output()
            .expect("dora starts (make setup)");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into(),
        )
    }

    /// Starts a graph of the project on both, once they are up; `environment` is that of `dora start`.
    pub fn run(&self, graph: &str, environment: &[(&str, &str)]) {
        self.run_at(&root().join("graphs").join(graph), environment);
    }

    /// The same with a graph anywhere; the dataflow has its file's name.
    pub fn run_at(&self, graph: &Path, environment: &[(&str, &str)]) {
        let name = graph.file_stem().and_then(|name| name.to_str());
        let name = name.expect("a plain name");
        let graph = graph.to_str().expect("a plain path");
        let start = ["start", graph, "--detach", "--name", name];
        // Refused until both daemons have reported to the coordinator.
        self.wait_until("the graph's start", |machines| {
            let (started, said) = machines.dora_with(&start, environment);
            if !started {
                eprintln!("{said}");
            }
            started
        });
    }

    /// The output folder, the same on both.
    #[must_use]
    pub fn output(&self) -> &Output {
        self.output.as_ref().expect("kept until into_output")
    }

    /// Stops the graph and the machines, and returns the output folder.
    #[must_use]
    pub fn into_output(mut self) -> Output {
        let (stopped, said) = self.dora(&["stop", "--all"]);
        assert!(stopped, "{said}\n{}", self.log());
        self.output.take().expect("kept until now")
    }

    /// What coordinator and daemons have logged.
    #[must_use]
    pub fn log(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).into_iter().flatten();
        files
            .flatten()
            .filter(|file| {
                file.path()
                    .extension()
                    .is_some_and(|ending| ending == "log")
            })
            .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default())
            .collect()
    }

    /// Waits until `condition` holds; panics with the log if it takes too long.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let late = start.elapsed() > Duration::from_secs(120);
            assert!(!late, "waiting for {what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Programs of the nodes that run on a machine (on both, where they are not apart).
    #[must_use]
    pub fn programs(&self, machine: &str) -> Vec<String> {
        let place = self.folder.path().join(machine);
        let mut programs = Vec::new();
        for pid in self.pids() {
            let of = |name: &str| {
                std::fs::read_link(Path::new("/proc").join(pid.to_string()).join(name))
            };
            let (exe, cwd) = (of("exe").unwrap_or_default(), of("cwd").unwrap_or_default());
            let name = exe.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("tracklens-") && cwd.starts_with(&place) {
                programs.push(name.into_owned());
            }
        }
        programs.sort();
        programs
    }

    fn pids(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}\0", self.folder.path().display());
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        processes
            .filter_map(|process| {
                let pid: u32 = process.file_name().to_string_lossy().parse().ok()?;
                let environ = std::fs::read(process.path().join("environ")).ok()?;
                let ours = String::from_utf8_lossy(&environ).contains(&mark);
                ours.then_some(pid)
            })
            .collect()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let _gone = self.dora(&["down"]);
        // Whatever does not go by itself carries the mark.
        for pid in self.pids() {
            let _gone = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .output();
        }
        for child in &mut self.children {
            let _gone = child.wait();
        }
    }
}
