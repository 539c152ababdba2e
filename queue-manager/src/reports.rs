//! Who is told what became of a message, and the report as a new message of our own.

use std::io;

use vsmtp_mail::{EnhancedCode, Expanded, Notify, QueueId, Recipient, RecipientClass, ReversePath};

use crate::bounce::{Kind, MAX_HEADER_RETURN, Notice, Original, Report, Reported, Reporter, Stamp};
use crate::content;
use crate::ledger::{Clock, Fresh, Ledger};
use crate::outcome::{Failure, Gathered, recipient};
use crate::store::{Chunk, MessageState, NewBody, Origin, Text, layout::MAX_INLINE_BODY};
use crate::trace;

/// The protocol in the origin of a report.
pub const BOUNCE: &str = "bounce";
/// The protocol in the origin of a report to the postmaster; if that fails too, the message is dead.
pub const DOUBLE_BOUNCE: &str = "double-bounce";
/// The protocol in the origin of what a rule has sent about a message.
pub const NOTICE: &str = "notice";

/// RFC 3463: the destination address is valid.
const EXPANDED: EnhancedCode = EnhancedCode(2, 1, 5);

/// Who is to be told of failures.
#[derive(Debug)]
pub enum Verdict {
    /// Nobody wanted to know.
    Nobody,
    /// The sender or the postmaster, by this message.
    Tell(Box<Fresh>),
    /// There is nobody left who could be told.
    Dead(Text),
    /// The report could not be written now.
    Later,
}

/// Decides who is told of failures, and writes the report.
pub fn on_failure(ledger: &mut Ledger, id: QueueId, gathered: &Gathered, clock: Clock) -> Verdict {
    let state = &gathered.state;
    let kind = match &state.envelope.reverse_path {
        ReversePath::Address(_) => Kind::Failure,
        ReversePath::Null if state.origin.protocol.as_str() == DOUBLE_BOUNCE => {
            let why = gathered.list.first().map_or("", |failure| failure.diagnostic.text.as_str());
            return Verdict::Dead(Text::new(&format!("report to the postmaster failed: {why}")));
        }
        ReversePath::Null => Kind::DoubleBounce,
    };
    match write(ledger, kind, id, state, &gathered.list, clock) {
        Ok(Some(fresh)) => Verdict::Tell(Box::new(fresh)),
        Ok(None) => Verdict::Nobody,
        Err(error) => {
            trace::trouble("report-not-staged", &error);
            Verdict::Later
        }
    }
}

/// A mail of our own before it is a message of the queue.
#[derive(Debug)]
pub struct Draft {
    /// The id that it will have.
    pub id: QueueId,
    state: MessageState,
    bytes: Chunk,
}

impl Draft {
    /// How long it is.
    pub fn octets(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes one report, if one is due.
///
/// # Errors
/// A report that is too large for memory could not be staged.
fn write(
    ledger: &mut Ledger,
    kind: Kind,
    about: QueueId,
    state: &MessageState,
    told: &[Failure],
    clock: Clock,
) -> io::Result<Option<Fresh>> {
    draft(ledger, kind, about, state, told, clock).map(|draft| stage(ledger, &draft)).transpose()
}

/// The text of one report, if one is due.
pub fn draft(
    ledger: &mut Ledger,
    kind: Kind,
    about: QueueId,
    state: &MessageState,
    told: &[Failure],
    clock: Clock,
) -> Option<Draft> {
    let is_due = |one: &&Failure| {
        recipient(state, one.index).is_some_and(|recipient| Reporter::is_wanted(kind, recipient.notify))
    };
    if !told.iter().any(|one| is_due(&one)) {
        return None;
    }
    let content = original(ledger, about);
    let reported: Vec<Reported<'_>> = told.iter().filter_map(|one| reported(state, one)).collect();
    compose(ledger, kind, about, state, content, &reported, clock)
}

/// The report on aliases that stand for several, if one is due. `content` is what [`content`] says of a message that is not
/// stored yet. It is a courtesy: what cannot be written is left out.
pub fn on_expansion(
    ledger: &mut Ledger,
    about: QueueId,
    state: &MessageState,
    content: Option<(Vec<u8>, u64)>,
    expanded: &[Expanded],
    clock: Clock,
) -> Option<Fresh> {
    // What is kept for an operator goes on to nobody yet.
    if expanded.is_empty() || !(state.disposition.is_active() || state.disposition.delegation().is_some()) {
        return None;
    }
    let content = content.unwrap_or_else(|| original(ledger, about));
    let recipient = |one: &Expanded| Recipient {
        chosen: false,
        address: one.address.clone(),
        original: one.original.clone(),
        notify: Notify { success: true, ..Notify::NEVER },
        class: RecipientClass::Virtual,
        next_hop: ledger.settings.routes.local().clone(),
    };
    let recipients: Vec<Recipient> = expanded.iter().map(recipient).collect();
    let reported: Vec<Reported<'_>> = recipients
        .iter()
        .map(|recipient| Reported {
            recipient,
            status: EXPANDED,
            text: "mail for this address goes on to several others",
            remote: "",
            at_ms: clock.wall_ms,
        })
        .collect();
    let draft = compose(ledger, Kind::Expansion, about, state, content, &reported, clock)?;
    staged_or_left_out(ledger, &draft)
}

/// Mails that rules want sent about a message: a courtesy too.
pub fn notices(
    ledger: &mut Ledger,
    about: QueueId,
    state: &MessageState,
    notices: &[Notice],
    clock: Clock,
) -> Vec<Fresh> {
    // Two programs that notify each other would never end.
    if state.envelope.reverse_path == ReversePath::Null {
        return Vec::new();
    }
    notices.iter().filter_map(|notice| notify(ledger, about, notice, clock)).collect()
}

fn notify(ledger: &mut Ledger, about: QueueId, notice: &Notice, clock: Clock) -> Option<Fresh> {
    let targets = ledger.settings.routes.resolve(&notice.to);
    let id = ledger.mint(clock);
    let stamp = Stamp { id, now_ms: clock.wall_ms, random: 0 };
    let report = ledger.settings.reporter.notice(notice, about, &targets, stamp)?;
    trace::reported(id, about, NOTICE, &notice.to, 0);
    staged_or_left_out(ledger, &own(id, about, NOTICE, report, clock))
}

fn staged_or_left_out(ledger: &Ledger, draft: &Draft) -> Option<Fresh> {
    stage(ledger, draft).map_err(|error| trace::trouble("report-not-staged", &error)).ok()
}

/// A mail of our own about a message, which no rule judges: they have judged the message.
fn own(id: QueueId, about: QueueId, protocol: &str, report: Report, clock: Clock) -> Draft {
    let origin =
        Origin { session: Text::new(&about.to_string()), protocol: protocol.into(), ..Origin::default() };
    let mut new = MessageState::fresh(clock.wall_ms, origin, report.envelope);
    new.marks.judged = true;
    Draft { id, state: new, bytes: Chunk::from(report.bytes) }
}

fn compose(
    ledger: &mut Ledger,
    kind: Kind,
    about: QueueId,
    state: &MessageState,
    (start, size): (Vec<u8>, u64),
    reported: &[Reported<'_>],
    clock: Clock,
) -> Option<Draft> {
    let to = match (kind, &state.envelope.reverse_path) {
        (Kind::DoubleBounce, _) => ledger.settings.postmaster.clone(),
        (_, ReversePath::Address(address)) => address.clone(),
        (_, ReversePath::Null) => return None,
    };
    let targets = ledger.settings.routes.resolve(&to);
    let id = ledger.mint(clock);
    let stamp = Stamp { id, now_ms: clock.wall_ms, random: random() };
    let original =
        Original { id: about, envelope: &state.envelope, arrived_ms: state.arrival_ms, size, start: &start };
    let report = ledger.settings.reporter.report(kind, &original, reported, &to, &targets, stamp)?;
    trace::reported(id, about, name(kind), &to, reported.len());
    let protocol = if kind == Kind::DoubleBounce { DOUBLE_BOUNCE } else { BOUNCE };
    Some(own(id, about, protocol, report, clock))
}

/// A message of our own, staged if it is too large for memory.
///
/// # Errors
/// It could not be staged.
pub fn fresh(ledger: &Ledger, id: QueueId, state: MessageState, bytes: Vec<u8>) -> io::Result<Fresh> {
    stage(ledger, &Draft { id, state, bytes: Chunk::from(bytes) })
}

/// The message that a draft becomes, staged if it is too large for memory. The draft can become another one if this one is
/// refused.
///
/// # Errors
/// It could not be staged.
pub fn stage(ledger: &Ledger, draft: &Draft) -> io::Result<Fresh> {
    let (id, state, chunk) = (draft.id, draft.state.clone(), draft.bytes.clone());
    let size = chunk.len() as u64;
    if chunk.len() <= MAX_INLINE_BODY {
        let body = NewBody::Inline(vec![chunk.clone()]);
        return Ok(Fresh { id, state, body, parts: Some(vec![chunk]), size });
    }
    let mut staging = ledger.store.stage(id)?;
    staging.append(chunk.as_bytes())?;
    Ok(Fresh { id, state, body: NewBody::Staged(staging.finish()), parts: None, size })
}

/// As much of the original as the report may return, and the size of the whole.
fn original(ledger: &Ledger, id: QueueId) -> (Vec<u8>, u64) {
    let outgoing = match ledger.outgoing(id) {
        Ok(outgoing) => outgoing,
        Err(error) => {
            trace::unreadable(id, &error);
            return (Vec::new(), 0);
        }
    };
    let size = content::len(&outgoing.parts);
    let max_return = ledger.settings.reporter.max_return;
    let wanted = if size <= max_return as u64 { max_return } else { MAX_HEADER_RETURN };
    match content::start(&outgoing.parts, wanted) {
        Ok(start) => (start, size),
        Err(error) => {
            trace::trouble("original-not-read", &error);
            (Vec::new(), size)
        }
    }
}

fn reported<'a>(state: &'a MessageState, one: &'a Failure) -> Option<Reported<'a>> {
    Some(Reported {
        recipient: recipient(state, one.index)?,
        status: EnhancedCode(one.diagnostic.status.0, one.diagnostic.status.1, one.diagnostic.status.2),
        text: one.diagnostic.text.as_str(),
        remote: one.diagnostic.remote.as_ref().map_or("", Text::as_str),
        at_ms: one.at_ms,
    })
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Failure => "failure",
        Kind::Delay { .. } => "delay",
        Kind::Success => "success",
        Kind::Relay => "relay",
        Kind::Expansion => "expansion",
        Kind::DoubleBounce => "double-bounce",
    }
}

/// For boundaries. Without the kernel's randomness a fixed one is still looked for in the message.
pub fn random() -> u128 {
    let mut bytes = [0; 16];
    if let Err(error) = vsmtp_sys::random::fill(&mut bytes) {
        trace::trouble("no-randomness", &error);
    }
    u128::from_le_bytes(bytes)
}
