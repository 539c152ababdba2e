//! The last act of a dialogue: the last replies must reach the client. A socket that is closed while something in it is
//! unread, or that gets something afterwards, resets the connection, and a reset may destroy replies that the client has not
//! read: a refusal is then tried again for days, and an acceptance makes a duplicate. So a client that may still be speaking
//! is heard to its end, for nobody, within bounds.

use vsmtp_smtp::Own;

use super::asking::Asking;
use super::client::{Client, Fate, Why};
use crate::services::Context;
use crate::socket::Moved;

/// Octets that are thrown away at most; who sends more is not waiting for replies.
const MAX_UNHEARD: usize = 1 << 20;

impl Client {
    /// Sends what is left to be said, and ends the connection.
    pub(super) fn say_goodbye(&mut self, context: &mut Context<'_>) -> Fate {
        self.note_errors(context);
        if self.dialogue.ended_by() == Some(Own::TooManyErrors)
            && !std::mem::replace(&mut self.tally.ended, true)
        {
            context.services.figures.error_ends += 1;
        }
        // After QUIT a client sends nothing more, and waits for the end: one packet less for both, and nothing but the reply
        // to QUIT can be lost.
        let ends_behind = self.dialogue.has_quit_alone() && !self.line.readable && !self.socket.has_unsent();
        self.socket.end_behind(ends_behind);
        match self.write(context) {
            Fate::Stay if self.line.blocked => Fate::Stay,
            Fate::Stay if ends_behind => Fate::Gone(Why::Closed),
            Fate::Stay => self.leave_slowly(context),
            gone => gone,
        }
    }

    /// True if all is said, and the client is heard to its end.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    fn leave_slowly(&mut self, context: &mut Context<'_>) -> Fate {
        self.stop_asking(context);
        self.socket.shut();
        self.leaving = Some(MAX_UNHEARD);
        match self.hear_out(context) {
            // A process that ends waits for nobody, and who has not even said hello is not worth a wait.
            Fate::Stay if context.services.draining || self.hello.is_none() => Fate::Gone(Why::Closed),
            Fate::Stay => {
                self.start_leaving(context);
                Fate::Stay
            }
            gone => gone,
        }
    }

    /// Whatever others are being asked, nobody waits for the answer any more.
    pub(super) fn stop_asking(&mut self, context: &mut Context<'_>) {
        if let Asking::InFlight { edge, .. } = self.asking {
            context.services.filters.abandon(edge, self.number);
        }
        self.cancel_login(context.services);
        self.asking = Asking::Nothing;
    }

    /// Throws away what the client still sends.
    pub(super) fn hear_out(&mut self, context: &mut Context<'_>) -> Fate {
        loop {
            let left = self.leaving.unwrap_or_default();
            match self.socket.discard(&mut context.services.raw) {
                Moved::Some(count) if count < left => self.leaving = Some(left - count),
                Moved::Blocked => return Fate::Stay,
                Moved::Some(_) | Moved::Ended(_) => return Fate::Gone(Why::Closed),
            }
        }
    }
}
