//! The daemon in its jail, with scripted clients on its edges and a scripted name server behind it.
//!
//! Not here yet: a run against a real validating server with a signed zone.

mod dns;
mod harness;
mod process;
mod records;
mod secure;
mod sharing;
mod trouble;
