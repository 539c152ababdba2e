//! Daily reports about TLS to the mail domains that want them (RFC 8460): deliver counts sessions and tells with its
//! outcomes, the counts of a day are kept in a file of the spool, and when the day is over each domain gets a message,
//! through the queue's own intake like a report of a failed delivery, or a post to a place of the web, which deliver leaves
//! to the resolver.
//!
//! On failure: counts that cannot be kept are lost with the process; a report that cannot be written is not sent. Nothing
//! here ever delays mail.

mod file;
mod mail;
mod posts;
mod tally;
mod words;

use std::path::Path;

use vsmtp_ipc::edge::queue_deliver::{Result3, TlsSessions};
use vsmtp_mail::{
    Address, BodyType, Demands, Envelope, NextHop, Notify, Recipient, RecipientClass, ReversePath,
};

use crate::ledger::{After, Clock, Ledger};
use crate::reports;
use crate::store::{MessageState, Origin, Text, Urgency};
use crate::trace;
use file::Keeper;
pub use mail::Reporter;
use mail::{Subject, addresses, urls};
pub use posts::Post;
use posts::{End, Posts};
pub use tally::check;
#[cfg(test)]
pub use tally::tests::sessions;
use tally::{DAY_MS, Sheet, Tally};

/// The protocol in the origin of a report.
pub const TLS_REPORT: &str = "tls-report";
/// Reports written in one turn.
const AT_ONCE: usize = 8;
/// Counts are kept so long after they have changed.
const KEEP_MS: u64 = 60_000;

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who reports; `None`: nobody.
    pub reporter: Option<Reporter>,
    /// The hour (UTC) from which on the reports of the day before are sent.
    pub hour: u32,
    /// Reports by mail pass the post-queue filter, which has them signed.
    pub signed: bool,
}

/// The counts, and where they are kept.
#[derive(Debug, Default)]
pub struct TlsReports {
    tally: Tally,
    keeper: Option<Keeper>,
    /// Monotonic time at which they must be kept.
    keep_at_ms: Option<u64>,
    /// Reports for places of the web.
    posts: Posts,
}

impl TlsReports {
    /// Takes up what was kept in this spool. What cannot be read is as good as nothing.
    pub fn open(spool: &Path) -> Self {
        let keeper = Keeper::new(spool);
        let tally = match keeper.read() {
            Ok(None) => Tally::default(),
            Ok(Some(bytes)) => words::read_all(&bytes).unwrap_or_else(|| {
                trace::trouble("tls-reports-lost", &"the file makes no sense");
                Tally::default()
            }),
            Err(error) => {
                trace::trouble("tls-reports-lost", &error);
                Tally::default()
            }
        };
        TlsReports { tally, keeper: Some(keeper), ..TlsReports::default() }
    }

    /// Adds what deliver has counted, which has been checked.
    pub fn note(&mut self, sessions: &[TlsSessions], clock: Clock) {
        for one in sessions {
            self.tally.add(clock.wall_ms / DAY_MS, one);
        }
        if !sessions.is_empty() {
            self.keep_at_ms.get_or_insert(clock.mono_ms + KEEP_MS);
        }
    }

    /// When there is something to do, as a monotonic time.
    pub fn wake_ms(&self, settings: &Settings, clock: Clock) -> Option<u64> {
        let report = self.tally.next_ms(settings.hour).filter(|_| settings.reporter.is_some());
        let report = report.map(|at_ms| clock.mono_ms.saturating_add(at_ms.saturating_sub(clock.wall_ms)));
        [report, self.keep_at_ms, self.posts.wake_ms(clock.mono_ms)].into_iter().flatten().min()
    }

    /// The next report for a place of the web, with the number of its lease.
    pub fn next_post(&mut self, clock: Clock) -> Option<(u64, &Post)> {
        self.posts.next(clock.mono_ms)
    }

    /// How one of them has ended.
    pub fn posted(&mut self, number: u64, result: Result3, text: &Text, clock: Clock) {
        match self.posts.ended(number, result, clock.mono_ms) {
            End::Taken(post) => trace::tls_report_posted(post.id, &post.url),
            End::GivenUp(post) => trace::tls_report_given_up(post.id, &post.url, text),
            End::Later | End::Unknown => {}
        }
    }

    /// The deliver process that had it is gone.
    pub fn lost_post(&mut self, number: u64, clock: Clock) {
        self.posts.lost(number, clock.mono_ms);
    }

    /// Writes down what has changed.
    pub fn keep(&mut self) {
        if self.keep_at_ms.take().is_none() {
            return;
        }
        let Some(keeper) = &self.keeper else { return };
        let kept = match self.tally.sheets().next() {
            Some(_) => keeper.write(&words::write(&self.tally)),
            None => keeper.clear(),
        };
        if let Err(error) = kept {
            trace::trouble("tls-reports-not-kept", &error);
        }
    }
}

/// Sends the reports that are due and keeps the counts. True if there is more to do at once.
pub fn work(ledger: &mut Ledger, clock: Clock) -> bool {
    if ledger
        .tls_reports
        .wake_ms(&ledger.settings.tls_reports, clock)
        .is_none_or(|at_ms| at_ms > clock.mono_ms)
    {
        return false;
    }
    let Settings { reporter, hour, .. } = ledger.settings.tls_reports.clone();
    let mut done = 0;
    while let Some(reporter) = reporter.as_ref().filter(|_| done < AT_ONCE)
        && let Some((day, domain, sheet)) = ledger.tls_reports.tally.take_due(clock.wall_ms, hour)
    {
        ledger.tls_reports.keep_at_ms = Some(clock.mono_ms);
        report(ledger, reporter, (day, &domain, &sheet), clock);
        done += 1;
    }
    if ledger.tls_reports.keep_at_ms.is_some_and(|at_ms| at_ms <= clock.mono_ms) {
        ledger.tls_reports.keep();
    }
    done == AT_ONCE
}

fn report(ledger: &mut Ledger, reporter: &Reporter, (day, domain, sheet): (u64, &str, &Sheet), clock: Clock) {
    let id = ledger.mint(clock);
    let subject = Subject { id, day, domain, sheet, now_ms: clock.wall_ms, random: reports::random() };
    let packed = match reporter.packed(subject) {
        Ok(packed) => packed,
        Err(error) => return trace::trouble("tls-report-not-staged", &error),
    };
    let mut told: Vec<String> = Vec::new();
    for url in urls(&sheet.rua) {
        if ledger.tls_reports.posts.add(id, url.clone(), packed.clone(), clock.mono_ms) {
            told.push(url.clone());
        }
    }
    let to = addresses(&sheet.rua);
    if !to.is_empty() && send(ledger, reporter, (subject, &packed, &to), clock) {
        told.extend(to.iter().map(|address| format!("mailto:{address}")));
    }
    if told.is_empty() {
        return trace::trouble("tls-report-has-no-place", &domain);
    }
    trace::tls_report(id, domain, &told);
}

/// By mail. False if that cannot be.
fn send(
    ledger: &mut Ledger,
    reporter: &Reporter,
    (subject, packed, to): (Subject<'_>, &[u8], &[Address]),
    clock: Clock,
) -> bool {
    let mut targets: Vec<(Address, NextHop)> =
        to.iter().flat_map(|one| ledger.settings.routes.resolve(one)).collect();
    targets.dedup();
    let origin =
        Origin { session: Text::new(subject.domain), protocol: TLS_REPORT.into(), ..Origin::default() };
    let mut state = MessageState::fresh(clock.wall_ms, origin, envelope(reporter, targets));
    // It is our own, and rules have nothing to say of it. What is to be signed passes the filter like a message that is to be
    // routed anew: whether there are rules or not, and after a restart too.
    let is_signed = ledger.settings.tls_reports.signed;
    (state.marks.judged, state.marks.reroute) = (!is_signed, is_signed);
    let bytes = reporter.message(subject, packed, to);
    let fresh = match reports::fresh(ledger, subject.id, state, bytes) {
        Ok(fresh) => fresh,
        Err(error) => {
            trace::trouble("tls-report-not-staged", &error);
            return false;
        }
    };
    match ledger.commit(Vec::new(), vec![fresh], Urgency::Durable, After::NOTHING) {
        Ok(()) => true,
        Err(error) => {
            trace::not_committed(subject.id, &error);
            false
        }
    }
}

/// Failures are told to nobody here: what the receiver cannot take it did not want.
fn envelope(reporter: &Reporter, targets: Vec<(Address, NextHop)>) -> Envelope {
    let recipient = |(address, next_hop)| Recipient {
        address,
        original: None,
        notify: Notify::NEVER,
        class: RecipientClass::Other,
        next_hop,
        chosen: false,
    };
    Envelope {
        reverse_path: ReversePath::Address(reporter.from.clone()),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        demands: Demands::default(),
        terms: vsmtp_mail::Terms::default(),
        recipients: targets.into_iter().map(recipient).collect(),
    }
}
