//! A local server that answers as told: documented responses, errors, slowness, cut connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "not every test file uses all of this")]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

/// What becomes of it.
#[allow(dead_code, reason = "not every test file uses all of this")]
pub(crate) enum Reply {
    /// Status, more header lines, body.
    Http(u16, &'static str, String),
    /// The same, but only so many bytes of it; then the connection is cut.
    Cut(usize, String),
    /// This long nothing, then the body.
    Slow(Duration, String),
}

/// A running server; it lives as long as the test.
#[derive(Clone)]
#[allow(dead_code, reason = "not every test file uses all of this")]
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[allow(dead_code, reason = "not every test file uses all of this")]
impl Server {
    /// Answers each request by this function, told its number from 0.
    pub(crate) fn start(reply: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, reply) = (requests.clone(), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, reply) = (seen.clone(), reply.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(request.clone());
                        seen.len() - 1
                    };
                    let _client_gone = write(stream, reply(number, &request));
                });
            }
        });
        Self { url, requests }
    }

    /// The same JSON for every request.
    pub(crate) fn json(body: &'static str) -> Self {
        Self::start(move |_, _| Reply::Http(200, "", body.into()))
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let at = Instant::now();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (mut headers, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).ok()? <= 2 {
            break;
        }
        let lower = header.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        headers.push_str(&lower);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        line: line.trim().into(),
        headers,
        body,
        at,
    })
}

fn write(mut stream: TcpStream, reply: Reply) -> std::io::Result<()> {
    let whole = |status: u16, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status} Some Reason\r\ncontent-type: application/json\r\n{more}\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    match reply {
        Reply::Http(status, more, body) => stream.write_all(whole(status, more, &body).as_bytes()),
        Reply::Cut(bytes, body) => {
            let text = whole(200, "", &body);
            stream.write_all(&text.as_bytes()[..bytes.min(text.len())])
        }
        Reply::Slow(pause, body) => {
            std::thread::sleep(pause);
            stream.write_all(whole(200, "", &body).as_bytes())
        }
    }
}
