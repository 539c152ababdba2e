//! The auth helper: the only process that sees a password after the receiver.
//!
//! Receivers bring SASL messages over their edges; the desk leads the exchanges, threads do what may block, and what comes of
//! it is a grant that a filter can ask about. It never opens a file or a network connection: the files of passwords and keys are
//! handed to it, and the services that know more passwords are asked over Unix sockets.
#![forbid(unsafe_code)]

mod event;

pub mod desk;
pub mod mechanism;
pub mod secret;
pub mod token;

mod crew;

pub mod backend;

pub mod sandbox;

pub use event::Auth;
