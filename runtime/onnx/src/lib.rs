//! ONNX Runtime as nodes use it: the library is loaded when it is wanted, one environment per
//! process, any number of sessions, and every way in which that can fail said in one sentence.

mod session;

pub use session::{Device, SessionSettings, library, on_cpu, open};

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The library is missing or no ONNX Runtime.
    #[error(
        "cannot load the ONNX Runtime library {path:?}: {reason}; set ORT_DYLIB_PATH to \
         libonnxruntime.so (the Python package onnxruntime contains it)"
    )]
    Library {
        /// Where it was looked for.
        path: String,
        /// What the loader says.
        reason: String,
    },
    /// The library is older than the interface that we speak.
    #[error(
        "the ONNX Runtime library {path:?} is version {found}, 1.{least} or newer is needed; set \
         ORT_DYLIB_PATH to a newer libonnxruntime.so"
    )]
    LibraryTooOld {
        /// The library.
        path: String,
        /// Its version.
        found: String,
        /// Least minor version.
        least: u32,
    },
    /// There is no such file.
    #[error("the model {path:?} cannot be read: {reason}")]
    ModelMissing {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The file is there, but ONNX Runtime does not take it.
    #[error("{path:?} is not a whole ONNX model ({bytes} bytes): {reason}; fetch it again")]
    ModelBroken {
        /// The file.
        path: String,
        /// Its size.
        bytes: u64,
        /// What ONNX Runtime says.
        reason: String,
    },
    /// The GPU was asked for and cannot be used.
    #[error(
        "the device cuda cannot be used: {reason}; install an ONNX Runtime with CUDA (the Python \
         package onnxruntime-gpu contains it), or choose the device cpu or auto"
    )]
    NoCuda {
        /// What ONNX Runtime says.
        reason: String,
    },
}
