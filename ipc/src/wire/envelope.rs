//! The envelope, and MAIL FROM that begins it.

use bincode::{Decode, Encode};
use vsmtp_mail as mail;

use super::{Demands, Recipient, Terms, WireError, Wishes, clean};

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

/// Checks an ENVID that crossed an edge.
pub fn envid(wire: Option<&str>) -> Result<Option<Box<str>>, WireError> {
    match wire {
        Some(text) if !clean(text, mail::MAX_ENVID) => Err(WireError("envid")),
        other => Ok(other.map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Class, DeliverBy, Release, RulesOf};

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
                not_before_s: Some(7),
                release: Some(Release::At(8)),
                by: Some(DeliverBy { seconds: -9, returns: false, traced: true }),
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
        let bad: [fn(&mut Envelope); 13] = [
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
            |e| terms(e).by = Some(DeliverBy { seconds: 0, returns: true, traced: true }),
            |e| terms(e).release = Some(Release::After(mail::MAX_WAIT_S + 1)),
        ];
        for (at, spoil) in bad.iter().enumerate() {
            let mut wire = envelope();
            spoil(&mut wire);
            assert!(mail::Envelope::try_from(&wire).is_err(), "{at}");
        }
    }
}
