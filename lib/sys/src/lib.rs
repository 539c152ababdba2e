//! The kernel as this project uses it; the one crate with unsafe code.
//!
//! Owns every system call that the standard library does not wrap safely, and hands out only owned or borrowed
//! descriptors. It decides no policy: which syscalls a daemon may make is that daemon's table.

pub mod clock;
pub mod fds;
mod gather;
pub mod interfaces;
pub mod random;
mod retry;

pub mod memfd;
pub mod seqpacket;
pub mod stream;
pub mod unix;

pub mod disk;
pub mod region;

pub mod sandbox;

pub mod report;
pub mod scheduling;
pub mod signals;
pub mod spawn;
pub mod users;
