//! Picks the role of this process.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use vsmtp_deliver::mailbox::Mailbox;
use vsmtp_deliver::smtp::Smtp;

fn main() -> ExitCode {
    match vsmtp_daemon::role_argument().as_deref() {
        Some("mailbox") => vsmtp_daemon::run::<Mailbox>(),
        Some("smtp") => vsmtp_daemon::run::<Smtp>(),
        _ => ExitCode::FAILURE,
    }
}
