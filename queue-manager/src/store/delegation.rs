//! A message that is with a service, or is to get there, or has come back: what must be known of that after a restart. It
//! is the text of a disposition, so the format of records does not know of it.

use std::net::SocketAddr;

use vsmtp_mail::{Domain, MAX_DELEGATE_NAME, NextHop, Token};

use super::codec::Malformed;
use super::message::Text;

/// How far a delegation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The service is to get the message; it may have it already, if we died before we could write that down.
    Out,
    /// The service took it, and has until then to bring it back: seconds since 1970.
    Away(u64),
    /// It has brought it back: the rules go on at the directive.
    Back,
    /// It has failed, and the rules go on behind the directive.
    Skipped,
}

/// The stages at which rules can delegate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegatedAt {
    /// After acceptance.
    Postq,
    /// Before the first attempt.
    Delivery,
}

impl DelegatedAt {
    /// As scripts name it.
    pub fn name(self) -> &'static str {
        match self {
            DelegatedAt::Postq => "postq",
            DelegatedAt::Delivery => "delivery",
        }
    }
}

/// All that must be known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// How far it has come.
    pub phase: Phase,
    /// Where the rules go on.
    pub stage: DelegatedAt,
    /// At which directive; at most [`MAX_DELEGATE_NAME`] octets.
    pub directive: Box<str>,
    /// Who brings this back brings the message back.
    pub token: Token,
    /// The service.
    pub address: SocketAddr,
    /// How long each of its answers may take, in milliseconds.
    pub timeout_ms: u32,
    /// How long it may keep the message, in seconds.
    pub return_within_s: u32,
    /// Go on without it if it fails.
    pub open: bool,
    /// A rule before wants the message held when all is done, and why.
    pub hold: Option<Text>,
}

impl Delegation {
    /// The service as a next hop.
    pub fn next_hop(&self) -> NextHop {
        NextHop::Smtp { host: Domain::literal(self.address.ip()), port: self.address.port(), mx: false }
    }

    /// True while it is the service's turn.
    pub fn is_with_service(&self) -> bool {
        matches!(self.phase, Phase::Out | Phase::Away(_))
    }

    /// As it stands on disk: words in a fixed order, the directive last.
    pub(super) fn to_text(&self) -> String {
        let (phase, until) = match self.phase {
            Phase::Out => ("out", 0),
            Phase::Away(until) => ("away", until),
            Phase::Back => ("back", 0),
            Phase::Skipped => ("skipped", 0),
        };
        let fail = if self.open { "open" } else { "defer" };
        // The reason stands before the directive, and may hold spaces as that may: its length tells them apart.
        let (hold, reason) = match &self.hold {
            None => ("go".to_owned(), ""),
            Some(reason) => (format!("hold:{}", reason.as_str().len()), reason.as_str()),
        };
        let Delegation { stage, directive, token, address, timeout_ms, return_within_s, .. } = self;
        format!(
            "{phase} {until} {} {} {address} {timeout_ms} {return_within_s} {fail} {hold} {reason}{directive}",
            stage.name(),
            token.reveal()
        )
    }

    /// Reads that.
    pub(super) fn from_text(text: &str) -> Result<Self, Malformed> {
        let mut words = text.splitn(10, ' ');
        let mut word = || words.next().ok_or(Malformed("delegation"));
        fn number<T: std::str::FromStr>(word: &str) -> Result<T, Malformed> {
            word.parse().map_err(|_| Malformed("delegation"))
        }
        let (phase, until) = (word()?, number(word()?)?);
        let phase = match phase {
            "out" => Phase::Out,
            "away" => Phase::Away(until),
            "back" => Phase::Back,
            "skipped" => Phase::Skipped,
            _ => return Err(Malformed("phase of a delegation")),
        };
        let stage = match word()? {
            "postq" => DelegatedAt::Postq,
            "delivery" => DelegatedAt::Delivery,
            _ => return Err(Malformed("stage of a delegation")),
        };
        let token = Token::parse(word()?).ok_or(Malformed("token"))?;
        let (address, timeout_ms, return_within_s) = (number(word()?)?, number(word()?)?, number(word()?)?);
        let open = match word()? {
            "open" => true,
            "defer" => false,
            _ => return Err(Malformed("delegation")),
        };
        let (hold, rest) = (word()?, word()?);
        let (hold, directive) = match hold {
            "go" => (None, rest),
            "hold" => (Some(Text::new("")), rest),
            _ => {
                let len = hold.strip_prefix("hold:").ok_or(Malformed("delegation"))?;
                let parts = rest.split_at_checked(number(len)?).ok_or(Malformed("reason to hold"))?;
                (Some(Text::new(parts.0)), parts.1)
            }
        };
        if directive.len() > MAX_DELEGATE_NAME {
            return Err(Malformed("directive"));
        }
        let directive = directive.into();
        Ok(Delegation { phase, stage, directive, token, address, timeout_ms, return_within_s, open, hold })
    }
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use super::*;

    pub(in crate::store) fn delegation(phase: Phase) -> Delegation {
        Delegation {
            phase,
            stage: DelegatedAt::Postq,
            directive: "scan for viruses".into(),
            token: Token::from_bytes([3; 16]),
            address: "127.0.0.1:10026".parse().unwrap(),
            timeout_ms: 30_000,
            return_within_s: 3600,
            open: false,
            hold: Some(Text::new("not now, please")),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for phase in [Phase::Out, Phase::Away(7), Phase::Back, Phase::Skipped] {
            let mut one = delegation(phase);
            assert_eq!(Delegation::from_text(&one.to_text()).unwrap(), one);
            (one.stage, one.directive, one.open) = (DelegatedAt::Delivery, "".into(), true);
            one.hold = None;
            one.address = "[::1]:25".parse().unwrap();
            assert_eq!(Delegation::from_text(&one.to_text()).unwrap(), one);
        }
    }

    #[test]
    fn damage_is_no_delegation() {
        let good = delegation(Phase::Out).to_text();
        for (old, new) in [
            ("out", "x"),
            ("postq", "rcpt"),
            ("127", "999"),
            ("defer", "?"),
            ("0303", ""),
            ("hold:15", "hold:999"),
        ] {
            assert!(Delegation::from_text(&good.replacen(old, new, 1)).is_err(), "{old}");
        }
        assert!(Delegation::from_text("").is_err());
        assert!(Delegation::from_text(&format!("{good}{}", "x".repeat(MAX_DELEGATE_NAME))).is_err());
    }
}
