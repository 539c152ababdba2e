//! The text of DKIM (RFC 6376): what is signed, octet by octet, and the fields that carry signatures. Pure and without
//! cryptography: hashes and signatures are made elsewhere, of the octets that come out here.

mod base64;
mod body;
mod signature;
mod tags;

pub use base64::{decode as decode_base64, encode as encode_base64};
pub use body::{BodyCanon, End};
pub use signature::{Algorithm, Signature, SignatureError, Template, signed_data, signed_header};
pub use tags::{Tags, without_value};

/// How octets are made the same before they are signed (RFC 6376 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canon {
    /// As they are, but for the end of the body.
    Simple,
    /// Without regard to white space and to the case of names.
    Relaxed,
}

impl Canon {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Canon::Simple => "simple",
            Canon::Relaxed => "relaxed",
        }
    }

    /// By its word.
    pub fn parse(text: &str) -> Option<Self> {
        [Canon::Simple, Canon::Relaxed].into_iter().find(|canon| text.eq_ignore_ascii_case(canon.word()))
    }

    /// Header and body, as `c=` says them; the body is `simple` if nothing is said of it.
    pub fn pair(text: &str) -> Option<(Self, Self)> {
        match text.split_once('/') {
            Some((header, body)) => Some((Canon::parse(header)?, Canon::parse(body)?)),
            None => Some((Canon::parse(text)?, Canon::Simple)),
        }
    }

    /// A header field as it is signed, with its line end.
    pub fn field(self, field: &[u8]) -> Vec<u8> {
        match self {
            Canon::Simple => field.to_vec(),
            Canon::Relaxed => relaxed(field),
        }
    }
}

/// The name in lower case, folding undone, white space made one space and none at the ends.
fn relaxed(field: &[u8]) -> Vec<u8> {
    let colon = field.iter().position(|octet| *octet == b':').unwrap_or(field.len());
    let (name, rest) = field.split_at(colon);
    let mut line = name.trim_ascii_end().to_ascii_lowercase();
    line.push(b':');
    let start = line.len();
    let mut gap = false;
    let value = rest.get(1..).unwrap_or_default();
    for octet in value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')) {
        match octet {
            b' ' | b'\t' => gap = line.len() > start,
            _ => {
                if std::mem::take(&mut gap) {
                    line.push(b' ');
                }
                line.push(octet);
            }
        }
    }
    line.extend(b"\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_as_the_rfc_shows_them() {
        // RFC 6376 3.4.5.
        assert_eq!(Canon::Relaxed.field(b"A: X\r\n"), b"a:X\r\n");
        assert_eq!(Canon::Relaxed.field(b"B : Y\t\r\n\tZ  \r\n"), b"b:Y Z\r\n");
        assert_eq!(Canon::Simple.field(b"B : Y\t\r\n\tZ  \r\n"), b"B : Y\t\r\n\tZ  \r\n");
        assert_eq!(Canon::Relaxed.field(b"C:\r\n"), b"c:\r\n");
        assert_eq!(Canon::Relaxed.field(b"C:  \t :x\r\n"), b"c::x\r\n");
        assert_eq!(Canon::Relaxed.field(b"C: : x\r\n"), b"c:: x\r\n");
    }

    #[test]
    fn pairs_by_their_words() {
        assert_eq!(Canon::pair("relaxed"), Some((Canon::Relaxed, Canon::Simple)));
        assert_eq!(Canon::pair("Simple/Relaxed"), Some((Canon::Simple, Canon::Relaxed)));
        assert_eq!(Canon::pair("nofws"), None);
        assert_eq!(Canon::pair("relaxed/"), None);
    }
}
