//! The envelope: who sends, who receives, and what the SMTP extensions say about it.

use crate::address::{Address, ReversePath};
use crate::next_hop::NextHop;
use crate::terms::Terms;

/// Most recipients that one message may carry through the system.
pub const MAX_RECIPIENTS: usize = 10_000;
/// Longest decoded ENVID, in octets (RFC 3461 4.4).
pub const MAX_ENVID: usize = 100;

/// BODY= of MAIL FROM (RFC 6152, RFC 3030).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyType {
    /// Plain 7-bit, or not stated.
    #[default]
    SevenBit,
    /// 8BITMIME.
    EightBitMime,
    /// BINARYMIME.
    BinaryMime,
}

/// RET= of MAIL FROM: what a bounce returns (RFC 3461 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The header only.
    Headers,
}

/// NOTIFY= of RCPT TO (RFC 3461 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify {
    /// Report success.
    pub success: bool,
    /// Report failure.
    pub failure: bool,
    /// Report delay.
    pub delay: bool,
    /// The sender said so: the next hop is told the same, and else nothing (RFC 3461 5.2.1). True of all but the default.
    pub stated: bool,
}

impl Notify {
    /// NOTIFY=NEVER.
    pub const NEVER: Notify = Notify { success: false, failure: false, delay: false, stated: true };

    /// The same without reports of success, which are given here.
    #[must_use]
    pub fn without_success(self) -> Notify {
        Notify { success: false, ..self }
    }
}

/// What holds when the sender does not say: failures and delays are reported.
impl Default for Notify {
    fn default() -> Self {
        Notify { success: false, failure: true, delay: true, stated: false }
    }
}

/// ORCPT= of RCPT TO, decoded from xtext (RFC 3461 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// Address type, such as `rfc822` or `utf-8`.
    pub kind: Box<str>,
    /// The address; free of control characters.
    pub address: Box<str>,
}

/// How policy sees a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecipientClass {
    /// In one of our domains, delivered to a mailbox here.
    Local,
    /// In one of our domains, rewritten to other addresses.
    Virtual,
    /// In a domain that we relay for.
    Relay,
    /// Anything else.
    #[default]
    Other,
}

/// One recipient of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Where the message goes.
    pub address: Address,
    /// What the sender originally wrote, if it said so.
    pub original: Option<OriginalRecipient>,
    /// Which reports the sender wants.
    pub notify: Notify,
    /// How policy sees it.
    pub class: RecipientClass,
    /// Where its copy goes next.
    pub next_hop: NextHop,
    /// A rule chose that: routing tables do not choose anew when the message is requeued.
    pub chosen: bool,
}

/// A recipient that stood for several, and whose sender wants to hear of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The mailbox.
    pub address: Address,
    /// What the sender originally wrote, if it said so.
    pub original: Option<OriginalRecipient>,
}

/// What a sender demands of every server on the way. Nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demands {
    /// REQUIRETLS: only over TLS with a verified server that promises the same (RFC 8689).
    pub requiretls: bool,
}

/// All that travels beside the message's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who gets the bounces.
    pub reverse_path: ReversePath,
    /// BODY=.
    pub body: BodyType,
    /// SMTPUTF8 was asked for (RFC 6531).
    pub smtputf8: bool,
    /// RET=.
    pub ret: Option<Ret>,
    /// ENVID=, decoded; at most [`MAX_ENVID`] octets, free of control characters.
    pub envid: Option<Box<str>>,
    /// What is demanded of the way.
    pub demands: Demands,
    /// What is asked of the queue.
    pub terms: Terms,
    /// At least one, at most [`MAX_RECIPIENTS`].
    pub recipients: Vec<Recipient>,
}
