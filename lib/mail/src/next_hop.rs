//! Where a recipient's copy goes next. The text form is the one of logs, `vsmtpctl` and the spool:
//! `smtp:example.com`, `smtp:[mx.example.com]:2525`, `lmtp:[host]:24`, `lmtp:unix:/run/lmtp`, `maildir`, `mbox`.

use std::fmt;

use crate::domain::{Domain, DomainError};

/// The SMTP port of RFC 5321.
const SMTP_PORT: u16 = 25;
/// The usual LMTP port.
const LMTP_PORT: u16 = 24;
/// Longest path of a Unix socket, in octets (`sun_path`, with its NUL).
const MAX_UNIX_PATH: usize = 107;

/// The next hop of one recipient.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum NextHop {
    /// SMTP; with `mx` the host is a mail domain whose MX records are asked first, without it a host.
    Smtp {
        /// Mail domain, host or address literal.
        host: Domain,
        /// TCP port, 25 by default.
        port: u16,
        /// Ask for MX records first (RFC 5321 5.1).
        mx: bool,
    },
    /// LMTP (RFC 2033).
    Lmtp(LmtpTarget),
    /// A mailbox below the mail root.
    Mailbox(MailboxFormat),
}

/// An LMTP server.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum LmtpTarget {
    /// Host and TCP port.
    Tcp(Domain, u16),
    /// Absolute path of a Unix socket.
    Unix(Box<str>),
}

/// How a mailbox is kept on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum MailboxFormat {
    /// One file per message.
    Maildir,
    /// One file per mailbox.
    Mbox,
}

/// Why a text is not a next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHopError {
    /// Not one of the known kinds.
    Kind,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The host is wrong.
    Host(DomainError),
    /// Not an absolute path, too long, or with control characters.
    Path,
}

impl fmt::Display for NextHopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHopError::Kind => f.write_str("next hop must start with smtp:, lmtp:, maildir or mbox"),
            NextHopError::Port => f.write_str("port must be a number from 1 to 65535"),
            NextHopError::Host(error) => error.fmt(f),
            NextHopError::Path => f.write_str("unix socket must be an absolute path of at most 107 octets"),
        }
    }
}

impl std::error::Error for NextHopError {}

impl NextHop {
    /// Delivery by the recipient's own MX records.
    pub fn mx(domain: Domain) -> Self {
        let mx = domain.as_literal().is_none();
        NextHop::Smtp { host: domain, port: SMTP_PORT, mx }
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, NextHopError> {
        match text {
            "maildir" => return Ok(NextHop::Mailbox(MailboxFormat::Maildir)),
            "mbox" => return Ok(NextHop::Mailbox(MailboxFormat::Mbox)),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("lmtp:unix:") {
            let ok =
                path.starts_with('/') && path.len() <= MAX_UNIX_PATH && !path.chars().any(char::is_control);
            return if ok {
                Ok(NextHop::Lmtp(LmtpTarget::Unix(path.into())))
            } else {
                Err(NextHopError::Path)
            };
        }
        if let Some(target) = text.strip_prefix("lmtp:") {
            let (host, port, _) = parse_target(target, LMTP_PORT)?;
            return Ok(NextHop::Lmtp(LmtpTarget::Tcp(host, port)));
        }
        Self::parse_relay(text.strip_prefix("smtp:").ok_or(NextHopError::Kind)?)
    }

    /// Parses what operators write as a relay host: `[host]:port` without MX lookup, `domain` or `domain:port` with it.
    pub fn parse_relay(text: &str) -> Result<Self, NextHopError> {
        let (host, port, mx) = parse_target(text, SMTP_PORT)?;
        Ok(NextHop::Smtp { host, port, mx })
    }
}

/// Splits `[host]:port`, `[literal]`, `host:port` and `host` into host, port and whether MX records count.
fn parse_target(text: &str, default_port: u16) -> Result<(Domain, u16, bool), NextHopError> {
    let (host, port, bracketed) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']').ok_or(NextHopError::Host(DomainError::Syntax))?;
            (
                inner,
                after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or(NextHopError::Port)?,
                true,
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, if port.is_empty() { "?" } else { port }, false),
            None => (text, "", false),
        },
    };
    let port = if port.is_empty() { default_port } else { port.parse().map_err(|_| NextHopError::Port)? };
    if port == 0 {
        return Err(NextHopError::Port);
    }
    let domain = match host.strip_prefix("IPv6:").unwrap_or(host).parse::<std::net::IpAddr>() {
        Ok(address) => Domain::literal(address),
        Err(_) => Domain::parse(host).map_err(NextHopError::Host)?,
    };
    let mx = !bracketed && domain.as_literal().is_none();
    Ok((domain, port, mx))
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Smtp { host, port, mx: true } if *port == SMTP_PORT => write!(f, "smtp:{host}"),
            NextHop::Smtp { host, port, mx: true } => write!(f, "smtp:{host}:{port}"),
            NextHop::Smtp { host, port, mx: false } => write!(f, "smtp:{}:{port}", Bracketed(host)),
            NextHop::Lmtp(LmtpTarget::Tcp(host, port)) => write!(f, "lmtp:{}:{port}", Bracketed(host)),
            NextHop::Lmtp(LmtpTarget::Unix(path)) => write!(f, "lmtp:unix:{path}"),
            NextHop::Mailbox(MailboxFormat::Maildir) => f.write_str("maildir"),
            NextHop::Mailbox(MailboxFormat::Mbox) => f.write_str("mbox"),
        }
    }
}

struct Bracketed<'a>(&'a Domain);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.as_literal().is_some() { self.0.fmt(f) } else { write!(f, "[{}]", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_survive_a_round_trip() {
        for text in [
            "smtp:example.com",
            "smtp:example.com:2525",
            "smtp:[mx.example.com]:25",
            "smtp:[192.0.2.1]:2526",
            "smtp:[IPv6:2001:db8::1]:25",
            "lmtp:[localhost]:24",
            "lmtp:unix:/run/dovecot/lmtp",
            "maildir",
            "mbox",
        ] {
            assert_eq!(NextHop::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bare_addresses_need_no_mx() {
        assert_eq!(NextHop::parse_relay("[127.0.0.1]:2526").unwrap().to_string(), "smtp:[127.0.0.1]:2526");
        assert_eq!(NextHop::parse_relay("[::1]:2526").unwrap().to_string(), "smtp:[IPv6:::1]:2526");
        assert_eq!(NextHop::parse_relay("127.0.0.1").unwrap().to_string(), "smtp:[127.0.0.1]:25");
    }

    #[test]
    fn bad_forms_are_refused() {
        for bad in
            ["", "x", "smtp:", "smtp:[a", "smtp:a:0", "smtp:a:70000", "smtp:a:", "lmtp:unix:rel", "smtp:a b"]
        {
            assert!(NextHop::parse(bad).is_err(), "{bad}");
        }
    }
}
