//! How an exchange fails: what is counted, what the log says, and how long the client waits to hear it. Nobody waits here.

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::receiver_auth::{Answer, Denied, WRONG_MS};
use vsmtp_ipc::wire::Blob;

use super::super::{Act, Desk, Edge, Place, THROTTLED_MS};
use super::{Exchange, State};
use crate::mechanism::{Mechanism, bearer};

impl Desk {
    /// It is not this user. One who has brought a token is told so in a challenge first (RFC 7628 3.2.2), and has failed by then:
    /// whether it answers makes no difference to what is counted. Nothing is, unless it `counts`.
    pub(super) fn refuse(
        &mut self,
        now_ms: u64,
        edge: Edge,
        exchange: u64,
        user: Option<String>,
        counts: bool,
    ) -> Vec<Act> {
        let found = self.exchange(edge, exchange).map(|found| (found.mechanism, found.place));
        let Some((mechanism, place)) = found else { return Vec::new() };
        match mechanism.form().filter(|_| !self.is_relayed(mechanism)) {
            None => self.deny(now_ms, edge, exchange, Denied::Credentials, user),
            Some(form) => {
                if counts {
                    self.count(now_ms, mechanism, place, user.as_deref());
                }
                log_denied(mechanism, place, Denied::Credentials, user.as_deref());
                let said = bearer::refusal(form, self.backends.scope());
                self.wait_for_client(edge, exchange, State::Told);
                vec![Act::Answer(edge, Answer::Refused { exchange, challenge: Blob(said) })]
            }
        }
    }

    /// The exchange has failed.
    pub(super) fn deny(
        &mut self,
        now_ms: u64,
        edge: Edge,
        exchange: u64,
        why: Denied,
        user: Option<String>,
    ) -> Vec<Act> {
        let Some((mechanism, place)) =
            self.exchange(edge, exchange).map(|found| (found.mechanism, found.place))
        else {
            return Vec::new();
        };
        match why {
            Denied::Credentials => self.count(now_ms, mechanism, place, user.as_deref()),
            Denied::Throttled => self.tally.throttled += 1,
            _ => {}
        }
        log_denied(mechanism, place, why, user.as_deref());
        self.answer_denied(edge, exchange, why)
    }

    /// The client has left when nobody owed it an answer. One whose token was refused has failed all the same; where that was
    /// Dovecot's word it is counted here.
    pub(super) fn given_up(&mut self, now_ms: u64, left: &Exchange) {
        match left.state {
            State::Told => self.tally.denied += 1,
            State::Relaying(_, true) => {
                self.tally.denied += 1;
                self.count(now_ms, left.mechanism, left.place, None);
                log_denied(left.mechanism, left.place, Denied::Credentials, None);
            }
            _ => {}
        }
    }

    /// Somebody was wrong. An account is only to be guarded where it can be guessed: otherwise whoever names it could shut
    /// its owner out.
    fn count(&mut self, now_ms: u64, mechanism: Mechanism, place: Place, user: Option<&str>) {
        let account = user.filter(|_| self.is_guessed(mechanism));
        self.brakes.count(now_ms, self.counted(place), account);
    }

    /// True if what proves a login by this mechanism could be guessed. Signatures cannot, and a proxy's word is none.
    pub(in crate::desk) fn is_guessed(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::External | Mechanism::XClient => false,
            // Those that Dovecot asks others about may be any text.
            Mechanism::XOauth2 | Mechanism::OauthBearer => self.is_relayed(mechanism),
            Mechanism::Plain | Mechanism::Login | Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => true,
        }
    }

    /// The exchange is over. Its client hears of some failures later: guessing is to be slow.
    pub(super) fn answer_denied(&mut self, edge: Edge, exchange: u64, why: Denied) -> Vec<Act> {
        let Some(receiver) = self.receivers.get_mut(&edge) else { return Vec::new() };
        receiver.exchanges.remove(&exchange);
        receiver.open = receiver.open.saturating_sub(1);
        self.tally.denied += 1;
        let wait_ms = match why {
            Denied::Credentials => WRONG_MS,
            Denied::Throttled => THROTTLED_MS,
            _ => 0,
        };
        vec![Act::Answer(edge, Answer::Denied { exchange, why, wait_ms })]
    }
}

fn log_denied(mechanism: Mechanism, place: Place, why: Denied, user: Option<&str>) {
    Record::new("auth-failed")
        .field("why", word(why))
        .maybe("user", user)
        .field("mechanism", mechanism.name())
        .maybe("client", place.client)
        .emit();
}

/// As the log says it.
fn word(why: Denied) -> &'static str {
    match why {
        Denied::Credentials => "credentials",
        Denied::Temporary => "temporary",
        Denied::Malformed => "malformed",
        Denied::NeedsTls => "needs-tls",
        Denied::Unsupported => "unsupported",
        Denied::Throttled => "throttled",
    }
}
