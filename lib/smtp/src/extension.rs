//! The SMTP extensions we know, and sets of them: what a listener offers, what a remote server offers. Data only; the
//! code that honours an extension asks the set.

/// One service extension (RFC 5321 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// RFC 2920.
    Pipelining,
    /// RFC 1870.
    Size,
    /// RFC 6152.
    EightBitMime,
    /// RFC 2034.
    EnhancedStatusCodes,
    /// RFC 3461.
    Dsn,
    /// RFC 6531.
    SmtpUtf8,
    /// RFC 3207.
    StartTls,
    /// RFC 4954.
    Auth,
    /// RFC 3030.
    Chunking,
    /// RFC 3030.
    BinaryMime,
    /// RFC 8689. Offered under TLS only, whatever the settings say.
    RequireTls,
    /// RFC 6710. Where clients must say who they are, offered to those that have, or can do so now.
    MtPriority,
    /// RFC 4865; to the same clients.
    FutureRelease,
    /// RFC 2852; to the same clients.
    DeliverBy,
    /// RFC 9422.
    Limits,
    /// Who the client of a trusted proxy is.
    XClient,
    /// Where the messages of a trusted proxy come from.
    XForward,
}

/// A set of extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions(u32);

impl Extension {
    /// All, in the order in which EHLO lists them.
    pub const ALL: [Extension; 17] = [
        Extension::Pipelining,
        Extension::Size,
        Extension::EightBitMime,
        Extension::EnhancedStatusCodes,
        Extension::Dsn,
        Extension::SmtpUtf8,
        Extension::StartTls,
        Extension::Auth,
        Extension::Chunking,
        Extension::BinaryMime,
        Extension::RequireTls,
        Extension::MtPriority,
        Extension::FutureRelease,
        Extension::DeliverBy,
        Extension::Limits,
        Extension::XClient,
        Extension::XForward,
    ];

    /// The keyword in the EHLO reply.
    pub fn keyword(self) -> &'static str {
        match self {
            Extension::Pipelining => "PIPELINING",
            Extension::Size => "SIZE",
            Extension::EightBitMime => "8BITMIME",
            Extension::EnhancedStatusCodes => "ENHANCEDSTATUSCODES",
            Extension::Dsn => "DSN",
            Extension::SmtpUtf8 => "SMTPUTF8",
            Extension::StartTls => "STARTTLS",
            Extension::Auth => "AUTH",
            Extension::Chunking => "CHUNKING",
            Extension::BinaryMime => "BINARYMIME",
            Extension::RequireTls => "REQUIRETLS",
            Extension::MtPriority => "MT-PRIORITY",
            Extension::FutureRelease => "FUTURERELEASE",
            Extension::DeliverBy => "DELIVERBY",
            Extension::Limits => "LIMITS",
            Extension::XClient => "XCLIENT",
            Extension::XForward => "XFORWARD",
        }
    }

    /// The extension with this keyword, in any case.
    pub fn from_keyword(keyword: &str) -> Option<Extension> {
        Self::ALL.into_iter().find(|known| known.keyword().eq_ignore_ascii_case(keyword))
    }
}

impl Extensions {
    /// The empty set.
    pub const NONE: Extensions = Extensions(0);

    /// The set of the listed extensions.
    pub fn of(list: &[Extension]) -> Self {
        list.iter().fold(Self::NONE, |set, extension| set.with(*extension))
    }

    /// The set and one more.
    #[must_use]
    pub fn with(self, extension: Extension) -> Self {
        Extensions(self.0 | 1 << extension as u16)
    }

    /// The set without one.
    #[must_use]
    pub fn without(self, extension: Extension) -> Self {
        Extensions(self.0 & !(1 << extension as u16))
    }

    /// True if the extension is in the set.
    pub fn has(self, extension: Extension) -> bool {
        self.0 & (1 << extension as u16) != 0
    }

    /// The members, in the order in which EHLO lists them.
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        Extension::ALL.into_iter().filter(move |extension| self.has(*extension))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = Extensions::of(&[Extension::Size, Extension::Dsn]).without(Extension::Size);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Extension::Dsn]);
        for extension in Extension::ALL {
            assert_eq!(Extension::from_keyword(&extension.keyword().to_lowercase()), Some(extension));
        }
    }
}
