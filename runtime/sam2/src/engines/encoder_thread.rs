//! The image encoder, with a thread of its own for frames that are known to come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use super::Features;
use super::lanes::{Engine, failed, view};
use crate::model_folder::ModelError;
use crate::modules::{Ahead, Encoded, InferenceError};

/// The image encoder, and a thread that runs it.
#[derive(Debug)]
pub(super) struct EncoderThread {
    encoder: Arc<Mutex<ImageEncoder>>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct ImageEncoder {
    pub(super) engine: Engine,
    /// Height and width.
    pub(super) input: [usize; 2],
}

/// A frame's tensor, and who wants the features.
type Job = (Vec<f32>, mpsc::Sender<Encoded<Features>>);

impl ImageEncoder {
    fn encode(&mut self, pixels: &[f32]) -> Result<Features, InferenceError> {
        let engine = &mut self.engine;
        let (name, [height, width]) = (engine.name, self.input);
        let mut session = engine.first()?;
        let image = view(name, 1, [1, 3, height, width], pixels)?;
        let mut outputs = session.run(1, [("image", image)])?;
        let mut take = |output: &'static str| {
            let missing = || failed(name, 1, format!("no output {output}"));
            outputs.remove(output).ok_or_else(missing)
        };
        Ok(Features {
            embedding: take("embedding")?,
            without_memory: take("embedding_no_memory")?,
            high_res_0: take("high_res_0")?,
            high_res_1: take("high_res_1")?,
        })
    }
}

impl EncoderThread {
    pub(super) fn start(encoder: ImageEncoder) -> Result<Self, ModelError> {
        let encoder = Arc::new(Mutex::new(encoder));
        let (jobs, incoming) = mpsc::channel::<Job>();
        let own = encoder.clone();
        let thread = std::thread::Builder::new()
            .name("image-encoder".into())
            .spawn(move || {
                for (pixels, wanted) in incoming {
                    let start = Instant::now();
                    let frame = lock(&own).encode(&pixels);
                    // Nobody may want it any more.
                    let _sent = wanted.send(Encoded {
                        pixels,
                        frame,
                        time: start.elapsed(),
                    });
                }
            })
            .map_err(|error| ModelError::Thread(error.to_string()))?;
        Ok(Self {
            encoder,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Encodes a frame on the caller's thread.
    pub(super) fn encode(&self, pixels: &[f32]) -> Result<Features, InferenceError> {
        lock(&self.encoder).encode(pixels)
    }

    /// Whether a frame is being encoded right now.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.encoder.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Has a frame encoded meanwhile.
    pub(super) fn encode_ahead(&self, pixels: Vec<f32>) -> Ahead<Features> {
        let (wanted, encoded) = mpsc::channel();
        if let Some(jobs) = &self.jobs {
            // A thread that is gone drops the sender, which the receiver finds out.
            let _sent = jobs.send((pixels, wanted));
        }
        Ahead::Coming(encoded)
    }
}

impl Drop for EncoderThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
