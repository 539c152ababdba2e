//! One look-up from end to end: servers in turn, aliases followed, everything bounded. Knows nothing of clients, and keeps
//! nothing: what it found is remembered by the desk.
//!
//! Whatever is unclear, broken, refused or late is temporary; only a server's clear word makes a name or its records absent.

mod exchange;
mod network;
mod read;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::Name;
use tokio::time::Instant;
use vsmtp_ipc::edge::client_resolver::DnsError;

use crate::finding::{Finding, Key, Kind, MAX_KEEP};
use crate::upstream::Upstream;
use exchange::{Failure, exchange};
use read::{Reading, Useless, read};

/// Longest time for one look-up, whatever the number of servers, rounds and aliases.
const MAX_LOOK_UP: Duration = Duration::from_secs(60);
/// Most aliases followed for one name.
pub const MAX_ALIASES: usize = 8;

/// Looks up one kind of records of one name. `epoch` is the clock that server failures are dated by.
pub async fn look_up(upstream: Arc<Upstream>, key: Key, epoch: Instant) -> Finding {
    let follow = follow(&upstream, &key, epoch);
    tokio::time::timeout(MAX_LOOK_UP, follow).await.unwrap_or_else(|_| Finding::failed(DnsError::Temporary))
}

async fn follow(upstream: &Upstream, key: &Key, epoch: Instant) -> Finding {
    let (mut name, mut aliases) = (key.name.clone(), 0);
    let (mut secure, mut keep) = (upstream.trusted, MAX_KEEP);
    // Each turn but the last follows at least one alias, and `read` refuses more than are left.
    loop {
        let heard = match ask(upstream, &name, key.kind, MAX_ALIASES - aliases, epoch).await {
            Ok(heard) => heard,
            Err(error) => return Finding::failed(error),
        };
        secure &= heard.authentic;
        keep = keep.min(Duration::from_secs(heard.ttl.into()));
        match heard.reading {
            Reading::Records(records) => return Finding { result: Ok(records), secure, keep },
            Reading::Nothing(error) => return Finding { result: Err(error), secure, keep },
            Reading::Alias { target, followed } => {
                aliases = (aliases + followed.max(1)).min(MAX_ALIASES);
                name = target;
            }
        }
    }
}

/// What a server's answer says.
struct Heard {
    reading: Reading,
    /// Seconds.
    ttl: u32,
    authentic: bool,
}

/// Asks the servers in turn until one of them says something that can be used.
async fn ask(
    upstream: &Upstream,
    name: &Name,
    kind: Kind,
    aliases_left: usize,
    epoch: Instant,
) -> Result<Heard, DnsError> {
    let now_ms = || u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
    let query = Query::query(name.clone(), kind.record_type());
    for _ in 0..upstream.attempts {
        let mut silence = false;
        for server in upstream.order(now_ms()) {
            let message = match exchange(server.address, &query, upstream.timeout).await {
                Ok(message) => message,
                Err(failure) => {
                    server.failed(now_ms());
                    silence |= failure == Failure::Silent;
                    log_failure(server.address, &query, &format_args!("{failure:?}"));
                    continue;
                }
            };
            server.answered();
            match read(&message, name, kind, aliases_left) {
                Ok((reading, ttl)) => return Ok(heard(&message, reading, ttl)),
                Err(Useless::Bogus) if upstream.trusted => return Err(DnsError::Bogus),
                Err(useless) => log_failure(server.address, &query, &format_args!("{useless:?}")),
            }
        }
        // Every server had its say and none was of use: asking once more would bring the same.
        if !silence {
            break;
        }
    }
    Err(DnsError::Temporary)
}

fn heard(message: &Message, reading: Reading, ttl: u32) -> Heard {
    Heard { reading, ttl, authentic: message.metadata.authentic_data }
}

fn log_failure(server: SocketAddr, query: &Query, why: &dyn std::fmt::Display) {
    vsmtp_daemon::Record::at(log::Level::Debug, "server-failed")
        .field("server", server)
        .field("name", query.name())
        .field("type", query.query_type())
        .field("why", why)
        .emit();
}
