//! A connection to a database, of whatever kind that is.

use std::cell::Cell;

use vsmtp_config::{Database, DatabaseUrl};

use crate::crew::{Heard, Job};
use crate::ldap::{Ldap, QUESTION};
use crate::memcached::Memcached;
use crate::redis::Redis;
use crate::tls::Tls;
use crate::{mysql, server, sqlite};

/// Most characters of what a database says that the operator is told.
const MAX_SAID: usize = 512;

/// A connection, or how to make one.
pub enum Connection {
    /// To a server.
    MySql(mysql::Connection),
    /// To a file.
    Sqlite(sqlite::Connection),
    /// To a server of Redis.
    Redis(server::Connection<Redis>),
    /// To a server of memcached.
    Memcached(server::Connection<Memcached>),
    /// To a directory.
    Ldap(server::Connection<Ldap>),
}

impl Connection {
    /// None is made yet; those that are to be encrypted begin with this.
    pub fn to(database: &Database, tls: Option<&Tls>) -> Self {
        match &database.url {
            DatabaseUrl::MySql(url) => Connection::MySql(mysql::Connection::to(url, database.timeout)),
            DatabaseUrl::Sqlite(path) => Connection::Sqlite(sqlite::Connection::to(path)),
            DatabaseUrl::Ldap(url) => {
                let ldap = Ldap { url: url.clone(), tls: tls.cloned(), number: Cell::new(QUESTION) };
                Connection::Ldap(server::Connection::to(url.place.clone(), ldap))
            }
            DatabaseUrl::Memcached(url) => {
                Connection::Memcached(server::Connection::to(url.place.clone(), Memcached))
            }
            DatabaseUrl::Redis(url) => {
                Connection::Redis(server::Connection::to(url.place.clone(), Redis(url.clone())))
            }
        }
    }

    /// Puts the question.
    pub fn ask(&mut self, job: &Job) -> Heard {
        match self {
            Connection::MySql(connection) => connection.ask(job),
            Connection::Sqlite(connection) => connection.ask(job),
            Connection::Redis(connection) => connection.ask(job),
            Connection::Memcached(connection) => connection.ask(job),
            Connection::Ldap(connection) => connection.ask(job),
        }
    }

    /// Gives back what the question has left behind, once its answer is on its way. Nothing but SQL leaves anything behind, and a file that is only
    /// read keeps nothing.
    pub fn rest(&mut self) {
        if let Connection::MySql(connection) = self {
            connection.rest();
        }
    }
}

/// No more of what a database says than an operator reads, on one line.
pub fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_says_stays_on_one_line() {
        let said = cut(&format!("no\r\n{}", "x".repeat(2 * MAX_SAID)));
        assert!(said.starts_with("no  x") && said.len() == MAX_SAID, "{said}");
    }
}
