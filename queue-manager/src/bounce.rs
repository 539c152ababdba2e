//! Delivery reports (RFC 3461, 3464, 6522, 6533): what the sender is told, in text and for machines. Pure code: the clock
//! and the boundary's randomness are handed in; the result goes through the queue's own intake.
//!
//! A report never reports on a report: the null sender gets none. All that comes from outside is folded, cut, and
//! stripped of what could end a field, a part or the report.

mod field;
mod notice;
mod original;
mod status;
#[cfg(test)]
mod tests;
mod words;

use vsmtp_mail::{
    Address, BodyType, Demands, Domain, EnhancedCode, Envelope, NextHop, Notify, Priority, QueueId,
    Recipient, RecipientClass, Ret, ReversePath, Rfc5322Date, Terms,
};

pub use notice::Notice;
use original::Returned;

/// Most octets of an original message that a report returns; of a longer one it returns the header.
pub const DEFAULT_MAX_RETURN: usize = 50_000;
/// Most octets of an original's header that a report returns.
pub const MAX_HEADER_RETURN: usize = 64 * 1024;
/// Most recipients that one report lists.
pub const MAX_LISTED: usize = 10_000;

/// What happened to the recipients of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Given up.
    Failure,
    /// Still trying, until that time in milliseconds since 1970.
    Delay {
        /// End of the message's lifetime.
        until_ms: u64,
    },
    /// The next hop took it, and the sender wanted to know.
    Success,
    /// A server took it that may not keep to the time that the sender has named, or the sender traces its way.
    Relay,
    /// The address stands for several others, to whom it goes on; the sender wanted to know of success.
    Expansion,
    /// A report of ours, or another's, could not be delivered; the postmaster is told.
    DoubleBounce,
}

/// One recipient in a report.
#[derive(Debug, Clone, Copy)]
pub struct Reported<'a> {
    /// Whom it was for.
    pub recipient: &'a Recipient,
    /// Enhanced status.
    pub status: EnhancedCode,
    /// The next hop's last words, or ours.
    pub text: &'a str,
    /// The host that said them, as `mx.example.com[192.0.2.1]:25`; empty if it was us.
    pub remote: &'a str,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// The message that a report is about.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// Its id.
    pub id: QueueId,
    /// Its envelope.
    pub envelope: &'a Envelope,
    /// When it arrived, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// Octets of the whole message.
    pub size: u64,
    /// Its first octets: all of them, if there are at most [`Reporter::max_return`]; otherwise the header is looked for.
    pub start: &'a [u8],
}

/// Who reports, and how.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// This host.
    pub name: Domain,
    /// Most octets of an original that are returned.
    pub max_return: usize,
}

/// What one report is made with.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The report's own id.
    pub id: QueueId,
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
    /// For the boundary; must not be known outside.
    pub random: u128,
}

/// A report, ready for the intake.
#[derive(Debug)]
pub struct Report {
    /// From the null sender to the sender of the original, or to the postmaster.
    pub envelope: Envelope,
    /// The whole message.
    pub bytes: Vec<u8>,
}

impl Reporter {
    /// True if a report of that kind is due for a recipient who asked for `notify`.
    pub fn is_wanted(kind: Kind, notify: Notify) -> bool {
        match kind {
            Kind::Failure => notify.failure,
            Kind::Delay { .. } => notify.delay,
            Kind::Success | Kind::Expansion => notify.success,
            // RFC 2852: unless nothing is to be reported at all.
            Kind::Relay => notify.success || notify.failure || notify.delay,
            Kind::DoubleBounce => true,
        }
    }

    /// Writes one report on all of `reported` for which one is wanted; `None` if that is nobody, or if nobody can be
    /// told. `to` is the sender of the original, or the postmaster for a double bounce; `targets` is
    /// where that address's mail goes.
    pub fn report(
        &self,
        kind: Kind,
        original: &Original<'_>,
        reported: &[Reported<'_>],
        to: &Address,
        targets: &[(Address, NextHop)],
        stamp: Stamp,
    ) -> Option<Report> {
        if kind != Kind::DoubleBounce && original.envelope.reverse_path == ReversePath::Null {
            return None;
        }
        let wanted = |one: &&Reported<'_>| Self::is_wanted(kind, one.recipient.notify);
        let listed: Vec<Reported<'_>> = reported.iter().filter(wanted).take(MAX_LISTED).copied().collect();
        if listed.is_empty() || targets.is_empty() {
            return None;
        }
        let returned = Returned::choose(kind, original, self.max_return);
        let is_global = to.needs_smtputf8()
            || original.envelope.smtputf8 && (returned.is_global() || listed.iter().any(needs_utf8));
        let draft = Draft { reporter: self, kind, original, listed: &listed, is_global, stamp };
        let bytes = draft.write(to, &returned);
        let Envelope { demands, terms, .. } = original.envelope;
        // RFC 8689 5: what must not be read on its way there must not be read on its way back. RFC 6710: what is said of
        // an urgent message is as urgent.
        let envelope = envelope_for(targets, &bytes, is_global, demands.requiretls, terms.priority);
        Some(Report { envelope, bytes })
    }
}

/// From the null sender, with no wish to hear what becomes of it.
fn envelope_for(
    targets: &[(Address, NextHop)],
    bytes: &[u8],
    is_global: bool,
    requiretls: bool,
    priority: Priority,
) -> Envelope {
    let recipient = |(address, next_hop): &(Address, NextHop)| Recipient {
        chosen: false,
        address: address.clone(),
        original: None,
        // RFC 3461 6: a report asks for no report.
        notify: Notify::NEVER,
        class: RecipientClass::Other,
        next_hop: next_hop.clone(),
    };
    Envelope {
        reverse_path: ReversePath::Null,
        body: if bytes.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        smtputf8: is_global && !bytes.is_ascii(),
        ret: None,
        envid: None,
        demands: Demands { requiretls },
        terms: Terms { priority, ..Terms::default() },
        recipients: targets.iter().map(recipient).collect(),
    }
}

fn needs_utf8(one: &Reported<'_>) -> bool {
    one.recipient.address.needs_smtputf8()
        || one.recipient.original.as_ref().is_some_and(|original| !original.address.is_ascii())
        || !one.text.is_ascii()
}

/// A report being written.
struct Draft<'a> {
    reporter: &'a Reporter,
    kind: Kind,
    original: &'a Original<'a>,
    listed: &'a [Reported<'a>],
    /// Needs the types and the octets of RFC 6533.
    is_global: bool,
    stamp: Stamp,
}

impl Draft<'_> {
    fn write(&self, to: &Address, returned: &Returned<'_>) -> Vec<u8> {
        let boundary = self.boundary(returned);
        let mut out = Vec::with_capacity(4096 + 512 * self.listed.len() + returned.len());
        self.write_header(&mut out, to, &boundary);
        let mut part = |content_type: &str, content: &dyn Fn(&mut Vec<u8>)| {
            out.extend_from_slice(format!("--{boundary}\r\n{content_type}\r\n\r\n").as_bytes());
            content(&mut out);
            out.extend_from_slice(b"\r\n");
        };
        let eight_bit = |is_needed| if is_needed { "\r\nContent-Transfer-Encoding: 8bit" } else { "" };
        let encoding = eight_bit(self.is_global);
        // The words of a rule may be in any language, whoever reads them.
        let in_words = self.is_global || !self.words().unwrap_or_default().is_ascii();
        let charset = if in_words { "utf-8" } else { "us-ascii" };
        let words_type = format!("Content-Type: text/plain; charset={charset}{}", eight_bit(in_words));
        part(&words_type, &|out| self.write_words(out));
        let status_type =
            if self.is_global { "message/global-delivery-status" } else { "message/delivery-status" };
        part(&format!("Content-Type: {status_type}{encoding}"), &|out| self.write_status(out));
        part(&returned.content_type(), &|out| returned.write(out));
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        out
    }

    fn write_header(&self, out: &mut Vec<u8>, to: &Address, boundary: &str) {
        let (name, id, date) = (&self.reporter.name, self.stamp.id, Rfc5322Date(self.stamp.now_ms / 1000));
        let header = format!(
            "Received: by {name} (vSMTP) id {id};\r\n\t{date}\r\n\
             Date: {date}\r\n\
             From: Mail Delivery System <{}>\r\n\
             To: <{to}>\r\n\
             Subject: {}\r\n\
             Message-ID: <{id}@{name}>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n\
             This is a delivery report in MIME format.\r\n\r\n",
            self.author(),
            self.subject()
        );
        out.extend_from_slice(header.as_bytes());
    }

    fn author(&self) -> String {
        match &self.original.envelope.terms.report_from {
            // The header is ASCII where nobody has asked for more.
            Some(address) if self.is_global || !address.needs_smtputf8() => address.to_string(),
            _ => format!("MAILER-DAEMON@{}", self.reporter.name),
        }
    }

    /// Random, so that nobody can have written it into a message; and looked for, so that nobody did by chance.
    fn boundary(&self, returned: &Returned<'_>) -> String {
        let mut random = self.stamp.random;
        loop {
            let boundary = format!("=_{random:032x}");
            let is_said =
                self.listed.iter().any(|one| one.text.contains(&boundary) || one.remote.contains(&boundary));
            let is_said = is_said || self.words().is_some_and(|text| text.contains(&boundary));
            if !is_said && !returned.contains(boundary.as_bytes()) {
                return boundary;
            }
            random = random.wrapping_add(1);
        }
    }
}

/// True if the sender asked for the header only, or for care on the way (RFC 8689 5).
fn asks_for_header(envelope: &Envelope) -> bool {
    envelope.ret == Some(Ret::Headers) || envelope.demands.requiretls
}
