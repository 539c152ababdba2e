//! The queue-manager: the spool, the schedule, bounces.
#![forbid(unsafe_code)]

pub mod bounce;
pub mod schedule;
pub mod store;
