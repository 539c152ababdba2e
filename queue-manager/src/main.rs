//! vsmtp-queue.

use std::process::ExitCode;

fn main() -> ExitCode {
    vsmtp_daemon::run::<vsmtp_queue_manager::QueueManager>()
}
