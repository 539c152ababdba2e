//! filter → database. The filter puts a question of a rule to a database that its configuration names; each question is
//! answered once, when the database has answered, has refused, or is out of time. At most [`CREDITS`] in flight, no
//! descriptors.
//!
//! A database is named without its password, which does not travel here: the process that asks has it from the master.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};

/// Questions in flight.
pub const CREDITS: u32 = 100;
/// Longest statement, in octets.
pub const MAX_STATEMENT: usize = 64 << 10;
/// Most parameters of one statement.
pub const MAX_PARAMETERS: usize = 256;
/// Most octets of all parameters of one statement.
pub const MAX_PARAMETER_BYTES: usize = 256 << 10;
/// Most rows of one answer; a larger one is an error.
pub const MAX_ROWS: usize = 1000;
/// Most columns of one answer.
pub const MAX_COLUMNS: usize = 256;
/// Most octets of one answer, names of columns among them; a larger one is an error.
pub const MAX_ANSWER: usize = 256 << 10;

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Which {
    /// That of this name in the configuration.
    Named(String),
    /// One that looks so.
    Like {
        /// Its URL, without a password.
        url: String,
        /// How long it may take, in milliseconds.
        timeout_ms: u64,
        /// Connections to it.
        connections: u32,
    },
}

/// A value that stands for a `?` of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Parameter {
    /// `NULL`.
    Null,
    /// A number.
    Int(i64),
    /// A text, whatever is in it.
    Text(String),
}

/// From the filter: ask this.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ask {
    /// Comes back in the answer.
    pub ticket: u64,
    /// Whom; a database that is not declared is not asked.
    pub database: Which,
    /// One statement of SQL, or the name of what is asked, where the database knows no SQL.
    pub statement: String,
    /// For each `?` of it; what is asked is about these.
    pub parameters: Vec<Parameter>,
    /// Nobody waits for it longer than this, in milliseconds.
    pub left_ms: u64,
}

/// From the process that asks databases.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Answer {
    /// Of the question.
    pub ticket: u64,
    /// What came of it.
    pub result: Result<Rows, Refused>,
}

/// What a statement has found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, each with a value for each column; `None` is `NULL`.
    pub rows: Vec<Vec<Option<String>>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Refused {
    /// The configuration does not name that database, or the question is larger than may be.
    NotDeclared,
    /// As many questions wait for this database as may.
    Busy,
    /// It has not answered in time. What it did meanwhile nobody knows.
    Late,
    /// It cannot be reached, or says no: text for the operator.
    Failed(String),
}

impl Ask {
    /// True if it is within bounds.
    pub fn is_within_bounds(&self) -> bool {
        let len = |parameter: &Parameter| match parameter {
            Parameter::Text(text) => text.len(),
            Parameter::Null | Parameter::Int(_) => 0,
        };
        self.statement.len() <= MAX_STATEMENT
            && self.parameters.len() <= MAX_PARAMETERS
            && self.parameters.iter().map(len).sum::<usize>() <= MAX_PARAMETER_BYTES
    }
}

impl Rows {
    /// True if it is within bounds and each row has a value for each column.
    pub fn is_within_bounds(&self) -> bool {
        let of_row = |row: &Vec<Option<String>>| row.iter().flatten().map(String::len).sum::<usize>();
        let octets =
            self.columns.iter().map(String::len).sum::<usize>() + self.rows.iter().map(of_row).sum::<usize>();
        self.rows.len() <= MAX_ROWS
            && self.columns.len() <= MAX_COLUMNS
            && octets <= MAX_ANSWER
            && self.rows.iter().all(|row| row.len() == self.columns.len())
    }
}

impl Message for Ask {}
impl Message for Answer {}

/// The filter's end.
pub type FilterEnd = Channel<Ask, Answer>;
/// The end of the process that asks databases.
pub type DatabaseEnd = Channel<Answer, Ask>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_uneven_is_seen() {
        let ask = |statement: usize, parameters: usize, each: usize| Ask {
            ticket: 1,
            database: Which::Named("a".to_owned()),
            statement: "x".repeat(statement),
            parameters: vec![Parameter::Text("x".repeat(each)); parameters],
            left_ms: 1,
        };
        assert!(ask(MAX_STATEMENT, MAX_PARAMETERS, MAX_PARAMETER_BYTES / MAX_PARAMETERS).is_within_bounds());
        assert!(!ask(MAX_STATEMENT + 1, 0, 0).is_within_bounds());
        assert!(!ask(1, MAX_PARAMETERS + 1, 0).is_within_bounds());
        assert!(!ask(1, 1, MAX_PARAMETER_BYTES + 1).is_within_bounds());
        let rows = |columns: usize, rows: usize, of: usize, each: usize| Rows {
            columns: vec!["a".to_owned(); columns],
            rows: vec![vec![Some("x".repeat(each)); of]; rows],
        };
        assert!(rows(2, MAX_ROWS, 2, 1).is_within_bounds());
        assert!(!rows(2, MAX_ROWS + 1, 2, 1).is_within_bounds());
        assert!(!rows(2, 1, 1, 1).is_within_bounds());
        assert!(!rows(1, 1, 1, MAX_ANSWER).is_within_bounds());
        assert!(!rows(MAX_COLUMNS + 1, 0, 0, 0).is_within_bounds());
    }
}
