//! What a process knows, in two files that outlive it. The master opens them, the process reads the newer one that holds
//! and writes the older one, so that one is whole whatever happens to the other.
//!
//! It owns the form of the files and the thread that writes. It must never know what is kept: those who keep make octets
//! of it and read them back. Nothing secret belongs into it.
#![forbid(unsafe_code)]

mod keeper;

mod envelope;
mod shelf;

pub use envelope::Format;
pub use keeper::{Files, Keeper};
pub use shelf::FILES;

use vsmtp_sys::sandbox::{Allow, Rule};

/// What a jail must leave to who keeps something, besides threads: the files are open.
pub const CALLS: &[Rule] = &[
    Allow("ftruncate", "a file becomes as long as what it holds"),
    Allow("fdatasync", "what was written is on the disk before the other file is touched"),
    Allow("flock", "two processes of a kind, over a reload, do not write at the same time"),
];
