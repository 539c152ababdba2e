//! The Received field (RFC 5321 4.4, RFC 3848, RFC 6531 4.3). All its parts are types that cannot hold a line break.

use std::fmt::Write;
use std::net::IpAddr;

use vsmtp_mail::{Address, Domain, QueueId, Rfc5322Date};

use crate::command::HeloName;

/// Longest line that is written without folding before the `for` clause, in octets (RFC 5322 2.1.1).
const FOLD_AT: usize = 78;

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// Over the network; `name` is the confirmed name of the address.
    Network {
        /// The client's address.
        address: IpAddr,
        /// Its name, if reverse and forward lookup agree.
        name: Option<&'a Domain>,
    },
    /// Over the local socket, from this user id.
    Local {
        /// The peer credential.
        uid: u32,
    },
}

/// The `with` clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WithProtocol {
    /// The session speaks LMTP.
    pub lmtp: bool,
    /// EHLO rather than HELO.
    pub extended: bool,
    /// Over TLS.
    pub tls: bool,
    /// Authenticated.
    pub authenticated: bool,
    /// MAIL had SMTPUTF8.
    pub utf8: bool,
}

/// Everything that a Received field tells.
#[derive(Debug, Clone)]
pub struct Trace<'a> {
    /// What the client called itself.
    pub helo: &'a HeloName,
    /// Who it was.
    pub origin: Origin<'a>,
    /// Who we are.
    pub by: &'a Domain,
    /// How it was sent.
    pub with: WithProtocol,
    /// The queue id.
    pub id: QueueId,
    /// The recipients of the message; named only if there is exactly one, for others would leak blind copies.
    pub recipients: &'a [Address],
    /// When.
    pub date: Rfc5322Date,
}

impl WithProtocol {
    fn name(self) -> String {
        let base = match (self.lmtp, self.utf8, self.extended) {
            (true, true, _) => "UTF8LMTP",
            (true, false, _) => "LMTP",
            (false, true, _) => "UTF8SMTP",
            (false, false, true) => "ESMTP",
            // TLS and authentication exist only after EHLO.
            (false, false, false) => return "SMTP".to_owned(),
        };
        let mut name = base.to_owned();
        if self.tls {
            name.push('S');
        }
        if self.authenticated {
            name.push('A');
        }
        name
    }
}

impl Trace<'_> {
    /// The whole field, folded, with its final CRLF.
    pub fn received(&self) -> String {
        let mut field = String::with_capacity(256);
        let _ = write!(field, "Received: from {} (", self.helo.as_str());
        let _ = match self.origin {
            Origin::Network { address, name: Some(name) } => {
                write!(field, "{name} {}", Domain::literal(address))
            }
            Origin::Network { address, name: None } => write!(field, "{}", Domain::literal(address)),
            Origin::Local { uid } => write!(field, "local user {uid}"),
        };
        let _ = write!(field, ")\r\n\tby {} (vSMTP) with {} id {}", self.by, self.with.name(), self.id);
        let mut tail = format!("; {}", self.date);
        if let [only] = self.recipients {
            tail = format!("\r\n\tfor <{only}>{tail}");
        } else {
            tail = format!("\r\n\t{tail}");
        }
        field.push_str(&fold_date(&tail));
        field.push_str("\r\n");
        field
    }
}

/// Puts the date on a line of its own if it does not fit beside the recipient.
fn fold_date(tail: &str) -> String {
    match tail.rsplit_once("; ") {
        Some((before, date)) if tail.len() > FOLD_AT => format!("{before};\r\n\t{date}"),
        _ => tail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vsmtp_mail::QueueIdMint;

    fn field(recipients: &[&str], name: Option<&str>) -> String {
        let recipients: Vec<_> = recipients.iter().map(|text| Address::parse(text).unwrap()).collect();
        let name = name.map(|name| Domain::parse(name).unwrap());
        Trace {
            helo: &HeloName::parse("client.test").unwrap(),
            origin: Origin::Network { address: "2001:db8::1".parse().unwrap(), name: name.as_ref() },
            by: &Domain::parse("mx.test").unwrap(),
            with: WithProtocol { extended: true, tls: true, ..WithProtocol::default() },
            id: QueueIdMint::new(1, 2).next(3),
            recipients: &recipients,
            date: Rfc5322Date(0),
        }
        .received()
    }

    #[test]
    fn one_recipient_is_named() {
        let id = QueueIdMint::new(1, 2).next(3);
        assert_eq!(
            field(&["a@b"], Some("host.test")),
            format!(
                "Received: from client.test (host.test [IPv6:2001:db8::1])\r\n\tby mx.test (vSMTP) with ESMTPS id {id}\
                 \r\n\tfor <a@b>; Thu, 1 Jan 1970 00:00:00 +0000\r\n"
            )
        );
    }

    #[test]
    fn two_recipients_are_not() {
        let text = field(&["a@b", "c@d"], None);
        assert!(text.contains("(["), "{text}");
        assert!(!text.contains("for <"), "{text}");
        assert!(text.ends_with("; Thu, 1 Jan 1970 00:00:00 +0000\r\n"));
    }

    #[test]
    fn every_line_but_the_first_begins_with_white_space() {
        let long = format!("{}@{}.test", "a".repeat(64), "b".repeat(60));
        for recipients in [&[&*long][..], &["\"a b\"@c"], &[]] {
            let text = field(recipients, None);
            let lines: Vec<_> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
            assert!(lines[1..].iter().all(|line| line.starts_with('\t') && line.trim().len() > 1), "{text}");
            assert!(lines.iter().all(|line| line.len() < 200 && !line.contains(['\r', '\n'])));
        }
    }

    #[test]
    fn protocols() {
        let with = |lmtp, extended, tls, authenticated, utf8| {
            WithProtocol { lmtp, extended, tls, authenticated, utf8 }.name()
        };
        assert_eq!(with(false, false, false, false, false), "SMTP");
        assert_eq!(with(false, true, true, true, false), "ESMTPSA");
        assert_eq!(with(false, true, true, false, true), "UTF8SMTPS");
        assert_eq!(with(true, true, false, true, false), "LMTPA");
    }
}
