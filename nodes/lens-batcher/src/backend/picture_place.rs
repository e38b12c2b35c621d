//! Where a service can fetch a picture from: our own image server, or a store that takes uploads.

use std::io::Read;
use std::sync::Arc;

use super::{HttpClient, ImageServer};
use crate::call_error::CallError;

/// What stands for a picture's name in addresses.
pub const NAME: &str = "{name}";

/// A place for pictures.
#[derive(Clone, Debug)]
pub enum PicturePlace {
    /// Our own server; `public`: its address as the service sees it.
    Own {
        /// The server.
        server: Arc<ImageServer>,
        /// Base address, without a slash at its end.
        public: String,
    },
    /// A store: a picture is PUT to one address and fetched from another, `{name}` in both.
    Store {
        /// Where to put it.
        put: String,
        /// Where it can be fetched.
        get: String,
        /// For putting.
        client: HttpClient,
    },
}

/// A picture that can be fetched until this is dropped (in a store: until the store forgets it).
#[derive(Debug)]
pub struct Shown {
    url: String,
    served: Option<(Arc<ImageServer>, String)>,
}

impl Shown {
    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.served {
            server.remove(name);
        }
    }
}

impl PicturePlace {
    /// Puts a JPEG there, under a name that nobody can guess.
    ///
    /// # Errors
    /// Where the store does not take it.
    pub fn show(&self, file: &[u8]) -> Result<Shown, CallError> {
        let name = random_name()?;
        match self {
            Self::Own { server, public } => {
                server.put(&name, file.to_vec());
                Ok(Shown {
                    url: format!("{public}/{name}.jpg"),
                    served: Some((server.clone(), name)),
                })
            }
            Self::Store { put, get, client } => {
                client.put(&put.replace(NAME, &name), "image/jpeg", file)?;
                Ok(Shown {
                    url: get.replace(NAME, &name),
                    served: None,
                })
            }
        }
    }
}

/// 128 bits from the system's own source: a picture's address is all that keeps others from it.
fn random_name() -> Result<String, CallError> {
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| CallError::Own {
            reason: format!("/dev/urandom cannot be read: {error}"),
        })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
