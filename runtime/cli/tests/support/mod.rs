//! A web server that misbehaves as told, and the `tracklens` command run against it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// The first byte asked for, where only a part was.
    pub from: Option<usize>,
}

/// An answer: status line, headers and body, and after how many bytes of the body to hang up.
pub struct Answer {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
    cut: usize,
}

impl Answer {
    pub fn new(status: &'static str, body: &[u8]) -> Self {
        Self {
            status,
            headers: vec![format!("Content-Length: {}", body.len())],
            body: body.to_vec(),
            cut: usize::MAX,
        }
    }

    /// The file, or the part of it that was asked for.
    pub fn file(request: &Request, file: &[u8]) -> Self {
        match request.from {
            None => Self::new("200 OK", file),
            Some(from) if from >= file.len() => Self::new("416 Range Not Satisfiable", b"")
                .header(&format!("Content-Range: bytes */{}", file.len())),
            Some(from) => Self::new("206 Partial Content", &file[from..]).header(&format!(
                "Content-Range: bytes {from}-{}/{}",
                file.len() - 1,
                file.len()
            )),
        }
    }

    pub fn missing() -> Self {
        Self::new("404 Not Found", b"no such thing")
    }

    pub fn header(mut self, header: &str) -> Self {
        self.headers.push(header.into());
        self
    }

    /// Promises more than there is.
    pub fn claims(mut self, length: u64) -> Self {
        self.headers = vec![format!("Content-Length: {length}")];
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = bytes;
        self
    }
}

/// A server on a port of its own, for as long as the test runs.
pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets each request and its number, from 0.
    pub fn start(answer: impl Fn(&Request, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = read(&stream) else {
                    continue;
                };
                let number = seen.lock().unwrap().len();
                seen.lock().unwrap().push(request.clone());
                send(stream, answer(&request, number));
            }
        });
        Self { url, requests }
    }

    /// Serves these files well.
    pub fn of(files: Vec<(String, Vec<u8>)>) -> Self {
        Self::start(move |request, _| {
            let found = files
                .iter()
                .find(|(name, _)| request.path == format!("/{name}"));
            found.map_or_else(Answer::missing, |(_, file)| Answer::file(request, file))
        })
    }

    /// What was asked for so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ').map(str::to_string);
    let mut request = Request {
        method: words.next()?,
        path: words.next()?,
        from: None,
    };
    for line in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        let line = line.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            request.from = range.trim_end_matches('-').parse().ok();
        }
    }
    Some(request)
}

fn send(mut stream: TcpStream, answer: Answer) {
    let head = format!(
        "HTTP/1.1 {}\r\nConnection: close\r\n{}\r\n\r\n",
        answer.status,
        answer.headers.join("\r\n")
    );
    let body = &answer.body[..answer.cut.min(answer.body.len())];
    // The client may have hung up: it is what some tests are about.
    let _gone = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}

/// The command in a world of its own: an empty home, no proxy, no project around it.
pub struct Tracklens {
    pub home: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Tracklens {
    pub fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracklens"));
        command.args(arguments).current_dir(self.home.path());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        for name in ["SAM2_MODEL_DIR", "SAM2_MODEL_SIZE", "TRACKLENS_MODELS"] {
            command.env_remove(name);
        }
        command
            .env("XDG_DATA_HOME", self.home.path())
            .env("XDG_CACHE_HOME", self.home.path());
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        Said::of(command.envs(environment).output().unwrap())
    }

    /// Where models go.
    pub fn models(&self) -> PathBuf {
        self.home.path().join("tracklens/models")
    }

    pub fn checkpoint(&self, file: &str) -> PathBuf {
        self.models().join("checkpoints").join(file)
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub error: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Success, with these words in what was printed.
    #[track_caller]
    pub fn well(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(0), "{self:?}");
        for part in parts {
            assert!(self.out.contains(part), "{part:?} in {self:?}");
        }
    }

    /// A refusal (exit code 2), with these words.
    #[track_caller]
    pub fn refused(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        for part in parts {
            assert!(self.error.contains(part), "{part:?} in {self:?}");
        }
    }
}

/// Names of the files in a folder, sorted; none where there is no folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
