//! Tables in CSV files (RFC 4180), found by their first field: reading those of the configuration, and keeping those of
//! the folder of databases.

mod rows;
mod store;

use std::fmt;
use std::sync::Arc;

use crate::database::NoAnswer;
use crate::files::{Folder, Watched};
use crate::object::Fault;

pub use rows::{Row, Table};
pub use store::{Databases, Store};

/// How a table may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A file of the configuration, which is only read.
    Read,
    /// A file of the folder of databases, which is only written.
    Write,
    /// The same, which is read too.
    Both,
}

impl Access {
    /// As scripts name it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "O_RDONLY" => Some(Access::Read),
            "O_WRONLY" => Some(Access::Write),
            "O_RDWR" => Some(Access::Both),
            _ => None,
        }
    }
}

/// What a script says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file.
    pub connector: String,
    /// How it may be used.
    pub access: Access,
    /// It is looked at again when it has changed.
    pub refresh: bool,
    /// What stands between two fields.
    pub delimiter: char,
}

/// A table.
pub struct Database {
    name: String,
    access: Access,
    source: Source,
}

enum Source {
    Fixed(Arc<Table>),
    Watched(Watched<Table>),
    Kept(Store),
}

impl Database {
    /// Opens a table. One that is only read is a file of the configuration, which must be there; the others are files of
    /// the folder of databases, which are made when they are first written.
    ///
    /// # Errors
    /// The file cannot be read, or cannot be one of that folder.
    pub fn open(
        settings: &Settings,
        folder: &Arc<Folder>,
        databases: &Arc<Databases>,
    ) -> Result<Self, Fault> {
        let Settings { connector, access, refresh, delimiter } = settings;
        let delimiter = *delimiter;
        let read = move |text: &str| Table::parse(text, delimiter);
        let source = match (access, refresh) {
            (Access::Read, true) => Source::Watched(Watched::open(folder, connector, read)?),
            (Access::Read, false) => {
                let table = read(&folder.read(connector)?);
                Source::Fixed(Arc::new(table.map_err(|fault| Fault(format!("{connector}: {}", fault.0)))?))
            }
            _ => Source::Kept(Store::open(databases, connector, delimiter, *refresh)?),
        };
        Ok(Database { name: connector.clone(), access: *access, source })
    }

    /// The file, as the script names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields of the row that begins with `key`; none if there is no such row.
    pub fn get(&self, key: &str) -> Result<Row, NoAnswer> {
        if self.access == Access::Write {
            let why = format!("the table {} is only written: its access is O_WRONLY", self.name);
            return Err(NoAnswer::Never(Fault(why)));
        }
        match &self.source {
            Source::Fixed(table) => Ok(table.get(key)),
            Source::Watched(file) => Ok(file.now().get(key)),
            Source::Kept(store) => store.get(key),
        }
    }

    /// Puts a row in the place of the one that begins with the same field, or after all others.
    pub fn set(&self, row: Row) -> Result<(), NoAnswer> {
        self.store().map_err(NoAnswer::Never)?.set(row)
    }

    /// Removes the rows that begin with `key`; true if there were any.
    pub fn remove(&self, key: &str) -> Result<bool, NoAnswer> {
        self.store().map_err(NoAnswer::Never)?.remove(key)
    }

    fn store(&self) -> Result<&Store, Fault> {
        match &self.source {
            Source::Kept(store) => Ok(store),
            _ => Err(Fault(format!("the table {} is only read: its access is O_RDONLY", self.name))),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "csv:{}", self.name)
    }
}
