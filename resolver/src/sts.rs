//! MTA-STS (RFC 8461): the policy of a mail domain, found by a TXT record and fetched by HTTPS, and remembered for as long
//! as the domain asks for, over the death of the process. It is looked at again by itself, so that one who can stop us from
//! fetching it has to do so for a long time.
//!
//! On failure: whatever cannot be found, read or fetched changes nothing. A policy that is remembered counts until its
//! time is over; without one the domain has no policy, and mail to it is as safe as without MTA-STS.

mod cache;
pub(crate) mod fetch;
pub mod http;
pub mod policy;
pub mod record;
pub mod snapshot;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use tokio::time::Instant;
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::client_resolver::{DnsError, Records, StsMode};
use vsmtp_sys::clock;
use vsmtp_tls::client::Client;

use crate::finding::{Finding, Key, Kind};
use crate::lookup::look_up;
use crate::name;
use crate::upstream::Upstream;
use cache::{Cache, Known, Time};
pub use policy::Policy;
use snapshot::Kept;

/// How long a policy is given out before its record is looked at again.
const KEEP: Duration = Duration::from_secs(600);
/// Longest time for the fetch of a policy, connecting and all (RFC 8461 3.3 suggests a minute).
const MAX_FETCH: Duration = Duration::from_secs(50);
/// The same where one is remembered, and for the look at its record: askers wait no longer than 20 s.
const MAX_REFRESH: Duration = Duration::from_secs(8);
/// Longest time for one address of the policy's host.
const MAX_ADDRESS: Duration = Duration::from_secs(10);
/// Most octets of the reason why a policy could not be had.
const MAX_WHY: usize = 256;
/// The port of policies; there is no other.
const HTTPS: u16 = 443;

/// What is needed to find policies, and those that were found.
pub struct Sts {
    client: Arc<Client>,
    cache: Mutex<Cache>,
    /// When the clock of ages began.
    epoch: Instant,
}

impl Sts {
    /// Believes the authorities of that client; remembers nothing yet. `epoch` is the clock of the caller.
    pub fn new(client: Arc<Client>, epoch: Instant) -> Self {
        Sts { client, cache: Mutex::new(Cache::default()), epoch }
    }

    /// Takes up what was kept by another process.
    pub fn absorb(&self, kept: Vec<Kept>) {
        self.cache().absorb(kept, self.time());
    }

    /// All that is to be kept.
    pub fn octets(&self) -> Vec<u8> {
        snapshot::write(self.cache().kept(self.time()))
    }

    /// True if something is to be kept that was not there at the last call.
    pub fn take_changed(&self) -> bool {
        self.cache().take_changed()
    }

    /// Something could not be kept: it is to be tried again.
    pub fn note_changed(&self) {
        self.cache().note_changed();
    }

    /// How many policies are remembered.
    pub fn policies(&self) -> usize {
        self.cache().len()
    }

    /// Domains whose policies are to be refreshed now, at most so many.
    pub fn take_due(&self, most: usize) -> Vec<String> {
        self.cache().take_due(self.time(), most)
    }

    /// The policy of a domain, from memory if its record has not changed.
    pub async fn look_up(&self, upstream: Arc<Upstream>, domain: Name) -> Finding {
        let Some(text) = name::host_text(&domain) else { return Finding::failed(DnsError::BadName) };
        self.cache().note_asked(&text, self.time());
        // In the second half of its life it is fetched anew, so that nobody has to wait for its last second.
        self.renew(&upstream, &text, 2).await
    }

    /// Looks whether the policy of a domain has changed, and fetches it anew long before its end.
    pub async fn refresh(&self, upstream: Arc<Upstream>, domain: String) {
        self.renew(&upstream, &domain, 4).await;
        let Some(Known { policy, age, .. }) = self.find(&domain) else { return };
        if policy.mode != StsMode::None && age >= policy.max_age / 2 {
            // Operators are to hear of it while there is time (RFC 8461 10.2).
            Record::at(log::Level::Warn, "sts-not-refreshed")
                .field("domain", &domain)
                .field("left_s", policy.max_age.saturating_sub(age).as_secs())
                .emit();
        }
    }

    /// The policy of a domain: from memory if its record has not changed and that part of its life is not over, or else
    /// fetched, or else from memory all the same.
    async fn renew(&self, upstream: &Arc<Upstream>, text: &str, part: u32) -> Finding {
        let known = self.find(text);
        let limit = if known.is_some() { MAX_REFRESH } else { MAX_FETCH };
        let record = tokio::time::timeout(MAX_REFRESH, self.record(upstream, text)).await;
        let record = record.unwrap_or_else(|_| Err(absent()));
        let id = match (record, known) {
            (Ok(id), Some(known)) if id == known.id && known.age < known.policy.max_age / part => {
                return found(&known.policy, known.age);
            }
            (Ok(id), _) => id,
            (Err(_), Some(known)) => return found(&known.policy, known.age),
            (Err(finding), None) if finding.result == Err(DnsError::NoRecords) => return finding,
            // A record that cannot be had is no record (RFC 8461 3.1), or a broken name server would hold the mail.
            (Err(_), None) => return absent(),
        };
        let fetched = tokio::time::timeout(limit, self.fetch(upstream, text)).await;
        let fetched = fetched.unwrap_or_else(|_| Err("timeout".to_owned()));
        let was_fetched = fetched.is_ok();
        match fetched.and_then(|body| Policy::parse(&body).map_err(|fault| fault.to_string())) {
            Ok(policy) => {
                let policy = Arc::new(policy);
                self.cache().insert(text.to_owned(), id, Arc::clone(&policy), self.time());
                found(&policy, Duration::ZERO)
            }
            Err(why) => {
                Record::new("sts-not-fetched").field("domain", text).field("why", &why).emit();
                let known = self.find(text);
                known.map_or_else(|| fault(was_fetched, why), |known| found(&known.policy, known.age))
            }
        }
    }

    /// The id that the domain's record states; without one, what the caller is to hear if it remembers nothing.
    async fn record(&self, upstream: &Arc<Upstream>, domain: &str) -> Result<String, Finding> {
        let Some(name) = name::parse(&format!("_mta-sts.{domain}")) else {
            return Err(Finding::failed(DnsError::BadName));
        };
        let finding = look_up(Arc::clone(upstream), Key { name, kind: Kind::Txt }, self.epoch).await;
        match &finding.result {
            Ok(Records::Text(texts)) => record::id(texts).ok_or_else(none),
            Ok(_) => Err(Finding::failed(DnsError::Temporary)),
            Err(DnsError::NoSuchName) => Err(Finding { result: Err(DnsError::NoRecords), ..finding }),
            Err(_) => Err(finding),
        }
    }

    async fn fetch(&self, upstream: &Arc<Upstream>, domain: &str) -> Result<Vec<u8>, String> {
        let host = format!("mta-sts.{domain}");
        let mut why = format!("{host} has no address");
        for address in fetch::addresses(upstream, &host, self.epoch).await {
            let fetched = fetch::fetch(&self.client, SocketAddr::new(address, HTTPS), &host);
            let fetched = tokio::time::timeout(MAX_ADDRESS, fetched).await;
            match fetched.unwrap_or_else(|_| Err("timeout".to_owned())) {
                Ok(body) => return Ok(body),
                Err(error) => why = format!("{host}[{address}]: {error}"),
            }
        }
        Err(why)
    }

    fn find(&self, domain: &str) -> Option<Known> {
        self.cache().find(domain, self.time())
    }

    /// Both clocks: what is kept is of no use to the next process without the time of day.
    fn time(&self) -> Time {
        Time { now: self.epoch.elapsed(), wall_s: clock::wall_ms() / 1_000 }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // What a panicking look-up left behind is whole: entries are replaced and never edited.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found(policy: &Policy, age: Duration) -> Finding {
    let age_s = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    let max_age_s = u32::try_from(policy.max_age.as_secs()).unwrap_or(u32::MAX);
    let records = Records::StsPolicy { mode: policy.mode, mx: policy.mx.clone(), max_age_s, age_s };
    Finding { result: Ok(records), secure: false, keep: KEEP }
}

/// There is a record, and no policy behind it.
fn fault(fetched: bool, mut why: String) -> Finding {
    why.truncate(why.floor_char_boundary(MAX_WHY));
    Finding { result: Ok(Records::StsFault { fetched, why }), secure: false, keep: KEEP }
}

/// No policy can be found now.
fn absent() -> Finding {
    Finding::failed(DnsError::NoRecords)
}

/// There is no policy, and that is worth remembering for a while.
fn none() -> Finding {
    Finding { result: Err(DnsError::NoRecords), secure: false, keep: KEEP }
}
