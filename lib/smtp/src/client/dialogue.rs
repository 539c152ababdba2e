//! The course of a connection: what is sent when, and what each reply answers.

use std::collections::VecDeque;
use std::io::Write;

use data_encoding::BASE64;
use vsmtp_mail::{EnhancedCode, Reply};

use super::replies::{ParsedReply, ReplyParser};
use super::transaction::{self, Active, Next, Stage};
use super::{
    Awaiting, Capabilities, ClientSettings, ClientStep, DotStuffer, HostError, HostFault, Outcome,
    Transaction, UseTls, Why,
};
use crate::extension::Extension;
use crate::settings::Protocol;

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
                Some(Ok(reply)) => self.on_reply(reply),
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
        self.break_off(HostFault::Lost, self.awaiting(), &text);
    }

    /// The handshake is done: all that follows comes and goes through TLS. What was learnt before it is forgotten
    /// (RFC 3207 4.2). Ignored unless the step was `StartTls`.
    pub fn tls_started(&mut self) {
        if !matches!(self.phase, Phase::Securing) {
            return;
        }
        self.secure = true;
        self.capabilities = Capabilities::default();
        self.phase = Phase::Opening;
        if self.settings.tls == UseTls::FromStart {
            self.expected.push_back(Expect::Greeting);
        } else {
            self.hello();
        }
    }

    /// The handshake failed; ignored unless the step was `StartTls`.
    pub fn tls_failed(&mut self, why: &str) {
        if matches!(self.phase, Phase::Securing) {
            self.break_off(HostFault::Insecure, Awaiting::Handshake, why);
        }
    }

    /// Begins AUTH with a mechanism and its first words, if it has any. Ignored unless the step was `Authenticate`.
    pub fn auth_begin(&mut self, mechanism: &str, initial: Option<&[u8]>) {
        if !matches!(self.phase, Phase::Authenticating(Auth::Choosing)) {
            return;
        }
        let initial = match initial {
            None => String::new(),
            // RFC 4954 4: nothing is not the same as no words.
            Some([]) => " =".to_owned(),
            Some(words) => format!(" {}", BASE64.encode(words)),
        };
        // Writing to a Vec does not fail.
        let _ = write!(self.output, "AUTH {mechanism}{initial}\r\n");
        self.expected.push_back(Expect::Auth);
        self.phase = Phase::Authenticating(Auth::Said);
    }

    /// Answers a challenge. Ignored unless the step was `Challenge`.
    pub fn auth_respond(&mut self, words: &[u8]) {
        if matches!(self.phase, Phase::Authenticating(Auth::Challenged(_))) {
            let _ = write!(self.output, "{}\r\n", BASE64.encode(words));
            self.expected.push_back(Expect::Auth);
            self.phase = Phase::Authenticating(Auth::Said);
        }
    }

    /// The server has proved what the mechanism lets it prove. Ignored unless the step was `Authenticated`.
    pub fn auth_accepted(&mut self) {
        if matches!(self.phase, Phase::Authenticating(Auth::Accepted)) {
            self.phase = Phase::Idle;
        }
    }

    /// Ends the connection because there is no way to agree on who we are.
    pub fn auth_failed(&mut self, why: &str) {
        if matches!(self.phase, Phase::Authenticating(_)) {
            self.output = Vec::new();
            self.break_off(HostFault::Unauthenticated, Awaiting::Auth, why);
        }
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

    /// Begins a transaction on an idle connection. What cannot go to this server is settled at once.
    pub fn start(&mut self, transaction: Transaction) -> Result<(), NotIdle> {
        if !matches!(self.phase, Phase::Idle) || !self.expected.is_empty() {
            return Err(NotIdle);
        }
        let refused = transaction::unsendable(&transaction, &self.capabilities);
        let mut active = Active::new(transaction);
        active.transaction.chunked &= self.capabilities.has(Extension::Chunking);
        active.settle_unspeakable(&self.capabilities);
        if let Some(why) = refused {
            active.settle_rest(&Outcome::Fail(why));
        }
        if active.all_settled() {
            self.done.push_back(active.into_outcomes());
            return Ok(());
        }
        if self.reset_first {
            self.output.extend_from_slice(b"RSET\r\n");
            self.expected.push_back(Expect::Reset);
        }
        self.reset_first = true;
        self.refused_mail = false;
        self.phase = Phase::Busy(Box::new(active));
        if !self.reset_pending() || self.pipelines() {
            self.send_commands();
        }
        Ok(())
    }

    /// True if the last transaction was refused at MAIL: what the server said is about all that comes from us, and not about
    /// one recipient.
    pub fn refused_mail(&self) -> bool {
        self.refused_mail
    }

    /// More of the message, when the step was `WantBody`; ignored at any other time.
    pub fn body(&mut self, piece: &[u8]) {
        let Phase::Busy(active) = &mut self.phase else { return };
        match &mut active.stage {
            Stage::Body(stuffer) => stuffer.push(piece, &mut self.output),
            Stage::Chunk(left) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    self.output.extend_from_slice(piece);
                }
                None => self.body_failed("message is longer than it was"),
            },
            Stage::Commands | Stage::Sent => {}
        }
    }

    /// The message is complete; ignored unless the step was `WantBody`.
    pub fn body_end(&mut self) {
        let Phase::Busy(active) = &mut self.phase else { return };
        match std::mem::replace(&mut active.stage, Stage::Sent) {
            Stage::Body(stuffer) => stuffer.finish(&mut self.output),
            Stage::Chunk(0) => {}
            // The server waits for what does not come, and must not take the next command for it.
            Stage::Chunk(_) => return self.body_failed("message is shorter than it was"),
            before @ (Stage::Commands | Stage::Sent) => {
                active.stage = before;
                return;
            }
        }
        match self.settings.protocol {
            Protocol::Smtp => self.expected.push_back(Expect::Dot),
            Protocol::Lmtp => self.expected.extend(active.accepted().map(Expect::DotFor)),
        }
    }

    /// The message cannot be read: the connection is dropped before the dot, so that no half of it is delivered.
    pub fn body_failed(&mut self, why: &str) {
        self.output = Vec::new();
        self.settle_all(&Outcome::Defer(transaction::local(451, EnhancedCode(4, 3, 0), why)));
        self.close(None);
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
        if reply.code == CLOSING && expect != Some(Expect::Quit) {
            return self.refused(reply.to_reply(), phase);
        }
        let Some(expect) = expect else {
            let reply = reply.to_reply();
            return self.break_off(HostFault::Protocol, phase, &format!("server said unasked: {reply}"));
        };
        self.expected.pop_front();
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

    fn hello(&mut self) {
        let verb = if self.settings.protocol == Protocol::Lmtp { "LHLO" } else { "EHLO" };
        self.write_hello(verb, Expect::Ehlo);
    }

    fn on_ehlo(&mut self, reply: ParsedReply) {
        match reply.code / 100 {
            2 => {
                self.capabilities = Capabilities::parse(&reply.text);
                self.greeted();
            }
            5 if self.settings.protocol == Protocol::Smtp => self.write_hello("HELO", Expect::Helo),
            _ => self.refused(reply.to_reply(), Awaiting::Hello),
        }
    }

    /// The server has said what it offers: begins TLS, or lets transactions begin.
    fn greeted(&mut self) {
        match self.settings.tls {
            UseTls::IfOffered | UseTls::Always
                if !self.secure && self.capabilities.has(Extension::StartTls) =>
            {
                self.output.extend_from_slice(b"STARTTLS\r\n");
                self.expected.push_back(Expect::StartTls);
            }
            UseTls::Always if !self.secure => {
                let text = "TLS is required, and the server does not offer it";
                self.break_off(HostFault::Insecure, Awaiting::StartTls, text);
            }
            _ => self.open(),
        }
    }

    /// TLS is as it is to be: says who we are, or lets transactions begin.
    fn open(&mut self) {
        self.phase = match (self.settings.authenticate, self.secure) {
            (false, _) => Phase::Idle,
            (true, true) => Phase::Authenticating(Auth::Choosing),
            (true, false) => {
                let text = "nothing is said of who we are without TLS";
                return self.break_off(HostFault::Unauthenticated, Awaiting::Auth, text);
            }
        };
    }

    /// The words of a refusal are not repeated: they may hold our own.
    fn on_auth(&mut self, reply: &ParsedReply) {
        let challenge = || BASE64.decode(reply.text.trim().as_bytes()).ok();
        match reply.code {
            235 => self.phase = Phase::Authenticating(Auth::Accepted),
            334 => match challenge() {
                Some(words) => self.phase = Phase::Authenticating(Auth::Challenged(words)),
                None => self.break_off(
                    HostFault::Protocol,
                    Awaiting::Auth,
                    "server sent a challenge that is not base64",
                ),
            },
            code => {
                let enhanced =
                    reply.to_reply().enhanced().map(|found| format!(" {found}")).unwrap_or_default();
                let text = format!("server does not take our credentials ({code}{enhanced})");
                self.break_off(HostFault::Unauthenticated, Awaiting::Auth, &text);
            }
        }
    }

    /// A refusal changes nothing: nothing of the handshake was sent.
    fn on_starttls(&mut self, reply: &ParsedReply) {
        if reply.code / 100 == 2 {
            self.phase = Phase::Securing;
        } else if self.settings.tls == UseTls::Always {
            let text = format!("TLS is required, and the server refused it: {}", reply.to_reply());
            self.break_off(HostFault::Insecure, Awaiting::StartTls, &text);
        } else {
            self.open();
        }
    }

    fn write_hello(&mut self, verb: &str, expect: Expect) {
        // Writing to a Vec does not fail.
        let _ = write!(self.output, "{verb} {}\r\n", self.settings.helo);
        self.expected.push_back(expect);
    }

    fn on_transaction_reply(&mut self, expect: Expect, reply: &ParsedReply) {
        let Phase::Busy(active) = &mut self.phase else { return };
        match expect {
            Expect::Mail if reply.code / 100 != 2 => {
                self.refused_mail = true;
                active.settle_rest(&verdict(reply));
            }
            Expect::Rcpt(at) => active.rcpt_answered(at, reply),
            Expect::Data => return self.on_data(reply),
            Expect::Dot => {
                self.reset_first = false;
                active.settle_rest(&verdict(reply));
            }
            Expect::DotFor(at) => {
                self.reset_first = false;
                active.settle(at, verdict(reply));
            }
            Expect::EmptyDot => self.reset_first = false,
            // RSET and an accepted MAIL change nothing for the recipients.
            _ => {}
        }
        self.proceed();
    }

    /// Commands were sent ahead, so the server may want a message although it refused every recipient.
    fn on_data(&mut self, reply: &ParsedReply) {
        let Phase::Busy(active) = &mut self.phase else { return };
        let nobody = active.accepted().next().is_none();
        match reply.code / 100 {
            3 if !nobody => active.stage = Stage::Body(DotStuffer::default()),
            3 if self.settings.protocol == Protocol::Smtp => {
                self.output.extend_from_slice(b".\r\n");
                self.expected.push_back(Expect::EmptyDot);
            }
            // An LMTP server would answer an empty list of recipients with no reply at all.
            3 => self.break_off(HostFault::Protocol, Awaiting::Data, "server wants a message for nobody"),
            // Nothing was sent yet that a server could accept.
            2 => self.break_off(
                HostFault::Protocol,
                Awaiting::Data,
                "server accepted a message before it was sent",
            ),
            _ => active.settle_rest(&verdict(reply)),
        }
        self.proceed();
    }

    /// Sends what may be sent now, or ends the transaction.
    fn proceed(&mut self) {
        let Phase::Busy(active) = &self.phase else { return };
        if !self.expected.is_empty() || active.is_sending() {
            return;
        }
        if !active.all_settled() && active.next != Next::Nothing {
            return self.send_commands();
        }
        if let Phase::Busy(active) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.done.push_back(active.into_outcomes());
        }
    }

    /// One command, or with pipelining all of them.
    fn send_commands(&mut self) {
        let pipelines = self.pipelines();
        let Phase::Busy(active) = &mut self.phase else { return };
        loop {
            self.expected.extend(match active.next {
                Next::Mail => Some(Expect::Mail),
                Next::Rcpt(at) => Some(Expect::Rcpt(at)),
                // A chunk follows without a word of the server, so it must be known that somebody gets it.
                Next::Data if active.is_chunk() && !self.expected.is_empty() => return,
                Next::Data if active.is_chunk() => None,
                Next::Data => Some(Expect::Data),
                Next::Nothing => return,
            });
            active.write_next(&self.capabilities, &mut self.output);
            if !pipelines {
                return;
            }
        }
    }

    fn pipelines(&self) -> bool {
        self.settings.pipelining && self.capabilities.has(Extension::Pipelining)
    }

    fn reset_pending(&self) -> bool {
        self.expected.front() == Some(&Expect::Reset)
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
            HostFault::Refused | HostFault::Lost => EnhancedCode(4, 4, 2),
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

/// What a reply to MAIL, DATA or the message means for those that it is about. A reply of a wrong kind is unclear.
fn verdict(reply: &ParsedReply) -> Outcome {
    let reply = reply.to_reply();
    match reply.code() / 100 {
        2 => Outcome::Delivered(reply),
        5 => Outcome::Fail(Why::Remote(reply)),
        _ => Outcome::Defer(Why::Remote(reply)),
    }
}
