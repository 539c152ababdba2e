//! Recipients: as a client names them, as policy has decided on them, and those that stand for several.

use bincode::{Decode, Encode};
use vsmtp_mail as mail;

use super::{WireError, clean};

/// One RCPT TO, as the client said it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RcptTo {
    /// The mailbox; `postmaster` alone stands for `<postmaster>` without a domain.
    pub address: String,
    /// ORCPT=, type and address.
    pub original: Option<(String, String)>,
    /// NOTIFY=.
    pub notify: Option<Notify>,
}

/// One recipient with all that policy decided.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recipient {
    /// The mailbox.
    pub address: String,
    /// ORCPT=, type and address.
    pub original: Option<(String, String)>,
    /// NOTIFY=.
    pub notify: Notify,
    /// How policy sees it.
    pub class: Class,
    /// Text form of [`mail::NextHop`].
    pub next_hop: String,
    /// A rule chose it.
    pub chosen: bool,
}

impl From<&mail::Recipient> for Recipient {
    fn from(r: &mail::Recipient) -> Self {
        Recipient {
            address: r.address.to_string(),
            original: r.original.as_ref().map(|o| (o.kind.to_string(), o.address.to_string())),
            notify: r.notify.into(),
            class: match r.class {
                mail::RecipientClass::Local => Class::Local,
                mail::RecipientClass::Virtual => Class::Virtual,
                mail::RecipientClass::Relay => Class::Relay,
                mail::RecipientClass::Other => Class::Other,
            },
            next_hop: r.next_hop.to_string(),
            chosen: r.chosen,
        }
    }
}

impl TryFrom<&Recipient> for mail::Recipient {
    type Error = WireError;
    fn try_from(wire: &Recipient) -> Result<Self, WireError> {
        Ok(mail::Recipient {
            address: mail::Address::parse(&wire.address).map_err(|_| WireError("recipient address"))?,
            original: wire.original.as_ref().map(original_recipient).transpose()?,
            notify: wire.notify.into(),
            class: match wire.class {
                Class::Local => mail::RecipientClass::Local,
                Class::Virtual => mail::RecipientClass::Virtual,
                Class::Relay => mail::RecipientClass::Relay,
                Class::Other => mail::RecipientClass::Other,
            },
            next_hop: mail::NextHop::parse(&wire.next_hop).map_err(|_| WireError("next hop"))?,
            chosen: wire.chosen,
        })
    }
}

/// How policy sees a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Class {
    /// A mailbox here.
    Local,
    /// Rewritten to other addresses.
    Virtual,
    /// A domain that we relay for.
    Relay,
    /// Anything else.
    Other,
}

/// NOTIFY=.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Notify {
    /// Report success.
    pub success: bool,
    /// Report failure.
    pub failure: bool,
    /// Report delay.
    pub delay: bool,
    /// The sender said so.
    pub stated: bool,
}

impl From<mail::Notify> for Notify {
    fn from(n: mail::Notify) -> Self {
        Notify { success: n.success, failure: n.failure, delay: n.delay, stated: n.stated }
    }
}

impl From<Notify> for mail::Notify {
    fn from(n: Notify) -> Self {
        mail::Notify { success: n.success, failure: n.failure, delay: n.delay, stated: n.stated }
    }
}

/// Checks an ORCPT that crossed an edge.
pub fn original_recipient(wire: &(String, String)) -> Result<mail::OriginalRecipient, WireError> {
    let (kind, address) = wire;
    if !clean(kind, 64) || !clean(address, 500) {
        return Err(WireError("original recipient"));
    }
    Ok(mail::OriginalRecipient { kind: kind.as_str().into(), address: address.as_str().into() })
}

/// A recipient that stands for several, whose sender wants to hear of success: that is told now (RFC 3461 5.2.7).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Expanded {
    /// The mailbox.
    pub address: String,
    /// ORCPT=, type and address.
    pub original: Option<(String, String)>,
}

impl From<&mail::Expanded> for Expanded {
    fn from(e: &mail::Expanded) -> Self {
        Expanded {
            address: e.address.to_string(),
            original: e.original.as_ref().map(|o| (o.kind.to_string(), o.address.to_string())),
        }
    }
}

/// Checks a list of them.
pub fn expanded(wire: &[Expanded]) -> Result<Vec<mail::Expanded>, WireError> {
    if wire.len() > mail::MAX_RECIPIENTS {
        return Err(WireError("number of expanded recipients"));
    }
    let one = |one: &Expanded| {
        Ok(mail::Expanded {
            address: mail::Address::parse(&one.address).map_err(|_| WireError("expanded recipient"))?,
            original: one.original.as_ref().map(original_recipient).transpose()?,
        })
    };
    wire.iter().map(one).collect()
}
