//! The course of a connection: in which phase it is, whose turn it is, what each reply answers, and how it ends. It
//! moves no bytes and reads no clock.

mod mailing;
mod opening;

use std::collections::VecDeque;

use vsmtp_mail::{EnhancedCode, Reply};

use super::replies::{ParsedReply, ReplyParser};
use super::transaction::{self, Active};
use super::{Awaiting, Capabilities, ClientSettings, ClientStep, HostError, HostFault, Outcome, UseTls, Why};

/// Unsent output from which on no more body is wanted.
const MAX_OUTPUT: usize = 64 * 1024;
/// The server closes (RFC 5321 3.8).
const CLOSING: u16 = 421;

/// One connection to a server.
#[derive(Debug)]
pub struct Dialogue {
    settings: ClientSettings,
    capabilities: Capabilities,
    phase: Phase,
    expected: VecDeque<Expect>,
    replies: ReplyParser,
    output: Vec<u8>,
    done: VecDeque<Vec<Outcome>>,
    /// The last transaction ended before its message did.
    reset_first: bool,
    /// The last transaction was refused at MAIL.
    refused_mail: bool,
    /// Everything goes through TLS.
    secure: bool,
    /// Complete replies so far.
    answers: u64,
}

/// The connection is not idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotIdle;

#[derive(Debug)]
enum Phase {
    /// Greeting, EHLO, STARTTLS.
    Opening,
    /// The TLS handshake, which is the caller's.
    Securing,
    /// AUTH, whose words are the caller's.
    Authenticating(Auth),
    Idle,
    Busy(Box<Active>),
    Quitting,
    Closed(Option<HostError>),
}

/// Where AUTH stands.
#[derive(Debug)]
enum Auth {
    /// No mechanism was chosen yet.
    Choosing,
    /// It is the server's turn.
    Said,
    /// The server asks.
    Challenged(Vec<u8>),
    /// The server is satisfied.
    Accepted,
}

/// What the next reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Reset,
    Mail,
    Rcpt(usize),
    Data,
    /// The message, for all accepted recipients.
    Dot,
    /// The message, for one recipient (LMTP).
    DotFor(usize),
    /// A dot that ends a message nobody gets.
    EmptyDot,
    Quit,
}

impl Dialogue {
    /// A connection that was just made.
    pub fn new(settings: ClientSettings) -> Self {
        let (phase, expected) = match settings.tls {
            UseTls::FromStart => (Phase::Securing, VecDeque::new()),
            _ => (Phase::Opening, VecDeque::from([Expect::Greeting])),
        };
        Dialogue {
            settings,
            capabilities: Capabilities::default(),
            phase,
            expected,
            replies: ReplyParser::default(),
            output: Vec::new(),
            done: VecDeque::new(),
            reset_first: false,
            refused_mail: false,
            secure: false,
            answers: 0,
        }
    }

    /// Takes what the server sent.
    pub fn on_bytes(&mut self, mut input: &[u8]) {
        while !input.is_empty() && !matches!(self.phase, Phase::Closed(_)) {
            if matches!(self.phase, Phase::Securing) {
                // Whoever put it there wants it to be taken for what comes through TLS (CVE-2021-38371).
                let text = "server sent clear text behind its answer to STARTTLS";
                return self.break_off(HostFault::Protocol, Awaiting::StartTls, text);
            }
            let (used, found) = self.replies.push(input);
            input = input.get(used..).unwrap_or_default();
            match found {
                Some(Ok(reply)) => {
                    self.answers += 1;
                    self.on_reply(reply);
                }
                Some(Err(fault)) => {
                    self.break_off(HostFault::Protocol, self.awaiting(), &format!("server sent {fault}"));
                }
                None => {}
            }
        }
    }

    /// The server closed the connection, or it broke.
    pub fn on_lost(&mut self) {
        let text = format!("connection lost while waiting for {}", self.awaiting());
        self.break_off(HostFault::Lost, self.awaiting(), &text);
    }

    /// The patience of [`Dialogue::awaiting`] is at its end.
    pub fn on_timeout(&mut self) {
        let text = format!("timeout while waiting for {}", self.awaiting());
        self.break_off(HostFault::Silent, self.awaiting(), &text);
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` octets of the output were sent. To be told before what the server sent afterwards.
    pub fn sent(&mut self, count: usize) {
        if count >= self.output.len() {
            self.output = Vec::new();
        } else {
            self.output.drain(..count);
        }
    }

    /// What to do next. `Done` is said once per transaction.
    pub fn step(&mut self) -> ClientStep {
        if let Some(outcomes) = self.done.pop_front() {
            return ClientStep::Done(outcomes);
        }
        match &self.phase {
            Phase::Closed(error) => ClientStep::Closed(error.clone()),
            Phase::Idle if self.expected.is_empty() => ClientStep::Idle,
            Phase::Securing => ClientStep::StartTls,
            Phase::Authenticating(Auth::Choosing) => ClientStep::Authenticate,
            Phase::Authenticating(Auth::Challenged(words)) => ClientStep::Challenge(words.clone()),
            Phase::Authenticating(Auth::Accepted) => ClientStep::Authenticated,
            Phase::Busy(active) if active.is_sending() && self.output.len() < MAX_OUTPUT => {
                ClientStep::WantBody
            }
            _ => ClientStep::NeedInput,
        }
    }

    /// What the server offers; known when the connection is idle for the first time.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What the client waits for, for the caller's clock.
    pub fn awaiting(&self) -> Awaiting {
        if matches!(&self.phase, Phase::Busy(active) if active.is_sending()) {
            return Awaiting::Block;
        }
        if matches!(self.phase, Phase::Securing) {
            return Awaiting::Handshake;
        }
        match self.expected.front() {
            Some(Expect::Greeting) => Awaiting::Greeting,
            Some(Expect::Ehlo | Expect::Helo) => Awaiting::Hello,
            Some(Expect::StartTls) => Awaiting::StartTls,
            Some(Expect::Auth) => Awaiting::Auth,
            Some(Expect::Reset) => Awaiting::Reset,
            Some(Expect::Mail) => Awaiting::Mail,
            Some(Expect::Rcpt(_)) => Awaiting::Rcpt,
            Some(Expect::Data) => Awaiting::Data,
            // As long as the dot has not left, no reply can be an answer to it.
            Some(Expect::Dot | Expect::DotFor(_)) if !self.output.is_empty() => Awaiting::Block,
            Some(Expect::Dot | Expect::DotFor(_) | Expect::EmptyDot) => Awaiting::Dot,
            Some(Expect::Quit) => Awaiting::Quit,
            None => Awaiting::Nothing,
        }
    }

    /// How many whole replies have come. Each command has the patience of [`Dialogue::awaiting`] for itself (RFC 5321
    /// 4.5.3.2), also where many were sent at once; a reply that never ends is none.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Says goodbye on an idle connection; on any other it just ends.
    pub fn quit(&mut self) {
        if matches!(self.phase, Phase::Idle) && self.expected.is_empty() {
            self.output.extend_from_slice(b"QUIT\r\n");
            self.expected.push_back(Expect::Quit);
            self.phase = Phase::Quitting;
        } else if !matches!(self.phase, Phase::Closed(_) | Phase::Quitting) {
            self.settle_all(&Outcome::Defer(transaction::local(
                451,
                EnhancedCode(4, 3, 2),
                "delivery was stopped",
            )));
            self.close(None);
        }
    }

    fn on_reply(&mut self, reply: ParsedReply) {
        let phase = self.awaiting();
        let expect = if phase == Awaiting::Block { None } else { self.expected.front().copied() };
        if matches!(self.phase, Phase::Authenticating(_))
            && (reply.code == CLOSING || expect != Some(Expect::Auth))
        {
            return self.broke_off_auth(&reply);
        }
        if reply.code == CLOSING && expect != Some(Expect::Quit) {
            return self.refused(reply.to_reply(), phase);
        }
        let Some(expect) = expect else {
            if phase == Awaiting::Block && self.is_refused_chunk(&reply) {
                // What is left of the chunk is not sent, so nothing more can be said here.
                self.settle_all(&mailing::verdict(&reply));
                return self.close(None);
            }
            let reply = reply.to_reply();
            return self.break_off(HostFault::Protocol, phase, &format!("server said unasked: {reply}"));
        };
        self.expected.pop_front();
        if matches!(expect, Expect::Greeting | Expect::Ehlo | Expect::Helo) && self.has_our_name(&reply) {
            let text = "mail loops back to this server: the one that answers has its name";
            return self.break_off(HostFault::Ourselves, phase, text);
        }
        match expect {
            Expect::Greeting if reply.code / 100 == 2 => self.hello(),
            Expect::Helo if reply.code / 100 == 2 => self.greeted(),
            Expect::StartTls => self.on_starttls(&reply),
            Expect::Auth => self.on_auth(&reply),
            Expect::Greeting | Expect::Helo => self.refused(reply.to_reply(), phase),
            Expect::Ehlo => self.on_ehlo(reply),
            Expect::Quit => self.close(None),
            expect => self.on_transaction_reply(expect, &reply),
        }
    }

    /// True if that must not be, and a server that lets us in calls itself by our name, which is its first word (RFC 5321 4.2).
    fn has_our_name(&self, reply: &ParsedReply) -> bool {
        let name = reply.text.split_ascii_whitespace().next().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        self.settings.not_ourselves && reply.code / 100 == 2 && name.eq_ignore_ascii_case(&self.settings.helo)
    }

    /// True if a server refuses a chunk before it has all of it, which it must not (RFC 3030 2), but means.
    fn is_refused_chunk(&self, reply: &ParsedReply) -> bool {
        matches!(&self.phase, Phase::Busy(active) if active.is_chunk()) && matches!(reply.code / 100, 4 | 5)
    }

    /// The server refuses to serve us.
    fn refused(&mut self, reply: Reply, phase: Awaiting) {
        let why = Why::Remote(reply);
        let error = HostError { phase, fault: HostFault::Refused, why: why.clone() };
        self.settle_all(&Outcome::Defer(why));
        self.close(Some(error));
    }

    fn break_off(&mut self, fault: HostFault, phase: Awaiting, text: &str) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        let enhanced = match fault {
            HostFault::Protocol => EnhancedCode(4, 5, 0),
            HostFault::Insecure if phase == Awaiting::StartTls => EnhancedCode(4, 7, 4),
            HostFault::Insecure => EnhancedCode(4, 7, 5),
            HostFault::Unauthenticated => EnhancedCode(4, 7, 8),
            HostFault::Ourselves => EnhancedCode(4, 4, 6),
            HostFault::Refused | HostFault::Lost | HostFault::Silent => EnhancedCode(4, 4, 2),
        };
        let why = transaction::local(451, enhanced, text);
        let ours = matches!(self.phase, Phase::Quitting);
        let error = HostError { phase, fault, why: why.clone() };
        self.settle_all(&Outcome::Defer(why));
        self.close(Some(error).filter(|_| !ours));
    }

    fn settle_all(&mut self, outcome: &Outcome) {
        if let Phase::Busy(active) = std::mem::replace(&mut self.phase, Phase::Idle) {
            let mut active = active;
            active.settle_rest(outcome);
            self.done.push_back(active.into_outcomes());
        }
    }

    fn close(&mut self, error: Option<HostError>) {
        self.phase = Phase::Closed(error);
        self.expected = VecDeque::new();
        self.replies = ReplyParser::default();
    }
}
