//! What the end-to-end tests share: a private MTA, a client that says exactly what it is told, and a next hop that does
//! what it is told. They see the built binaries and nothing else of the project.
#![forbid(unsafe_code)]

mod client;
mod mta;
mod sink;

pub use client::{Client, ReplyText};
pub use mta::{Mta, Settings, free_port, is_root, needs_root, wait_until};
pub use sink::{Sink, SinkMessage};
