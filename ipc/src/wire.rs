//! The wire's own copies of mail's vocabulary. Nothing here is trusted: the `TryFrom` at the door re-parses every field,
//! whoever sent it, and its error closes the edge.

use std::fmt;

use bincode::{Decode, Encode};
use vsmtp_mail as mail;
use zeroize::Zeroize;

/// Bodies up to this many octets travel inside a message; larger ones in a sealed memfd.
pub const MAX_INLINE_BODY: usize = 16 * 1024;
/// Bodies up to this many octets travel in one memfd; larger ones go to a staging file, chunk by chunk.
pub const MAX_MEMFD_BODY: u64 = 1024 * 1024;
/// Octets in one chunk of a larger body.
pub const CHUNK: usize = 256 * 1024;
/// Most pieces of one message.
pub const MAX_PIECES: usize = 64;
/// Most octets of all text pieces of one message together.
pub const MAX_PIECE_TEXT: usize = 4 * 1024 * 1024;
/// Most notices about one message.
pub const MAX_NOTICES: usize = 4;
/// Most octets of a notice's subject.
pub const MAX_NOTICE_SUBJECT: usize = 256;
/// Most octets of a notice's text.
pub const MAX_NOTICE_TEXT: usize = 8192;
/// Longest free text (diagnostics, names) that crosses an edge.
pub const MAX_TEXT: usize = 4096;

/// A field that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError(
    /// Which field.
    pub &'static str,
);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {} is not valid", self.0)
    }
}

impl std::error::Error for WireError {}

impl From<WireError> for crate::ChannelError {
    fn from(error: WireError) -> Self {
        crate::ChannelError::Misbehaved(error.to_string())
    }
}

/// A queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Id(
    /// The binary form.
    pub [u8; mail::QueueId::LEN],
);

impl From<mail::QueueId> for Id {
    fn from(id: mail::QueueId) -> Self {
        Id(id.to_bytes())
    }
}

impl From<Id> for mail::QueueId {
    fn from(id: Id) -> Self {
        mail::QueueId::from_bytes(id.0)
    }
}

/// An SMTP reply in its text form, several lines joined by line feeds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Class, subject, detail.
    pub enhanced: Option<(u8, u16, u16)>,
    /// Text without codes.
    pub text: String,
}

impl From<&mail::Reply> for Reply {
    fn from(reply: &mail::Reply) -> Self {
        let lines: Vec<&str> = reply.lines().collect();
        Reply {
            code: reply.code(),
            enhanced: reply.enhanced().map(|e| (e.0, e.1, e.2)),
            text: lines.join("\n"),
        }
    }
}

impl TryFrom<&Reply> for mail::Reply {
    type Error = WireError;
    fn try_from(wire: &Reply) -> Result<Self, WireError> {
        let enhanced = wire.enhanced.map(|(a, b, c)| mail::EnhancedCode(a, b, c));
        mail::Reply::new(wire.code, enhanced, &wire.text).map_err(|_| WireError("reply"))
    }
}

/// Parameters of MAIL FROM.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MailFrom {
    /// Empty for the null sender.
    pub reverse_path: String,
    /// BODY=.
    pub body: Body7,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// RET=: true for FULL, false for HDRS.
    pub ret_full: Option<bool>,
    /// ENVID=, decoded.
    pub envid: Option<String>,
    /// SIZE=.
    pub size: Option<u64>,
    /// What is demanded of the way.
    pub demands: Demands,
    /// What is asked of the queue.
    pub wishes: Wishes,
}

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
}

impl From<mail::Wishes> for Wishes {
    fn from(wishes: mail::Wishes) -> Self {
        Wishes { priority: wishes.priority.number() }
    }
}

impl TryFrom<Wishes> for mail::Wishes {
    type Error = WireError;
    fn try_from(wire: Wishes) -> Result<Self, WireError> {
        Ok(mail::Wishes { priority: priority(wire.priority)? })
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
    /// Seconds after its arrival at which it fails.
    pub lifetime_s: Option<u32>,
    /// Whose rules judge it.
    pub rules: Option<RulesOf>,
    /// The words of a report of failure.
    pub report_text: Option<String>,
    /// The author of reports.
    pub report_from: Option<String>,
}

/// What rules have asked of the reports about a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Reports {
    /// The words of a report of failure.
    pub text: Option<String>,
    /// The author of reports.
    pub from: Option<String>,
    /// Nobody is told.
    pub suppressed: bool,
}

impl Reports {
    /// Puts them, checked, into the terms of a message.
    ///
    /// # Errors
    /// If the words or the author are not what they should be; the terms are then as they were.
    pub fn put_into(self, terms: &mut mail::Terms) -> Result<(), WireError> {
        let wire = Terms { report_text: self.text, report_from: self.from, ..Terms::default() };
        let mail::Terms { report_text, report_from, .. } = (&wire).try_into()?;
        (terms.report_text, terms.report_from) = (report_text, report_from);
        Ok(())
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

impl From<&mail::Terms> for Terms {
    fn from(terms: &mail::Terms) -> Self {
        let mail::Terms { priority, lifetime_s, rules, report_text, report_from } = terms;
        Terms {
            priority: priority.number(),
            lifetime_s: *lifetime_s,
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
            rules: wire.rules.as_ref().map(mail::RulesOf::try_from).transpose()?,
        })
    }
}

/// BODY=.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Body7 {
    /// 7BIT or absent.
    SevenBit,
    /// 8BITMIME.
    EightBitMime,
    /// BINARYMIME.
    BinaryMime,
}

impl From<mail::BodyType> for Body7 {
    fn from(body: mail::BodyType) -> Self {
        match body {
            mail::BodyType::SevenBit => Body7::SevenBit,
            mail::BodyType::EightBitMime => Body7::EightBitMime,
            mail::BodyType::BinaryMime => Body7::BinaryMime,
        }
    }
}

impl From<Body7> for mail::BodyType {
    fn from(body: Body7) -> Self {
        match body {
            Body7::SevenBit => mail::BodyType::SevenBit,
            Body7::EightBitMime => mail::BodyType::EightBitMime,
            Body7::BinaryMime => mail::BodyType::BinaryMime,
        }
    }
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Service {
    /// Mail from other servers.
    Smtp,
    /// Mail of our own users.
    Submission,
    /// The same under TLS from the first octet.
    Submissions,
    /// Mail for delivery by LMTP.
    Lmtp,
    /// The local socket.
    Local,
}

impl From<mail::Service> for Service {
    fn from(service: mail::Service) -> Self {
        match service {
            mail::Service::Smtp => Service::Smtp,
            mail::Service::Submission => Service::Submission,
            mail::Service::Submissions => Service::Submissions,
            mail::Service::Lmtp => Service::Lmtp,
            mail::Service::Local => Service::Local,
        }
    }
}

impl From<Service> for mail::Service {
    fn from(service: Service) -> Self {
        match service {
            Service::Smtp => mail::Service::Smtp,
            Service::Submission => mail::Service::Submission,
            Service::Submissions => mail::Service::Submissions,
            Service::Lmtp => mail::Service::Lmtp,
            Service::Local => mail::Service::Local,
        }
    }
}

/// A SASL message. It may hold a password: it is never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Blob(
    /// The octets.
    pub Vec<u8>,
);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blob(..)")
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What the auth helper gave a session: whoever shows it is authenticated, so it is never shown in a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Grant(
    /// Random octets.
    pub [u8; 16],
);

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant(..)")
    }
}

/// What a TLS handshake has agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: String,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// Our name as the client asked for it.
    pub sni: Option<String>,
    /// The client's certificate, if it showed one.
    pub client: Option<ClientCertificate>,
}

/// A certificate of a client that has proved to hold its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ClientCertificate {
    /// SHA-256 of its DER form.
    pub fingerprint: [u8; 32],
    /// It leads to an authority that configuration trusts.
    pub is_verified: bool,
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

/// The envelope.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// Empty for the null sender.
    pub reverse_path: String,
    /// BODY=.
    pub body: Body7,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// RET=: true for FULL.
    pub ret_full: Option<bool>,
    /// ENVID=, decoded.
    pub envid: Option<String>,
    /// What is demanded of the way.
    pub demands: Demands,
    /// What is asked of the queue; `None` if that is nothing.
    pub terms: Option<Box<Terms>>,
    /// At least one.
    pub recipients: Vec<Recipient>,
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

/// Checks an ORCPT that crossed an edge.
pub fn original_recipient(wire: &(String, String)) -> Result<mail::OriginalRecipient, WireError> {
    let (kind, address) = wire;
    if !clean(kind, 64) || !clean(address, 500) {
        return Err(WireError("original recipient"));
    }
    Ok(mail::OriginalRecipient { kind: kind.as_str().into(), address: address.as_str().into() })
}

impl From<&mail::Envelope> for Envelope {
    fn from(e: &mail::Envelope) -> Self {
        Envelope {
            reverse_path: e.reverse_path.to_string(),
            body: e.body.into(),
            smtputf8: e.smtputf8,
            ret_full: e.ret.map(|ret| ret == mail::Ret::Full),
            envid: e.envid.as_deref().map(str::to_owned),
            demands: e.demands.into(),
            terms: (e.terms != mail::Terms::default()).then(|| Box::new((&e.terms).into())),
            recipients: e.recipients.iter().map(Recipient::from).collect(),
        }
    }
}

impl TryFrom<&Envelope> for mail::Envelope {
    type Error = WireError;
    fn try_from(wire: &Envelope) -> Result<Self, WireError> {
        if wire.recipients.is_empty() || wire.recipients.len() > mail::MAX_RECIPIENTS {
            return Err(WireError("number of recipients"));
        }
        let recipients = wire.recipients.iter().map(mail::Recipient::try_from).collect::<Result<_, _>>()?;
        Ok(mail::Envelope {
            reverse_path: mail::ReversePath::parse(&wire.reverse_path)
                .map_err(|_| WireError("reverse path"))?,
            body: wire.body.into(),
            smtputf8: wire.smtputf8,
            ret: wire.ret_full.map(|full| if full { mail::Ret::Full } else { mail::Ret::Headers }),
            envid: envid(wire.envid.as_deref())?,
            demands: wire.demands.into(),
            terms: wire.terms.as_deref().map(mail::Terms::try_from).transpose()?.unwrap_or_default(),
            recipients,
        })
    }
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

/// A mail that a rule wants sent about a message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Notice {
    /// To whom.
    pub to: String,
    /// One line, at most [`MAX_NOTICE_SUBJECT`] octets.
    pub subject: String,
    /// At most [`MAX_NOTICE_TEXT`] octets.
    pub text: String,
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

/// Checks an ENVID that crossed an edge.
pub fn envid(wire: Option<&str>) -> Result<Option<Box<str>>, WireError> {
    match wire {
        Some(text) if !clean(text, mail::MAX_ENVID) => Err(WireError("envid")),
        other => Ok(other.map(Into::into)),
    }
}

/// True if the text has no control characters and at most `max` octets.
pub fn clean(text: &str, max: usize) -> bool {
    text.len() <= max && !text.chars().any(char::is_control)
}

/// Where a message's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Body {
    /// Here; at most [`MAX_INLINE_BODY`] octets.
    Inline(Vec<u8>),
    /// In the message's first descriptor, a sealed memfd of this many octets.
    Memfd(u64),
    /// In the staging or large-message file of that id, of this many octets. With a descriptor where the edge says so.
    File(u64),
}

impl Body {
    /// Octets of the message.
    pub fn len(&self) -> u64 {
        match self {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Memfd(len) | Body::File(len) => *len,
        }
    }

    /// True if there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message is an ordered list of pieces: rewritten text and untouched ranges of the original.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Piece {
    /// These octets.
    Text(Vec<u8>),
    /// A range of the body.
    Original {
        /// From this octet of the body.
        offset: u64,
        /// That many octets.
        len: u64,
    },
}

/// Checks a list of pieces against the body they refer to and answers the length of the message they make.
/// An empty list stands for the whole body.
pub fn check_pieces(pieces: &[Piece], body_len: u64) -> Result<u64, WireError> {
    if pieces.len() > MAX_PIECES {
        return Err(WireError("number of pieces"));
    }
    if pieces.is_empty() {
        return Ok(body_len);
    }
    let (mut total, mut text_total) = (0u64, 0usize);
    for piece in pieces {
        let len = match piece {
            Piece::Text(text) => {
                text_total = text_total.saturating_add(text.len());
                text.len() as u64
            }
            Piece::Original { offset, len } => {
                let end = offset.checked_add(*len).ok_or(WireError("piece"))?;
                if end > body_len {
                    return Err(WireError("piece"));
                }
                *len
            }
        };
        total = total.checked_add(len).ok_or(WireError("piece"))?;
    }
    if text_total > MAX_PIECE_TEXT { Err(WireError("size of pieces")) } else { Ok(total) }
}

/// Where a message came from: for logs, policy and reports. All texts are escaped before they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Origin {
    /// Session id, as in the receiver's log lines.
    pub session: u64,
    /// Client address, empty for a local submission.
    pub client: String,
    /// HELO name.
    pub helo: String,
    /// ESMTP, SMTP, LMTP, or `local`.
    pub protocol: String,
    /// Numeric user id of a local submitter.
    pub uid: Option<u32>,
    /// What the client came for; unknown for our own reports and for what older releases stored.
    pub service: Option<Service>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient() -> Recipient {
        Recipient {
            chosen: true,
            address: "b@dst.test".into(),
            original: Some(("rfc822".into(), "x@y".into())),
            notify: mail::Notify::default().into(),
            class: Class::Other,
            next_hop: "smtp:dst.test".into(),
        }
    }

    fn envelope() -> Envelope {
        Envelope {
            reverse_path: "a@src.test".into(),
            body: Body7::EightBitMime,
            smtputf8: false,
            ret_full: Some(true),
            envid: Some("e1".into()),
            demands: Demands { requiretls: true },
            terms: Some(Box::new(Terms {
                priority: 9,
                lifetime_s: Some(60),
                rules: Some(RulesOf::Internal("dst.test".into())),
                report_text: Some("a\nb".into()),
                report_from: Some("a@b.test".into()),
            })),
            recipients: vec![recipient()],
        }
    }

    #[test]
    fn envelopes_round_trip_through_their_checked_form() {
        let checked = mail::Envelope::try_from(&envelope()).unwrap();
        assert_eq!(Envelope::from(&checked), envelope());
    }

    fn terms(envelope: &mut Envelope) -> &mut Terms {
        envelope.terms.as_mut().unwrap()
    }

    #[test]
    fn every_field_is_checked_at_the_door() {
        let bad: [fn(&mut Envelope); 11] = [
            |e| e.reverse_path = "a\r\nRCPT TO:<x@y>".into(),
            |e| e.envid = Some("a\nb".into()),
            |e| e.recipients.clear(),
            |e| e.recipients[0].address = "b".into(),
            |e| e.recipients[0].next_hop = "pipe:/bin/sh".into(),
            |e| e.recipients[0].original = Some(("rfc822".into(), "x\ny".into())),
            |e| terms(e).priority = 10,
            |e| terms(e).report_text = Some("a\r\nb".into()),
            |e| terms(e).report_from = Some("a".into()),
            |e| terms(e).rules = Some(RulesOf::Incoming("a b".into())),
            |e| terms(e).lifetime_s = Some(mail::MAX_LIFETIME_S + 1),
        ];
        for (at, spoil) in bad.iter().enumerate() {
            let mut wire = envelope();
            spoil(&mut wire);
            assert!(mail::Envelope::try_from(&wire).is_err(), "{at}");
        }
    }

    #[test]
    fn pieces_stay_inside_the_body() {
        let text = Piece::Text(b"X: 1\r\n".to_vec());
        assert_eq!(check_pieces(&[], 10), Ok(10));
        assert_eq!(check_pieces(&[text.clone(), Piece::Original { offset: 2, len: 8 }], 10), Ok(14));
        assert!(check_pieces(&[Piece::Original { offset: 3, len: 8 }], 10).is_err());
        assert!(check_pieces(&[Piece::Original { offset: u64::MAX, len: 2 }], 10).is_err());
        assert!(check_pieces(&vec![text; MAX_PIECES + 1], 10).is_err());
    }
}
