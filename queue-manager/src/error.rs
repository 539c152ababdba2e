//! Why the queue-manager cannot start.

use std::fmt;
use std::io;

use vsmtp_daemon::BootError;

use crate::store::OpenError;

/// Why the queue-manager cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The spool cannot be opened, or another process has it. The operator must do something.
    Spool(OpenError),
    /// The folder of the spool cannot be made.
    Folder(String, io::Error),
    /// The log cannot be read, or no thread can be started.
    Recovery(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Spool(error) => error.fmt(f),
            StartError::Folder(path, error) => write!(f, "make the spool {path}: {error}"),
            StartError::Recovery(error) => write!(f, "recover the queue: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StartError> for BootError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Spool(_) | StartError::Folder(..) => BootError::Fatal(error.to_string()),
            StartError::Recovery(error) => BootError::Io("recover the queue", error),
        }
    }
}
