//! The Received field (RFC 5321 4.4, RFC 3848, RFC 6531 4.3). All its parts are types that cannot hold a line break.

use std::fmt::Write;
use std::net::IpAddr;

use vsmtp_mail::{Address, Domain, QueueId, Rfc5322Date};

use crate::command::HeloName;

/// Longest line that the `for` clause and the date may share, in octets with its line break (RFC 5322 2.1.1).
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
    /// The keyword, in two parts.
    fn name(self) -> (&'static str, &'static str) {
        let base = match (self.lmtp, self.utf8, self.extended) {
            (true, true, _) => "UTF8LMTP",
            (true, false, _) => "LMTP",
            (false, true, _) => "UTF8SMTP",
            (false, false, true) => "ESMTP",
            // TLS and authentication exist only after EHLO.
            (false, false, false) => return ("SMTP", ""),
        };
        let more = match (self.tls, self.authenticated) {
            (true, true) => "SA",
            (true, false) => "S",
            (false, true) => "A",
            (false, false) => "",
        };
        (base, more)
    }
}

impl Trace<'_> {
    /// The whole field, folded, with its final CRLF.
    pub fn received(&self) -> String {
        let mut field = String::with_capacity(256);
        // Writing to a String cannot fail. Whole texts are put in as they are: there is a field for each message.
        field.push_str("Received: from ");
        field.push_str(self.helo.as_str());
        field.push_str(" (");
        let _ = match self.origin {
            Origin::Network { address, name: Some(name) } => {
                write!(field, "{name} {}", Domain::literal(address))
            }
            Origin::Network { address, name: None } => {
                field.push_str(Domain::literal(address).as_str());
                Ok(())
            }
            Origin::Local { uid } => write!(field, "local user {uid}"),
        };
        field.push_str(")\r\n\tby ");
        field.push_str(self.by.as_str());
        field.push_str(" (vSMTP) with ");
        let (protocol, more) = self.with.name();
        field.push_str(protocol);
        field.push_str(more);
        let _ = write!(field, " id {}\r\n", self.id);
        let line = field.len();
        field.push('\t');
        if let [only] = self.recipients {
            let _ = write!(field, "for <{only}>");
        }
        field.push(';');
        let date = field.len();
        let _ = write!(field, " {}\r\n", self.date);
        // The date has a line of its own if it does not fit beside the recipient.
        if field.len() - line > FOLD_AT {
            field.replace_range(date..=date, "\r\n\t");
        }
        field
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
            let (base, more) = WithProtocol { lmtp, extended, tls, authenticated, utf8 }.name();
            format!("{base}{more}")
        };
        assert_eq!(with(false, false, false, false, false), "SMTP");
        assert_eq!(with(false, true, true, true, false), "ESMTPSA");
        assert_eq!(with(false, true, true, false, true), "UTF8SMTPS");
        assert_eq!(with(true, true, false, true, false), "LMTPA");
    }
}
