//! The server's side of one session. The caller feeds bytes, answers questions, sends the output, and keeps the clock.
//!
//! One question is open at a time; while it is, no further command is looked at. What the client breaks, the session
//! answers itself. Nothing here fails: the worst that a client can reach is `Step::Close`.

mod answer;
mod ask;
mod chunks;
mod dialogue;
mod secure;
mod state;
mod trusted;

use std::sync::Arc;

use vsmtp_mail::Reply;

use crate::auth::{AuthRequest, TlsFacts};
use crate::command::{HeloName, MailRequest, RcptRequest};
use crate::data::{BodyFault, MessageFacts};
use crate::reply::Own;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::xclient::{Privileges, XClient, XForward};
use state::{Input, Open, Phase};

/// Most octets of input that are kept while a question is open. A caller that reads at most 64 KiB at a time and stops
/// reading while a question is open cannot reach it.
const MAX_PENDING: usize = 256 * 1024;
/// Unsent output from which on no further command is handled.
const MAX_OUTPUT: usize = 16 * 1024;
/// Most recipients in one question.
const MAX_BATCH: usize = 64;

/// HELO, EHLO or LHLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name that the client gave.
    pub name: HeloName,
    /// EHLO or LHLO rather than HELO.
    pub extended: bool,
}

/// What the session cannot decide by itself. Every stage is asked; a caller without policy for it answers at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// May this client speak? Comes first, before the greeting. Refusing it ends the session.
    Connect,
    /// May it have this name? An open transaction was dropped before. Refusing it, another name may follow.
    Hello(Hello),
    /// May it begin TLS now? `Unavailable` is 454; accepted, `Step::StartTls` follows.
    StartTls,
    /// Is it who it will say it is? To be answered by [`Session::answer_auth`].
    Auth(AuthRequest),
    /// The client's next words in the exchange that `Auth` began; answered in the same way.
    AuthContinue(Secret),
    /// May it send from here? Accepted, a transaction is open, and the caller keeps what was asked.
    Mail(MailRequest),
    /// May it send there? 1 to 64 recipients, to be answered one by one.
    Recipients(Vec<RcptRequest>),
    /// May it send the message now, by DATA or in chunks? Anything but acceptance closes the transaction.
    Data,
    /// The whole message is in the caller's body buffer. Is it ours now? Whatever the answer, the transaction is over.
    Message(MessageFacts),
}

/// The answer to a question, or to one recipient of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, with the server's own text.
    Accept,
    /// Yes, with this 2xx reply.
    AcceptWith(Reply),
    /// No, with this 4xx or 5xx reply. An error of the client, unless it is about us: 4xx 4.3.x (RFC 3463 3.4).
    Refuse(Reply),
    /// No, with this reply, and the session ends.
    Close(Reply),
    /// There was nobody to ask: 451, not counted against the client.
    Unavailable,
}

/// Why an open transaction ended without a question. The caller forgets envelope and body, and what XFORWARD said of them, which
/// may be all there is: a client that may use it can reset, or be refused, before its transaction has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// RSET.
    Reset,
    /// Another EHLO.
    Hello,
    /// The message broke a rule. The rest of it is still read, and refused at its end.
    Body(BodyFault),
    /// The session ends.
    Closed,
}

/// What the caller is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send the output, then read from the client.
    NeedInput,
    /// Send the output, then call again: the client does not read its replies.
    Flush,
    /// Answer this.
    Ask(Question),
    /// Still waiting for the answer; input was kept.
    AwaitAnswer,
    /// The open transaction is gone.
    Dropped(Dropped),
    /// The client has given up the exchange that `Question::Auth` began, or broke it.
    AuthCancelled,
    /// The client is a proxy and has said who its own client is: forget everything about it but that it is this proxy.
    /// The greeting is asked about again.
    XClient(Box<XClient>),
    /// The client is a proxy and has said where the next messages come from.
    XForward(XForward),
    /// Send the output, do the TLS handshake, and call [`Session::tls_started`]. If the handshake fails, close.
    StartTls,
    /// Send the output, then close the connection.
    Close,
}

/// What the session waits for, for the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The caller's answer.
    Answer,
    /// A command (RFC 5321 4.5.3.2.7: 5 minutes).
    Command,
    /// More of a message.
    Body,
    /// The end of the TLS handshake that was begun.
    Handshake,
    /// Nothing: it is over.
    Nothing,
}

/// An answer came and no question was open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoQuestion;

/// One session. Small while it is idle: buffers exist only while they hold something.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    phase: Phase,
    open: Option<Open>,
    input: Input,
    output: Vec<u8>,
    errors: u32,
    junk: u32,
    talked_early: bool,
    tls: Option<TlsFacts>,
    authenticated: bool,
    auth_failures: u32,
    /// The exchange that is under way has failed, and the client has yet to answer to that.
    auth_refused: bool,
    privileges: Privileges,
    tls_required: bool,
    /// STARTTLS can be had now.
    tls_there: bool,
    /// STARTTLS was answered by "not now".
    tls_put_off: bool,
    greeted: bool,
    ended_by: Option<Own>,
    /// When it ended, all earlier replies had been sent.
    ended_alone: bool,
    /// When the connection began, in seconds since 1970.
    opened_s: u64,
}

impl Session {
    /// A session whose greeting has not been sent.
    pub fn new(settings: Arc<Settings>) -> Self {
        Session {
            tls_required: settings.tls_required,
            tls_there: true,
            tls_put_off: false,
            settings,
            phase: Phase::Start,
            open: None,
            input: Input::default(),
            output: Vec::new(),
            errors: 0,
            junk: 0,
            talked_early: false,
            tls: None,
            authenticated: false,
            auth_failures: 0,
            auth_refused: false,
            privileges: Privileges::default(),
            greeted: false,
            ended_by: None,
            ended_alone: false,
            opened_s: 0,
        }
    }

    /// When the connection began, in seconds since 1970: what is promised for a time counts from then.
    pub fn opened_at(&mut self, opened_s: u64) {
        self.opened_s = opened_s;
    }

    /// Whether STARTTLS can be had now, for a listener that offers it. To be said before EHLO is answered, which lists it only then.
    pub fn tls_is_there(&mut self, is_there: bool) {
        self.tls_there = is_there;
    }

    /// Whether nothing of a message may come before TLS at this listener, whatever the settings say of others.
    pub fn require_tls(&mut self, is_a_must: bool) {
        self.tls_required = is_a_must;
    }

    /// The same connection, not greeted yet, under other settings. What the connection is stays: its TLS and whether it must
    /// have it, and what the client may say of others.
    pub fn restart(&mut self, settings: Arc<Settings>) {
        let Session { tls, privileges, tls_required, greeted, opened_s, .. } = *self;
        *self = Session { tls, privileges, tls_required, greeted, opened_s, ..Session::new(settings) };
    }

    /// Takes `input` and goes on until there is something for the caller to do. Bytes of a message are appended to
    /// `body`, which the caller may empty between calls. Call again, with what was read or with nothing, after each
    /// step but `NeedInput` and `AwaitAnswer`; before the first, call with nothing.
    pub fn advance(&mut self, input: &[u8], body: &mut Vec<u8>) -> Step {
        if let Some(why) = self.phase.take_dropped() {
            self.keep(input);
            return Step::Dropped(why);
        }
        match (&self.phase, &self.open) {
            (Phase::Closing(_), _) => Step::Close,
            (Phase::Handshake, _) => self.handshake(input),
            (_, Some(_)) => {
                self.keep(input);
                if matches!(self.phase, Phase::Closing(_)) {
                    self.advance(&[], body)
                } else {
                    Step::AwaitAnswer
                }
            }
            (Phase::Start, None) => {
                self.keep(input);
                self.open = Some(Open::Connect);
                Step::Ask(Question::Connect)
            }
            _ => self.consume(input, body),
        }
    }

    /// Answers the open question; of a question about recipients, or in LMTP about the message, for all of them.
    pub fn answer(&mut self, verdict: Verdict) -> Result<(), NoQuestion> {
        let count = match self.open.as_ref().ok_or(NoQuestion)? {
            Open::Recipients { count } => *count,
            Open::Message { recipients } => self.replies_to_message(*recipients) as usize,
            _ => 1,
        };
        self.answer_each(vec![verdict; count])
    }

    /// Answers the open question one by one: recipients in their order. What is missing counts as `Unavailable`.
    pub fn answer_each(&mut self, verdicts: Vec<Verdict>) -> Result<(), NoQuestion> {
        let open = self.open.take().ok_or(NoQuestion)?;
        self.settle(open, verdicts);
        Ok(())
    }

    /// What is to be sent to the client.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` octets of the output were sent.
    pub fn sent(&mut self, count: usize) {
        if count >= self.output.len() {
            self.output = Vec::new();
        } else {
            self.output.drain(..count);
        }
    }

    /// Ends the session with one of our own replies, such as `Own::Timeout` or `Own::Shutdown`. An open question is
    /// closed; call `advance` until it says `Close`.
    pub fn close(&mut self, own: Own) {
        if !matches!(self.phase, Phase::Closing(_)) {
            self.ended_alone = self.output.is_empty();
            self.say(own);
            self.ended_by = Some(own);
            self.end();
        }
    }

    /// With which of our own replies the session ended, if it did with one.
    pub fn ended_by(&self) -> Option<Own> {
        self.ended_by
    }

    /// True if QUIT ended the session and nothing but its reply was to be sent then.
    pub fn has_quit_alone(&self) -> bool {
        self.ended_by == Some(Own::Closing) && self.ended_alone
    }

    /// What the session waits for.
    pub fn waiting(&self) -> Waiting {
        match (&self.phase, &self.open) {
            (Phase::Closing(_), _) => Waiting::Nothing,
            (_, Some(_)) | (Phase::Start, None) => Waiting::Answer,
            (Phase::Handshake, None) => Waiting::Handshake,
            _ if self.expects_octets() => Waiting::Body,
            _ => Waiting::Command,
        }
    }

    /// True while a transaction is open: from an accepted MAIL to the answer about the message.
    pub fn in_transaction(&self) -> bool {
        matches!(self.phase, Phase::Mail(_) | Phase::Body(_))
    }

    /// True if the client sent something before the greeting. Meaningful when `Connect` is answered, and from then on.
    pub fn talked_early(&self) -> bool {
        let early = matches!(self.open, Some(Open::Connect)) && !self.input.pending.is_empty();
        self.talked_early || early && !self.greeted
    }

    /// Errors since the last accepted message.
    pub fn errors(&self) -> u32 {
        self.errors
    }

    /// True if the client has made so many errors that its next reply should come late.
    pub fn deserves_delay(&self) -> bool {
        self.errors >= self.settings.limits.soft_errors
    }
}

#[cfg(test)]
mod tests;
