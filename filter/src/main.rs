//! The `vsmtp-filter` binary, in one of its roles.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    vsmtp_filter::process::main(vsmtp_daemon::role_argument().as_deref())
}
