//! queue-manager → deliver (smtp and mailbox roles). The queue-manager leases recipients of one message and one next hop;
//! deliver answers once per lease. At most [`CREDITS`] leases in flight; a lease without outcome when the edge closes is
//! deferred. Who is to end says so ([`Said::NoMore`]), and hands back what was on its way to it. What was leased may be withdrawn
//! ([`Ask::Withdraw`]): deliver hands it back unless the next hop may have taken it by now.
//!
//! A report about TLS for a place of the web travels as a lease of its own kind: its next hop is [`POST`] and the URL, its
//! body the compressed report. At most one at a time, beside the credits.

use std::net::IpAddr;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::wire::{Body, Body7, DeliverBy, Demands, Id, Notify};

/// Leases in flight.
pub const CREDITS: u32 = 256;
/// Most recipients in one lease; a message with more goes in several.
pub const MAX_LEASE_RECIPIENTS: usize = 100;

/// What the next hop of a lease begins with that is no mail but a report for a place of the web (RFC 8460 5.4).
pub const POST: &str = "post:";
/// Most entries of [`Outcome::sessions`]; what is more waits for the next outcome.
pub const MAX_TLS_SESSIONS: usize = 16;
/// Most places at which a mail domain wants its reports.
pub const MAX_REPORT_URIS: usize = 4;
/// Most lines, and most hosts, of a policy that is reported.
pub const MAX_POLICY_LINES: usize = 32;

/// What the queue-manager asks for.
#[derive(Debug, Encode, Decode)]
pub enum Ask {
    /// Deliver this.
    Attempt(Attempt),
    /// Break this lease off, by its number, and hand it back, unless its next hop has the whole message already. One that has
    /// ended by now is meant as well.
    Withdraw(u64),
}

/// Deliver this.
#[derive(Debug, Clone, Encode, Decode)]
pub struct Attempt {
    /// Comes back in the outcome.
    pub lease: u64,
    /// The message.
    pub id: Id,
    /// Text form of the next hop; the same for all recipients of the lease. Or [`POST`] and a URL.
    pub next_hop: String,
    /// Empty for the null sender.
    pub reverse_path: String,
    /// BODY=.
    pub body_type: Body7,
    /// SMTPUTF8 was asked for.
    pub smtputf8: bool,
    /// RET=.
    pub ret_full: Option<bool>,
    /// ENVID=.
    pub envid: Option<String>,
    /// What is demanded of the way.
    pub demands: Demands,
    /// How urgent it is, from -9 to 9.
    pub priority: i8,
    /// By when it is to be delivered, from now on.
    pub by: Option<DeliverBy>,
    /// At least one, at most [`MAX_LEASE_RECIPIENTS`].
    pub recipients: Vec<AttemptRecipient>,
    /// The next hop is a service that gives the message back: how long each of its answers may take, in milliseconds.
    /// Plain SMTP; the octets go as they are.
    pub service_ms: Option<u32>,
    /// The whole message. `Memfd` and `File` bring one read-only descriptor.
    pub body: Body,
}

/// One recipient of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AttemptRecipient {
    /// Its place in the message's envelope.
    pub index: u32,
    /// The mailbox.
    pub address: String,
    /// ORCPT=, type and address.
    pub original: Option<(String, String)>,
    /// NOTIFY=.
    pub notify: Notify,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Settled {
    /// As in the lease.
    pub index: u32,
    /// The three-way result; what is unclear is deferred.
    pub result: Result3,
    /// Enhanced code, from the peer or our own.
    pub enhanced: (u8, u16, u16),
    /// The peer's reply, or our reason; escaped before it is shown.
    pub text: String,
}

/// Every delivery ends in one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Result3 {
    /// The next hop took responsibility.
    Delivered,
    /// Try again later.
    Deferred,
    /// Never.
    Failed,
}

/// How far an attempt got with its host: feeds the scheduler's concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Reach {
    /// The host answered as a mail server should.
    Reached,
    /// No host of this next hop could be reached or greeted us.
    Unreachable,
}

/// What the host, or what is known of it, asks for besides its verdicts. Nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Advice {
    /// Seconds before which the deferred recipients are not to be tried again; 0 if nothing was said.
    pub retry_after_s: u32,
    /// Fewer attempts at a time.
    pub fewer: bool,
    /// Seconds for which nothing at all is to be tried at this next hop; 0 if nothing was said.
    pub pause_s: u32,
}

impl Advice {
    /// Longest wait that is asked for, in seconds.
    pub const MAX_S: u32 = 24 * 3600;

    /// What follows both.
    #[must_use]
    pub fn and(self, other: Advice) -> Advice {
        Advice {
            retry_after_s: self.retry_after_s.max(other.retry_after_s),
            fewer: self.fewer || other.fewer,
            pause_s: self.pause_s.max(other.pause_s),
        }
    }
}

/// What deliver says.
#[derive(Debug, Encode, Decode)]
pub enum Said {
    /// How a lease ended.
    Outcome(Outcome),
    /// This process is to end and takes no more leases. Once on an edge; those that it has taken end as ever.
    NoMore,
    /// This lease was not taken, for it came after [`Said::NoMore`], or was withdrawn in time: no next hop has the message by it.
    /// Its number.
    Back(u64),
}

/// How a lease ended.
#[derive(Debug, Clone, Encode, Decode)]
pub struct Outcome {
    /// Of the attempt.
    pub lease: u64,
    /// One for each recipient of the lease.
    pub settled: Vec<Settled>,
    /// Whether the host could be reached.
    pub reach: Reach,
    /// What the next attempts should heed.
    pub advice: Advice,
    /// Name and address of the host that answered, as `mx.example.com[192.0.2.1]:25`; empty if none.
    pub remote: String,
    /// What TLS reached: `none`, or level, protocol and cipher; empty if it does not apply. For the log.
    pub tls: String,
    /// The next hop knows of DSN and was told what the sender wants to hear: reports are its business (RFC 3461 5.2.2).
    pub reports: bool,
    /// The sender wants to hear that it took the message, for it may not keep to BY=, or relays are traced (RFC 2852).
    pub relayed: bool,
    /// Delay parts for the log: waiting in deliver, connecting, sending; in milliseconds.
    pub delays_ms: (u32, u32, u32),
    /// What was counted since the last outcome for the daily reports of mail domains; not of this lease alone. At most
    /// [`MAX_TLS_SESSIONS`].
    pub sessions: Vec<TlsSessions>,
}

/// Sessions with servers of one mail domain that ended alike (RFC 8460).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TlsSessions {
    /// The mail domain.
    pub domain: String,
    /// Where it wants its reports: at least one and at most [`MAX_REPORT_URIS`] of `mailto:` and `https:`.
    pub rua: Vec<String>,
    /// Under which policy.
    pub policy: PolicyFound,
    /// Why they did not do what the policy asks for; `None` if they did.
    pub failure: Option<SessionFailure>,
    /// How many.
    pub count: u32,
}

/// The policy that a session was held to (RFC 8460 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PolicyFound {
    /// Which kind.
    pub kind: PolicyKind,
    /// The domain that has it.
    pub domain: String,
    /// Its lines or its records; at most [`MAX_POLICY_LINES`].
    pub lines: Vec<String>,
    /// The hosts that it lists, or with TLSA records the one that has them; at most [`MAX_POLICY_LINES`].
    pub mx: Vec<String>,
}

/// Kinds of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum PolicyKind {
    /// MTA-STS.
    Sts,
    /// DANE.
    Tlsa,
    /// There is none.
    NotFound,
}

/// Why a session did not do what the policy asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SessionFailure {
    /// Which kind.
    pub result: TlsResult,
    /// Our address.
    pub local: Option<IpAddr>,
    /// The name of the server; empty if there was none.
    pub host: String,
    /// Its address.
    pub remote: Option<IpAddr>,
    /// In words; may be empty.
    pub reason: String,
}

/// Kinds of failures (RFC 8460 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum TlsResult {
    /// The server does not offer STARTTLS.
    StartTlsNotSupported,
    /// The certificate is for another name.
    CertificateHostMismatch,
    /// It is not valid now.
    CertificateExpired,
    /// No authority that counts vouches for it.
    CertificateNotTrusted,
    /// Anything else.
    ValidationFailure,
    /// None of the TLSA records can be used.
    TlsaInvalid,
    /// DNSSEC says that they are forged.
    DnssecInvalid,
    /// Policy asks for records and there are none.
    DaneRequired,
    /// The MTA-STS policy could not be fetched.
    StsPolicyFetchError,
    /// It is no policy.
    StsPolicyInvalid,
}

impl Message for Ask {
    fn descriptors(&self) -> usize {
        match self {
            Ask::Attempt(attempt) => usize::from(matches!(attempt.body, Body::Memfd(_) | Body::File(_))),
            Ask::Withdraw(_) => 0,
        }
    }
}

impl Message for Said {}

/// The queue-manager's end.
pub type QueueEnd = Channel<Ask, Said>;
/// The deliver end.
pub type DeliverEnd = Channel<Said, Ask>;
