//! One lease of the queue-manager, re-parsed into checked types, and the answer it gets. Nothing is trusted because the
//! queue-manager sent it; a bad lease closes that edge.

use std::os::fd::OwnedFd;
use std::time::Duration;

use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::client_resolver::MAX_POST;
use vsmtp_ipc::edge::queue_deliver::{
    Advice, Attempt, AttemptRecipient, MAX_LEASE_RECIPIENTS, Outcome, POST, Reach, Result3, Settled,
    TlsSessions,
};
use vsmtp_ipc::wire::{self, MAX_TEXT, WireError};
use vsmtp_mail::{
    Address, BodyType, DeliverBy, Demands, EnhancedCode, MAX_BY_S, NextHop, Notify, OriginalRecipient,
    Priority, QueueId, Ret, ReversePath, escape_text,
};

use crate::content::Content;

/// A lease on an edge: when the queue-manager restarts, numbers of the new edge may repeat those of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// Counts the edges that this process has had.
    pub epoch: u64,
    /// The queue-manager's number.
    pub number: u64,
}

/// What must be delivered: one message, one next hop, some recipients.
pub struct Lease {
    /// Where the outcome belongs.
    pub key: LeaseKey,
    /// The message.
    pub id: QueueId,
    /// The same for all recipients.
    pub next_hop: NextHop,
    /// Who gets the bounces.
    pub reverse_path: ReversePath,
    /// BODY=.
    pub body_type: BodyType,
    /// SMTPUTF8 was asked for.
    pub smtputf8: bool,
    /// RET=.
    pub ret: Option<Ret>,
    /// ENVID=.
    pub envid: Option<Box<str>>,
    /// What is demanded of the way.
    pub demands: Demands,
    /// How urgent it is.
    pub priority: Priority,
    /// By when it is to be delivered, from [`Lease::arrived_ms`] on. Who takes it by LMTP delivers it: only relays are told.
    pub by: Option<DeliverBy>,
    /// At least one, at most [`MAX_LEASE_RECIPIENTS`].
    pub recipients: Vec<LeaseRecipient>,
    /// The next hop is a service that gives the message back: how long each of its answers may take.
    pub service: Option<Duration>,
    /// The message's bytes.
    pub content: Content,
    /// When it came, in monotonic milliseconds.
    pub arrived_ms: u64,
}

/// A report about TLS for a place of the web.
#[derive(Debug)]
pub struct Post {
    /// Where the outcome belongs.
    pub key: LeaseKey,
    /// Where to.
    pub url: String,
    /// The compressed report.
    pub body: Vec<u8>,
}

/// What the queue-manager wants done.
pub enum Order {
    /// Deliver a message.
    Deliver(Box<Lease>),
    /// Have a report posted.
    Post(Post),
    /// Break that lease off, and hand it back if its next hop cannot have the message yet.
    Withdraw(LeaseKey),
}

impl Order {
    /// Checks everything that an attempt says.
    pub fn parse(
        attempt: Attempt,
        descriptor: Option<OwnedFd>,
        epoch: u64,
        now_ms: u64,
    ) -> Result<Self, ChannelError> {
        let Some(url) = attempt.next_hop.strip_prefix(POST) else {
            return Lease::parse(attempt, descriptor, epoch, now_ms)
                .map(|lease| Order::Deliver(Box::new(lease)));
        };
        if attempt.recipients.len() != 1 || url.len() > MAX_TEXT {
            return Err(WireError("report").into());
        }
        let url = url.to_owned();
        let body = Content::from_wire(attempt.body, descriptor)
            .and_then(|content| Ok(content.head(MAX_POST)?))
            .map_err(|error| ChannelError::Misbehaved(error.to_string()))?;
        Ok(Order::Post(Post { key: LeaseKey { epoch, number: attempt.lease }, url, body }))
    }
}

/// One recipient of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecipient {
    /// Its place in the message's envelope.
    pub index: u32,
    /// The mailbox.
    pub address: Address,
    /// ORCPT=.
    pub original: Option<OriginalRecipient>,
    /// NOTIFY=.
    pub notify: Notify,
}

impl Lease {
    /// Checks everything that an attempt says.
    pub fn parse(
        attempt: Attempt,
        descriptor: Option<OwnedFd>,
        epoch: u64,
        now_ms: u64,
    ) -> Result<Self, ChannelError> {
        let count = attempt.recipients.len();
        if count == 0 || count > MAX_LEASE_RECIPIENTS {
            return Err(WireError("number of recipients").into());
        }
        let recipients = attempt.recipients.iter().map(recipient).collect::<Result<Vec<_>, _>>()?;
        let content = Content::from_wire(attempt.body, descriptor)
            .map_err(|error| ChannelError::Misbehaved(error.to_string()))?;
        let next_hop = NextHop::parse(&attempt.next_hop).map_err(|_| WireError("next hop"))?;
        let by = attempt.by.map(DeliverBy::try_from).transpose()?;
        Ok(Lease {
            key: LeaseKey { epoch, number: attempt.lease },
            id: attempt.id.into(),
            reverse_path: ReversePath::parse(&attempt.reverse_path).map_err(|_| WireError("reverse path"))?,
            body_type: attempt.body_type.into(),
            smtputf8: attempt.smtputf8,
            ret: attempt.ret_full.map(|full| if full { Ret::Full } else { Ret::Headers }),
            envid: wire::envid(attempt.envid.as_deref())?,
            demands: attempt.demands.into(),
            priority: wire::priority(attempt.priority)?,
            by: by.filter(|_| matches!(next_hop, NextHop::Smtp { .. })),
            next_hop,
            recipients,
            service: attempt.service_ms.map(|ms| Duration::from_millis(u64::from(ms))),
            content,
            arrived_ms: now_ms,
        })
    }

    /// By when it is to be delivered, from this time on.
    pub fn by(&self, now_ms: u64) -> Option<DeliverBy> {
        let passed_s = i32::try_from(now_ms.saturating_sub(self.arrived_ms) / 1000).unwrap_or(i32::MAX);
        self.by.map(|by| DeliverBy { seconds: by.seconds.saturating_sub(passed_s).max(-MAX_BY_S), ..by })
    }

    /// The same verdict for every recipient.
    pub fn all(&self, verdict: &Verdict) -> Vec<Settled> {
        self.recipients.iter().map(|recipient| verdict.settle(recipient.index)).collect()
    }
}

fn recipient(wire: &AttemptRecipient) -> Result<LeaseRecipient, WireError> {
    Ok(LeaseRecipient {
        index: wire.index,
        address: Address::parse(&wire.address).map_err(|_| WireError("recipient address"))?,
        original: wire.original.as_ref().map(wire::original_recipient).transpose()?,
        notify: wire.notify.into(),
    })
}

/// What became of one recipient, and why. What is unclear is deferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The three-way result.
    pub result: Result3,
    /// Its class always fits the result.
    pub enhanced: EnhancedCode,
    /// The peer's reply, or our reason.
    pub text: String,
}

impl Verdict {
    /// The next hop took responsibility.
    pub fn delivered(enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self::new(Result3::Delivered, enhanced, text.into())
    }

    /// Try again later.
    pub fn deferred(enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self::new(Result3::Deferred, enhanced, text.into())
    }

    /// Never.
    pub fn failed(enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self::new(Result3::Failed, enhanced, text.into())
    }

    /// The same, and not for good.
    pub fn softened(self) -> Self {
        match self.result {
            Result3::Failed => Self::deferred(self.enhanced, self.text),
            Result3::Delivered | Result3::Deferred => self,
        }
    }

    fn new(result: Result3, enhanced: EnhancedCode, text: String) -> Self {
        let class = match result {
            Result3::Delivered => 2,
            Result3::Deferred => 4,
            Result3::Failed => 5,
        };
        Verdict { result, enhanced: EnhancedCode(class, enhanced.1, enhanced.2), text }
    }

    /// The form that crosses the edge.
    pub fn settle(&self, index: u32) -> Settled {
        let EnhancedCode(class, subject, detail) = self.enhanced;
        Settled {
            index,
            result: self.result,
            enhanced: (class, subject, detail),
            text: cut(escape_text(&self.text), MAX_TEXT),
        }
    }
}

fn cut(mut text: String, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// How one lease ended, before it becomes an [`Outcome`].
#[derive(Debug)]
pub struct Ended {
    /// Whose.
    pub key: LeaseKey,
    /// One for each recipient.
    pub settled: Vec<Settled>,
    /// Whether the host answered as a mail server should.
    pub reach: Reach,
    /// What the next attempts should heed.
    pub advice: Advice,
    /// Name and address of the host that answered; empty if none.
    pub remote: String,
    /// What TLS reached with it; empty if none answered.
    pub tls: String,
    /// The host knows of DSN: reports are its business.
    pub reports: bool,
    /// The sender wants to hear that the host took the message (RFC 2852).
    pub relayed: bool,
    /// Waiting, connecting, sending, in milliseconds.
    pub delays_ms: (u32, u32, u32),
    /// What was counted meanwhile for the reports of mail domains.
    pub sessions: Vec<TlsSessions>,
}

impl Ended {
    /// The end of a report that was to be posted.
    pub fn of_post(key: LeaseKey, verdict: &Verdict) -> Self {
        Ended {
            key,
            settled: vec![verdict.settle(0)],
            reach: Reach::Reached,
            advice: Advice::default(),
            remote: String::new(),
            tls: String::new(),
            reports: false,
            relayed: false,
            delays_ms: (0, 0, 0),
            sessions: Vec::new(),
        }
    }
}

impl From<Ended> for Outcome {
    fn from(ended: Ended) -> Self {
        Outcome {
            lease: ended.key.number,
            settled: ended.settled,
            reach: ended.reach,
            advice: ended.advice,
            remote: ended.remote,
            tls: ended.tls,
            reports: ended.reports,
            relayed: ended.relayed,
            delays_ms: ended.delays_ms,
            sessions: ended.sessions,
        }
    }
}

/// Milliseconds from one point in time to a later one, as the outcome states them.
pub fn span_ms(from_ms: u64, to_ms: u64) -> u32 {
    u32::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use vsmtp_ipc::wire::{Body, Body7, Id};

    use super::*;

    pub(crate) fn attempt(next_hop: &str, recipients: &[&str], body: &[u8]) -> Attempt {
        let recipient = |(index, address): (usize, &&str)| AttemptRecipient {
            index: index as u32,
            address: (*address).to_owned(),
            original: None,
            notify: Notify::default().into(),
        };
        Attempt {
            lease: 7,
            id: Id([1; 16]),
            next_hop: next_hop.to_owned(),
            reverse_path: "sender@src.test".to_owned(),
            body_type: Body7::SevenBit,
            smtputf8: false,
            ret_full: None,
            envid: None,
            demands: wire::Demands::default(),
            priority: 0,
            by: None,
            recipients: recipients.iter().enumerate().map(recipient).collect(),
            service_ms: None,
            body: Body::Inline(body.to_vec()),
        }
    }

    #[test]
    fn every_field_is_checked() {
        let bad: [fn(&mut Attempt); 7] = [
            |a| a.recipients.clear(),
            |a| a.recipients = vec![a.recipients[0].clone(); MAX_LEASE_RECIPIENTS + 1],
            |a| a.recipients[0].address = "x\r\n@dst.test".into(),
            |a| a.recipients[0].original = Some(("rfc822".into(), "\0".into())),
            |a| a.next_hop = "pipe:/bin/sh".into(),
            |a| a.reverse_path = "a b".into(),
            |a| a.envid = Some("a\nb".into()),
        ];
        let good = || attempt("maildir", &["a@dst.test"], b"x");
        assert!(Lease::parse(good(), None, 1, 0).is_ok());
        for (at, spoil) in bad.iter().enumerate() {
            let mut attempt = good();
            spoil(&mut attempt);
            assert!(matches!(Lease::parse(attempt, None, 1, 0), Err(ChannelError::Misbehaved(_))), "{at}");
        }
    }

    #[test]
    fn time_that_is_left_runs_out_for_relays_only() {
        let by = |next_hop: &str, now_ms| {
            let mut attempt = attempt(next_hop, &["a@b.test"], b"x");
            attempt.by = Some(wire::DeliverBy { seconds: 60, returns: true, traced: false });
            let left = Lease::parse(attempt, None, 1, 1000).unwrap().by(now_ms);
            left.map(|by| by.seconds)
        };
        assert_eq!((by("smtp:b.test", 1999), by("smtp:b.test", 2000)), (Some(60), Some(59)));
        assert_eq!((by("smtp:b.test", 91_000), by("lmtp:unix:/run/l", 1000)), (Some(-30), None));
    }

    #[test]
    fn the_class_follows_the_result_and_the_text_is_clean() {
        let settled = Verdict::deferred(EnhancedCode(5, 1, 1), "a\r\nb\x1b").settle(3);
        assert_eq!((settled.index, settled.enhanced, settled.text.as_str()), (3, (4, 1, 1), "a??b?"));
        assert!(Verdict::failed(EnhancedCode(5, 0, 0), "é".repeat(5000)).settle(0).text.len() <= MAX_TEXT);
    }
}
