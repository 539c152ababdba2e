//! The edges to deliver: leases go out as attempts, outcomes come back. A lease whose process is gone, or whose body
//! cannot be read, is deferred.

use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::queue_deliver::{self, Ask, Attempt, AttemptRecipient, CREDITS, Said};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{self, Body, MAX_INLINE_BODY, WireError};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_mail::{MAX_BY_S, QueueId, Ret};
use vsmtp_sys::memfd::Sealed;

use crate::content;
use crate::delegation::{self, Turn};
use crate::ledger::{After, Clock, Ledger, Reload, Tell};
use crate::outcome::{self, Attempted, Outcome};
use crate::schedule::{Lane, LaneKind, Next, Plan, Verdict};
use crate::store::{Change, Disposition, MessageState, ReadError, StateChange, Text, Urgency};
use crate::tls_reports::{self, Post};
use crate::trace;

/// Most deliver processes at once, those of old generations included: there may be 257 of one generation.
const MAX_EDGES: usize = 4096;
/// Leases sent in one turn; then other events have their turn.
const SEND_AT_ONCE: usize = 256;
/// Octets of bodies sent in one turn.
const SEND_OCTETS: u64 = 16 * 1024 * 1024;
/// A lease that is out for so long hangs. Longer than any honest attempt of deliver.
const LEASE_MS: u64 = 2 * 3_600_000;

/// All deliver processes.
#[derive(Default)]
pub struct Dispatch {
    edges: HashMap<usize, Edge>,
    out: HashMap<u64, Attempted>,
    lives: u32,
    /// No new leases: the process is to end.
    closing: bool,
}

struct Edge {
    name: ProcessName,
    lane: Lane,
    link: Link<Ask, Said>,
    /// It has a successor or takes no more, and gets nothing new.
    retired: bool,
    /// The report that it is to have posted.
    post: Option<u64>,
}

impl Edge {
    /// Takes one thing that the process has said.
    fn take(
        &mut self,
        said: &Said,
        out: &mut HashMap<u64, Attempted>,
        ledger: &mut Ledger,
        clock: Clock,
    ) -> Result<(), ChannelError> {
        match said {
            Said::Outcome(outcome) if self.post.take_if(|post| *post == outcome.lease).is_some() => {
                posted(outcome, ledger, clock)?;
            }
            Said::Outcome(outcome) => settle(out, self.lane, outcome, ledger, clock)?,
            Said::NoMore => {
                ledger.schedule.lane_retire(self.lane);
                self.retired = true;
            }
            // To whom it would be given at once again it cannot come back for ever.
            Said::Back(lease) if !self.retired && !ledger.schedule.is_withdrawn(*lease) => {
                return Err(ChannelError::Misbehaved("a lease came back though leases are taken".to_owned()));
            }
            Said::Back(number) if self.post.take_if(|post| post == number).is_some() => {
                ledger.tls_reports.lost_post(*number, clock);
            }
            Said::Back(lease) => {
                ledger
                    .schedule
                    .take_back(self.lane, *lease)
                    .map_err(|error| ChannelError::Misbehaved(error.to_string()))?;
                out.remove(lease);
            }
        }
        Ok(())
    }
}

impl Dispatch {
    /// A new deliver process. The one that had its place gets no more leases, and is heard until it ends.
    pub fn connect(
        &mut self,
        ledger: &mut Ledger,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
        clock: Clock,
    ) {
        let kind = if name.role == Role::DeliverMailbox { LaneKind::Mailbox } else { LaneKind::Smtp };
        if self.edges.len() >= MAX_EDGES {
            return trace::trouble("too-many-edges", &name);
        }
        let link = match Link::new(reactor, socket, EdgeId::QueueDeliver, token) {
            Ok(link) => link,
            Err(error) => return trace::trouble("edge-failed", &error),
        };
        for old in self.edges.values_mut().filter(|edge| edge.name == name) {
            ledger.schedule.lane_retire(old.lane);
            old.retired = true;
        }
        self.lives += 1;
        let lane = Lane { kind, instance: name.instance, life: self.lives };
        ledger.schedule.lane_up(lane, CREDITS, clock.mono_ms);
        self.edges.insert(token, Edge { name, lane, link, retired: false, post: None });
        trace::edge_opened(name);
    }

    /// True if the token is a deliver process's.
    pub fn has(&self, token: usize) -> bool {
        self.edges.contains_key(&token)
    }

    /// No new leases from now on.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Leases that are out.
    pub fn open(&self) -> usize {
        self.out.len()
    }

    /// Takes all outcomes that one process has sent.
    pub fn hear(&mut self, token: usize, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        let Some(edge) = self.edges.get_mut(&token) else { return };
        let result = loop {
            let said = match edge.link.receive() {
                Ok(Some(received)) => received.message,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if let Err(error) = edge.take(&said, &mut self.out, ledger, clock) {
                break Err(error);
            }
        };
        match result {
            Ok(()) => reactor.served(),
            Err(error) => self.disconnect(token, &error, ledger, reactor, clock),
        }
    }

    /// Sends what is due and what credits and windows allow. True if there is more.
    pub fn send(&mut self, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) -> bool {
        if self.closing {
            return false;
        }
        let mut octets = 0;
        for _ in 0..SEND_AT_ONCE {
            match ledger.schedule.next(clock.mono_ms) {
                Next::Idle => return false,
                Next::Later => return true,
                Next::Lease(plan) => octets += self.attempt(&plan, ledger, reactor, clock),
            }
            if octets > SEND_OCTETS {
                break;
            }
        }
        true
    }

    /// Hands out reports for places of the web, one at a time to each process.
    pub fn post(&mut self, ledger: &mut Ledger, clock: Clock) {
        let is_free =
            |edge: &&mut Edge| edge.lane.kind == LaneKind::Smtp && !edge.retired && edge.post.is_none();
        if self.closing {
            return;
        }
        for edge in self.edges.values_mut().filter(is_free) {
            let Some((number, post)) = ledger.tls_reports.next_post(clock) else { return };
            edge.post = Some(number);
            // A failure shows when the edge is flushed, and what it had is then tried elsewhere.
            if let Err(error) =
                order(number, post).and_then(|(order, body)| edge.link.send(&Ask::Attempt(order), body))
            {
                trace::trouble("attempt-not-sent", &error);
                edge.post = None;
                ledger.tls_reports.lost_post(number, clock);
            }
        }
    }

    /// Asks for what is out of messages that were read anew or are gone.
    pub fn withdraw(&mut self, ledger: &mut Ledger) {
        while let Some((lane, lease)) = ledger.schedule.take_withdrawn() {
            // A failure shows when the edge is flushed.
            if let Some(edge) = self.edges.values_mut().find(|edge| edge.lane == lane)
                && let Err(error) = edge.link.send(&Ask::Withdraw(lease), Vec::new())
            {
                trace::trouble("withdrawal-not-sent", &error);
            }
        }
    }

    /// Sends the attempts of this turn.
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

    /// Looks for processes that hold a lease for ever.
    pub fn watch(&mut self, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        let Some(lane) = ledger.schedule.overdue(clock.mono_ms.saturating_sub(LEASE_MS)) else { return };
        let token = self.edges.iter().find(|(_, edge)| edge.lane == lane).map(|(token, _)| *token);
        if let Some(token) = token {
            let error = ChannelError::Misbehaved("a lease has no outcome".to_owned());
            self.disconnect(token, &error, ledger, reactor, clock);
        }
    }

    /// Sends one lease. Answers the octets of its body.
    fn attempt(&mut self, plan: &Plan, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) -> u64 {
        let outgoing = match ledger.outgoing(plan.id) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                unreadable(plan, &error, ledger, clock);
                return 0;
            }
        };
        let service = outgoing.state.disposition.delegation().filter(|one| one.is_with_service());
        match service.and_then(|one| delegation::turn(one, clock)) {
            Some(Turn::Wait) => {
                ledger.schedule.give_back(plan.lease, clock.mono_ms);
                ledger.reload(plan.id, 0, clock);
                return 0;
            }
            Some(_) if service.is_some_and(|one| delegation::is_gone(ledger, one)) => {
                ledger.schedule.give_back(plan.lease, clock.mono_ms);
                delegation::begin_anew(ledger, plan.id, &outgoing.state, clock);
                return 0;
            }
            Some(Turn::Over) => {
                ledger.schedule.give_back(plan.lease, clock.mono_ms);
                delegation::overdue(ledger, plan.id, &outgoing.state, clock);
                return 0;
            }
            Some(Turn::Go) | None => {}
        }
        let with_field = service.map(|one| delegation::parts(plan.id, one, &outgoing.parts));
        let parts = with_field.as_deref().unwrap_or(&outgoing.parts);
        let octets = content::len(parts);
        let spare = ledger.mint(clock);
        let sent = content::to_wire(parts, &ledger.store, spare).map_err(ChannelError::Io).and_then(
            |(body, descriptors)| {
                let edge = self.edges.iter_mut().find(|(_, edge)| edge.lane == plan.lane);
                let Some((token, edge)) = edge else { return Err(ChannelError::Closed) };
                let mut attempt =
                    attempt(plan, &outgoing.state, body, clock).ok_or(ChannelError::Overflow)?;
                if let Some(one) = service {
                    attempt = delegation::attempt(one, &outgoing.state, attempt);
                }
                edge.link.send(&Ask::Attempt(attempt), descriptors).map(|()| *token)
            },
        );
        match sent {
            Ok(_) => {
                let service = service.and(plan.recipients.first().copied());
                let state = Arc::clone(&outgoing.state);
                let attempted = Attempted { id: plan.id, state, leased: clock, service };
                self.out.insert(plan.lease, attempted);
                reactor.count("attempts", 1);
            }
            Err(error) => {
                trace::trouble("attempt-not-sent", &error);
                ledger.schedule.give_back(plan.lease, clock.mono_ms);
            }
        }
        octets
    }

    fn disconnect(
        &mut self,
        token: usize,
        error: &ChannelError,
        ledger: &mut Ledger,
        reactor: &mut Reactor,
        clock: Clock,
    ) {
        let Some(edge) = self.edges.remove(&token) else { return };
        let lost = ledger.schedule.lane_down(edge.lane, clock.mono_ms);
        if let Some(number) = edge.post {
            ledger.tls_reports.lost_post(number, clock);
        }
        let schedule = &ledger.schedule;
        self.out.retain(|lease, _| schedule.has_lease(*lease));
        trace::edge_closed(edge.name, error, lost);
        reactor.count("leases_lost", lost as u64);
        reactor.accuse(edge.name, error);
    }
}

/// A report for a place of the web, as deliver gets it.
fn order(number: u64, post: &Post) -> Result<(Attempt, Vec<OwnedFd>), ChannelError> {
    let (body, descriptors) = if post.body.len() <= MAX_INLINE_BODY {
        (Body::Inline(post.body.clone()), Vec::new())
    } else {
        let sealed = Sealed::create(c"report", &[IoSlice::new(&post.body)]).map_err(ChannelError::Io)?;
        (Body::Memfd(sealed.len()), vec![sealed.into_fd()])
    };
    let recipient = AttemptRecipient {
        index: 0,
        address: String::new(),
        original: None,
        notify: vsmtp_mail::Notify::NEVER.into(),
    };
    let order = Attempt {
        lease: number,
        id: post.id.into(),
        next_hop: format!("{}{}", queue_deliver::POST, post.url),
        reverse_path: String::new(),
        body_type: wire::Body7::BinaryMime,
        smtputf8: false,
        ret_full: None,
        envid: None,
        demands: wire::Demands::default(),
        priority: 0,
        by: None,
        recipients: vec![recipient],
        service_ms: None,
        body,
    };
    Ok((order, descriptors))
}

/// Takes the outcome of a report for a place of the web.
fn posted(wire: &queue_deliver::Outcome, ledger: &mut Ledger, clock: Clock) -> Result<(), WireError> {
    let outcome = Outcome::try_from(wire)?;
    tls_reports::check(&wire.sessions)?;
    let Some(one) = outcome.settled.first() else { return Err(WireError("outcome")) };
    ledger.tls_reports.posted(wire.lease, one.result, &one.text, clock);
    Ok(())
}

/// Takes one outcome.
fn settle(
    out: &mut HashMap<u64, Attempted>,
    lane: Lane,
    wire: &queue_deliver::Outcome,
    ledger: &mut Ledger,
    clock: Clock,
) -> Result<(), ChannelError> {
    let outcome = Outcome::try_from(wire)?;
    tls_reports::check(&wire.sessions)?;
    // A service answers for the message as a whole, for which one recipient stands in the schedule.
    let service = out
        .get(&wire.lease)
        .and_then(|attempted| attempted.service)
        .and_then(|index| delegation::as_a_whole(&outcome, index));
    let verdicts = match &service {
        Some(one) => vec![(one.index, Verdict::Deferred)],
        None => outcome.verdicts(),
    };
    let settled = ledger
        .schedule
        .settle(lane, wire.lease, &verdicts, outcome.report(), clock.mono_ms)
        .map_err(|error| ChannelError::Misbehaved(error.to_string()))?;
    if ledger.settings.tls_reports.reporter.is_some() {
        ledger.tls_reports.note(&wire.sessions, clock);
    }
    match (out.remove(&wire.lease), service) {
        (Some(attempted), Some(one)) => {
            delegation::settle(ledger, &attempted, &outcome, (&one, &settled), clock);
        }
        (Some(attempted), None) => outcome::apply(ledger, &attempted, &outcome, &settled, clock),
        (None, _) => {}
    }
    Ok(())
}

/// What is stored cannot be read: a failing disk may recover, damage does not.
fn unreadable(plan: &Plan, error: &ReadError, ledger: &mut Ledger, clock: Clock) {
    trace::unreadable(plan.id, error);
    ledger.schedule.give_back(plan.lease, clock.mono_ms);
    match error {
        ReadError::Disk(_) => {}
        ReadError::Unknown | ReadError::NotYet => drop(ledger.schedule.remove(plan.id)),
        ReadError::Damaged(what) => {
            bury(plan.id, &Text::new(&format!("damaged on disk: {what}")), ledger, clock)
        }
    }
}

/// Puts a message aside for an operator: nothing can be done with it.
fn bury(id: QueueId, why: &Text, ledger: &mut Ledger, clock: Clock) {
    trace::dead(id, why);
    ledger.schedule.set_standing(id, crate::schedule::Standing::Dead);
    let change = Change::State { id, change: StateChange::Disposition(Disposition::Dead(why.clone())) };
    let after = After { tell: Tell::Nobody, reload: Reload::Never };
    ledger.change(change, Urgency::Durable, after, clock);
}

/// By when a message is to be delivered, from now on.
fn time_left(state: &MessageState, clock: Clock) -> Option<wire::DeliverBy> {
    let (by, deadline_s) =
        (state.envelope.terms.by?, state.envelope.terms.deadline_s(state.arrival_ms / 1000)?);
    let left_s = deadline_s.saturating_sub(i64::try_from(clock.wall_ms / 1000).unwrap_or(i64::MAX));
    let most_s = i64::from(MAX_BY_S);
    // What fails at its end is not tried behind it; a clock that is a second further does not change what is asked for.
    let left_s = left_s.clamp(if by.returns { 1 } else { -most_s }, most_s);
    let seconds = i32::try_from(left_s).unwrap_or(MAX_BY_S);
    Some(wire::DeliverBy { seconds, returns: by.returns, traced: by.traced })
}

/// The attempt that a plan becomes. `None` if the plan names recipients that the message has not.
fn attempt(plan: &Plan, state: &MessageState, body: Body, clock: Clock) -> Option<Attempt> {
    let envelope = &state.envelope;
    let recipients: Vec<AttemptRecipient> = plan
        .recipients
        .iter()
        .map(|index| {
            let recipient = outcome::recipient(state, *index)?;
            Some(AttemptRecipient {
                index: *index,
                address: recipient.address.to_string(),
                original: recipient.original.as_ref().map(|o| (o.kind.to_string(), o.address.to_string())),
                notify: recipient.notify.into(),
            })
        })
        .collect::<Option<_>>()?;
    let first = outcome::recipient(state, *plan.recipients.first()?)?;
    Some(Attempt {
        lease: plan.lease,
        id: plan.id.into(),
        next_hop: first.next_hop.to_string(),
        reverse_path: envelope.reverse_path.to_string(),
        body_type: wire::Body7::from(envelope.body),
        smtputf8: envelope.smtputf8,
        ret_full: envelope.ret.map(|ret| ret == Ret::Full),
        envid: envelope.envid.as_deref().map(str::to_owned),
        demands: envelope.demands.into(),
        priority: envelope.terms.priority.number(),
        by: time_left(state, clock),
        recipients,
        service_ms: None,
        body,
    })
}
