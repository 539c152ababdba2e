//! What the caller's answers do, and how replies and errors are counted. A verdict that contradicts its own reply code
//! is never a yes.

use vsmtp_mail::Reply;

use super::state::{Body, Input, Open, Part, Phase, Transaction};
use super::{Dropped, Session, Verdict};
use crate::data::DataDecoder;
use crate::reply::{self, Own};
use crate::settings::{EarlyTalk, Protocol};

/// 421 says that the connection will be closed (RFC 5321 3.8).
const CLOSING: u16 = 421;

/// What a verdict came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Yes,
    No,
    /// Nobody could say, or the system cannot, which is no fault of the client.
    NotNow,
}

impl Session {
    /// Applies the answers to the question that was open.
    pub(super) fn settle(&mut self, open: Open, verdicts: Vec<Verdict>) {
        let mut verdicts = verdicts.into_iter();
        let mut next = || verdicts.next().unwrap_or(Verdict::Unavailable);
        match open {
            Open::Connect => self.connected(next()),
            Open::StartTls => self.tls_allowed(next()),
            Open::Auth => self.auth_answered(next().into()),
            Open::Hello { extended } => self.named(next(), extended),
            Open::Mail { smtputf8, binary, yes } => {
                if self.verdict(next(), yes) {
                    self.phase = Phase::Mail(Transaction { smtputf8, binary, ..Transaction::default() });
                }
            }
            Open::Recipients { count } => (0..count).for_each(|_| self.recipient(next())),
            Open::Data { chunk: None } => self.data_allowed(next()),
            Open::Data { chunk: Some(chunk) } => self.chunks_allowed(next(), chunk),
            Open::Message { recipients } => {
                let count = self.replies_to_message(recipients) as usize;
                self.message((0..count).map(|_| next()));
            }
        }
    }

    fn connected(&mut self, verdict: Verdict) {
        // Behind XCLIENT it is a proxy that speaks, which was greeted once.
        self.talked_early |= !self.greeted && !self.input.pending.is_empty();
        match verdict {
            Verdict::Accept if self.talked_early && self.settings.early_talk == EarlyTalk::Refuse => {
                self.close(Own::EarlyTalker);
            }
            Verdict::Accept => {
                reply::write_greeting(&self.settings, &mut self.output);
                self.phase = Phase::Greeted;
            }
            Verdict::Unavailable => self.close(Own::NoService),
            other => {
                if self.verdict(other, Own::NoService) {
                    self.phase = Phase::Greeted;
                } else {
                    self.end();
                }
            }
        }
    }

    /// The reply to EHLO must list the extensions, so a text of policy replaces only that of HELO.
    fn named(&mut self, verdict: Verdict, extended: bool) {
        self.phase = Phase::Ready;
        match verdict {
            verdict if extended && is_yes(&verdict) => {
                let (offered, by_proxy) = (self.offered(), self.privileges.login);
                let out = &mut self.output;
                reply::write_ehlo(&self.settings, offered, self.tls, by_proxy, self.opened_s, out);
            }
            Verdict::Accept => reply::write_helo(&self.settings, &mut self.output),
            other => {
                if !self.verdict(other, Own::Ok) && !matches!(self.phase, Phase::Closing(_)) {
                    self.phase = Phase::Greeted;
                }
            }
        }
    }

    fn recipient(&mut self, verdict: Verdict) {
        if matches!(self.phase, Phase::Closing(_)) {
            return;
        }
        let accepted = self.verdict(verdict, Own::RecipientOk);
        if let Phase::Mail(transaction) = &mut self.phase {
            let count = if accepted { &mut transaction.accepted } else { &mut transaction.refused };
            *count += 1;
        }
    }

    fn data_allowed(&mut self, verdict: Verdict) {
        let Phase::Mail(transaction) = self.phase else { return };
        self.phase = Phase::Ready;
        if is_yes(&verdict) {
            let decoder = DataDecoder::new(self.settings.limits.body.clone(), self.settings.bare_newline);
            self.phase =
                Phase::Body(Box::new(Body { transaction, decoder, part: Part::UpToTheDot, reported: false }));
            self.say(Own::DataStart);
        } else {
            self.verdict(verdict, Own::Unavailable);
        }
    }

    /// A message refused for many recipients is one error. Each gets its reply, even if the session ends with it.
    fn message(&mut self, verdicts: impl Iterator<Item = Verdict>) {
        let mut refused = false;
        for verdict in verdicts {
            match self.reply_to(verdict, Own::MessageOk) {
                Said::Yes => {
                    self.errors = 0;
                    self.junk = 0;
                }
                Said::No => refused = true,
                Said::NotNow => {}
            }
        }
        if refused {
            self.count_error();
        }
    }

    /// SMTP answers a message once, LMTP once for each accepted recipient.
    pub(super) fn replies_to_message(&self, recipients: u32) -> u32 {
        match self.settings.protocol {
            Protocol::Smtp => 1,
            Protocol::Lmtp => recipients,
        }
    }

    /// Writes the reply of a verdict, counts a refusal, and tells whether it is a yes.
    pub(super) fn verdict(&mut self, verdict: Verdict, yes: Own) -> bool {
        self.say_verdict(verdict, yes) == Said::Yes
    }

    /// The same, for who must tell a no from a "not now".
    pub(super) fn say_verdict(&mut self, verdict: Verdict, yes: Own) -> Said {
        let said = self.reply_to(verdict, yes);
        if said == Said::No {
            self.count_error();
        }
        said
    }

    fn reply_to(&mut self, verdict: Verdict, yes: Own) -> Said {
        match verdict {
            Verdict::Accept => {
                self.say(yes);
                Said::Yes
            }
            Verdict::AcceptWith(reply) if reply.is_positive() => {
                reply.write_to(&mut self.output);
                Said::Yes
            }
            Verdict::AcceptWith(reply) | Verdict::Refuse(reply) => self.refuse(&reply),
            Verdict::Close(reply) => {
                let said = self.refuse(&reply);
                self.end();
                said
            }
            Verdict::Unavailable => {
                self.say(Own::Unavailable);
                Said::NotNow
            }
        }
    }

    fn refuse(&mut self, reply: &Reply) -> Said {
        if !reply.is_transient() && !reply.is_permanent() {
            self.say(Own::Unavailable);
            return Said::NotNow;
        }
        reply.write_to(&mut self.output);
        if reply.code() == CLOSING {
            self.end();
        }
        if is_about_us(reply) { Said::NotNow } else { Said::No }
    }

    /// Writes one of our own replies.
    pub(super) fn say(&mut self, own: Own) {
        self.settings.replies.write(own, &mut self.output);
    }

    /// Writes one of our own replies and counts it as an error of the client.
    pub(super) fn fail(&mut self, own: Own) {
        self.say(own);
        self.count_error();
    }

    pub(super) fn count_junk(&mut self) {
        self.junk += 1;
        if self.junk > self.settings.limits.junk {
            self.count_error();
        }
    }

    pub(super) fn count_error(&mut self) {
        self.errors += 1;
        if self.errors >= self.settings.limits.hard_errors {
            self.close(Own::TooManyErrors);
        }
    }

    /// Goes to the last phase. What is open is reported as dropped, unless it was reported already.
    pub(super) fn end(&mut self) {
        let dropped = match &self.phase {
            Phase::Mail(_) => Some(Dropped::Closed),
            Phase::Body(body) if !body.reported => Some(Dropped::Closed),
            Phase::Reported(why) | Phase::Closing(Some(why)) => Some(*why),
            _ => None,
        };
        self.phase = Phase::Closing(dropped);
        self.open = None;
        self.input = Input::default();
    }
}

/// True if a refusal speaks of the state of our mail system (RFC 3463 3.4): it is full, busy or broken, whoever asks. Who
/// says so, we or the rules, makes no difference.
fn is_about_us(reply: &Reply) -> bool {
    const SYSTEM: u16 = 3;
    reply.is_transient() && reply.enhanced().is_some_and(|code| code.1 == SYSTEM)
}

/// An acceptance with a reply that refuses is none.
pub(super) fn is_yes(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accept => true,
        Verdict::AcceptWith(reply) => reply.is_positive(),
        Verdict::Refuse(_) | Verdict::Close(_) | Verdict::Unavailable => false,
    }
}
