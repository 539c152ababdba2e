//! What is demanded of the way, and asked of the queue, for one message.

use bincode::{Decode, Encode};
use vsmtp_mail as mail;

use super::WireError;

/// What a sender demands of every server on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Demands {
    /// REQUIRETLS.
    pub requiretls: bool,
}

impl From<mail::Demands> for Demands {
    fn from(demands: mail::Demands) -> Self {
        Demands { requiretls: demands.requiretls }
    }
}

impl From<Demands> for mail::Demands {
    fn from(demands: Demands) -> Self {
        mail::Demands { requiretls: demands.requiretls }
    }
}

/// What a client asks of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Wishes {
    /// MT-PRIORITY=: from -9 to 9.
    pub priority: i8,
    /// HOLDFOR= or HOLDUNTIL=.
    pub release: Option<Release>,
    /// BY=.
    pub by: Option<DeliverBy>,
}

impl From<mail::Wishes> for Wishes {
    fn from(wishes: mail::Wishes) -> Self {
        Wishes {
            priority: wishes.priority.number(),
            release: wishes.release.map(Into::into),
            by: wishes.by.map(Into::into),
        }
    }
}

impl TryFrom<Wishes> for mail::Wishes {
    type Error = WireError;
    fn try_from(wire: Wishes) -> Result<Self, WireError> {
        let release = wire.release.map(mail::Release::try_from).transpose()?;
        let by = wire.by.map(mail::DeliverBy::try_from).transpose()?;
        Ok(mail::Wishes { priority: priority(wire.priority)?, release, by })
    }
}

/// When a client wants its message to be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Release {
    /// HOLDFOR=: in seconds, at most [`mail::MAX_WAIT_S`].
    After(u32),
    /// HOLDUNTIL=: in seconds since 1970.
    At(u64),
}

impl From<mail::Release> for Release {
    fn from(release: mail::Release) -> Self {
        match release {
            mail::Release::After(seconds) => Release::After(seconds),
            mail::Release::At(at_s) => Release::At(at_s),
        }
    }
}

impl TryFrom<Release> for mail::Release {
    type Error = WireError;
    fn try_from(wire: Release) -> Result<Self, WireError> {
        match wire {
            Release::After(seconds) if seconds <= mail::MAX_WAIT_S => Ok(mail::Release::After(seconds)),
            Release::After(_) => Err(WireError("time of release")),
            Release::At(at_s) => Ok(mail::Release::At(at_s)),
        }
    }
}

/// By when a message is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct DeliverBy {
    /// From the arrival or the release on; at most [`mail::MAX_BY_S`] either way.
    pub seconds: i32,
    /// It fails then; otherwise its sender is told.
    pub returns: bool,
    /// Each relay is reported.
    pub traced: bool,
}

impl From<mail::DeliverBy> for DeliverBy {
    fn from(by: mail::DeliverBy) -> Self {
        DeliverBy { seconds: by.seconds, returns: by.returns, traced: by.traced }
    }
}

impl TryFrom<DeliverBy> for mail::DeliverBy {
    type Error = WireError;
    fn try_from(wire: DeliverBy) -> Result<Self, WireError> {
        mail::DeliverBy::new(wire.seconds.into(), wire.returns, wire.traced)
            .ok_or(WireError("time to deliver by"))
    }
}

/// Checks a priority that crossed an edge.
pub fn priority(wire: i8) -> Result<mail::Priority, WireError> {
    mail::Priority::new(wire.into()).ok_or(WireError("priority"))
}

/// What is asked of the queue for one message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Terms {
    /// From -9 to 9.
    pub priority: i8,
    /// Seconds after its arrival, or its release, at which it fails.
    pub lifetime_s: Option<u32>,
    /// Nothing is tried before this time, in seconds since 1970.
    pub not_before_s: Option<u64>,
    /// What its client has asked for, for reports.
    pub release: Option<Release>,
    /// By when it is to be delivered.
    pub by: Option<DeliverBy>,
    /// Whose rules judge it.
    pub rules: Option<RulesOf>,
    /// The words of a report of failure.
    pub report_text: Option<String>,
    /// The author of reports.
    pub report_from: Option<String>,
}

impl From<&mail::Terms> for Terms {
    fn from(terms: &mail::Terms) -> Self {
        let mail::Terms { priority, lifetime_s, not_before_s, release, by, rules, report_text, report_from } =
            terms;
        Terms {
            priority: priority.number(),
            lifetime_s: *lifetime_s,
            not_before_s: *not_before_s,
            release: release.map(Into::into),
            by: by.map(Into::into),
            rules: rules.as_ref().map(Into::into),
            report_text: report_text.as_deref().map(str::to_owned),
            report_from: report_from.as_ref().map(mail::Address::to_string),
        }
    }
}

impl TryFrom<&Terms> for mail::Terms {
    type Error = WireError;
    fn try_from(wire: &Terms) -> Result<Self, WireError> {
        if wire.lifetime_s.is_some_and(|lifetime_s| lifetime_s > mail::MAX_LIFETIME_S) {
            return Err(WireError("lifetime"));
        }
        let is_clean = |text: &String| {
            text.len() <= mail::MAX_REPORT_TEXT && !text.chars().any(|c| c.is_control() && c != '\n')
        };
        if !wire.report_text.iter().all(is_clean) {
            return Err(WireError("words of a report"));
        }
        let report_from = wire.report_from.as_deref().map(mail::Address::parse).transpose();
        Ok(mail::Terms {
            report_text: wire.report_text.as_deref().map(Into::into),
            report_from: report_from.map_err(|_| WireError("author of a report"))?,
            priority: priority(wire.priority)?,
            lifetime_s: wire.lifetime_s,
            not_before_s: wire.not_before_s,
            release: wire.release.map(mail::Release::try_from).transpose()?,
            by: wire.by.map(mail::DeliverBy::try_from).transpose()?,
            rules: wire.rules.as_ref().map(mail::RulesOf::try_from).transpose()?,
        })
    }
}

/// Whose rules judge a message; domains as text.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RulesOf {
    /// Those for the whole server.
    Root,
    /// Those of this domain for what it sends.
    Outgoing(String),
    /// Those of this domain for what stays within it.
    Internal(String),
    /// Those of this domain for what it receives.
    Incoming(String),
}

impl From<&mail::RulesOf> for RulesOf {
    fn from(rules: &mail::RulesOf) -> Self {
        match rules {
            mail::RulesOf::Root => RulesOf::Root,
            mail::RulesOf::Outgoing(domain) => RulesOf::Outgoing(domain.to_string()),
            mail::RulesOf::Internal(domain) => RulesOf::Internal(domain.to_string()),
            mail::RulesOf::Incoming(domain) => RulesOf::Incoming(domain.to_string()),
        }
    }
}

impl TryFrom<&RulesOf> for mail::RulesOf {
    type Error = WireError;
    fn try_from(wire: &RulesOf) -> Result<Self, WireError> {
        let domain = |text: &str| mail::Domain::parse(text).map_err(|_| WireError("domain of rules"));
        Ok(match wire {
            RulesOf::Root => mail::RulesOf::Root,
            RulesOf::Outgoing(text) => mail::RulesOf::Outgoing(domain(text)?),
            RulesOf::Internal(text) => mail::RulesOf::Internal(domain(text)?),
            RulesOf::Incoming(text) => mail::RulesOf::Incoming(domain(text)?),
        })
    }
}
