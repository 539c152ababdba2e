//! `vsmtp-keys`: started by the master, or by vsmtpctl for one task.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match vsmtp_daemon::role_argument().as_deref() {
        Some("tool") => vsmtp_keys::tool::main(),
        _ => vsmtp_daemon::run::<vsmtp_keys::Keys>(),
    }
}
