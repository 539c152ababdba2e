//! The log lines of this daemon: one per event, with the words of the glossary. Nothing else in it writes to the log.

use log::Level;
use vsmtp_daemon::Record;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_ipc::role::ProcessName;
use vsmtp_mail::{QueueId, Recipient, Rfc5322Date};

use crate::ledger::{After, Clock};
use crate::outcome::{Attempted, One, Outcome};
use crate::schedule::{AdmitError, Totals};
use crate::store::{
    Alarm, CommitError, Delegation, Diagnostic, MessageState, ReadError, RecoveryReport, SubmitError,
};

/// A message is in the queue.
pub fn accepted(id: QueueId, state: &MessageState, size: u64) {
    Record::new("accepted")
        .field("id", id)
        .field("from", format_args!("<{}>", state.envelope.reverse_path))
        .field("recipients", state.envelope.recipients.len())
        .field("size", size)
        .field("protocol", &state.origin.protocol)
        .maybe("client", state.origin.client)
        .maybe("identity", state.origin.identity.as_ref())
        .field("session", &state.origin.session)
        .maybe("disposition", disposition(state))
        .maybe("priority", Some(state.envelope.terms.priority.number()).filter(|number| *number != 0))
        .maybe("not_before", state.envelope.terms.not_before_s.map(|time_s| Rfc5322Date(time_s).rfc3339()))
        .emit();
}

fn disposition(state: &MessageState) -> Option<String> {
    use crate::store::Disposition;
    match &state.disposition {
        Disposition::Active => None,
        Disposition::Hold(_) => Some("hold".to_owned()),
        Disposition::Quarantine(name) => Some(format!("quarantine:{name}")),
        Disposition::Dead(_) => Some("dead".to_owned()),
        Disposition::Delegated(_) => Some("delegated".to_owned()),
    }
}

/// A mail domain is told about TLS.
pub fn tls_report(id: QueueId, domain: &str, to: &[String]) {
    Record::new("tls-report").field("id", id).field("domain", domain).field("to", to.join(",")).emit();
}

/// A place of the web has taken a report.
pub fn tls_report_posted(id: QueueId, url: &str) {
    Record::new("tls-report-posted").field("id", id).field("url", url).emit();
}

/// A place of the web will not be tried again.
pub fn tls_report_given_up(id: QueueId, url: &str, why: &dyn std::fmt::Display) {
    Record::at(Level::Warn, "tls-report-given-up").field("id", id).field("url", url).field("why", why).emit();
}

/// A submission was refused.
pub fn refused(id: QueueId, why: &dyn std::fmt::Display) {
    Record::at(Level::Warn, "refused").field("id", id).field("why", why).emit();
}

/// What became of one recipient. The four delays, in milliseconds: in the queue, waiting in deliver, connecting, sending.
pub fn settled(
    attempted: &Attempted,
    recipient: &Recipient,
    one: &One,
    outcome: &Outcome,
    attempts: u32,
    clock: Clock,
) {
    let event = match one.result {
        Result3::Delivered => "delivered",
        Result3::Deferred => "deferred",
        Result3::Failed => "failed",
    };
    let queued = attempted.leased.wall_ms.saturating_sub(attempted.state.arrival_ms);
    let (b, c, d) = outcome.delays_ms;
    Record::new(event)
        .field("id", attempted.id)
        .field("to", format_args!("<{}>", recipient.address))
        .maybe(
            "orcpt",
            recipient.original.as_ref().map(|original| format!("{};{}", original.kind, original.address)),
        )
        .field("next_hop", &recipient.next_hop)
        .maybe("remote", (!outcome.remote.as_str().is_empty()).then_some(&outcome.remote))
        .maybe("tls", (!outcome.tls.as_str().is_empty()).then_some(&outcome.tls))
        .field("status", one.status)
        .field("attempt", attempts)
        .field("delay", clock.wall_ms.saturating_sub(attempted.state.arrival_ms))
        .field("delays", format_args!("{queued}/{b}/{c}/{d}"))
        .field("reply", &one.text)
        .emit();
}

/// A recipient was given up without an attempt.
pub fn given_up(id: QueueId, recipient: &Recipient, diagnostic: &Diagnostic) {
    Record::new("failed")
        .field("id", id)
        .field("to", format_args!("<{}>", recipient.address))
        .field("next_hop", &recipient.next_hop)
        .field("status", diagnostic.status)
        .field("reply", &diagnostic.text)
        .emit();
}

/// A message has left the queue.
pub fn removed(id: QueueId, why: &'static str, state: Option<&MessageState>, clock: Clock) {
    Record::new("removed")
        .field("id", id)
        .field("why", why)
        .maybe("age", state.map(|state| clock.wall_ms.saturating_sub(state.arrival_ms)))
        .emit();
}

/// A report was written.
pub fn reported(
    report: QueueId,
    about: QueueId,
    kind: &'static str,
    to: &dyn std::fmt::Display,
    recipients: usize,
) {
    Record::new("reported")
        .field("id", report)
        .field("about", about)
        .field("kind", kind)
        .field("to", format_args!("<{to}>"))
        .field("recipients", recipients)
        .emit();
}

/// Nobody can be told of a failure.
pub fn dead(id: QueueId, why: &dyn std::fmt::Display) {
    Record::at(Level::Error, "dead").field("id", id).field("why", why).emit();
}

/// An operator did something to a message.
pub fn operated(id: QueueId, action: &'static str, uid: u32) {
    Record::new("operated").field("id", id).field("action", action).field("uid", uid).emit();
}

/// The post-queue filter changed a message.
pub fn judged(id: QueueId, verdict: &'static str) {
    Record::new("judged").field("id", id).field("verdict", verdict).emit();
}

/// A service has answered.
pub fn service_said(attempted: &Attempted, to: &Delegation, one: &One, outcome: &Outcome, clock: Clock) {
    let remote = (!outcome.remote.as_str().is_empty()).then_some(&outcome.remote);
    let took = clock.wall_ms.saturating_sub(attempted.leased.wall_ms);
    let answer = match one.result {
        Result3::Delivered => "delegated",
        Result3::Deferred => "delegation-deferred",
        Result3::Failed => "delegation-refused",
    };
    Record::new(answer)
        .field("id", attempted.id)
        .field("service", to.next_hop())
        .field("stage", to.stage.name())
        .field("directive", &to.directive)
        .maybe("remote", remote)
        .field("status", one.status)
        .field("took", took)
        .field("reply", &one.text)
        .emit();
}

/// A service kept a message too long.
pub fn not_brought_back(id: QueueId, to: &Delegation) {
    Record::at(Level::Warn, "delegation-expired")
        .field("id", id)
        .field("service", to.next_hop())
        .field("stage", to.stage.name())
        .field("directive", &to.directive)
        .emit();
}

/// Rules go on without a service.
pub fn done_without(id: QueueId, to: &Delegation, why: &str) {
    Record::at(Level::Warn, "delegation-skipped")
        .field("id", id)
        .field("service", to.next_hop())
        .field("stage", to.stage.name())
        .field("directive", &to.directive)
        .field("reason", why)
        .emit();
}

/// The rules that gave a message to a service are gone.
pub fn begun_anew(id: QueueId, from: &Delegation) {
    Record::at(Level::Warn, "delegation-gone")
        .field("id", id)
        .field("service", from.next_hop())
        .field("stage", from.stage.name())
        .field("directive", &from.directive)
        .emit();
}

/// A service has brought a message back; it has another id from now on.
pub fn brought_back(id: QueueId, old: QueueId, to: &Delegation) {
    Record::new("delegation-returned")
        .field("id", id)
        .field("service", to.next_hop())
        .field("stage", to.stage.name())
        .field("directive", &to.directive)
        .field("was", old)
        .emit();
}

/// A service has brought once more what it has brought already.
pub fn brought_again(id: QueueId, old: QueueId) {
    Record::new("delegation-repeated").field("id", id).field("was", old).emit();
}

/// A change was not even tried.
pub fn not_committed(id: QueueId, error: &SubmitError) {
    Record::at(Level::Error, "not-committed").field("id", id).field("error", error).emit();
}

/// A report of what is no failure could not be written, and there is no room to remember it.
pub fn report_lost(id: QueueId, about: QueueId) {
    Record::at(Level::Error, "report-lost").field("id", id).field("about", about).emit();
}

/// A commit failed.
pub fn commit_failed(error: &CommitError, after: &After, fresh: impl Iterator<Item = QueueId>) {
    let ids: Vec<String> = fresh.map(|id| id.to_string()).collect();
    Record::at(Level::Error, "commit-failed")
        .field("error", error)
        .field("new", ids.join(","))
        .field("after", format_args!("{:?}", after.reload))
        .emit();
}

/// The store wants an operator to know something.
pub fn alarm(alarm: &Alarm) {
    Record::at(Level::Error, "store-alarm").field("alarm", alarm).emit();
}

/// A stored message cannot be read.
pub fn unreadable(id: QueueId, error: &ReadError) {
    Record::at(Level::Error, "unreadable").field("id", id).field("error", error).emit();
}

/// A question about a message could not be asked; it is put off.
pub fn not_asked(id: QueueId, error: &ChannelError) {
    Record::at(Level::Error, "not-asked").field("id", id).field("error", error).emit();
}

/// A message could not be scheduled; it stays in the store.
pub fn not_scheduled(id: QueueId, error: &AdmitError) {
    Record::at(Level::Error, "not-scheduled").field("id", id).field("error", error).emit();
}

/// What recovery found.
pub fn recovered(report: &RecoveryReport, milliseconds: u64) {
    Record::new("recovered")
        .field("messages", report.messages)
        .field("segments", report.segments)
        .field("scanned", report.scanned)
        .field("interrupted", report.interrupted)
        .field("milliseconds", milliseconds)
        .emit();
    for note in &report.notes {
        Record::at(Level::Error, "recovery-note").field("note", note).emit();
    }
    if report.more_notes > 0 {
        Record::at(Level::Error, "recovery-notes-omitted").field("count", report.more_notes).emit();
    }
}

/// All recovered messages are scheduled.
pub fn loaded(totals: &Totals) {
    Record::new("loaded").field("messages", totals.messages()).field("recipients", totals.recipients).emit();
}

/// An edge was opened.
pub fn edge_opened(peer: ProcessName) {
    Record::at(Level::Debug, "edge-opened").field("peer", peer).emit();
}

/// An edge is gone.
pub fn edge_closed(peer: ProcessName, error: &ChannelError, lost: usize) {
    let level = if matches!(error, ChannelError::Closed) && lost == 0 { Level::Info } else { Level::Warn };
    Record::at(level, "edge-closed").field("peer", peer).field("error", error).field("lost", lost).emit();
}

/// A connection of vsmtpctl was refused or closed for cause.
pub fn operator_refused(uid: u32, why: &dyn std::fmt::Display) {
    Record::at(Level::Warn, "operator-refused").field("uid", uid).field("why", why).emit();
}

/// Something that an operator should know, in words.
pub fn trouble(event: &'static str, error: &dyn std::fmt::Display) {
    Record::at(Level::Error, event).field("error", error).emit();
}
