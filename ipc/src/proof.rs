//! What the resolver judges of mail, on the wire: whether a host may send for a domain. Texts in answers are made from
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
