//! The part of a report for machines (RFC 2852, RFC 3464, RFC 4865, RFC 6533).

use std::borrow::Cow;

use vsmtp_mail::{EnhancedCode, NextHop, OriginalRecipient, Release, Rfc5322Date};

use super::field::write_field;
use super::{Draft, Kind, Reported};

/// The address type of RFC 6533.
const UTF8: &str = "utf-8";

impl Draft<'_> {
    pub(super) fn write_status(&self, out: &mut Vec<u8>) {
        let utf8 = self.is_global;
        write_field(out, "Reporting-MTA", &format!("dns; {}", self.reporter.name), utf8);
        if let Some(envid) = &self.original.envelope.envid {
            write_field(out, "Original-Envelope-Id", envid, utf8);
        }
        write_field(out, "X-vSMTP-Queue-ID", &self.original.id.to_string(), utf8);
        write_field(out, "Arrival-Date", &Rfc5322Date(self.original.arrived_ms / 1000).to_string(), utf8);
        if let Some(release) = self.original.envelope.terms.release {
            write_field(out, "Future-Release-Request", &asked(release), utf8);
        }
        let deadline_s = self.original.envelope.terms.deadline_s(self.original.arrived_ms / 1000);
        if let Some(deadline_s) = deadline_s.and_then(|deadline_s| u64::try_from(deadline_s).ok()) {
            write_field(out, "Deliver-By-Date", &Rfc5322Date(deadline_s).to_string(), utf8);
        }
        for one in self.listed {
            out.extend_from_slice(b"\r\n");
            self.write_recipient(out, one);
        }
    }

    fn write_recipient(&self, out: &mut Vec<u8>, one: &Reported<'_>) {
        let utf8 = self.is_global;
        if let Some(OriginalRecipient { kind, address }) = &one.recipient.original {
            let address =
                if kind.eq_ignore_ascii_case(UTF8) { self.address(address) } else { address.as_ref().into() };
            write_field(out, "Original-Recipient", &format!("{kind}; {address}"), utf8);
        }
        let recipient = &one.recipient.address;
        let kind = if recipient.needs_smtputf8() { UTF8 } else { "rfc822" };
        let address = recipient.to_string();
        let address = if recipient.needs_smtputf8() { self.address(&address) } else { address.into() };
        write_field(out, "Final-Recipient", &format!("{kind}; {address}"), utf8);
        write_field(out, "Action", self.action(one), utf8);
        write_field(out, "Status", &self.status_of(one).to_string(), utf8);
        if let Some(host) = host(one.remote) {
            write_field(out, "Remote-MTA", &format!("dns; {host}"), utf8);
        }
        let said_by = if one.remote.is_empty() { "X-vSMTP" } else { "smtp" };
        if !one.text.is_empty() {
            write_field(out, "Diagnostic-Code", &format!("{said_by}; {}", one.text), utf8);
        }
        write_field(out, "Last-Attempt-Date", &Rfc5322Date(one.at_ms / 1000).to_string(), utf8);
        if let Kind::Delay { until_ms } = self.kind {
            write_field(out, "Will-Retry-Until", &Rfc5322Date(until_ms / 1000).to_string(), utf8);
        }
    }

    /// An address of the type `utf-8`: as it is, or in the ASCII form of RFC 6533 3 for whoever cannot read it so.
    pub(super) fn address<'a>(&self, address: &'a str) -> Cow<'a, str> {
        if self.is_global { address.into() } else { escaped(address).into() }
    }

    /// `delivered` is said of a mailbox only; whoever took it elsewhere may know nothing of reports (RFC 3461 5.2.3).
    fn action(&self, one: &Reported<'_>) -> &'static str {
        match (self.kind, &one.recipient.next_hop) {
            (Kind::Failure | Kind::DoubleBounce, _) => "failed",
            (Kind::Delay { .. }, _) => "delayed",
            (Kind::Relay, _) => "relayed",
            (Kind::Expansion, _) => "expanded",
            (Kind::Success, NextHop::Mailbox(_) | NextHop::Lmtp(_)) => "delivered",
            (Kind::Success, NextHop::Smtp { .. }) => "relayed",
        }
    }

    /// The class must agree with the action: a failure may be 4.x only as "expired", success is 2.x, delay 4.x.
    fn status_of(&self, one: &Reported<'_>) -> EnhancedCode {
        let EnhancedCode(class, subject, detail) = one.status;
        match self.kind {
            Kind::Success | Kind::Relay | Kind::Expansion if class != 2 => EnhancedCode(2, 0, 0),
            Kind::Delay { .. } if class != 4 => EnhancedCode(4, 0, 0),
            Kind::Failure | Kind::DoubleBounce if class == 2 => EnhancedCode(5, 0, 0),
            _ => EnhancedCode(class, subject.min(999), detail.min(999)),
        }
    }
}

/// What a client has asked for by HOLDFOR or HOLDUNTIL.
fn asked(release: Release) -> String {
    match release {
        Release::After(seconds) => format!("for;{seconds}"),
        Release::At(at_s) => format!("until;{}", Rfc5322Date(at_s).rfc3339()),
    }
}

/// The name of a host in `mx.example.com[192.0.2.1]:25`, or its address literal if it has none.
fn host(remote: &str) -> Option<&str> {
    match remote.find('[') {
        Some(0) => remote.find(']').and_then(|end| remote.get(..=end)),
        Some(end) => remote.get(..end),
        None => Some(remote).filter(|host| !host.is_empty()),
    }
}

/// `utf-8-addr-xtext`: everything but plain ASCII as `\x{HEX}`, and so what would be read as an escape.
fn escaped(address: &str) -> String {
    let mut out = String::with_capacity(address.len() * 2);
    for c in address.chars() {
        if c.is_ascii_graphic() && !matches!(c, '\\' | '+' | '=') {
            out.push(c);
        } else {
            out.push_str(&format!("\\x{{{:02X}}}", u32::from(c)));
        }
    }
    out
}
