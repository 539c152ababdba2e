//! The built binary from outside: this process plays the master, the queue-manager, the resolver and the remote hosts.
//! The jail of each role is in force, as it is in production.

mod auth;
mod dane;
mod harness;
mod load;
mod mailbox;
mod peer;
mod reports;
mod routes;
mod smtp;
mod sts;
mod tls;
mod tls_peer;
