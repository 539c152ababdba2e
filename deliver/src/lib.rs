//! The deliver daemon: outbound SMTP and LMTP, Maildir and mbox.
//!
//! One process per role. It learns a lease from the queue-manager, does what the lease says, and answers with one of
//! three words per recipient; whatever is unclear is deferred. It keeps nothing: a message is the queue's until it is
//! somebody else's.
#![forbid(unsafe_code)]

pub mod content;
pub mod lease;
pub mod mailbox;
mod mime;
pub mod queue;
pub mod sandbox;
pub mod smtp;
