//! What the resolver judges of mail, on the wire: whether a host may send for a domain, whether a signature is right by its
//! key, whether a message is proved to be of its author's domain. Texts in answers are made from
//! what strangers published.

use std::net::IpAddr;

use bincode::{Decode, Encode};

/// Whether a host may use a domain (RFC 7208).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SpfQuestion {
    /// The host.
    pub client: IpAddr,
    /// What it said in HELO.
    pub helo: String,
    /// Local part and domain of the sender; `None`: the name of HELO is checked.
    pub sender: Option<(String, String)>,
    /// Our name, which explanations may show.
    pub receiver: String,
}

/// What a domain says of a host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SpfVerdict {
    /// The word.
    pub result: SpfResult,
    /// The mechanism that matched, or what went wrong.
    pub by: String,
    /// With `Fail`: what the domain has to say about it, in visible ASCII and spaces.
    pub explanation: Option<String>,
}

/// RFC 7208 2.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SpfResult {
    /// The domain says nothing, or there is no domain.
    None,
    /// It does not want to say.
    Neutral,
    /// It may.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// Nobody can tell now.
    TempError,
    /// What the domain says cannot be understood.
    PermError,
}

impl SpfResult {
    /// The word of RFC 8601 2.7.2.
    pub fn word(self) -> &'static str {
        match self {
            SpfResult::None => "none",
            SpfResult::Neutral => "neutral",
            SpfResult::Pass => "pass",
            SpfResult::Fail => "fail",
            SpfResult::SoftFail => "softfail",
            SpfResult::TempError => "temperror",
            SpfResult::PermError => "permerror",
        }
    }
}

/// Whether a signature of DKIM or ARC is right by the key that its domain publishes (RFC 6376 6.1.2, 6.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SignatureQuestion {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `a=`.
    pub algorithm: SignatureAlgorithm,
    /// The identity's domain is the signing domain itself.
    pub exact: bool,
    /// What is signed.
    pub data: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// What is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum SignatureAlgorithm {
    /// RSA over SHA-256.
    RsaSha256,
    /// Ed25519 over SHA-256.
    Ed25519Sha256,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignatureVerdict {
    /// The word.
    pub result: SignatureResult,
    /// Why not.
    pub reason: String,
    /// The domain is still trying it out.
    pub testing: bool,
}

/// RFC 6376 6.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SignatureResult {
    /// It is right.
    Pass,
    /// It is not.
    Fail,
    /// Nobody can tell now.
    TempError,
    /// There is no key that could tell.
    PermError,
}

/// Whether a message is proved to be of its author's domain (RFC 9989).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct DmarcQuestion {
    /// The domain in From.
    pub author: String,
    /// The domain for which SPF has said pass.
    pub spf: Option<String>,
    /// Domains of signatures that are right.
    pub dkim: Vec<String>,
}

/// What the author's domain wants, and whether it is proved.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DmarcVerdict {
    /// The word.
    pub result: DmarcResult,
    /// What the record asks for.
    pub published: DmarcPolicy,
    /// What is to be done with a failure: less than is published while the domain is testing.
    pub policy: DmarcPolicy,
    /// Where the record was found; empty if there is none.
    pub found_at: String,
    /// The author's organisation.
    pub organisation: String,
    /// By SPF.
    pub spf_aligned: bool,
    /// By DKIM.
    pub dkim_aligned: bool,
    /// Where the domain wants reports.
    pub report_to: Vec<String>,
}

impl DmarcVerdict {
    /// A verdict that no record and no policy stands behind.
    pub fn without_policy(result: DmarcResult) -> Self {
        DmarcVerdict {
            result,
            published: DmarcPolicy::None,
            policy: DmarcPolicy::None,
            found_at: String::new(),
            organisation: String::new(),
            spf_aligned: false,
            dkim_aligned: false,
            report_to: Vec::new(),
        }
    }
}

/// RFC 9989 5.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum DmarcResult {
    /// The domain wants nothing.
    None,
    /// It is proved.
    Pass,
    /// It is not.
    Fail,
    /// Nobody can tell now.
    TempError,
}

impl DmarcResult {
    /// The word of RFC 8601.
    pub fn word(self) -> &'static str {
        match self {
            DmarcResult::None => "none",
            DmarcResult::Pass => "pass",
            DmarcResult::Fail => "fail",
            DmarcResult::TempError => "temperror",
        }
    }
}

/// What a domain wants done with what is not proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum DmarcPolicy {
    /// Nothing.
    None,
    /// To be kept aside.
    Quarantine,
    /// To be refused.
    Reject,
}

impl DmarcPolicy {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            DmarcPolicy::None => "none",
            DmarcPolicy::Quarantine => "quarantine",
            DmarcPolicy::Reject => "reject",
        }
    }

    /// One step less.
    pub fn softer(self) -> Self {
        match self {
            DmarcPolicy::Reject => DmarcPolicy::Quarantine,
            DmarcPolicy::Quarantine | DmarcPolicy::None => DmarcPolicy::None,
        }
    }
}
