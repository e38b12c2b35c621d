//! The plug-in's side, for plug-ins in Rust.

use std::any::Any;
use std::cell::RefCell;
use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use arrow::array::{Array, ArrayRef, make_array};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};

use crate::abi::{self, Kind, Table};

/// What a plug-in says went wrong; any error and any text becomes one by `?` or `.into()`.
pub type GuestError = Box<dyn Error>;

/// A plug-in. [`crate::export_plugin!`] makes it a library's.
pub trait Guest: Sized {
    /// What it does: this says which columns it is given and has to give back.
    const KIND: Kind;
    /// Its name in logs, metrics and the column `strategy`.
    const NAME: &'static CStr;

    /// Makes an instance: one for every stream.
    ///
    /// # Errors
    /// The configuration (JSON text, `{}` where there is none) is not accepted.
    fn create(config: &str) -> Result<Self, GuestError>;

    /// Turns a batch of [`Kind::input`] into one of [`Kind::output`]. The first call has no rows: it
    /// tells the host which columns come back.
    ///
    /// # Errors
    /// This batch has no result; the next call may be better.
    fn process(&mut self, batch: ArrayRef) -> Result<ArrayRef, GuestError>;
}

/// The table of a plug-in.
#[must_use]
pub const fn table<P: Guest>() -> Table {
    Table {
        magic: abi::MAGIC,
        abi_version: abi::ABI_VERSION,
        kind: P::KIND as u32,
        name: P::NAME.as_ptr(),
        create: Some(create::<P>),
        process: Some(process::<P>),
        destroy: Some(destroy::<P>),
        last_error: Some(last_error::<P>),
    }
}

struct Instance<P> {
    plugin: P,
    error: CString,
}

thread_local! {
    /// Why the last `create` on this thread has failed.
    static REFUSAL: RefCell<CString> = RefCell::default();
}

fn c_text(text: String) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").into()
}

/// Runs the plug-in's own code; a panic in it ends here.
fn guarded<T>(run: impl FnOnce() -> Result<T, GuestError>) -> Result<T, (c_int, CString)> {
    // An instance that was left halfway is the plug-in's own matter: memory stays safe all the same.
    let run = AssertUnwindSafe(|| run().map_err(|error| c_text(error.to_string())));
    match catch_unwind(run) {
        Ok(result) => result.map_err(|text| (abi::ERROR, text)),
        Err(panic) => Err((abi::PANIC, c_text(panic_text(panic.as_ref())))),
    }
}

unsafe extern "C" fn create<P: Guest>(config: *const c_char) -> *mut c_void {
    let made = guarded(|| {
        if config.is_null() {
            return Err("the configuration is a null pointer".into());
        }
        // SAFETY: the host gives a text that ends in a zero and lives as long as this call.
        P::create(unsafe { CStr::from_ptr(config) }.to_str()?)
    });
    match made {
        Ok(plugin) => Box::into_raw(Box::new(Instance {
            plugin,
            error: CString::default(),
        }))
        .cast(),
        Err((_, text)) => {
            REFUSAL.set(text);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn process<P: Guest>(
    instance: *mut c_void,
    input: *mut FFI_ArrowArray,
    input_schema: *mut FFI_ArrowSchema,
    output: *mut FFI_ArrowArray,
    output_schema: *mut FFI_ArrowSchema,
) -> c_int {
    let nulls = [input.is_null(), output.is_null(), output_schema.is_null()];
    if instance.is_null() || input_schema.is_null() || nulls.contains(&true) {
        return abi::ERROR;
    }
    // SAFETY: the host passes what `create::<P>` returned, and no two calls on it overlap.
    let instance = unsafe { &mut *instance.cast::<Instance<P>>() };
    let plugin = &mut instance.plugin;
    let result = guarded(|| {
        // SAFETY: both point to structs that the host has filled by the C Data Interface. Moving them
        // out makes this side the one that releases them.
        let (array, schema) = unsafe {
            (
                FFI_ArrowArray::from_raw(input),
                FFI_ArrowSchema::from_raw(input_schema),
            )
        };
        // SAFETY: as above; a host's batch keeps to the interface.
        let batch = make_array(unsafe { from_ffi(array, &schema) }?);
        Ok(to_ffi(&plugin.process(batch)?.to_data())?)
    });
    match result {
        Ok((array, schema)) => {
            // SAFETY: not null; the host has room for one struct of each behind them, and nothing in
            // these that would have to be released before it is overwritten.
            unsafe {
                output.write(array);
                output_schema.write(schema);
            }
            abi::OK
        }
        Err((code, text)) => {
            instance.error = text;
            code
        }
    }
}

unsafe extern "C" fn destroy<P: Guest>(instance: *mut c_void) {
    if !instance.is_null() {
        // SAFETY: made by `Box::into_raw` in `create::<P>`; the host destroys an instance once.
        let instance = unsafe { Box::from_raw(instance.cast::<Instance<P>>()) };
        let _panic_has_been_printed = catch_unwind(AssertUnwindSafe(|| drop(instance)));
    }
}

unsafe extern "C" fn last_error<P: Guest>(instance: *mut c_void) -> *const c_char {
    if instance.is_null() {
        return REFUSAL.with_borrow(|text| text.as_ptr());
    }
    // SAFETY: the host passes what `create::<P>` returned. The text stays until the next call.
    unsafe { &*instance.cast::<Instance<P>>() }.error.as_ptr()
}
