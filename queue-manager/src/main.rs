//! vsmtp-queue.

use std::process::ExitCode;

use vsmtp_queue_manager::{QueueManager, offline};

fn main() -> ExitCode {
    // An operator looks at a spool; the master starts its children without arguments of this kind.
    offline::main(std::env::args_os().skip(1)).unwrap_or_else(vsmtp_daemon::run::<QueueManager>)
}
