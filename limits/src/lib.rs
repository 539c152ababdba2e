//! The limiter: what clients have used up, over all receivers, and tests before the greeting.
//!
//! Receivers and filters ask over edges; it answers from memory, or when lists in the DNS have answered. It holds no mail
//! and no socket, never blocks anybody longer than a receiver waits, and what it cannot find out counts for the client.
#![forbid(unsafe_code)]

mod event;

mod lookups;
mod receivers;
mod replies;

mod counters;
mod greylist;
mod rates;
mod recent;
mod snapshot;
mod table;
mod window;

mod lists;
mod passed;
mod screen;

mod metrics;
mod operator;
pub mod sandbox;
mod settings;

pub use event::Limiter;
