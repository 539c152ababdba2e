//! The queue-manager: the spool, the schedule, bounces. The one process that may say that a message is accepted, and the
//! one that says when it is done with.
#![forbid(unsafe_code)]

mod event;
mod ledger;

mod control;
mod delegation;
mod dispatch;
mod intake;
mod notice;
mod outcome;
mod post;
mod reports;
mod tls_reports;

mod content;
mod error;
mod metrics;
pub mod sandbox;
mod settings;
mod trace;
mod warm;

pub mod bounce;
pub mod offline;
pub mod schedule;
pub mod store;

pub use event::QueueManager;
