//! The way to databases, as rules use it.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vsmtp_config::Database;
use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use crate::object::Fault;

/// A database, as a script names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// That of this name in the configuration, which answers within this time.
    Named(String, Duration),
    /// One that a script has described.
    Described(Database),
}

impl Target {
    /// It answers within this time, or not at all.
    pub fn timeout(&self) -> Duration {
        match self {
            Target::Named(_, timeout) => *timeout,
            Target::Described(database) => database.timeout,
        }
    }
}

/// Without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Named(name, _) => f.write_str(name),
            Target::Described(database) => write!(f, "{}", database.url),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The state of a database, or of the way to it: never a reason to refuse mail for ever.
    Later(Fault),
    /// So many ask that it was not asked: the same, and it says nothing of the database.
    Busy(Fault),
    /// A mistake of the script.
    Never(Fault),
}

/// Asks databases. Blocks the rule that asks, and hands the loop on before.
pub trait Asker: fmt::Debug + Send + Sync {
    /// A script has described this database.
    fn declare(&self, _: &Database) {}
    /// Puts a statement with its parameters, and waits for the answer as long as the database may take.
    ///
    /// # Errors
    /// There is none.
    fn ask(&self, target: &Target, statement: &str, parameters: Vec<Parameter>) -> Result<Rows, NoAnswer> {
        self.ask_within(target, statement, parameters, target.timeout())
    }
    /// The same, and waits no longer than that.
    ///
    /// # Errors
    /// There is none.
    fn ask_within(
        &self,
        target: &Target,
        statement: &str,
        parameters: Vec<Parameter>,
        within: Duration,
    ) -> Result<Rows, NoAnswer>;
}

/// Nobody who asks.
#[derive(Debug)]
pub struct NoAsker;

impl Asker for NoAsker {
    fn ask_within(&self, target: &Target, _: &str, _: Vec<Parameter>, _: Duration) -> Result<Rows, NoAnswer> {
        Err(NoAnswer::Later(Fault(format!("the database {target} was not asked: none can be asked here"))))
    }
}

/// Takes note of the databases that scripts describe while they are loaded, and asks none.
#[derive(Debug, Default)]
pub struct Collector(Mutex<Vec<Database>>);

impl Collector {
    /// Each of them once, in the order in which they were described.
    pub fn databases(&self) -> Vec<Database> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Asker for Collector {
    fn declare(&self, database: &Database) {
        let mut databases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !databases.contains(database) {
            databases.push(database.clone());
        }
    }

    fn ask_within(
        &self,
        target: &Target,
        statement: &str,
        parameters: Vec<Parameter>,
        within: Duration,
    ) -> Result<Rows, NoAnswer> {
        NoAsker.ask_within(target, statement, parameters, within)
    }
}
