//! The filter as a process: its edges, its threads, its jail. What a verdict is, is decided elsewhere; here it is carried.

mod leader;
mod oneshot;
mod sandbox;

use std::process::ExitCode;

pub use leader::{Crew, Desk, cede};

/// The whole program, in the role that the command line names.
pub fn main(role: Option<&str>) -> ExitCode {
    match role {
        Some("oneshot") => vsmtp_daemon::run::<oneshot::Oneshot>(),
        _ => {
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "vsmtp-filter: started by vsmtp with --role session, post or oneshot"
            );
            ExitCode::from(2)
        }
    }
}
