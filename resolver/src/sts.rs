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
/// The same where one is remembered and somebody waits, and for the look at any record.
const MAX_REFRESH: Duration = Duration::from_secs(8);
/// Longest time for record and policy together where somebody waits. Askers wait no longer than 20 s, and who has heard nothing
/// by then cannot deliver: a host of policies that is silent must not hold the mail (RFC 8461 3.3).
const MAX_ASKED: Duration = Duration::from_secs(16);
/// Most domains to be looked at once more because their policies did not come in time for who asked, or there was no room.
const MAX_LATE: usize = 256;
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
    /// Longest time for the fetch where one is remembered.
    fetch: Duration,
    /// Longest time for all of it.
    whole: Duration,
    /// Somebody waits for it, and has to go on without it.
    asked: bool,
}

/// Where somebody waits for it. In the second half of its life it is fetched anew, so that nobody has to wait for its last
/// second.
const ASKED: Pace = Pace { parts: 2, fetch: MAX_REFRESH, whole: MAX_ASKED, asked: true };
/// Where nobody waits for it: there is time for every address.
const UNASKED: Pace =
    Pace { parts: 4, fetch: MAX_FETCH, whole: MAX_FETCH.saturating_add(MAX_REFRESH), asked: false };

/// What is needed to find policies, and those that were found.
pub struct Sts {
    client: Arc<Client>,
    cache: Mutex<Cache>,
    /// Domains whose policies nobody could wait for, or that were due when there was no room.
    late: Mutex<Vec<String>>,
    /// When the clock of ages began.
    epoch: Instant,
}

impl Sts {
    /// Believes the authorities of that client; remembers nothing yet. `epoch` is the clock of the caller.
    pub fn new(client: Arc<Client>, epoch: Instant) -> Self {
        Sts { client, cache: Mutex::new(Cache::default()), late: Mutex::default(), epoch }
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

    /// Domains whose policies are to be fetched or refreshed now, at most so many.
    pub fn take_due(&self, most: usize) -> Vec<String> {
        let mut late = self.late();
        let count = late.len().min(most);
        let mut due: Vec<String> = late.drain(..count).collect();
        let (mut cache, time) = (self.cache(), self.time());
        cache.rouse(time);
        due.extend(cache.take_due(time, most - count));
        due
    }

    /// The policy of a domain, from memory if its record has not changed.
    pub async fn look_up(&self, upstream: Arc<Upstream>, domain: Name) -> Finding {
        let Some(text) = name::host_text(&domain) else { return Finding::failed(DnsError::BadName) };
        self.cache().note_asked(&text, self.time());
        self.renew(&upstream, &text, &ASKED).await
    }

    /// Takes back a domain that was due and for which there is no room now.
    pub fn put_back(&self, domain: &str) {
        self.note_late(domain);
    }

    /// Looks whether the policy of a domain has changed, and fetches it anew long before its end. Answers what counts now.
    pub async fn refresh(&self, upstream: Arc<Upstream>, domain: String) -> Finding {
        let finding = self.renew(&upstream, &domain, &UNASKED).await;
        let Some(Known { policy, age, .. }) = self.find(&domain) else { return finding };
        if policy.mode != StsMode::None && age >= policy.max_age / 2 {
            // Operators are to hear of it while there is time (RFC 8461 10.2).
            Record::at(log::Level::Warn, "sts-not-refreshed")
                .field("domain", &domain)
                .field("left_s", policy.max_age.saturating_sub(age).as_secs())
                .emit();
        }
        finding
    }

    /// The policy of a domain: from memory if its record has not changed and the first part of its life is not over, or else
    /// fetched, or else from memory all the same.
    async fn renew(&self, upstream: &Arc<Upstream>, text: &str, pace: &Pace) -> Finding {
        let end = Instant::now() + pace.whole;
        let known = self.find(text);
        let is_known = known.is_some();
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
        let until = if is_known { end.min(Instant::now() + pace.fetch) } else { end };
        let fetched = tokio::time::timeout_at(until, self.fetch(upstream, text, until)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(Missed::silent("timeout".to_owned())));
        let was_fetched = fetched.is_ok();
        let parsed =
            fetched.and_then(|body| Policy::parse(&body).map_err(|fault| Missed::said(fault.to_string())));
        match parsed {
            Ok(policy) => {
                let policy = Arc::new(policy);
                self.cache().insert(text.to_owned(), id, Arc::clone(&policy), self.time());
                found(&policy, Duration::ZERO)
            }
            Err(Missed { why, silence }) => {
                Record::new("sts-not-fetched").field("domain", text).field("why", &why).emit();
                let known = self.find(text);
                if silence && known.is_none() && pace.asked {
                    self.note_late(text);
                }
                known.map_or_else(|| fault(was_fetched, why), |known| found(&known.policy, known.age))
            }
        }
    }

    /// What was too slow for who asked is fetched once more, with all the time that it may take: the next one will find it.
    fn note_late(&self, domain: &str) {
        let mut late = self.late();
        if late.len() < MAX_LATE && !late.iter().any(|noted| noted == domain) {
            late.push(domain.to_owned());
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

    async fn fetch(&self, upstream: &Arc<Upstream>, domain: &str, until: Instant) -> Result<Vec<u8>, Missed> {
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

    fn late(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a policy could not be had.
#[derive(Debug, PartialEq, Eq)]
struct Missed {
    why: String,
    /// Nobody said so: more time could have brought it.
    silence: bool,
}

impl Missed {
    fn silent(why: String) -> Self {
        Missed { why, silence: true }
    }

    fn said(why: String) -> Self {
        Missed { why, silence: false }
    }
}

/// What the first address gives that gives anything. Each that has a turn leaves time to those behind it.
async fn first<T, F: Future<Output = Result<T, String>>>(
    host: &str,
    addresses: &[IpAddr],
    until: Instant,
    fetch: impl Fn(IpAddr) -> F,
) -> Result<T, Missed> {
    let mut missed = Missed::said(format!("{host} has no address"));
    for (address, waiting) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(waiting).unwrap_or(u32::MAX);
        let fetched = tokio::time::timeout(share.min(MAX_ADDRESS), fetch(*address)).await;
        let silence = missed.silence || fetched.is_err();
        match fetched.unwrap_or_else(|_| Err("timeout".to_owned())) {
            Ok(fetched) => return Ok(fetched),
            Err(error) => missed = Missed { why: format!("{host}[{address}]: {error}"), silence },
        }
    }
    Err(missed)
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
    fn fetch_from_last(count: u8, within: Duration) -> Result<IpAddr, Missed> {
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
            fetched.unwrap_or_else(|_| Err(Missed::silent("timeout".to_owned())))
        })
    }

    #[test]
    fn a_domain_for_which_there_is_no_room_stays_due() {
        let client = Client::new(vsmtp_tls::client::Roots::none());
        let sts = Sts::new(Arc::new(client), Instant::now());
        ["a.test", "b.test", "a.test"].into_iter().for_each(|domain| sts.note_late(domain));
        assert_eq!(sts.take_due(1), ["a.test"]);
        sts.put_back("a.test");
        assert_eq!(sts.take_due(8), ["b.test", "a.test"]);
        assert!(sts.take_due(8).is_empty());
        (0..2 * MAX_LATE).for_each(|n| sts.put_back(&format!("{n}.test")));
        assert_eq!(sts.take_due(usize::MAX).len(), MAX_LATE);
    }

    #[test]
    fn addresses_that_are_silent_leave_time_to_those_behind_them() {
        for count in [1, 2, 4] {
            let fetched = fetch_from_last(count, Duration::from_secs(1));
            assert_eq!(fetched, Ok([192, 0, 2, count].into()), "of {count}");
        }
        assert_eq!(
            fetch_from_last(0, Duration::from_secs(1)),
            Err(Missed::said("mta-sts.a.test has no address".to_owned()))
        );
    }

    #[test]
    fn where_nobody_waits_there_is_time_for_every_address() {
        assert!(UNASKED.fetch >= MAX_ADDRESS * fetch::MAX_ADDRESSES as u32);
        assert!(ASKED.whole < Duration::from_secs(20), "askers wait no longer");
        assert!(ASKED.fetch + MAX_REFRESH <= ASKED.whole);
    }

    #[test]
    fn what_came_too_late_is_fetched_once_more_and_once_only() {
        let sts = Sts::new(Arc::new(Client::new(vsmtp_tls::client::Roots::none())), Instant::now());
        for domain in ["a.test", "b.test", "a.test"] {
            sts.note_late(domain);
        }
        assert_eq!(sts.take_due(0), [""; 0]);
        assert_eq!(sts.take_due(1), ["a.test"]);
        assert_eq!((sts.take_due(9), sts.take_due(9)), (vec!["b.test".to_owned()], Vec::new()));
        (0..2 * MAX_LATE).for_each(|n| sts.note_late(&format!("n{n}.test")));
        assert_eq!(sts.take_due(usize::MAX).len(), MAX_LATE);
    }
}
