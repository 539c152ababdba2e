//! How long one connection waits for what. It sets no timer and closes nothing: the caller does.

use std::time::Duration;

use vsmtp_config::NextHopTimeouts;
use vsmtp_smtp::Awaiting;

use super::{Connection, MAX_TRANSACTION_MS, Stage};

impl Connection {
    /// Renews the deadline if the connection waits for something new. Answers when a timer must be set, if one must.
    pub fn watch(&mut self, timeouts: &NextHopTimeouts, idle: Duration, now_ms: u64) -> Option<u64> {
        let awaiting = if self.connected { self.dialogue.awaiting() } else { Awaiting::Connect };
        let waiting_for = (awaiting, self.progress);
        if waiting_for != self.waiting_for {
            self.waiting_for = waiting_for;
            let usual = patience(awaiting, timeouts, idle);
            // What the operator has said of a service is about its answers, not about a connection that is kept.
            let own = self.serves.service.filter(|_| awaiting != Awaiting::Nothing);
            self.deadline_ms = now_ms.saturating_add(millis(own.unwrap_or(usual)));
            if let Stage::Busy(work) = &self.stage {
                self.deadline_ms = self.deadline_ms.min(work.started_ms.saturating_add(MAX_TRANSACTION_MS));
            }
        }
        if self.deadline_ms < self.timer_ms {
            self.timer_ms = self.deadline_ms;
            return Some(self.deadline_ms);
        }
        None
    }

    /// The timer fired. True if the wait is over, and the dialogue was told so; an idle connection is the caller's.
    pub fn on_timer(&mut self, now_ms: u64) -> bool {
        self.timer_ms = u64::MAX;
        if now_ms < self.deadline_ms {
            return false;
        }
        if !matches!(self.stage, Stage::Idle) {
            self.dialogue.on_timeout();
        }
        true
    }
}

fn patience(awaiting: Awaiting, timeouts: &NextHopTimeouts, idle: Duration) -> Duration {
    match awaiting {
        Awaiting::Connect => timeouts.connect,
        Awaiting::Greeting | Awaiting::Hello | Awaiting::StartTls | Awaiting::Handshake | Awaiting::Auth => {
            timeouts.greeting
        }
        Awaiting::Mail => timeouts.mail,
        Awaiting::Rcpt => timeouts.rcpt,
        Awaiting::Data => timeouts.data,
        Awaiting::Block => timeouts.block,
        Awaiting::Dot => timeouts.dot,
        Awaiting::Nothing => idle,
        Awaiting::Reset | Awaiting::Quit => awaiting.patience(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
