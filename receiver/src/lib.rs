//! The receiver: client sockets and the SMTP dialogue.
//!
//! It holds sockets that others opened and bodies that are not ours yet; it never opens a file, never connects, and
//! never says 250 to a message before the filter said that the message is on stable storage.
#![forbid(unsafe_code)]

mod event;
mod intake;
mod sessions;

mod auth_edge;
mod body;
mod connection;
mod filter_edge;
mod limits_edge;
mod names_edge;
mod probe;

mod deadlines;
mod limits;
mod lobby;
mod metrics;
mod replies;
pub mod sandbox;
mod services;
mod settings;
mod socket;
mod tls;

pub use event::Receiver;
