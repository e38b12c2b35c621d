//! A sender on a WebSocket.

use std::net::TcpStream;
use std::time::Duration;

use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{self, Error, Message, WebSocket};

use crate::Coded;

/// An open connection.
#[derive(Debug)]
pub struct Sender(WebSocket<MaybeTlsStream<TcpStream>>);

impl Sender {
    /// Connects, or gives the status with which it is refused.
    ///
    /// # Errors
    /// The HTTP status, or 0 where there was none.
    pub fn try_connect(port: u16, path: &str, token: Option<&str>) -> Result<Self, u16> {
        let url = format!("ws://127.0.0.1:{port}{path}");
        let mut request = url.into_client_request().expect("a request");
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("Authorization", value);
        }
        match tungstenite::connect(request) {
            Ok((socket, _)) => {
                if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
                    let limit = Some(Duration::from_secs(60));
                    stream.set_read_timeout(limit).expect("a time-out");
                    stream.set_write_timeout(limit).expect("a time-out");
                }
                Ok(Self(socket))
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(_) => Err(0),
        }
    }

    /// Connects, for a while again and again: the node may still be starting, or have no place yet.
    #[must_use]
    pub fn connect(port: u16, path: &str) -> Self {
        for _ in 0..600 {
            match Self::try_connect(port, path, None) {
                Ok(sender) => return sender,
                Err(0 | 409 | 503) => std::thread::sleep(Duration::from_millis(50)),
                Err(status) => panic!("{path}: {status}"),
            }
        }
        panic!("{path}: nobody listens on port {port}")
    }

    /// Sends bytes; whether they could be sent.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.send(Message::Binary(bytes.to_vec().into())).is_ok()
    }

    /// Sends a text message.
    pub fn say(&mut self, text: &str) {
        self.0.send(Message::Text(text.into())).expect("sent");
    }

    /// Sends all pictures, one a message.
    pub fn send_all(&mut self, coded: &Coded) {
        for picture in &coded.pictures {
            assert!(self.send(picture), "the connection is open");
        }
    }

    /// The code with which the other side closes the connection.
    pub fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Closes the connection in order.
    pub fn close(mut self) {
        let _closed = self.0.close(None);
        let _code = self.close_code();
    }

    /// Is gone without a word.
    pub fn vanish(self) {
        if let MaybeTlsStream::Plain(stream) = self.0.get_ref() {
            let _gone = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}
