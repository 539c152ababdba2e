//! The one skeleton of all daemons: boot in a fixed order, jail, event loop, log, figures.
//!
//! It knows how a daemon lives, never what it does. The order is: configuration slice, `before_jail`, sandbox,
//! `after_jail`, `Ready`, loop. A daemon whose master is gone stops accepting at once and ends within two seconds.
#![forbid(unsafe_code)]

mod boot;
mod daemon;
mod edges;
mod link;
mod live;
mod pace;
mod reactor;
mod sink;
mod timers;

pub mod errand;
pub mod record;

pub use boot::{BootError, LOG_FD, MASTER_FD, boot, role_argument, run};
pub use daemon::{Boot, Daemon, Event, Flow};
pub use edges::Edges;
pub use link::Link;
pub use live::Live;
pub use reactor::{FIRST_TOKEN, Reactor};
pub use record::Record;
pub use sink::{LineSink, flush_log, init_log, take_broken_log};
pub use timers::Timers;
