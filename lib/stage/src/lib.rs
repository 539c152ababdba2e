//! One daemon on its own, started for a test as the master would start it: its descriptors, its slice, its log, its
//! end. And what is left to it in its jail ([`jail`]).
//!
//! It owns the master's side of that one process, and every wait for it has an end. It must never know what any daemon
//! does, nor play a peer of one: that is the test's part. It must never be a part of a program either: daemons name it
//! among their development dependencies only, which `tests/tests/arrows.rs` holds. On failure it panics, with the
//! reason, and shows the daemon's log: a test has nobody else to tell.
#![forbid(unsafe_code)]

mod edge;
mod process;
mod uninterrupted;

pub mod jail;

pub use edge::{is_dropped, is_readable, next, say};
pub use process::{Process, configure};
pub use uninterrupted::uninterrupted;

use std::time::Duration;

/// Longest wait for anything; only a failing test waits so long. Less than the half minute and the minute that tests set
/// where a daemon's own time limit shall not pass: that must not be taken for what is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);
