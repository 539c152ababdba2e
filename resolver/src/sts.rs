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

use std::net::{IpAddr, SocketAddr};
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
/// The same where one is remembered and somebody waits, and for the look at any record: askers wait no longer than 20 s.
const MAX_REFRESH: Duration = Duration::from_secs(8);
/// Longest time for one address of the policy's host. What is left for all is shared by those that are not tried yet.
const MAX_ADDRESS: Duration = Duration::from_secs(10);
/// Most octets of the reason why a policy could not be had.
const MAX_WHY: usize = 256;
/// The port of policies; there is no other.
const HTTPS: u16 = 443;

/// How a policy that is remembered is looked at again.
struct Pace {
    /// In the first of so many parts of its life it is not fetched anew, unless its record has changed.
    parts: u32,
    /// Longest time for the fetch.
    fetch: Duration,
}

/// Where somebody waits for it. In the second half of its life it is fetched anew, so that nobody has to wait for its last
/// second.
const ASKED: Pace = Pace { parts: 2, fetch: MAX_REFRESH };
/// Where nobody waits for it: there is time for every address.
const UNASKED: Pace = Pace { parts: 4, fetch: MAX_FETCH };

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
        snapshot::write(self.cache().kept(self.time()).iter())
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
        let (mut cache, time) = (self.cache(), self.time());
        cache.rouse(time);
        cache.take_due(time, most)
    }

    /// The policy of a domain, from memory if its record has not changed.
    pub async fn look_up(&self, upstream: Arc<Upstream>, domain: Name) -> Finding {
        let Some(text) = name::host_text(&domain) else { return Finding::failed(DnsError::BadName) };
        self.cache().note_asked(&text, self.time());
        self.renew(&upstream, &text, &ASKED).await
    }

    /// Looks whether the policy of a domain has changed, and fetches it anew long before its end.
    pub async fn refresh(&self, upstream: Arc<Upstream>, domain: String) {
        self.renew(&upstream, &domain, &UNASKED).await;
        let Some(Known { policy, age, .. }) = self.find(&domain) else { return };
        if policy.mode != StsMode::None && age >= policy.max_age / 2 {
            // Operators are to hear of it while there is time (RFC 8461 10.2).
            Record::at(log::Level::Warn, "sts-not-refreshed")
                .field("domain", &domain)
                .field("left_s", policy.max_age.saturating_sub(age).as_secs())
                .emit();
        }
    }

    /// The policy of a domain: from memory if its record has not changed and the first part of its life is not over, or else
    /// fetched, or else from memory all the same.
    async fn renew(&self, upstream: &Arc<Upstream>, text: &str, pace: &Pace) -> Finding {
        let known = self.find(text);
        let limit = if known.is_some() { pace.fetch } else { MAX_FETCH };
        let record = tokio::time::timeout(MAX_REFRESH, self.record(upstream, text)).await;
        let record = record.unwrap_or_else(|_| Err(absent()));
        let id = match (record, known) {
            (Ok(id), Some(known)) if id == known.id && known.age < known.policy.max_age / pace.parts => {
                return found(&known.policy, known.age);
            }
            (Ok(id), _) => id,
            (Err(_), Some(known)) => return found(&known.policy, known.age),
            (Err(finding), None) if finding.result == Err(DnsError::NoRecords) => return finding,
            // A record that cannot be had is no record (RFC 8461 3.1), or a broken name server would hold the mail.
            (Err(_), None) => return absent(),
        };
        let fetched = tokio::time::timeout(limit, self.fetch(upstream, text, Instant::now() + limit)).await;
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

    async fn fetch(&self, upstream: &Arc<Upstream>, domain: &str, until: Instant) -> Result<Vec<u8>, String> {
        let host = format!("mta-sts.{domain}");
        let addresses = fetch::addresses(upstream, &host, self.epoch).await;
        let of = |address| fetch::fetch(&self.client, SocketAddr::new(address, HTTPS), &host);
        first(&host, &addresses, until, of).await
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

/// What the first address gives that gives anything. Each that has a turn leaves time to those behind it.
async fn first<T, F: Future<Output = Result<T, String>>>(
    host: &str,
    addresses: &[IpAddr],
    until: Instant,
    fetch: impl Fn(IpAddr) -> F,
) -> Result<T, String> {
    let mut why = format!("{host} has no address");
    for (address, waiting) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(waiting).unwrap_or(u32::MAX);
        let fetched = tokio::time::timeout(share.min(MAX_ADDRESS), fetch(*address)).await;
        match fetched.unwrap_or_else(|_| Err("timeout".to_owned())) {
            Ok(fetched) => return Ok(fetched),
            Err(error) => why = format!("{host}[{address}]: {error}"),
        }
    }
    Err(why)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<IpAddr> {
        (1..=count).map(|last| [192, 0, 2, last].into()).collect()
    }

    /// All addresses are silent but the last of so many.
    fn fetch_from_last(count: u8, within: Duration) -> Result<IpAddr, String> {
        let addresses = addresses(count);
        let fetch = async |address| {
            if Some(&address) != addresses.last() {
                std::future::pending::<()>().await;
            }
            Ok(address)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let until = Instant::now() + within;
            // As its caller does.
            let fetched =
                tokio::time::timeout(within, first("mta-sts.a.test", &addresses, until, fetch)).await;
            fetched.unwrap_or_else(|_| Err("timeout".to_owned()))
        })
    }

    #[test]
    fn addresses_that_are_silent_leave_time_to_those_behind_them() {
        for count in [1, 2, 4] {
            let fetched = fetch_from_last(count, Duration::from_secs(1));
            assert_eq!(fetched, Ok([192, 0, 2, count].into()), "of {count}");
        }
        assert_eq!(
            fetch_from_last(0, Duration::from_secs(1)),
            Err("mta-sts.a.test has no address".to_owned())
        );
    }

    #[test]
    fn where_nobody_waits_there_is_time_for_every_address() {
        assert!(UNASKED.fetch >= MAX_ADDRESS * fetch::MAX_ADDRESSES as u32);
        assert!(ASKED.fetch + MAX_REFRESH < Duration::from_secs(20), "askers wait no longer");
    }
}
