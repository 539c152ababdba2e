//! The edges, one file each: who speaks first, what each side may say, how many may be in flight.

pub mod client_resolver;
pub mod ctl_filter;
pub mod ctl_keys;
pub mod ctl_master;
pub mod ctl_queue;
pub mod ctl_repl;
pub mod ctl_resolver;
pub mod filter_auth;
pub mod filter_database;
pub mod filter_keys;
pub mod filter_limits;
pub mod filter_queue;
pub mod filter_runner;
pub mod master_child;
pub mod queue_deliver;
pub mod queue_filter;
pub mod receiver_auth;
pub mod receiver_filter;
pub mod receiver_keys;
pub mod receiver_limits;
