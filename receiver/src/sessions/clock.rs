//! What a session waits for, how long it may, and what happens then.

use vsmtp_smtp::{Own, Waiting};

use super::asking::Asking;
use super::client::{Client, Fate, Why};
use crate::services::Context;

/// The loop's timer for all deadlines.
pub const DEADLINE_TIMER: u64 = 5;
/// How long the filter may take for an answer, in milliseconds; its own limits are shorter.
const ANSWER_MS: u64 = 5 * 60_000;
/// How long a client may think about a challenge, in milliseconds.
const LOGIN_MS: u64 = 60_000;
/// How long a client may leave its replies unread, in milliseconds.
const STALL_MS: u64 = 60_000;
/// How long a client to whom all is said may take to end the connection, in milliseconds: the last replies are on their way
/// to it, and what it had sent before is on its way to us.
const LEAVING_MS: u64 = 2_000;

/// The times of one session, all in monotonic milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// When the present wait has been too long.
    deadline: u64,
    /// When the session has been too long.
    end: u64,
    /// The same if a message is coming in then.
    last_end: u64,
    /// Until when a reply is held back; 0 for not at all.
    hold: u64,
}

impl Clock {
    pub fn new(now: u64, longest: u64) -> Self {
        let end = now.saturating_add(longest);
        Clock { deadline: end, end, last_end: end.saturating_add(longest), hold: 0 }
    }

    /// True while a reply is held back.
    pub fn holds(&self) -> bool {
        self.hold != 0
    }
}

impl Client {
    /// The present wait begins now.
    pub(super) fn restart_wait(&mut self, context: &mut Context<'_>) {
        let timeouts = &context.services.settings.timeouts;
        let longest = match (&self.asking, self.dialogue.waiting()) {
            _ if self.line.blocked => STALL_MS,
            (Asking::Limiter(stage), _) => stage.longest_ms(),
            (Asking::Denied { wait_ms, .. }, _) => u64::from(*wait_ms),
            (Asking::OfName { until_ms }, _) => until_ms.saturating_sub(context.reactor.now_ms()),
            (Asking::InFlight { .. } | Asking::InLine(_) | Asking::OfHelper(_), _) | (_, Waiting::Answer) => {
                ANSWER_MS
            }
            (_, Waiting::Body) => timeouts.body,
            (_, Waiting::Nothing) => STALL_MS,
            (_, Waiting::Handshake) => timeouts.greeted,
            // Meanwhile the helper, and perhaps a back-end, keep room for it.
            (_, Waiting::Command) if self.exchange.is_some() => timeouts.ready.min(LOGIN_MS),
            (_, Waiting::Command) => match (&self.hello, &self.transaction) {
                (None, _) => timeouts.greeted,
                (_, None) => timeouts.ready,
                (_, Some(transaction)) if transaction.accepted == 0 => timeouts.mail,
                (_, Some(_)) => timeouts.recipients,
            },
        };
        self.clock.deadline = context.reactor.now_ms().saturating_add(longest);
        self.arm(context);
    }

    /// The handshake begins now. Nothing that the client does moves its deadline.
    pub(super) fn start_handshake_clock(&mut self, context: &mut Context<'_>) {
        self.clock.deadline = context.reactor.now_ms().saturating_add(context.services.tls.handshake_ms);
        self.arm(context);
    }

    /// All is said: how long the client may take to hear it begins now.
    pub(super) fn start_leaving(&mut self, context: &mut Context<'_>) {
        self.clock.hold = 0;
        self.clock.deadline = context.reactor.now_ms().saturating_add(LEAVING_MS);
        // Perhaps the session ends because it has been too long.
        self.clock.end = self.clock.end.max(self.clock.deadline);
        self.arm(context);
    }

    /// Holds the next reply back for a while.
    pub(super) fn hold_back(&mut self, context: &mut Context<'_>) {
        let delay = context.services.settings.timeouts.error_delay;
        self.clock.hold = context.reactor.now_ms().saturating_add(delay).max(1);
        self.arm(context);
    }

    /// The deadline that was set has come.
    pub fn on_deadline(&mut self, context: &mut Context<'_>) -> Fate {
        let now = context.reactor.now_ms();
        if self.clock.hold != 0 && now >= self.clock.hold {
            self.clock.hold = 0;
            self.arm(context);
            return self.go_on(context);
        }
        if now < self.due() {
            self.arm(context);
            return Fate::Stay;
        }
        self.expire(context)
    }

    fn expire(&mut self, context: &mut Context<'_>) -> Fate {
        if self.is_leaving() {
            return Fate::Gone(Why::Closed);
        }
        if let Asking::Limiter(stage) = self.asking {
            return self.on_limiter_due(context, stage);
        }
        if let Asking::Denied { why, .. } = self.asking {
            return self.on_denied_due(context, why);
        }
        if matches!(self.asking, Asking::OfName { .. }) {
            return self.on_no_name(context);
        }
        if matches!(self.asking, Asking::InLine(_)) && context.reactor.now_ms() < self.clock.last_end {
            // The line has its own timer.
            self.restart_wait(context);
            return Fate::Stay;
        }
        self.tally.timed_out = true;
        context.services.figures.timed_out += 1;
        if self.socket.is_in_handshake() {
            context.services.figures.handshakes_failed += 1;
            return Fate::Gone(Why::Handshake);
        }
        if self.line.blocked {
            return Fate::Gone(Why::Stalled);
        }
        let silent_filter = matches!(self.asking, Asking::InFlight { .. });
        self.cut(context, if silent_filter { Own::NoService } else { Own::Timeout })
    }

    /// Ends the session now with one of our own replies.
    pub fn cut(&mut self, context: &mut Context<'_>, own: Own) -> Fate {
        if self.is_leaving() {
            return Fate::Gone(Why::Closed);
        }
        self.stop_asking(context);
        // Nothing is ever said in clear to a client that begins with TLS.
        if self.socket.is_in_handshake() || self.service.begins_with_tls() && self.tls.is_none() {
            return Fate::Gone(Why::Handshake);
        }
        self.topic = None;
        self.clock.hold = 0;
        self.dialogue.close(own);
        self.go_on(context)
    }

    fn due(&self) -> u64 {
        let end = match self.dialogue.waiting() {
            Waiting::Body | Waiting::Answer => self.clock.last_end,
            Waiting::Command | Waiting::Handshake | Waiting::Nothing => self.clock.end,
        };
        self.clock.deadline.min(end)
    }

    fn arm(&mut self, context: &mut Context<'_>) {
        let due = if self.clock.hold == 0 { self.due() } else { self.due().min(self.clock.hold) };
        if let Some(at) = context.services.deadlines.set(self.place(), self.number, due) {
            context.reactor.set_timer(at, DEADLINE_TIMER);
        }
    }
}
