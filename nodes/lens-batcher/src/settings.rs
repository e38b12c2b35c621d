//! The node's settings, and what is made of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::LensError;
use crate::backend::{
    Gallery, HttpClient, HttpService, ImageServer, PicturePlace, PlugIn, SerpApi, Service, Vision,
};
use crate::candidate::Timing;
use crate::circuit_breaker::Rules;
use crate::enhance::{ChainPlan, Step};
use crate::perceptual_hash::max_distance;
use crate::retry::RetryRules;
use crate::scheduler::Options;
use crate::secret::Secret;

/// The variable of the key. It is no setting: settings are printed.
pub const KEY: &str = "LENS_API_KEY";

/// The settings that the node reads.
pub const SETTINGS: &[&str] = &[
    "PROCESS_AFTER_SECONDS",
    "REPROCESS_INTERVAL_MS",
    "LENS_BACKEND",
    "LENS_GALLERY",
    "LENS_GALLERY_THRESHOLD",
    "LENS_URL",
    "LENS_HTTP_SERVICE",
    "LENS_PLUGIN",
    "LENS_PLUGIN_CONFIG",
    "LENS_IMAGE_SERVER",
    "LENS_IMAGE_URL",
    "LENS_IMAGE_PUT_URL",
    "LENS_BATCH_SIZE",
    "LENS_BATCH_WAIT_MS",
    "LENS_API_RATE_LIMIT",
    "LENS_CALLS_AT_ONCE",
    "LENS_TIMEOUT_MS",
    "LENS_QUEUE_SIZE",
    "LENS_DRAIN_SECONDS",
    "LENS_CACHE_SIZE",
    "LENS_CACHE_SIMILARITY_THRESHOLD",
    "LENS_CACHE_DIR",
    "LENS_ENABLE_SIMILAR_DEDUP",
    "LENS_KEEP_DIR",
    "ENHANCEMENT_ENABLED",
    "LENS_ENHANCERS",
    "LENS_ENHANCER_PLUGIN",
    "LENS_ENHANCER_PLUGIN_CONFIG",
    "MAX_RETRY_ATTEMPTS",
    "RETRY_DELAY_MS",
];

/// The same, typed.
#[allow(missing_docs, reason = "named and described in the settings table")]
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct Settings {
    pub process_after_seconds: f64,
    pub reprocess_interval_ms: u64,
    pub lens_backend: String,
    pub lens_gallery: PathBuf,
    pub lens_gallery_threshold: f64,
    pub lens_url: Option<String>,
    pub lens_http_service: Option<PathBuf>,
    pub lens_plugin: Option<PathBuf>,
    pub lens_plugin_config: String,
    pub lens_image_server: String,
    pub lens_image_url: Option<String>,
    pub lens_image_put_url: Option<String>,
    pub lens_batch_size: usize,
    pub lens_batch_wait_ms: u64,
    pub lens_api_rate_limit: usize,
    pub lens_calls_at_once: usize,
    pub lens_timeout_ms: u64,
    pub lens_queue_size: usize,
    pub lens_drain_seconds: f64,
    pub lens_cache_size: usize,
    pub lens_cache_similarity_threshold: f64,
    pub lens_cache_dir: Option<PathBuf>,
    pub lens_enable_similar_dedup: bool,
    pub lens_keep_dir: Option<PathBuf>,
    pub enhancement_enabled: bool,
    pub lens_enhancers: Vec<Step>,
    pub lens_enhancer_plugin: Option<PathBuf>,
    pub lens_enhancer_plugin_config: String,
    pub max_retry_attempts: u8,
    pub retry_delay_ms: u64,
}

impl Settings {
    /// When objects are asked about.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            after: Duration::from_secs_f64(self.process_after_seconds),
            interval: Duration::from_millis(self.reprocess_interval_ms),
        }
    }

    /// What the scheduler keeps to with this service.
    #[must_use]
    pub fn options(&self, service: &Service, restarted: bool) -> Options {
        Options {
            batch_size: self.lens_batch_size.min(service.most()),
            batch_wait: Duration::from_millis(self.lens_batch_wait_ms),
            queue: self.lens_queue_size,
            calls_at_once: self.lens_calls_at_once,
            rate_limit: service.is_remote().then_some(self.lens_api_rate_limit),
            restarted,
            retry: RetryRules {
                attempts: self.max_retry_attempts,
                delay: Duration::from_millis(self.retry_delay_ms),
            },
            breaker: Rules::default(),
            dedup: self.lens_enable_similar_dedup,
            cache_size: self.lens_cache_size,
            radius: max_distance(self.lens_cache_similarity_threshold),
            seed: fastrand::u64(..),
        }
    }

    /// What pictures go through before they are sent.
    #[must_use]
    pub fn chain(&self) -> ChainPlan {
        if !self.enhancement_enabled {
            return ChainPlan::default();
        }
        let plug_in = self.lens_enhancer_plugin.clone();
        ChainPlan {
            steps: self.lens_enhancers.clone(),
            plug_in: plug_in.map(|path| (path, self.lens_enhancer_plugin_config.clone())),
        }
    }

    /// The service; `key` is that of the environment.
    ///
    /// # Errors
    /// Where something that it needs is missing or wrong.
    pub fn service(&self, key: Secret) -> Result<Service, LensError> {
        let limit = Duration::from_millis(self.lens_timeout_ms);
        let url = self.lens_url.as_deref();
        if let Some(url) = url.filter(|url| !is_web_address(url)) {
            return Err(LensError::Setting {
                setting: "LENS_URL",
                value: key.redact(url),
                expected: "an address that begins with http:// or https://".into(),
            });
        }
        match self.lens_backend.as_str() {
            "vision" => {
                self.needs_key(&key, "vision", "an API key of the Google Cloud project")?;
                let base = url.unwrap_or("https://vision.googleapis.com");
                Ok(Service::Vision(Vision::new(base, key, limit)))
            }
            "serpapi" => {
                self.needs_key(&key, "serpapi", "the service's API key")?;
                let place = self.picture_place(&key, limit)?;
                let url = url.unwrap_or("https://serpapi.com/search.json");
                Ok(Service::SerpApi(SerpApi::new(url, key, limit, place)))
            }
            "http" => {
                let file = set(
                    &self.lens_http_service,
                    "http",
                    "LENS_HTTP_SERVICE",
                    "the file that describes the service",
                )?;
                Ok(Service::Http(HttpService::read(file, url, key, limit)?))
            }
            "plugin" => {
                let path = set(
                    &self.lens_plugin,
                    "plugin",
                    "LENS_PLUGIN",
                    "the shared library",
                )?;
                Ok(Service::PlugIn(PlugIn::new(
                    path,
                    &self.lens_plugin_config,
                )?))
            }
            _ => {
                let gallery = Gallery::read(&self.lens_gallery, self.lens_gallery_threshold)?;
                Ok(Service::Gallery(Arc::new(gallery)))
            }
        }
    }

    /// Google's own addresses want a key; one's own server may not.
    fn needs_key(
        &self,
        key: &Secret,
        backend: &'static str,
        what: &'static str,
    ) -> Result<(), LensError> {
        match key.is_empty() && self.lens_url.is_none() {
            true => Err(LensError::Unset {
                backend,
                setting: KEY,
                what,
            }),
            false => Ok(()),
        }
    }

    fn picture_place(&self, key: &Secret, limit: Duration) -> Result<PicturePlace, LensError> {
        let name = crate::backend::NAME;
        match (&self.lens_image_put_url, &self.lens_image_url) {
            (Some(put), Some(get)) if put.contains(name) && get.contains(name) => {
                Ok(PicturePlace::Store {
                    put: put.clone(),
                    get: get.clone(),
                    client: HttpClient::new(limit, key),
                })
            }
            (Some(put), _) => Err(LensError::Setting {
                setting: "LENS_IMAGE_PUT_URL",
                value: put.clone(),
                expected: "an address with {name} in it, and LENS_IMAGE_URL with another".into(),
            }),
            (None, public) => {
                let server = ImageServer::start(&self.lens_image_server)?;
                let own = format!("http://{}", server.address());
                let public = public.clone().unwrap_or(own);
                Ok(PicturePlace::Own {
                    public: public.trim_end_matches('/').into(),
                    server: Arc::new(server),
                })
            }
        }
    }
}

fn is_web_address(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn set<'a>(
    value: &'a Option<PathBuf>,
    backend: &'static str,
    setting: &'static str,
    what: &'static str,
) -> Result<&'a PathBuf, LensError> {
    value.as_ref().ok_or(LensError::Unset {
        backend,
        setting,
        what,
    })
}
