//! Asks databases for rules, those that the configuration names and no others.
//!
//! Filters hand over a statement and its parameters; threads, a few for each database, put it and hand back rows within
//! bounds. Passwords of databases are used here and nowhere else. It never sees mail but what a rule makes a parameter of, and
//! never lets a database keep a question that is put to another.
//!
//! On failure: a database that is away, slow, or says no is an error of the rule that asked it, and is asked again by the
//! next rule. When the process dies, the rules that wait for it fail.
#![forbid(unsafe_code)]

mod event;

mod connection;
mod crew;
mod line;
mod mysql;
mod open;
mod redis;
mod server;
mod sqlite;
mod tls;
mod wire;

pub mod ber;
pub mod input;
pub mod ldap;
pub mod memcached;
pub mod resp;
pub mod sandbox;

pub use event::Asker;
