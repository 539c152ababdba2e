//! Real policy in vSL, seen from outside: what a client hears and what arrives where.

mod appended;
mod commands;
mod databases;
mod delegation;
mod domains;
mod edits;
mod failures;
mod files;
mod ldap;
mod lists;
mod memcached;
mod mysql;
mod redis;
mod refusals;
mod sqlite;

use vsmtp_tests::{Mta, Settings, Sink};

/// An MTA with these rules, which relays to the sink.
fn start(filter: &str, sink: &Sink) -> Mta {
    start_with(filter, sink, "")
}

/// The same with more lines of `on_config`.
fn start_with(filter: &str, sink: &Sink, config: &str) -> Mta {
    Mta::start(&settings(filter, sink, config))
}

fn settings(filter: &str, sink: &Sink, config: &str) -> Settings {
    let relay = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    Settings { config: format!("{relay}\n{config}"), filter: filter.to_owned() }
}
