//! The post-queue filter's edge: each accepted message is judged once, at the stages that have rules, before any attempt.
//! What it changes is committed as the message's next revision first, so that an edit never happens twice.
//!
//! On failure messages wait: without a verdict nothing is delivered past a rule. What goes wrong about one message keeps
//! no other waiting.

mod asked;
mod edit;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::queue_filter::{CREDITS, MAX_DELEGATES, PostAsk, PostStage, PostVerdict};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::wire;
use vsmtp_ipc::{ChannelError, Credits, EdgeId};
use vsmtp_mail::{EnhancedCode, QueueId, Reply};

use crate::content;
use crate::delegation;
use crate::intake;
use crate::ledger::{After, Clock, Judgement, Ledger, RELOAD_WAIT_MS, Reload, Tell};
use crate::outcome::{self, Failure};
use crate::reports;
use crate::schedule::Standing;
use crate::store::{Change, Diagnostic, Disposition, MessageState, ReadError, StateChange, Text, Urgency};
use crate::tls_reports::TLS_REPORT;
use crate::trace;

use asked::{Asked, Done};
use edit::Edit;

/// Most filters at once, those of old generations included.
const MAX_EDGES: usize = 16;
/// Questions asked in one turn.
const ASK_AT_ONCE: usize = 64;
/// Messages that go on in one turn where there are no rules.
const RELEASE_AT_ONCE: usize = 20_000;
/// Messages that are looked for at once when the line ran short.
const REFILL: usize = 4096;

/// All post-queue filters; the newest is asked.
#[derive(Default)]
pub struct Post {
    edges: HashMap<usize, Edge>,
    newest: Option<usize>,
    asked: HashMap<u64, Asked>,
    last_ticket: u64,
    /// Those of which something is on its way to the disk. They are asked about when it is there.
    changing: Vec<QueueId>,
}

struct Edge {
    name: ProcessName,
    link: Link<PostAsk, PostVerdict>,
    credits: Credits,
    wanted: Option<(bool, bool)>,
}

impl Post {
    /// A new filter: it is asked from now on, once it has said what it wants.
    pub fn connect(&mut self, reactor: &Reactor, name: ProcessName, socket: OwnedFd, token: usize) {
        if self.edges.len() >= MAX_EDGES {
            return trace::trouble("too-many-edges", &name);
        }
        match Link::new(reactor, socket, EdgeId::QueueFilter, token) {
            Ok(link) => {
                self.edges.insert(token, Edge { name, link, credits: Credits::new(CREDITS), wanted: None });
                trace::edge_opened(name);
            }
            Err(error) => trace::trouble("edge-failed", &error),
        }
    }

    /// True if the token is a post-queue filter's.
    pub fn has(&self, token: usize) -> bool {
        self.edges.contains_key(&token)
    }

    /// Takes all that one filter has said.
    pub fn hear(&mut self, token: usize, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        let result = loop {
            let Some(edge) = self.edges.get_mut(&token) else { return };
            match edge.link.receive() {
                Ok(Some(received)) => {
                    if let Err(error) = self.take(token, received.message, ledger, clock) {
                        break error;
                    }
                }
                Ok(None) => return,
                Err(error) => break error,
            }
        };
        self.disconnect(token, &result, ledger, reactor, clock);
    }

    /// Asks about messages that wait. True if more could be asked at once.
    pub fn ask(&mut self, ledger: &mut Ledger, clock: Clock) -> bool {
        let Judgement::Wanted { postq, delivery } = ledger.judgement else { return false };
        let ended = self.changing.extract_if(.., |id| !ledger.store.is_busy(*id));
        ledger.line.extend(ended);
        while let Some((due_ms, id)) = ledger.later.front().copied()
            && due_ms <= clock.mono_ms
        {
            ledger.later.pop_front();
            ledger.line.push_back(id);
        }
        if !postq && !delivery {
            return self.release(ledger, clock);
        }
        for _ in 0..ASK_AT_ONCE {
            let Some(token) = self.newest else { return false };
            let free = self.edges.get(&token).is_some_and(|edge| edge.credits.free() > 0);
            if ledger.line.is_empty() && ledger.line_is_short {
                self.refill(ledger, REFILL);
            }
            if !free {
                return false;
            }
            let Some(id) = ledger.line.pop_front() else { return false };
            // The line may hold a message twice: it was read anew, or another filter came.
            if !is_judging(ledger, id, clock) || self.is_asked(id) || self.must_wait(id, ledger) {
                continue;
            }
            let stage = if postq { PostStage::Postq } else { PostStage::Delivery };
            self.question(token, id, stage, None, ledger, clock);
        }
        true
    }

    /// At most [`MAX_EDGES`] times [`CREDITS`] are out, and mostly few.
    fn is_asked(&self, id: QueueId) -> bool {
        self.asked.values().any(|asked| asked.id == id)
    }

    /// True while what the store says of it may be over in a moment. It comes back into the line.
    fn must_wait(&mut self, id: QueueId, ledger: &Ledger) -> bool {
        let is_busy = ledger.store.is_busy(id);
        if is_busy {
            self.changing.push(id);
        }
        is_busy
    }

    /// There are no rules: what waited for them goes on, unless it is to be routed anew. True if there is more.
    fn release(&mut self, ledger: &mut Ledger, clock: Clock) -> bool {
        if ledger.line.is_empty() && ledger.line_is_short {
            self.refill(ledger, RELEASE_AT_ONCE);
        }
        for _ in 0..RELEASE_AT_ONCE {
            let Some(id) = ledger.line.pop_front() else { break };
            if !is_judging(ledger, id, clock) {
                continue;
            }
            if ledger.resuming.contains(&id) {
                go_on(id, ledger, clock);
                continue;
            }
            if !ledger.rerouting.contains(&id) {
                ledger.schedule.set_standing(id, Standing::Active);
                continue;
            }
            if self.is_asked(id) || self.must_wait(id, ledger) {
                continue;
            }
            let asker =
                self.newest.filter(|token| self.edges.get(token).is_some_and(|edge| edge.credits.free() > 0));
            let Some(token) = asker else {
                ledger.line.push_front(id);
                return false;
            };
            self.question(token, id, PostStage::Routing, None, ledger, clock);
        }
        !ledger.line.is_empty() || ledger.line_is_short
    }

    /// When the next message may be asked about again. Never while there is nobody to ask: then a filter that comes is what is
    /// waited for.
    pub fn wake_ms(ledger: &Ledger) -> Option<u64> {
        let is_somebody_there = matches!(ledger.judgement, Judgement::Wanted { .. });
        ledger.later.front().filter(|_| is_somebody_there).map(|(due_ms, _)| *due_ms)
    }

    /// Sends the questions of this turn.
    pub fn flush(&mut self, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        let failed: Vec<(usize, ChannelError)> = self
            .edges
            .iter_mut()
            .filter_map(|(token, edge)| edge.link.flush(reactor).err().map(|error| (*token, error)))
            .collect();
        for (token, error) in failed {
            self.disconnect(token, &error, ledger, reactor, clock);
        }
    }

    /// More messages wait than the line could remember: those that are neither asked about nor put off.
    fn refill(&mut self, ledger: &mut Ledger, most: usize) {
        let put_off = ledger.later.iter().map(|(_, id)| *id).chain(self.changing.iter().copied());
        let busy: HashSet<QueueId> = self.asked.values().map(|asked| asked.id).chain(put_off).collect();
        let limit = most + busy.len();
        let found = ledger.schedule.ids_after(None, limit, |standing, _| standing == Standing::Judging);
        ledger.line_is_short = found.len() == limit;
        ledger.line.extend(found.into_iter().filter(|id| !busy.contains(id)));
    }

    /// Asks about one message. If that cannot be done it is put off: what is amiss here is no fault of the filter, and the next
    /// message may fare better.
    fn question(
        &mut self,
        token: usize,
        id: QueueId,
        stage: PostStage,
        known: Option<(Arc<MessageState>, Vec<Done>)>,
        ledger: &mut Ledger,
        clock: Clock,
    ) {
        let outgoing = match ledger.outgoing(id) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                trace::unreadable(id, &error);
                if matches!(error, ReadError::Disk(_)) {
                    ledger.put_off(id, clock);
                } else {
                    // Nothing can be judged. The first attempt finds the same and puts the message aside.
                    ledger.schedule.set_standing(id, Standing::Active);
                }
                return;
            }
        };
        let is_first = known.is_none();
        let reroute = is_first && ledger.rerouting.contains(&id);
        let (state, settled) = known.unwrap_or_else(|| asked::unsettled(outgoing.state));
        let resume = if is_first { delegation::resume(&state) } else { None };
        let (stage, resume) = resume.map_or((stage, None), |(stage, resume)| (stage, Some(resume)));
        let is_report = state.origin.protocol.as_str() == TLS_REPORT;
        let stage = if is_report { PostStage::Report } else { stage };
        let spare = ledger.mint(clock);
        let body = match stage {
            PostStage::Routing => Ok((wire::Body::Inline(Vec::new()), Vec::new())),
            _ => content::to_wire(&outgoing.parts, &ledger.store, spare).map_err(ChannelError::Io),
        };
        let ticket = self.last_ticket + 1;
        let sent = body.and_then(|(body, descriptors)| {
            let ask = PostAsk {
                ticket,
                id: id.into(),
                stage,
                reroute,
                envelope: wire::Envelope::from(&state.envelope),
                origin: origin(&state),
                arrived_ms: state.arrival_ms,
                resume,
                body,
            };
            let edge = self.edges.get_mut(&token).ok_or(ChannelError::Closed)?;
            edge.link.send(&ask, descriptors)?;
            let _ = edge.credits.take();
            Ok(())
        });
        if let Err(error) = sent {
            trace::not_asked(id, &error);
            return ledger.put_off(id, clock);
        }
        self.last_ticket = ticket;
        let size = content::len(&outgoing.parts);
        self.asked.insert(ticket, Asked { token, id, stage, state, settled, size });
    }

    fn take(
        &mut self,
        token: usize,
        verdict: PostVerdict,
        ledger: &mut Ledger,
        clock: Clock,
    ) -> Result<(), ChannelError> {
        let ticket = match &verdict {
            PostVerdict::Wanted { postq, delivery, delegates } => {
                if delegates.as_ref().is_some_and(|all| all.len() > MAX_DELEGATES) {
                    return Err(ChannelError::Misbehaved("more services than there can be".to_owned()));
                }
                self.wanted(token, (*postq, *delivery), ledger)?;
                ledger.delegates.clone_from(delegates);
                return Ok(());
            }
            PostVerdict::Keep { ticket, .. }
            | PostVerdict::Edit { ticket, .. }
            | PostVerdict::Refuse { ticket, .. }
            | PostVerdict::Unavailable { ticket } => *ticket,
        };
        let asked = match self.asked.entry(ticket) {
            Entry::Occupied(asked) if asked.get().token == token => asked.remove(),
            _ => return Err(ChannelError::Misbehaved("verdict on what was not asked".to_owned())),
        };
        if let Some(edge) = self.edges.get_mut(&token) {
            let _ = edge.credits.give_back();
        }
        let id = asked.id;
        let judged = self.judged(verdict, asked, ledger, clock);
        if judged.is_err() {
            // Who says such things is heard no more, and another one is asked.
            ledger.line.push_front(id);
        }
        judged
    }

    /// Takes what a filter says of what it was asked.
    fn judged(
        &mut self,
        verdict: PostVerdict,
        asked: Asked,
        ledger: &mut Ledger,
        clock: Clock,
    ) -> Result<(), ChannelError> {
        match verdict {
            PostVerdict::Wanted { .. } => Ok(()),
            PostVerdict::Keep { is_final, .. } => {
                self.keep(asked, is_final, ledger, clock);
                Ok(())
            }
            PostVerdict::Edit { envelope, expanded, notices, disposition, pieces, .. } => {
                let Some(token) = delegation::fresh_token() else {
                    ledger.put_off(asked.id, clock);
                    return Ok(());
                };
                let mut edited = Edit::new(&envelope, (&disposition, token), pieces, &asked)?;
                edited.expanded = wire::expanded(&expanded)?;
                intake::bound(&mut edited.state.envelope.terms, clock);
                edited.notices = intake::notices(&notices)?;
                if is_as_asked(&asked, ledger, clock) {
                    revise(edited, asked.id, ledger, clock);
                }
                Ok(())
            }
            PostVerdict::Refuse { reply, reports, .. } => {
                let reply = Reply::try_from(&reply)?;
                let state = edit::reported(reports, &asked)?;
                if is_as_asked(&asked, ledger, clock) {
                    refuse(&reply, asked.id, &state, ledger, clock);
                }
                Ok(())
            }
            PostVerdict::Unavailable { .. } => {
                ledger.put_off(asked.id, clock);
                Ok(())
            }
        }
    }

    fn wanted(
        &mut self,
        token: usize,
        wanted: (bool, bool),
        ledger: &mut Ledger,
    ) -> Result<(), ChannelError> {
        let Some(edge) = self.edges.get_mut(&token) else { return Err(ChannelError::Closed) };
        if edge.wanted.replace(wanted).is_some() {
            return Err(ChannelError::Misbehaved("said twice what it wants".to_owned()));
        }
        self.newest = Some(token);
        ledger.judgement = Judgement::Wanted { postq: wanted.0, delivery: wanted.1 };
        ledger.line_is_short = true;
        Ok(())
    }

    /// Nothing is to be changed: the next stage is asked, or the message goes on.
    fn keep(&mut self, asked: Asked, is_final: bool, ledger: &mut Ledger, clock: Clock) {
        if asked.is_changing(ledger) {
            return ledger.line.push_back(asked.id);
        }
        let delivery = matches!(ledger.judgement, Judgement::Wanted { delivery: true, .. });
        if asked.stage == PostStage::Postq && delivery && !is_final {
            let known = Some((asked.state, asked.settled));
            return self.question(asked.token, asked.id, PostStage::Delivery, known, ledger, clock);
        }
        if standing(ledger, asked.id, clock).is_some() {
            go_on(asked.id, ledger, clock);
        }
    }

    fn disconnect(
        &mut self,
        token: usize,
        error: &ChannelError,
        ledger: &mut Ledger,
        reactor: &mut Reactor,
        _clock: Clock,
    ) {
        let Some(edge) = self.edges.remove(&token) else { return };
        let lost: Vec<u64> =
            self.asked.iter().filter(|(_, asked)| asked.token == token).map(|(ticket, _)| *ticket).collect();
        for ticket in &lost {
            if let Some(asked) = self.asked.remove(ticket) {
                ledger.line.push_front(asked.id);
            }
        }
        if self.newest == Some(token) {
            self.newest = None;
            // Until another filter says what it wants, nothing passes.
            ledger.judgement = Judgement::Unknown;
            ledger.delegates = None;
        }
        trace::edge_closed(edge.name, error, lost.len());
        reactor.accuse(edge.name, error);
    }
}

/// Rules and routing tables have seen it, or need not: it goes on as it is.
fn go_on(id: QueueId, ledger: &mut Ledger, clock: Clock) {
    ledger.rerouting.remove(&id);
    let mut changes = Vec::new();
    // An operator may have stopped it meanwhile.
    if is_judging(ledger, id, clock) {
        let standing;
        (changes, standing) = delegation::over(ledger, id);
        ledger.schedule.set_standing(id, standing);
    }
    changes.push(Change::State { id, change: StateChange::Judged });
    let after = After { tell: Tell::Nobody, reload: Reload::OnFailure(id) };
    if let Err(error) = ledger.commit(changes, Vec::new(), Urgency::Lazy, after) {
        trace::not_committed(id, &error);
        ledger.reload(id, RELOAD_WAIT_MS, clock);
    }
}

/// True if a verdict counts. If not, the message is asked about again: at once if it is another by now, later if the store does
/// not tell, and then not by what is remembered of it.
fn is_as_asked(asked: &Asked, ledger: &mut Ledger, clock: Clock) -> bool {
    match asked.is_overtaken(ledger) {
        Ok(is_overtaken) => {
            if is_overtaken {
                ledger.line.push_back(asked.id);
            }
            !is_overtaken
        }
        Err(_) => {
            ledger.warm.forget(asked.id);
            ledger.put_off(asked.id, clock);
            false
        }
    }
}

/// It waits for a verdict, and none is being committed.
fn is_judging(ledger: &Ledger, id: QueueId, clock: Clock) -> bool {
    standing(ledger, id, clock) == Some(Standing::Judging)
}

/// As the verdicts see it; `None` if it is gone, or has its verdict already.
fn standing(ledger: &Ledger, id: QueueId, clock: Clock) -> Option<Standing> {
    let survey = ledger.schedule.survey(id, clock.mono_ms)?;
    (!ledger.revising.contains(&id)).then_some(survey.standing)
}

fn revise(mut edit: Edit, id: QueueId, ledger: &mut Ledger, clock: Clock) {
    match standing(ledger, id, clock) {
        Some(Standing::Judging) => {}
        // An operator stopped it meanwhile.
        Some(Standing::Held) => {
            if edit.state.disposition.is_active() || edit.state.disposition.delegation().is_some() {
                edit.state.disposition = Disposition::Hold("by an operator".into());
            }
        }
        // The edit was made on a state that is over; to commit it would undo what has happened since.
        Some(
            Standing::Active | Standing::Quarantined | Standing::Dead | Standing::Delegated | Standing::Stale,
        )
        | None => return,
    }
    trace::judged(id, if edit.state.disposition.delegation().is_some() { "delegate" } else { "edit" });
    let told = reports::on_expansion(ledger, id, &edit.state, None, &edit.expanded, clock);
    let mut fresh = reports::notices(ledger, id, &edit.state, &edit.notices, clock);
    fresh.extend(told);
    ledger.revising.insert(id);
    let change = Change::Revise { id, state: Box::new(edit.state) };
    let after = After { tell: Tell::Nobody, reload: Reload::Always(id) };
    if let Err(error) = ledger.commit(vec![change], fresh, Urgency::Durable, after) {
        trace::not_committed(id, &error);
        ledger.reload(id, RELOAD_WAIT_MS, clock);
    }
}

/// Refused after it was accepted: every recipient fails, and the sender is told.
fn refuse(reply: &Reply, id: QueueId, state: &Arc<MessageState>, ledger: &mut Ledger, clock: Clock) {
    // What an operator has stopped meanwhile stays, and is asked about again if it is released.
    if !is_judging(ledger, id, clock) || !ledger.schedule.remove(id) {
        return;
    }
    ledger.rerouting.remove(&id);
    ledger.resuming.remove(&id);
    trace::judged(id, "refuse");
    let status = match reply.enhanced() {
        Some(EnhancedCode(5, subject, detail)) => EnhancedCode(5, subject, detail),
        _ => EnhancedCode(5, 7, 1),
    };
    let diagnostic = Diagnostic { status, remote: None, text: Text::new(&reply.to_string()) };
    let count = u32::try_from(state.envelope.recipients.len()).unwrap_or(u32::MAX);
    let failures: Vec<Failure> = (0..count)
        .map(|index| Failure { index, diagnostic: diagnostic.clone(), at_ms: clock.wall_ms })
        .collect();
    for failure in &failures {
        if let Some(recipient) = outcome::recipient(state, failure.index) {
            trace::given_up(id, recipient, &failure.diagnostic);
        }
    }
    ledger.failures.add(id, state, failures, clock);
    outcome::close(ledger, id, clock);
}

fn origin(state: &MessageState) -> wire::Origin {
    let origin = &state.origin;
    wire::Origin {
        session: origin.session.as_str().parse().unwrap_or(0),
        client: origin.client.map(|client| client.to_string()).unwrap_or_default(),
        helo: origin.helo.as_str().to_owned(),
        protocol: origin.protocol.as_str().to_owned(),
        service: origin.service.map(Into::into),
        uid: origin
            .identity
            .as_ref()
            .and_then(|identity| identity.as_str().strip_prefix("uid:")?.parse().ok()),
    }
}
