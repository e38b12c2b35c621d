//! Where the time of a frame goes.

use std::time::Duration;

/// Time spent on the parts of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Bytes to tensor.
    pub preprocess: Duration,
    /// Image encoder.
    pub encode: Duration,
    /// Gathering memories, and the memory attention.
    pub attend: Duration,
    /// Mask decoder.
    pub decode: Duration,
    /// Memory encoder.
    pub remember: Duration,
    /// Logits to masks.
    pub masks: Duration,
}

impl Stages {
    /// Names and times.
    #[must_use]
    pub fn each(&self) -> [(&'static str, Duration); 6] {
        [
            ("preprocess", self.preprocess),
            ("image_encoder", self.encode),
            ("memory_attention", self.attend),
            ("mask_decoder", self.decode),
            ("memory_encoder", self.remember),
            ("masks", self.masks),
        ]
    }
}
