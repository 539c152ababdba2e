//! Native plugins of vSMTP. A plugin in Rust is a library of the crate type `cdylib` that says what it has:
//!
//! ```
//! use vsmtp_plugin::{Error, Kind, Plugin, Value};
//!
//! vsmtp_plugin::export!(plugin);
//!
//! fn plugin() -> Plugin {
//!     Plugin::new("greeter", "1.0").quick("greet", &[Kind::Text], |arguments: &[Value]| {
//!         let name = arguments[0].text().ok_or_else(|| Error::new("a name is wanted"))?;
//!         Ok(format!("good day, {name}"))
//!     })
//! }
//! ```
//!
//! The host has looked at number and kinds of the arguments. A function that returns an error, or panics, fails in the script
//! that called it, and nowhere else. Functions are called from many threads at once. [`abi`] is the interface itself, for
//! who loads plugins.

pub mod abi;
mod entry;
mod plugin;
mod value;

pub use abi::Kind;
pub use entry::enter;
pub use plugin::{Methods, Plugin, log, time_left};
pub use value::{Error, Object, Value};

/// Makes the symbol by which the filter finds the plugin; the argument is a function without arguments that makes a
/// [`Plugin`]. Once in a library.
#[macro_export]
macro_rules! export {
    ($make:path) => {
        /// Where the filter begins.
        ///
        /// # Safety
        /// `host` is a table that stays as it is until the process ends.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn vsl_plugin_v1(
            host: *const $crate::abi::VsHost,
        ) -> *const $crate::abi::VsPlugin {
            // SAFETY: as for this function itself.
            unsafe { $crate::enter(host, $make) }
        }
    };
}
