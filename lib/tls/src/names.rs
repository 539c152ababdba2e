//! The names that a certificate is for (RFC 5280 4.2.1.6): mail addresses and hosts. Reads DER by itself, for the library that
//! checks chains tells only hosts; whoever asks has had the chain checked before.
//!
//! On failure: a certificate that is not read to its end has no names.

/// Most names of one certificate; one with more has none.
pub const MAX_NAMES: usize = 64;
/// Longest name, in octets; longer ones are left out.
pub const MAX_NAME: usize = 254;

const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The extensions in a certificate.
const EXTENSIONS: u8 = 0xa3;
/// `rfc822Name`.
const EMAIL: u8 = 0x81;
/// `dNSName`.
const HOST: u8 = 0x82;
/// `subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A mail address; its domain in lower case.
    Email(String),
    /// A host, in lower case.
    Host(String),
}

/// The names of a certificate in DER, in their order; names that are not plain text are left out.
pub fn names(certificate: &[u8]) -> Vec<Name> {
    let found = alternative_names(certificate).and_then(|mut names| {
        let mut found = Vec::new();
        while let Some((tag, value)) = names.next()? {
            if found.len() == MAX_NAMES {
                return None;
            }
            found.extend(name(tag, value));
        }
        Some(found)
    });
    found.unwrap_or_default()
}

fn name(tag: u8, value: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(value).ok()?;
    let is_plain =
        !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(|octet| octet.is_ascii_graphic());
    match tag {
        _ if !is_plain => None,
        EMAIL => {
            let (local, domain) =
                text.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty())?;
            Some(Name::Email(format!("{local}@{}", domain.to_ascii_lowercase())))
        }
        HOST => Some(Name::Host(text.to_ascii_lowercase())),
        _ => None,
    }
}

/// The extension's list; `None` if there is none, or what is there cannot be read.
fn alternative_names(certificate: &[u8]) -> Option<Items<'_>> {
    let (tag, certificate) = Items(certificate).next()??;
    let (inner, body) = Items(certificate).next()??;
    if (tag, inner) != (SEQUENCE, SEQUENCE) {
        return None;
    }
    let extensions = Items(body).of(EXTENSIONS)?;
    let mut list = Items(Items(extensions).of(SEQUENCE)?);
    while let Some((SEQUENCE, extension)) = list.next()? {
        let mut parts = Items(extension);
        let is_wanted = matches!(parts.next()??, (OBJECT, oid) if oid == ALTERNATIVE_NAMES);
        if !is_wanted {
            continue;
        }
        let mut value = parts.next()??;
        if value.0 == BOOLEAN {
            value = parts.next()??;
        }
        let (OCTETS, names) = value else { return None };
        return Items(names).of(SEQUENCE).map(Items);
    }
    None
}

/// What stands one behind the other.
struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    /// Tag and value of the next; `Some(None)` at the end, `None` if that is no DER.
    fn next(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        let [tag, short, rest @ ..] = self.0 else { return self.0.is_empty().then_some(None) };
        let (len, rest) = match short {
            0..=0x7f => (usize::from(*short), rest),
            0x81 => {
                let (len, rest) = rest.split_first()?;
                (usize::from(*len), rest)
            }
            0x82 => {
                let ([high, low], rest) = rest.split_first_chunk::<2>()?;
                (usize::from(*high) << 8 | usize::from(*low), rest)
            }
            _ => return None,
        };
        // Tags of more than one octet stand nowhere on the way.
        let (value, behind) = rest.split_at_checked(len).filter(|_| tag & 0x1f != 0x1f)?;
        self.0 = behind;
        Some(Some((*tag, value)))
    }

    /// The value of the first with this tag.
    fn of(mut self, wanted: u8) -> Option<&'a [u8]> {
        loop {
            let (tag, value) = self.next()??;
            if tag == wanted {
                return Some(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn made(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn email(text: &str) -> SanType {
        SanType::Rfc822Name(text.try_into().unwrap())
    }

    fn host(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn addresses_and_hosts_in_their_order() {
        let der =
            made(vec![host("MX.Test"), email("Jane@Own.TEST"), SanType::IpAddress([192, 0, 2, 1].into())]);
        assert_eq!(names(&der), [Name::Host("mx.test".to_owned()), Name::Email("Jane@own.test".to_owned())]);
        assert!(names(&made(Vec::new())).is_empty());
    }

    #[test]
    fn what_is_no_plain_name_is_left_out_and_too_many_are_none() {
        let der = made(vec![email("jane"), email("@own.test"), email("a b@own.test"), email("ok@own.test")]);
        assert_eq!(names(&der), [Name::Email("ok@own.test".to_owned())]);
        let many = |count| made((0..count).map(|n| host(&format!("h{n}.test"))).collect());
        assert_eq!(names(&many(MAX_NAMES)).len(), MAX_NAMES);
        assert!(names(&many(MAX_NAMES + 1)).is_empty());
    }

    #[test]
    fn a_cut_or_changed_certificate_harms_nothing() {
        let der = made(vec![email("jane@own.test")]);
        for at in 0..der.len() {
            // The signature at the end is not looked at here.
            assert!(names(&der[..at]).len() <= 1);
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[at] ^= 1 << bit;
                assert!(names(&changed).len() <= MAX_NAMES);
            }
        }
    }
}
