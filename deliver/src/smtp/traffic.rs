//! What happens on connections, and what that means for the leases they carry.

use std::io;
use std::rc::Rc;

use vsmtp_daemon::{Reactor, Record};
use vsmtp_ipc::edge::queue_deliver::{Advice, Reach};
use vsmtp_mail::EnhancedCode;
use vsmtp_smtp::{Awaiting, Extension, HostError, HostFault, Outcome, Why};

use crate::lease::{Verdict, span_ms};
use crate::smtp::breaker::Line;
use crate::smtp::connection::{Connection, Happened, NotBegun, Stage, Work};
use crate::smtp::destination::{Next, Waiting};
use crate::smtp::hints::Subject;
use crate::smtp::transaction::How;
use crate::smtp::way::Way;
use crate::smtp::{Drain, Heard, Smtp};
use crate::smtp::{hints, transaction};

/// A host that takes no mail greets with this (RFC 7504).
const NO_MAIL: u16 = 521;
/// How often a lease may meet an old connection that turns out to be dead.
const MAX_RETRIES: u8 = 3;

impl Smtp {
    pub(super) fn on_ready(
        &mut self,
        reactor: &mut Reactor,
        token: usize,
        readable: bool,
        writable: bool,
        closed: bool,
    ) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.on_ready(readable, writable, closed) {
            Ok(()) => self.drive(reactor, token),
            Err(error) => self.drop_unconnected(reactor, token, &error),
        }
    }

    pub(super) fn on_timer(&mut self, reactor: &mut Reactor, key: u64) {
        let Ok(token) = usize::try_from(key) else { return };
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let over = connection.on_timer(reactor.now_ms());
        if !over {
            return self.watch(reactor, token);
        }
        if connection.is_connecting() {
            let error = io::Error::new(io::ErrorKind::TimedOut, "connect: timeout");
            return self.drop_unconnected(reactor, token, &error);
        }
        if matches!(connection.stage, Stage::Idle) {
            self.idle.remove(&connection.site, token);
            connection.quit();
        }
        self.drive(reactor, token);
    }

    /// Lets a connection go on until it must wait.
    fn drive(&mut self, reactor: &mut Reactor, token: usize) {
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return };
            match connection.drive() {
                Happened::Waits => return self.watch(reactor, token),
                Happened::Free => {
                    if !self.on_free(reactor, token) {
                        return self.watch(reactor, token);
                    }
                }
                Happened::Done(outcomes) => self.on_done(reactor, token, outcomes),
                Happened::Closed(error) => return self.on_closed(reactor, token, error),
            }
        }
    }

    /// A connection can take a message, gets one if one waits, and is kept or ended otherwise. False: nothing to drive.
    fn on_free(&mut self, reactor: &mut Reactor, token: usize) -> bool {
        let max_messages = self.slice.reuse_max_messages.unwrap_or(u32::MAX);
        let Some(connection) = self.connections.get_mut(&token) else { return false };
        let mut dialed_at = None;
        match std::mem::replace(&mut connection.stage, Stage::Idle) {
            Stage::Dialing(dial) => dialed_at = Some(dial.started_ms),
            // It was said before, and nothing else is to be said.
            Stage::Idle if self.idle.remove(&connection.site, token) => {}
            _ => {}
        }
        let way = Rc::clone(&connection.serves);
        let spent = connection.messages >= max_messages;
        let site = dialed_at.is_some().then(|| connection.site.clone());
        let Some(destination) = self.destinations.get_mut(&way) else {
            connection.quit();
            return true;
        };
        if let Some(site) = site {
            destination.dialed();
            if let Some(policy) = &connection.site.counted {
                self.tally.note(&way, policy, connection.shortfall());
            }
            self.host_answered(&site);
        }
        let Some(destination) = self.destinations.get_mut(&way) else { return true };
        let Some(connection) = self.connections.get_mut(&token) else { return false };
        // Who has other connections gives this one up to those that have none.
        let greedy = !self.starved.is_empty() && destination.busy > 0;
        if spent || greedy {
            connection.quit();
            self.mark(way);
            return true;
        }
        match destination.next_for(&connection.site, dialed_at.is_some(), reactor.now_ms()) {
            Next::Lease(waiting) => {
                self.begin(reactor, token, waiting, dialed_at);
                // The host is good: others that wait may want connections of their own.
                if dialed_at.is_some() {
                    self.mark(way);
                }
                true
            }
            Next::Nothing => self.keep(token),
            // What the next hop needs has changed since, or must be asked again: its route will tell.
            Next::NotThere => {
                self.mark(way);
                self.keep(token)
            }
        }
    }

    /// Keeps a free connection for the next message. True if it is not kept and must be driven to its end.
    fn keep(&mut self, token: usize) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else { return false };
        if self.slice.reuse_idle.is_none() || self.drain != Drain::No {
            connection.quit();
            return true;
        }
        self.idle.put(&connection.site, token);
        self.feed_starved();
        false
    }

    /// Puts an idle connection, taken from the pool, to work for a next hop.
    pub(super) fn use_again(&mut self, reactor: &mut Reactor, token: usize, way: &Rc<Way>) {
        let waiting = self.destinations.get_mut(way).and_then(|destination| destination.waiting.pop_front());
        let (Some(waiting), Some(connection)) = (waiting, self.connections.get_mut(&token)) else { return };
        connection.serves = Rc::clone(way);
        self.begin(reactor, token, waiting, None);
        self.drive(reactor, token);
    }

    fn begin(&mut self, reactor: &mut Reactor, token: usize, waiting: Waiting, dialed_at: Option<u64>) {
        let now = reactor.now_ms();
        let (chunking, mime_conversion) = (self.slice.chunking, self.slice.mime_conversion);
        let how = How { chunking, mime_conversion, now_ms: now };
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let connecting = dialed_at.map_or(0, |dialed| span_ms(dialed.max(waiting.lease.arrived_ms), now));
        match connection.begin(waiting, how, connecting, now) {
            Ok(()) => {
                if let Some(destination) = self.destinations.get_mut(&connection.serves) {
                    destination.busy += 1;
                }
            }
            Err(NotBegun { lease, why }) => {
                connection.quit();
                let verdict = Verdict::deferred(EnhancedCode(4, 3, 0), why);
                self.refuse(reactor, &lease, &verdict, Reach::Reached, String::new());
            }
        }
    }

    fn on_done(&mut self, reactor: &mut Reactor, token: usize, outcomes: Vec<Outcome>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let Stage::Busy(work) = std::mem::replace(&mut connection.stage, Stage::Idle) else { return };
        let mut advice = Advice::default();
        for outcome in &outcomes {
            advice = advice.and(heeded(outcome, connection.subject()));
        }
        let destination = self.destinations.get_mut(&connection.serves);
        let unheard = connection.ended_unheard() && work.retries < MAX_RETRIES;
        if let Some(destination) = destination {
            destination.busy = destination.busy.saturating_sub(1);
            if unheard {
                Record::at(log::Level::Debug, "reused-connection-lost")
                    .field("remote", &connection.site)
                    .emit();
                let retries = work.retries + 1;
                destination.waiting.push_front(Waiting { lease: work.lease, retries, lack: None });
                // What else is open there is as old, and as dead.
                for stale in self.idle.take_place(&connection.site) {
                    self.connections.remove(&stale);
                }
                return;
            }
        }
        let Some((work, outcomes)) = self.or_elsewhere(token, work, outcomes) else { return };
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if let Some(destination) = self.destinations.get_mut(&connection.serves) {
            advice = advice.and(std::mem::take(&mut destination.advice));
        }
        let (remote, tls) = (connection.site.to_string(), connection.security());
        let reports = connection.offers(Extension::Dsn);
        let keeps_time = connection.offers(Extension::DeliverBy);
        let relayed = work.lease.by.is_some_and(|by| if keeps_time { by.traced } else { !by.returns });
        let Work { lease, started_ms, connecting_ms, .. } = work;
        let before = span_ms(lease.arrived_ms, started_ms).saturating_sub(connecting_ms);
        let delays = (before, connecting_ms, span_ms(started_ms, reactor.now_ms()));
        let settled = transaction::settle(&lease, &outcomes);
        let heard = Heard { reach: Reach::Reached, advice, remote, tls, reports, relayed };
        self.settle(reactor, &lease, settled, heard, delays);
    }

    fn on_closed(&mut self, reactor: &mut Reactor, token: usize, error: Option<HostError>) {
        let Some(connection) = self.connections.remove(&token) else { return };
        self.idle.remove(&connection.site, token);
        let way = Rc::clone(&connection.serves);
        if matches!(connection.stage, Stage::Dialing(_)) {
            self.refused(reactor, connection, error);
        } else if let Some(error) = error {
            // An idle connection that its server ended is no news.
            let level =
                if matches!(connection.stage, Stage::Idle) { log::Level::Debug } else { log::Level::Info };
            Record::at(level, "connection-ended")
                .field("remote", &connection.site)
                .field("reason", error)
                .emit();
        }
        // Those in line come before the one that has just had its share.
        self.feed_starved();
        self.mark(way);
    }

    /// A server did not let us in: another one may.
    fn refused(&mut self, reactor: &mut Reactor, connection: Connection, error: Option<HostError>) {
        if let (Some(policy), Some(error)) = (&connection.site.counted, &error)
            && let Some(failure) = connection.no_session(error)
        {
            self.tally.note(&connection.serves, policy, Some(failure));
        }
        let failed_at_tls = error.as_ref().is_some_and(|error| connection.failed_at_tls(error));
        let Stage::Dialing(mut dial) = connection.stage else { return };
        dial.insecure |=
            failed_at_tls || error.as_ref().is_some_and(|error| error.fault == HostFault::Insecure);
        let clear = connection.site.in_clear();
        let hangs_at_tls =
            |error: &HostError| error.fault == HostFault::Silent && error.phase == Awaiting::Handshake;
        let ended_at_tls = |error: &&HostError| failed_at_tls || clear.is_some() && hangs_at_tls(error);
        if let Some(error) = error.as_ref().filter(ended_at_tls) {
            // If this was the probe of a host that is left alone, the retry must be let through.
            if failed_at_tls {
                self.host_answered(&connection.site);
            } else {
                self.breakers.let_go(&Line::of(&connection.site));
            }
            Record::new("tls-failed")
                .field("remote", &connection.site)
                .field("next_hop", &connection.serves)
                .field("reason", error)
                .maybe("action", clear.is_some().then_some("retry-in-clear"))
                .emit();
            if let Some(clear) = clear {
                dial.left.push(clear);
                return self.dial_next(reactor, &connection.serves, dial);
            }
        }
        match &error {
            Some(error) if !failed_at_tls && is_no_answer(error) => {
                self.host_failed(&connection.site, &transaction::text(&error.why), reactor.now_ms());
            }
            _ => self.host_answered(&connection.site),
        }
        if let Some(HostError { why: Why::Remote(reply), .. }) = &error {
            dial.advice = dial.advice.and(hints::advice(reply, Subject::Host));
        }
        if error.as_ref().is_some_and(|error| error.fault == HostFault::Ourselves) {
            dial.keep_better_than(&connection.site);
        }
        let verdict = match error {
            Some(error) => of_host(&error),
            None => Verdict::deferred(EnhancedCode(4, 4, 2), "connection ended"),
        };
        dial.note(connection.site, verdict);
        self.dial_next(reactor, &connection.serves, dial);
    }

    fn drop_unconnected(&mut self, reactor: &mut Reactor, token: usize, error: &io::Error) {
        if let Some(connection) = self.connections.remove(&token) {
            self.not_connected(reactor, connection, error);
        }
    }

    /// A connection that never stood.
    pub(super) fn not_connected(&mut self, reactor: &mut Reactor, connection: Connection, error: &io::Error) {
        let Stage::Dialing(mut dial) = connection.stage else { return };
        self.not_reached(&connection.site, error, reactor.now_ms());
        let verdict = Verdict::deferred(EnhancedCode(4, 4, 1), error.to_string());
        dial.note(connection.site, verdict);
        self.dial_next(reactor, &connection.serves, dial);
        self.mark(connection.serves);
    }

    /// Ends an idle connection, taken from the pool, without waiting for the answer.
    pub(super) fn say_goodbye(&mut self, reactor: &mut Reactor, token: usize) {
        if let Some(mut connection) = self.connections.remove(&token) {
            connection.quit();
            let _ = connection.drive();
            reactor.count("connections_ended", 1);
        }
    }

    /// Sets the clock of a connection that waits.
    pub(super) fn watch(&mut self, reactor: &mut Reactor, token: usize) {
        let idle = self.idle_time();
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if let Some(at_ms) = connection.watch(&self.slice.timeouts, idle, reactor.now_ms()) {
            reactor.set_timer(at_ms, token as u64);
        }
    }
}

/// True if a server that let us in no further might as well not be there. One that is silent takes the time of others, too, if it
/// has said something before.
fn is_no_answer(error: &HostError) -> bool {
    match error.fault {
        HostFault::Lost => matches!(error.phase, Awaiting::Greeting | Awaiting::Hello),
        HostFault::Silent => matches!(
            error.phase,
            Awaiting::Greeting | Awaiting::Hello | Awaiting::StartTls | Awaiting::Handshake
        ),
        _ => false,
    }
}

/// What it means for the mail that a server did not let us in.
fn of_host(error: &HostError) -> Verdict {
    let text = transaction::text(&error.why);
    let enhanced = error.why.reply().enhanced().unwrap_or(EnhancedCode(4, 4, 0));
    // Servers that are out of order for a while say so in their greeting, by any code. 521 alone means that there is never
    // mail (RFC 7504).
    let meant = error.phase != Awaiting::Greeting || error.why.reply().code() == NO_MAIL;
    let refused = error.is_permanent() && matches!(error.why, Why::Remote(_)) && meant;
    if refused || error.fault == HostFault::Ourselves {
        return Verdict::failed(enhanced, text);
    }
    Verdict::deferred(enhanced, text)
}

/// What the server asks for where it does not want a message now.
fn heeded(outcome: &Outcome, subject: Subject) -> Advice {
    match outcome {
        Outcome::Defer(Why::Remote(reply)) => hints::advice(reply, subject),
        _ => Advice::default(),
    }
}
