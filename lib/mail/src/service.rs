//! What a client came for, by the door that it took.

use std::fmt;

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Mail from other servers, port 25.
    Smtp,
    /// Mail of our own users, port 587 (RFC 6409); TLS by STARTTLS.
    Submission,
    /// The same under TLS from the first octet, port 465 (RFC 8314).
    Submissions,
    /// Mail for delivery by LMTP (RFC 2033).
    Lmtp,
    /// The local socket; the user id of its peer is its identity.
    Local,
}

impl Service {
    /// All of them; each stands at the place of its number.
    pub const ALL: [Service; 5] =
        [Service::Smtp, Service::Submission, Service::Submissions, Service::Lmtp, Service::Local];

    /// The word for it in logs, rules and slices.
    pub fn name(self) -> &'static str {
        match self {
            Service::Smtp => "smtp",
            Service::Submission => "submission",
            Service::Submissions => "submissions",
            Service::Lmtp => "lmtp",
            Service::Local => "local",
        }
    }

    /// The service of this name.
    pub fn parse(name: &str) -> Option<Service> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// True if only users who have said who they are may send here (RFC 6409 4.3).
    pub fn needs_login(self) -> bool {
        matches!(self, Service::Submission | Service::Submissions)
    }

    /// True if the connection begins with a TLS handshake.
    pub fn begins_with_tls(self) -> bool {
        self == Service::Submissions
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_name_and_its_place() {
        for (place, service) in Service::ALL.into_iter().enumerate() {
            assert_eq!(service as usize, place);
            assert_eq!(Service::parse(service.name()), Some(service));
        }
        assert_eq!(Service::parse("SMTP"), None);
    }
}
