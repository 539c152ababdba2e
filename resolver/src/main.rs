//! `vsmtp-resolver`: started by the master, or by vsmtpctl for one question.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match vsmtp_daemon::role_argument().as_deref() {
        Some("tool") => vsmtp_resolver::tool::main(),
        _ => vsmtp_daemon::run::<vsmtp_resolver::Resolver>(),
    }
}
