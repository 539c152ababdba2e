//! vsmtpctl, the operator's tool. It asks the master and the queue-manager over their control sockets, or the kernel, and
//! prints; it holds no state, decides nothing about mail, and never reads the spool itself.
#![forbid(unsafe_code)]

mod arguments;
mod run;

mod line;
mod output;
mod place;

mod auth;
mod config;
mod dkim;
mod limits;
mod queue;
mod repl;
mod sandbox;
mod status;
mod tool;
mod vsl;

mod failure;

pub use arguments::Arguments;
pub use run::main;
