//! Why the master cannot go on: text for the operator, saying what, where and what to do.

use std::fmt;
use std::io;
use std::path::Path;

/// Ends the start, or is logged while running.
#[derive(Debug)]
pub enum Error {
    /// The command line is wrong.
    Usage(String),
    /// The configuration is wrong: one problem per line.
    Config(String),
    /// The machine lacks something, such as a user or a directory.
    System(String),
    /// The kernel refused.
    Io(String, io::Error),
}

impl Error {
    /// For `map_err`: what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |error| Error::Io(what, error)
    }

    /// For `map_err`: what was being done to that path.
    pub fn path(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let what = format!("{what} {}", path.display());
        move |error| Error::Io(what, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Config(text) | Error::System(text) => f.write_str(text),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for Error {}
