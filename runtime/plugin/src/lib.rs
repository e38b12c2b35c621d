//! Plug-ins: shared libraries that turn one Arrow batch into another.
//!
//! A plug-in exports one symbol, `tracklens_plugin`, which returns a versioned table of C functions
//! ([`abi`], `include/tracklens_plugin.h`); batches cross by the Arrow C Data Interface. [`Plugin`] is
//! the host's side: it checks what it is given before it relies on it, and every way to go wrong is a
//! [`PluginError`]. [`Guest`] and [`export_plugin!`] are the plug-in's side in Rust: no `unsafe`, and a
//! panic becomes an error. docs/plugins.md shows how to write one.
//!
//! A plug-in runs inside the process: what it does to memory that is not its own, nobody can check.

pub mod abi;
mod batch;
mod error;
pub mod guest;
mod host;

pub use abi::Kind;
pub use error::PluginError;
pub use guest::{Guest, GuestError};
pub use host::Plugin;
pub use tracklens_schemas as schemas;

/// Makes a type that implements [`Guest`] the plug-in of this library (a `cdylib`).
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        /// The plug-in's table.
        #[unsafe(no_mangle)]
        pub extern "C" fn tracklens_plugin() -> *const $crate::abi::Table {
            static TABLE: $crate::abi::Table = $crate::guest::table::<$plugin>();
            &TABLE
        }
    };
}
