//! The built binary from outside: this process plays the master, the queue-manager, the resolver and the remote hosts.
//! The jail of each role is in force, as it is in production.

mod auth;
mod dane;
mod drain;
mod elsewhere;
mod harness;
mod load;
mod loops;
mod mailbox;
mod octets;
mod peer;
mod reports;
mod routes;
mod sharing;
mod smtp;
mod sts;
mod tls;
mod tls_peer;
