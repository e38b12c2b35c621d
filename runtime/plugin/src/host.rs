//! The host's side: loading a plug-in and calling it.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, to_ffi};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::abi::{self, Create, Destroy, Kind, LastError, Process, SYMBOL, Table};
use crate::batch::{self, Unfit};
use crate::error::PluginError;

/// Longest text that is taken over from a plug-in, in characters.
const LONGEST_TEXT: usize = 500;

/// An instance of a plug-in. It stays on the thread that made it.
#[derive(Debug)]
pub struct Plugin {
    entry: Entry,
    config: CString,
    instance: *mut c_void,
}

/// A library whose table has been checked.
#[derive(Clone, Debug)]
struct Entry {
    path: String,
    name: String,
    kind: Kind,
    create: Create,
    process: Process,
    destroy: Destroy,
    last_error: LastError,
}

impl Plugin {
    /// Loads the library at `path`, checks that it is a plug-in of this kind and version, makes an
    /// instance with `config` (JSON text), and has it turn a batch without rows into another, so that
    /// its columns are known before the first real batch. The library stays loaded until the process
    /// ends: its code may be needed to free what it has returned.
    ///
    /// # Errors
    /// Whatever is wrong with file, library, table, configuration or columns.
    pub fn load(path: &Path, kind: Kind, config: &str) -> Result<Self, PluginError> {
        let entry = Entry::load(path, kind)?;
        let wrong = |reason: String| PluginError::Config {
            plugin: entry.path.clone(),
            reason,
        };
        serde_json::from_str::<serde::de::IgnoredAny>(config)
            .map_err(|error| wrong(error.to_string()))?;
        let config = CString::new(config).map_err(|error| wrong(error.to_string()))?;
        let mut plugin = entry.instance(config)?;
        plugin.process(&new_empty_array(&kind.input()))?;
        Ok(plugin)
    }

    /// Another instance of the same plug-in with the same configuration.
    ///
    /// # Errors
    /// Where the plug-in does not want to.
    pub fn again(&self) -> Result<Self, PluginError> {
        self.entry.clone().instance(self.config.clone())
    }

    /// The plug-in's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Turns one batch into another; after an error the next call may do better.
    ///
    /// # Errors
    /// Where the plug-in fails or panics, or returns what its kind does not return.
    pub fn process(&mut self, batch: &dyn Array) -> Result<ArrayRef, PluginError> {
        let plugin = self.entry.path.clone();
        let (expected, unfit) = (self.entry.kind.input(), |reason| PluginError::Input {
            plugin: plugin.clone(),
            reason,
        });
        if let Some(difference) = batch::difference(&expected, batch.data_type()) {
            return Err(unfit(difference));
        }
        let (mut input, mut input_schema) =
            to_ffi(&batch.to_data()).map_err(|error| unfit(error.to_string()))?;
        let (mut output, mut output_schema) = (FFI_ArrowArray::empty(), FFI_ArrowSchema::empty());
        // SAFETY: the instance is alive, and this `&mut self` is the only use of it; the four structs
        // are valid for the call. What the plug-in leaves of the first two, and whatever it has put
        // into the others, is released by their `Drop`, unless it is marked as released or moved.
        let code = unsafe {
            (self.entry.process)(
                self.instance,
                &raw mut input,
                &raw mut input_schema,
                &raw mut output,
                &raw mut output_schema,
            )
        };
        match code {
            abi::OK => {
                // SAFETY: the plug-in says that it has filled both by the C Data Interface.
                let taken =
                    unsafe { batch::take(output, output_schema, &self.entry.kind.output()) };
                taken.map_err(|unfit| match unfit {
                    Unfit::Columns(reason) => PluginError::Columns { plugin, reason },
                    Unfit::Damaged(reason) => PluginError::Output { plugin, reason },
                })
            }
            abi::PANIC => Err(PluginError::Panicked {
                plugin,
                reason: self.entry.reason(self.instance),
            }),
            _ => Err(PluginError::Failed {
                plugin,
                reason: self.entry.reason(self.instance),
            }),
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // SAFETY: made by the same table's `create`, and not used after this.
        unsafe { (self.entry.destroy)(self.instance) }
    }
}

impl Entry {
    fn load(path: &Path, kind: Kind) -> Result<Self, PluginError> {
        let table = table(path)?;
        let plugin = path.display().to_string();
        let broken = |what: &str| PluginError::Table {
            plugin: plugin.clone(),
            reason: format!("{what} is null"),
        };
        let found = Kind::numbered(table.kind);
        if found != Some(kind) {
            return Err(PluginError::Kind {
                plugin,
                found: found.map_or(format!("number {}", table.kind), |kind| kind.to_string()),
                expected: kind,
            });
        }
        Ok(Self {
            // SAFETY: by the interface a text that ends in a zero and stays as long as the library.
            name: unsafe { text(table.name) }.ok_or_else(|| broken("name"))?,
            kind,
            create: table.create.ok_or_else(|| broken("create"))?,
            process: table.process.ok_or_else(|| broken("process"))?,
            destroy: table.destroy.ok_or_else(|| broken("destroy"))?,
            last_error: table.last_error.ok_or_else(|| broken("last_error"))?,
            path: plugin,
        })
    }

    fn instance(self, config: CString) -> Result<Plugin, PluginError> {
        // SAFETY: the text ends in a zero and outlives the call.
        let instance = unsafe { (self.create)(config.as_ptr()) };
        if instance.is_null() {
            return Err(PluginError::Refused {
                reason: self.reason(instance),
                plugin: self.path,
            });
        }
        Ok(Plugin {
            entry: self,
            config,
            instance,
        })
    }

    /// What the plug-in says went wrong; `instance` is alive, or null for `create`.
    fn reason(&self, instance: *mut c_void) -> String {
        // SAFETY: the interface allows both, and has the text live until the next call.
        let text = unsafe { text((self.last_error)(instance)) };
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| "it does not say why".into())
    }
}

/// Loads a library and reads its table, of which only magic and version are looked at.
fn table(path: &Path) -> Result<Table, PluginError> {
    let plugin = path.display().to_string();
    let missing = |error: std::io::Error| PluginError::Missing {
        plugin: plugin.clone(),
        reason: error.to_string(),
    };
    // The loader searches the system for a name without a folder: it gets the whole path.
    let whole = path.canonicalize().map_err(missing)?;
    std::fs::File::open(&whole).map_err(missing)?;
    // SAFETY: loading runs the library's initialisers; whoever names it in the settings trusts it.
    // All its symbols are resolved now: one that is missing is an error here, not a crash later.
    let library = unsafe { Library::open(Some(&whole), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| PluginError::NoLibrary {
        plugin: plugin.clone(),
        // What the system's loader says is the source of the crate's own error.
        reason: error
            .source()
            .map_or(error.to_string(), |said| said.to_string()),
    })?;
    // SAFETY: the name is ours; whoever exports it promises this type (tracklens_plugin.h).
    let symbol = unsafe { library.get::<unsafe extern "C" fn() -> *const Table>(SYMBOL) };
    let Ok(symbol) = symbol.map(|symbol| *symbol) else {
        return Err(PluginError::NoSymbol { plugin });
    };
    std::mem::forget(library);
    // SAFETY: as above; the library stays loaded.
    let table = unsafe { symbol() };
    let broken = |reason: &str| PluginError::Table {
        plugin: plugin.clone(),
        reason: reason.into(),
    };
    if table.is_null() || !table.is_aligned() {
        return Err(broken("tracklens_plugin returned no table"));
    }
    // SAFETY: every version's table begins with these two words.
    let [magic, version] = unsafe { table.cast::<[u32; 2]>().read() };
    if magic != abi::MAGIC {
        return Err(broken("it does not begin with TRACKLENS_PLUGIN_MAGIC"));
    }
    if version != abi::ABI_VERSION {
        return Err(PluginError::Version {
            plugin,
            found: version,
            expected: abi::ABI_VERSION,
        });
    }
    // SAFETY: magic and version say that it is a whole table of this layout.
    Ok(unsafe { table.read() })
}

/// A plug-in's text; broken UTF-8 is replaced, control characters too, and what is too long is cut.
///
/// # Safety
/// The pointer is null or leads to a text that ends in a zero.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) }.to_string_lossy();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    Some(text.chars().take(LONGEST_TEXT).map(plain).collect())
}
