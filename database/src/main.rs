//! `vsmtp-database`: started by the master only.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vsmtp_daemon::run::<vsmtp_database::Asker>()
}
