//! What the end-to-end tests share: a private MTA, a client that says exactly what it is told, a next hop that does
//! what it is told, and the programs of other people. They see the built binaries and nothing else of the project.
#![forbid(unsafe_code)]

mod audit;
mod campaign;
mod certificate;
mod client;
mod dice;
mod directory;
mod disk;
mod dovecot;
mod exim;
mod introspection;
mod letter;
mod maria_db;
mod memcached;
mod mta;
mod name_server;
pub mod native;
mod postfix;
mod program;
mod proxsmtp;
mod redis_server;
mod sink;
mod strace;
mod tmpfs;
mod traffic;
mod unbound;
mod uninterrupted;

pub use audit::{Arrival, Audit, Kill};
pub use campaign::{CHILDREN, Campaign, MASTER, RELOAD, STOP, SYSTEM};
pub use certificate::{make_certificate, make_rsa_certificate, sign_certificate};
pub use client::{Client, ReplyText};
pub use dice::Dice;
pub use directory::{DIRECTORY, Directory};
pub use disk::Disk;
pub use dovecot::Dovecot;
pub use exim::{EXIM, Exim};
pub use introspection::Introspection;
pub use letter::Letter;
pub use maria_db::{MARIADB, MariaDb, make_sqlite};
pub use memcached::Memcached;
pub use mta::{
    Mta, Process, Settings, binary, children_of, free_port, is_alive, is_root, needs_root, say, signal,
    wait_until,
};
pub use name_server::NameServer;
pub use postfix::Postfix;
pub use program::{needs_programs, program, python, run, run_with_input, said};
pub use proxsmtp::Proxsmtp;
pub use redis_server::RedisServer;
pub use sink::{Sink, SinkMessage};
pub use strace::Strace;
pub use tmpfs::Tmpfs;
pub use traffic::{Attempt, Fate, Traffic, send_letter};
pub use unbound::{PLAIN, SIGNED, Unbound};
pub use uninterrupted::uninterrupted;
