//! Serves pictures for as long as a service needs them: GET by a name that nobody can guess, nothing
//! else. Bound to 127.0.0.1 unless told otherwise; a proxy or tunnel makes it public.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use crate::LensError;

/// Pictures held at once; there are never more than calls on their way.
const MOST: usize = 256;

type Pictures = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct ImageServer {
    pictures: Pictures,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
}

impl ImageServer {
    /// Listens on this address; port 0 takes any free one.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn start(address: &str) -> Result<Self, LensError> {
        let failed = |reason: String| LensError::ImageServer {
            address: address.into(),
            reason,
        };
        let listener = std::net::TcpListener::bind(address).map_err(|e| failed(e.to_string()))?;
        listener
            .set_nonblocking(true)
            .map_err(|e| failed(e.to_string()))?;
        let bound = listener.local_addr().map_err(|e| failed(e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let pictures = Pictures::default();
        let app = Router::new()
            .route("/{file}", get(picture))
            .with_state(pictures.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => {
                        tracing::error!(%error, "the image server has stopped");
                        return;
                    }
                };
                let over = async { drop(stopped.await) };
                let served = axum::serve(listener, app)
                    .with_graceful_shutdown(over)
                    .await;
                if let Err(error) = served {
                    tracing::error!(%error, "the image server has stopped");
                }
            });
        });
        Ok(Self {
            pictures,
            address: bound,
            stop: Some(stop),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a JPEG as `/NAME.jpg` from now on.
    pub fn put(&self, name: &str, file: Vec<u8>) {
        let mut pictures = lock(&self.pictures);
        if pictures.len() < MOST {
            pictures.insert(name.into(), file);
        }
    }

    /// Serves it no longer.
    pub fn remove(&self, name: &str) {
        lock(&self.pictures).remove(name);
    }
}

impl Drop for ImageServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _over_already = stop.send(());
        }
    }
}

fn lock(pictures: &Pictures) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
    pictures.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn picture(State(pictures): State<Pictures>, Path(file): Path<String>) -> Response {
    let name = file.strip_suffix(".jpg").unwrap_or_default();
    let found = lock(&pictures).get(name).cloned();
    match found {
        Some(file) => (
            [
                (header::CONTENT_TYPE, "image/jpeg"),
                (header::CACHE_CONTROL, "no-store"),
            ],
            file,
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
