//! Why a command did not do what it was asked, and the exit status that says so to scripts.

use std::fmt;
use std::io;

use vsmtp_ipc::ChannelError;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The daemon refused or could not.
    Refused(String),
    /// Nobody listens there.
    NotRunning(String),
    /// The caller may not ask.
    NotPermitted(String),
    /// The edge broke, or no answer came in time.
    Broken(String),
    /// The arguments make no sense together.
    Usage(String),
    /// What was to be checked could not be looked at.
    NotChecked(String),
    /// The reader of our output is gone; nothing to say, and nobody to say it to.
    OutputClosed,
}

impl Failure {
    /// The exit status: those of sysexits.h where one fits, which monitoring scripts know.
    pub fn status(&self) -> u8 {
        match self {
            Failure::Refused(_) => 1,
            Failure::NotChecked(_) => 2,
            Failure::Usage(_) => 64,
            Failure::NotRunning(_) => 69,
            Failure::Broken(_) => 75,
            Failure::NotPermitted(_) => 77,
            Failure::OutputClosed => 0,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(text)
            | Failure::NotRunning(text)
            | Failure::NotPermitted(text)
            | Failure::Broken(text)
            | Failure::NotChecked(text)
            | Failure::Usage(text) => f.write_str(text),
            Failure::OutputClosed => f.write_str("output closed"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        match error {
            // A daemon that does not like the caller's credentials, or has too much to do, hangs up before it reads.
            ChannelError::Closed => Failure::NotPermitted(
                "the daemon closed the connection: only root and members of vsmtp-admin may ask, and not too many at once; \
                 its log may say more"
                    .to_owned(),
            ),
            other => Failure::Broken(other.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Broken(error.to_string()),
        }
    }
}
