//! What is wrong with a configuration. Each error names the key; who evaluated the script adds file and line.

use std::fmt;

/// Most errors that one check reports.
pub const MAX_ERRORS: usize = 50;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Dotted name of the key or section; empty for the whole.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// There is no such key.
    Unknown {
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The value has the wrong type or is out of range.
    Value {
        /// What the key accepts.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The value does not go with that of another key.
    Conflict(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", if self.path.is_empty() { "configuration" } else { &self.path })?;
        match &self.problem {
            Problem::Unknown { nearest: Some(name) } => write!(f, "unknown key; did you mean {name}?"),
            Problem::Unknown { nearest: None } => f.write_str("unknown key"),
            Problem::Value { expected, found } => write!(f, "expected {expected}, found {found}"),
            Problem::Conflict(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A key that is accepted, and does not do what it once did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Dotted name of the key.
    pub path: String,
    /// What to do instead, or why there is nothing to do.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}
