//! What the process that asks databases is told.

use bincode::{Decode, Encode};

use crate::config::Config;
use crate::database::Database;

/// What the process that asks databases is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DatabaseSlice {
    /// Which databases rules may ask, by their names in the configuration, with passwords.
    pub databases: Vec<(String, Database)>,
}

impl Config {
    /// What the process that asks databases is told.
    pub fn database(&self) -> DatabaseSlice {
        DatabaseSlice { databases: self.filter.databases.clone() }
    }
}
