//! TLS for both sides of SMTP: rustls behind a small interface.
//!
//! It owns no socket, no file, no clock and no private key: callers lend a transport, hand over certificates, and (on the
//! server's side) sign through an [`Oracle`] that may sit in another process. Nothing here falls back to clear text: a
//! connection that has begun with TLS goes on with TLS or ends.
#![forbid(unsafe_code)]

mod facts;
mod names;
mod provider;
mod stream;

pub mod client;
pub mod server;

pub use facts::{Facts, PeerCertificate};
pub use names::{MAX_NAME, MAX_NAMES, Name, names};
pub use provider::{SUITES, Version, provider, warm_up};
pub use server::{Handshake, Oracle};
pub use stream::{End, Moved, Stream};
