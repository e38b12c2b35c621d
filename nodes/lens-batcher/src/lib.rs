//! Identifies tracked objects through image-recognition services: per track the best picture, asked
//! about as seldom as possible.
//!
//! [`Lens`] is the whole of it without threads or network: [`Candidates`](candidate::Candidates) choose
//! what is worth asking and when, [`Scheduler`](scheduler::Scheduler) answers from its cache or forms
//! calls within the service's limits. [`Workers`](workers::Workers) make the calls through a
//! [`Backend`](backend::Backend). `main.rs` joins both to the dataflow.

pub mod alarm;
pub mod backend;
pub mod cache_file;
pub mod call_error;
pub mod candidate;
pub mod circuit_breaker;
pub mod colour_layout;
pub mod counts;
pub mod enhance;
mod error;
pub mod hash_cache;
pub mod hash_index;
pub mod journal;
pub mod lens;
pub mod perceptual_hash;
mod picture;
pub mod question;
pub mod retry;
pub mod scheduler;
pub mod secret;
pub mod settings;
pub mod token_bucket;
pub mod workers;

pub use call_error::CallError;
pub use error::LensError;
pub use lens::Lens;
pub use picture::Picture;
