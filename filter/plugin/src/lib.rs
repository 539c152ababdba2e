//! Native plugins, as the filter loads and calls them: libraries with the interface of `vsmtp-plugin`. This crate decides
//! which files may be loaded, and is the only place of the filter with unsafe code. It knows no script and no mail.
//!
//! A plugin runs in the process that loads it, and can do to that process whatever it likes: what holds it is the jail, which
//! the filter closes before `load`. What is checked here is for plugins that are wrong, not for those that are hostile.

mod descriptor;
mod file;
mod frame;
mod host;
mod library;
mod value;

pub use file::{Found, MAX_FILE, MAX_PLUGINS, find};
pub use library::{Function, Plugin, Refused, Type};
pub use value::{Object, Value, longest_ending};
pub use vsmtp_plugin::Kind;
