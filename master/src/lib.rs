//! The root master: binds ports, starts the daemons and introduces them to each other, supervises them, and answers
//! `vsmtpctl`. It must never touch mail bytes, TLS, scripts or the DNS, never start a thread, never wait for a child.
#![forbid(unsafe_code)]

mod accounts;
mod arguments;
mod boot;
mod demo;
mod evaluate;
mod layout;

mod child;
mod control;
mod error;
mod event;
mod family;
mod files;
mod key_files;
mod launch;
mod links;
mod listeners;
mod log_sink;
mod master;
mod pace;
mod reload;
mod shutdown;
mod state_files;
mod surroundings;
mod wiring;

pub use boot::main;
