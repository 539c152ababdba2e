//! TLSA records as mail uses them (RFC 7672 3.1): which are usable, and what each of them matches.

use aws_lc_rs::digest::{SHA256, SHA512, digest};

/// Most usable records of one host that count; the rest is left out.
pub const MAX_ASSOCIATIONS: usize = 32;
/// Most octets of a record that holds a whole certificate or key.
const MAX_WHOLE: usize = 8 * 1024;

/// One usable TLSA record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Association {
    /// What it is about.
    pub usage: Usage,
    /// Which part of the certificate.
    pub selector: Selector,
    /// How that part is compared.
    pub matching: Matching,
    /// What it is compared with.
    pub data: Box<[u8]>,
}

/// What a record is about. The usages of the public authorities (0 and 1) do not exist for mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// DANE-TA (2): an authority above the server's certificate.
    Authority,
    /// DANE-EE (3): the server's own certificate.
    Server,
}

/// The part of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selector {
    /// All of it (0).
    Certificate,
    /// Its public key (1).
    Key,
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matching {
    /// Octet by octet (0).
    Whole,
    /// By SHA-256 (1).
    Sha256,
    /// By SHA-512 (2).
    Sha512,
}

impl Association {
    /// Reads the fields of a record; `None` if it is unusable for mail.
    pub fn new(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Option<Self> {
        let usage = match usage {
            2 => Usage::Authority,
            3 => Usage::Server,
            _ => return None,
        };
        let selector = match selector {
            0 => Selector::Certificate,
            1 => Selector::Key,
            _ => return None,
        };
        let (matching, fits) = match matching {
            0 => (Matching::Whole, !data.is_empty() && data.len() <= MAX_WHOLE),
            1 => (Matching::Sha256, data.len() == 32),
            2 => (Matching::Sha512, data.len() == 64),
            _ => return None,
        };
        fits.then(|| Association { usage, selector, matching, data: data.into() })
    }

    /// The record as the DNS writes it, such as `3 1 1 0123...`.
    pub fn to_text(&self) -> String {
        let usage = match self.usage {
            Usage::Authority => 2,
            Usage::Server => 3,
        };
        let selector = match self.selector {
            Selector::Certificate => 0,
            Selector::Key => 1,
        };
        let matching = match self.matching {
            Matching::Whole => 0,
            Matching::Sha256 => 1,
            Matching::Sha512 => 2,
        };
        let data: String = self.data.iter().map(|octet| format!("{octet:02X}")).collect();
        format!("{usage} {selector} {matching} {data}")
    }

    /// True if it says this of a certificate and its public key (SubjectPublicKeyInfo), both as DER.
    pub fn matches(&self, certificate: &[u8], key: &[u8]) -> bool {
        let part = match self.selector {
            Selector::Certificate => certificate,
            Selector::Key => key,
        };
        match self.matching {
            Matching::Whole => *self.data == *part,
            Matching::Sha256 => *self.data == *digest(&SHA256, part).as_ref(),
            Matching::Sha512 => *self.data == *digest(&SHA512, part).as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_mail_can_use_is_usable() {
        let usable = |usage, selector, matching, len: usize| {
            Association::new(usage, selector, matching, &vec![7; len]).is_some()
        };
        for usage in [0, 1, 4, 255] {
            assert!(!usable(usage, 1, 1, 32), "{usage}");
        }
        assert!(usable(2, 0, 1, 32) && usable(3, 1, 2, 64) && usable(2, 1, 0, 100));
        for (selector, matching, len) in
            [(2, 1, 32), (1, 3, 32), (1, 1, 0), (1, 1, 31), (1, 2, 32), (1, 0, 0)]
        {
            assert!(!usable(3, selector, matching, len), "{selector} {matching} {len}");
        }
        assert!(!usable(2, 0, 0, MAX_WHOLE + 1));
    }
}
