//! The filter: policy written in vSL, run on Rhai. It judges messages and recipients; it never stores mail, never opens
//! a socket, and nothing a script does may stop it.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod api;
pub mod arc;
pub mod author;
pub mod csv;
pub mod database;
pub mod deposit;
pub mod dkim;
pub mod engine;
pub mod files;
pub mod identity;
pub mod inspect;
pub mod judge;
pub mod limiter;
pub mod mime;
pub mod names;
pub mod netset;
pub mod object;
pub mod oneshot;
mod places;
pub mod plugins;
pub mod policy;
pub mod presence;
pub mod process;
pub mod rehearsal;
pub mod runner;
pub mod service;
pub mod signer;
pub mod srs;
pub mod stage;
pub mod status;
pub mod suffixes;
pub mod table;
pub mod transaction;
pub mod triage;
pub mod typename;
