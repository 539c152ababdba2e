//! The client's side of one connection: greeting, EHLO, transactions, QUIT. The caller moves the bytes, streams the body
//! and keeps the clock. Everything that the server says is hostile input, and whatever is unclear is deferred: a
//! recipient fails only by a 5xx that was said about it, or because the message cannot be sent there at all.

mod capabilities;
mod dialogue;
mod replies;
mod stuffing;
mod transaction;

use std::fmt;
use std::time::Duration;

use vsmtp_mail::{
    Address, BodyType, DeliverBy, Notify, OriginalRecipient, Priority, Reply, Ret, ReversePath,
};

pub use capabilities::Capabilities;
pub use dialogue::{Dialogue, NotIdle};
pub use replies::{ParsedReply, ReplyFault, ReplyParser};
pub use stuffing::DotStuffer;

use crate::settings::Protocol;

/// How we present ourselves, and what we use.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// The name in EHLO.
    pub helo: Box<str>,
    /// A server that greets us, or answers EHLO, with that same name is ourselves, and gets nothing.
    pub not_ourselves: bool,
    /// Use PIPELINING where it is offered.
    pub pipelining: bool,
    /// When TLS begins.
    pub tls: UseTls,
    /// Say who we are (RFC 4954) before the first transaction; never without TLS.
    pub authenticate: bool,
}

/// When TLS begins on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UseTls {
    /// Never.
    Never,
    /// By STARTTLS if the server offers it.
    IfOffered,
    /// By STARTTLS; without it the connection is of no use.
    Always,
    /// Before the first word (RFC 8314).
    FromStart,
}

/// One message for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Who gets the bounces.
    pub reverse_path: ReversePath,
    /// BODY= of the sender. 8BITMIME is not sent to a host that lacks it.
    pub body: BodyType,
    /// Sender or header need SMTPUTF8: not sent to a host that lacks it. Recipients that need it say so themselves.
    pub needs_smtputf8: bool,
    /// RET=.
    pub ret: Option<Ret>,
    /// ENVID=, decoded.
    pub envid: Option<Box<str>>,
    /// REQUIRETLS (RFC 8689), and whether the server has proved itself as that asks for.
    pub require_tls: RequireTls,
    /// MT-PRIORITY=; told where it is offered.
    pub priority: Priority,
    /// BY= (RFC 2852): the time that is left.
    pub by: Option<DeliverBy>,
    /// Octets of the message.
    pub size: u64,
    /// It is made of lines, the last of them whole: it may go by BDAT where that is offered.
    pub chunked: bool,
    /// At least one.
    pub recipients: Vec<RemoteRecipient>,
}

/// Whether a message may go only to servers that proved themselves by TLS (RFC 8689).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequireTls {
    /// It may go anywhere.
    #[default]
    No,
    /// It may not, and this server has proved itself.
    Proven,
    /// It may not, and this server has not.
    Unproven,
}

/// One recipient of a [`Transaction`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRecipient {
    /// The mailbox.
    pub address: Address,
    /// NOTIFY=, if the sender stated it.
    pub notify: Option<Notify>,
    /// ORCPT=.
    pub original: Option<OriginalRecipient>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server took responsibility, with this reply.
    Delivered(Reply),
    /// Try again later.
    Defer(Why),
    /// Never.
    Fail(Why),
}

/// Who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The server, in these words.
    Remote(Reply),
    /// We, in the form of a reply.
    Local(Reply),
}

/// Why a connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    /// What was awaited.
    pub phase: Awaiting,
    /// Which kind of trouble.
    pub fault: HostFault,
    /// In words.
    pub why: Why,
}

/// Kinds of trouble with a host. None of them is a verdict about a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFault {
    /// It refused service: a 4xx or 5xx greeting or EHLO reply, or 421 later.
    Refused,
    /// The connection broke, or the host ended it.
    Lost,
    /// It said nothing for as long as one waits.
    Silent,
    /// It does not speak SMTP.
    Protocol,
    /// TLS cannot be had, or did not prove what it must.
    Insecure,
    /// It does not take our word for who we are.
    Unauthenticated,
    /// It has our own name: mail for it would come back to us.
    Ourselves,
}

/// What the caller is to do next. Output is to be sent whatever the step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStep {
    /// Send the output, read from the server.
    NeedInput,
    /// Send the output, then do the TLS handshake, and say `tls_started` or `tls_failed`. From now on nothing may be given
    /// to the dialogue that did not come through TLS.
    StartTls,
    /// Choose a mechanism of `capabilities().auth` and begin with `auth_begin`, or give up with `auth_failed`.
    Authenticate,
    /// The server wants an answer to this: `auth_respond`, or `auth_failed`.
    Challenge(Vec<u8>),
    /// The server is satisfied. If we are too: `auth_accepted`; otherwise `auth_failed`.
    Authenticated,
    /// Give more of the message with `body`, or end it with `body_end`.
    WantBody,
    /// The transaction is over: one outcome per recipient, in their order.
    Done(Vec<Outcome>),
    /// Ready for a transaction, or for `quit`.
    Idle,
    /// Close the connection. Without an error it was we who ended it.
    Closed(Option<HostError>),
}

/// What the client waits for; each has its own patience (RFC 5321 4.5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Awaiting {
    /// The TCP connection.
    Connect,
    /// The greeting.
    Greeting,
    /// The reply to EHLO, HELO or LHLO.
    Hello,
    /// The reply to STARTTLS.
    StartTls,
    /// The end of the TLS handshake.
    Handshake,
    /// The reply to AUTH.
    Auth,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT.
    Rcpt,
    /// The reply to DATA.
    Data,
    /// That the server takes a block of the message.
    Block,
    /// The reply to the message.
    Dot,
    /// The reply to RSET.
    Reset,
    /// The reply to QUIT.
    Quit,
    /// Nothing: the connection is idle.
    Nothing,
}

impl Awaiting {
    /// How long to wait. Those of RFC 5321 where it names one.
    pub fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Awaiting::Connect => 30,
            Awaiting::Greeting | Awaiting::Hello | Awaiting::Mail | Awaiting::Rcpt => 300,
            // RFC 3207 names none; a server that greeted us is awake.
            Awaiting::StartTls | Awaiting::Handshake | Awaiting::Auth => 120,
            Awaiting::Data => 120,
            Awaiting::Block => 180,
            Awaiting::Dot => 600,
            Awaiting::Reset | Awaiting::Quit => 20,
            Awaiting::Nothing => 10,
        })
    }
}

/// As in `connection lost while waiting for ...`.
impl fmt::Display for Awaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Awaiting::Connect => "the connection",
            Awaiting::Greeting => "the greeting",
            Awaiting::Hello => "the reply to EHLO",
            Awaiting::StartTls => "the reply to STARTTLS",
            Awaiting::Handshake => "the end of the TLS handshake",
            Awaiting::Auth => "the reply to AUTH",
            Awaiting::Mail => "the reply to MAIL",
            Awaiting::Rcpt => "the reply to RCPT",
            Awaiting::Data => "the reply to DATA",
            Awaiting::Block => "the message to be taken",
            Awaiting::Dot => "the reply to the message, which may have been delivered",
            Awaiting::Reset => "the reply to RSET",
            Awaiting::Quit => "the reply to QUIT",
            Awaiting::Nothing => "nothing",
        })
    }
}

impl Why {
    /// The words.
    pub fn reply(&self) -> &Reply {
        match self {
            Why::Remote(reply) | Why::Local(reply) => reply,
        }
    }
}

impl HostError {
    /// True if the host said 5xx (RFC 7504): it will not change its mind soon.
    pub fn is_permanent(&self) -> bool {
        self.fault == HostFault::Refused && self.why.reply().is_permanent()
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.reply().fmt(f)
    }
}

impl std::error::Error for HostError {}
