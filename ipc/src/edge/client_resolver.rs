//! receiver, filter, deliver, limits → resolver. The client asks, the resolver answers each question once, in any order, not
//! later than its deadline. At most [`CREDITS`] in flight. Names and texts in answers come from strangers.

use std::net::IpAddr;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};

pub use crate::proof::{
    DmarcPolicy, DmarcQuestion, DmarcResult, DmarcVerdict, SignatureAlgorithm, SignatureQuestion,
    SignatureResult, SignatureVerdict, SpfQuestion, SpfResult, SpfVerdict,
};

/// Questions in flight.
pub const CREDITS: u32 = 256;
/// Most records in one answer; the rest is left out.
pub const MAX_RECORDS: usize = 100;
/// Most octets that are posted.
pub const MAX_POST: usize = 256 * 1024;
/// Longest deadline, in milliseconds.
pub const MAX_DEADLINE_MS: u32 = 120_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Query {
    /// Mail exchangers of a domain, by preference.
    Mx(String),
    /// A and AAAA of a host.
    Addresses(String),
    /// A only, as lists of hosts are asked (RFC 5782).
    Ipv4(String),
    /// Names of an address.
    Names(IpAddr),
    /// The name of a client: one that its address leads to and that leads back to its address. Answered by
    /// [`Records::ClientName`]. A receiver may ask nothing else, so that it cannot send what it hears anywhere by way of names.
    ClientName(IpAddr),
    /// TXT, the strings of each record joined.
    Text(String),
    /// TLSA of a name such as `_25._tcp.mx.example.com`.
    Tlsa(String),
    /// Where the aliases of a host's name lead: to one name, which is the same one where it is no alias. Answered by
    /// [`Records::Names`].
    Canonical(String),
    /// The MTA-STS policy of a mail domain (RFC 8461).
    StsPolicy(String),
    /// Whether a host may send for a domain.
    Spf(SpfQuestion),
    /// Whether a signature is right.
    Signature(SignatureQuestion),
    /// Whether a message is of its author's domain.
    Dmarc(DmarcQuestion),
    /// To give a report about TLS to a place of the web (RFC 8460 5.4). Only deliver may ask for this.
    Post {
        /// `https:` and the rest.
        url: String,
        /// The compressed report, at most [`MAX_POST`] octets.
        body: Vec<u8>,
    },
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Question {
    /// Comes back in the answer.
    pub ticket: u64,
    /// The query.
    pub query: Query,
    /// Milliseconds from now, at most [`MAX_DEADLINE_MS`].
    pub deadline_ms: u32,
}

/// Records of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Records {
    /// Preference and host name, lower preference first; a null MX (RFC 7505) is one record with an empty name.
    Mx(Vec<(u16, String)>),
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// Names, without the root dot.
    Names(Vec<String>),
    /// Texts.
    Text(Vec<Vec<u8>>),
    /// What there is of a client's name.
    ClientName(ClientName),
    /// Usage, selector, matching type, data.
    Tlsa(Vec<(u8, u8, u8, Vec<u8>)>),
    /// A policy. A domain without one has no records.
    StsPolicy {
        /// What it asks for.
        mode: StsMode,
        /// Hosts that may serve the domain: names, or `*.` and a domain for one label more.
        mx: Vec<String>,
        /// Seconds for which it counts, as it states.
        max_age_s: u32,
        /// Seconds since it was fetched.
        age_s: u32,
    },
    /// What a domain says of a host; errors of the DNS are words of it.
    Spf(SpfVerdict),
    /// What became of a signature.
    Signature(SignatureVerdict),
    /// What an author's domain wants.
    Dmarc(DmarcVerdict),
    /// The report was taken.
    Posted,
    /// The domain says that it has a policy, and there is none that could be had: mail goes as if it had none.
    StsFault {
        /// It was fetched, and is no policy.
        fetched: bool,
        /// What is wrong with it.
        why: String,
    },
}

/// What there is of a client's name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ClientName {
    /// This, which leads back to the address.
    Is(String),
    /// Nothing: the address has no name, or none that leads back to it.
    None,
    /// That cannot be told now.
    Unknown,
}

/// What an MTA-STS policy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum StsMode {
    /// No mail to a server that does not prove itself.
    Enforce,
    /// Mail as usual; failures are to be reported.
    Testing,
    /// Nothing.
    None,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum DnsError {
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name exists without such records.
    NoRecords,
    /// Time-out, SERVFAIL, refused, broken answer: may work later.
    Temporary,
    /// DNSSEC says that the answer is forged; treated as temporary, and never as insecure.
    Bogus,
    /// The name cannot be asked at all, or the place wants no report.
    BadName,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Answer {
    /// Of the question.
    pub ticket: u64,
    /// The records, or why there are none.
    pub result: Result<Records, DnsError>,
    /// The AD bit of a resolver that is trusted to validate.
    pub secure: bool,
}

impl Message for Question {}
impl Message for Answer {}

/// The asking end.
pub type ClientEnd = Channel<Question, Answer>;
/// The resolver's end.
pub type ResolverEnd = Channel<Answer, Question>;
