//! The binary interface: the table that a plug-in's one symbol returns. The same, for C, with what each
//! function owes: `include/tracklens_plugin.h`.

use std::ffi::{c_char, c_int, c_void};
use std::fmt;

use arrow::datatypes::DataType;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use tracklens_schemas::{crops, frame_rows, identifications, prompts};

/// The symbol, with the zero that ends it.
pub const SYMBOL: &[u8] = b"tracklens_plugin\0";
/// First word of the table: "TLPI" in a debugger.
pub const MAGIC: u32 = 0x4950_4C54;
/// Second word: grows with every change to what follows.
pub const ABI_VERSION: u32 = 1;

/// `process` has written a batch.
pub const OK: c_int = 0;
/// `process` has failed; `last_error` says why.
pub const ERROR: c_int = 1;
/// Like [`ERROR`], by a panic (Rust) or an exception (C++) that was caught.
pub const PANIC: c_int = 2;

/// What a plug-in does, and with that the columns that go in and come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Frames in, prompts out.
    PromptStrategy = 1,
    /// Frames in, objects out: prompts with a box or a mask.
    Detector = 2,
    /// Crops in, better crops out.
    Enhancer = 3,
    /// Crops in, identifications out.
    Identifier = 4,
}

impl Kind {
    const ALL: [Self; 4] = [
        Self::PromptStrategy,
        Self::Detector,
        Self::Enhancer,
        Self::Identifier,
    ];

    /// The kind of this number in the table.
    #[must_use]
    pub fn numbered(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// The rows it is given.
    #[must_use]
    pub fn input(self) -> DataType {
        match self {
            Self::PromptStrategy | Self::Detector => frame_rows::data_type(),
            Self::Enhancer | Self::Identifier => crops::data_type(),
        }
    }

    /// The rows it gives back.
    #[must_use]
    pub fn output(self) -> DataType {
        match self {
            Self::PromptStrategy | Self::Detector => prompts::data_type(),
            Self::Enhancer => crops::data_type(),
            Self::Identifier => identifications::data_type(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PromptStrategy => "prompt-strategy",
            Self::Detector => "detector",
            Self::Enhancer => "enhancer",
            Self::Identifier => "identifier",
        })
    }
}

/// Makes an instance; null: `last_error(NULL)` says why not.
pub type Create = unsafe extern "C" fn(config: *const c_char) -> *mut c_void;
/// Turns one batch into another.
pub type Process = unsafe extern "C" fn(
    instance: *mut c_void,
    input: *mut FFI_ArrowArray,
    input_schema: *mut FFI_ArrowSchema,
    output: *mut FFI_ArrowArray,
    output_schema: *mut FFI_ArrowSchema,
) -> c_int;
/// Ends an instance.
pub type Destroy = unsafe extern "C" fn(instance: *mut c_void);
/// What went wrong last.
pub type LastError = unsafe extern "C" fn(instance: *mut c_void) -> *const c_char;

/// The table. Magic and version come first in every version: nothing else is read until they agree.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// A [`Kind`].
    pub kind: u32,
    /// Name in logs, metrics and the column `strategy`; UTF-8.
    pub name: *const c_char,
    /// Makes an instance.
    pub create: Option<Create>,
    /// Turns one batch into another.
    pub process: Option<Process>,
    /// Ends an instance.
    pub destroy: Option<Destroy>,
    /// What went wrong last.
    pub last_error: Option<LastError>,
}

// SAFETY: a table is never written to after it has been made, and its name is static text.
unsafe impl Sync for Table {}
