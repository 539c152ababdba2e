//! A DKIM-Signature field (RFC 6376 3.5), read and written, and the octets of the header that it covers.

use std::collections::HashMap;

use super::{Canon, Tags, decode_base64, encode_base64, without_value};
use crate::{Field, HeaderBlock};

/// Most names in `h=`.
const MAX_NAMES: usize = 256;
/// Octets of one line of a field that we write.
const LINE: usize = 72;

/// What is signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA over SHA-256.
    RsaSha256,
    /// Ed25519 over SHA-256 (RFC 8463).
    Ed25519Sha256,
}

impl Algorithm {
    /// As `a=` says it.
    pub fn word(self) -> &'static str {
        match self {
            Algorithm::RsaSha256 => "rsa-sha256",
            Algorithm::Ed25519Sha256 => "ed25519-sha256",
        }
    }
}

/// A signature as its field says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// `a=`.
    pub algorithm: Algorithm,
    /// `c=`: header and body.
    pub canon: (Canon, Canon),
    /// `d=`, in lower case.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `i=`, or `@` and the domain.
    pub identity: String,
    /// `h=`, in its order.
    pub names: Vec<String>,
    /// `l=`.
    pub length: Option<u64>,
    /// `t=`, in seconds since 1970.
    pub made_s: Option<u64>,
    /// `x=`, in seconds since 1970.
    pub expires_s: Option<u64>,
    /// `bh=`.
    pub body_hash: Vec<u8>,
    /// `b=`.
    pub signature: Vec<u8>,
}

/// Why a field is no signature that can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureError {
    /// It is not a list of tags.
    Syntax,
    /// Not version 1.
    Version,
    /// A tag that must be there is not, or makes no sense.
    Tag(&'static str),
    /// An algorithm that is not known, or too weak (RFC 8301 3.1).
    Algorithm,
    /// From is not signed.
    From,
    /// The identity is not within the domain.
    Identity,
}

impl std::fmt::Display for SignatureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SignatureError::Syntax => f.write_str("not a list of tags"),
            SignatureError::Version => f.write_str("unknown version"),
            SignatureError::Tag(tag) => write!(f, "bad or missing {tag}"),
            SignatureError::Algorithm => f.write_str("unsupported algorithm"),
            SignatureError::From => f.write_str("From is not signed"),
            SignatureError::Identity => f.write_str("identity is not within the domain"),
        }
    }
}

impl Signature {
    /// Reads the value of a field.
    ///
    /// # Errors
    /// It cannot be checked; says why.
    pub fn parse(value: &str) -> Result<Self, SignatureError> {
        let tags = Tags::parse(value).ok_or(SignatureError::Syntax)?;
        if tags.get("v") != Some("1") {
            return Err(SignatureError::Version);
        }
        let signature = Self::of(&tags, tags.squeezed("i").filter(|text| !text.is_empty()))?;
        if signature.names.iter().any(String::is_empty) {
            return Err(SignatureError::Tag("h"));
        }
        Ok(signature)
    }

    /// Reads the value of an ARC-Message-Signature (RFC 8617 4.1.2): the same, but that it has no version, `i=` is a number
    /// there, and the whole body must be signed.
    ///
    /// # Errors
    /// It cannot be checked; says why.
    pub fn parse_arc(value: &str) -> Result<Self, SignatureError> {
        let tags = Tags::parse(value).ok_or(SignatureError::Syntax)?;
        let mut signature = Self::of(&tags, None)?;
        // The grammar forbids an empty name; the public test suite of ARC reads it as the name of no field.
        signature.names.retain(|name| !name.is_empty());
        if signature.length.is_some() {
            return Err(SignatureError::Tag("l"));
        }
        if signature.names.iter().any(|name| name.eq_ignore_ascii_case("arc-seal")) {
            return Err(SignatureError::Tag("h"));
        }
        Ok(signature)
    }

    fn of(tags: &Tags<'_>, identity: Option<String>) -> Result<Self, SignatureError> {
        let text = |name: &'static str| tags.squeezed(name).filter(|text| !text.is_empty());
        let needed = |name: &'static str| text(name).ok_or(SignatureError::Tag(name));
        let octets = |name: &'static str| {
            let octets = decode_base64(&needed(name)?).filter(|octets| !octets.is_empty());
            octets.ok_or(SignatureError::Tag(name))
        };
        let algorithm = match needed("a")?.to_ascii_lowercase().as_str() {
            "rsa-sha256" => Algorithm::RsaSha256,
            "ed25519-sha256" => Algorithm::Ed25519Sha256,
            _ => return Err(SignatureError::Algorithm),
        };
        let canon = text("c").map_or(Some((Canon::Simple, Canon::Simple)), |text| Canon::pair(&text));
        let domain = needed("d")?.to_ascii_lowercase();
        let identity = identity.unwrap_or_else(|| format!("@{domain}"));
        let within = identity.rsplit_once('@').is_some_and(|(_, at)| is_within(at, &domain));
        if !within {
            return Err(SignatureError::Identity);
        }
        let names: Vec<String> = needed("h")?.split(':').map(str::to_owned).collect();
        if names.len() > MAX_NAMES {
            return Err(SignatureError::Tag("h"));
        }
        if !names.iter().any(|name| name.eq_ignore_ascii_case("from")) {
            return Err(SignatureError::From);
        }
        if text("q").is_some_and(|q| !q.split(':').any(|way| way.eq_ignore_ascii_case("dns/txt"))) {
            return Err(SignatureError::Tag("q"));
        }
        let number =
            |name: &'static str| text(name).map(|text| number(&text).ok_or(SignatureError::Tag(name)));
        let (made_s, expires_s) = (number("t").transpose()?, number("x").transpose()?);
        if let (Some(made), Some(expires)) = (made_s, expires_s)
            && expires < made
        {
            return Err(SignatureError::Tag("x"));
        }
        Ok(Signature {
            algorithm,
            canon: canon.ok_or(SignatureError::Tag("c"))?,
            selector: needed("s")?,
            identity,
            names,
            length: number("l").transpose()?,
            made_s,
            expires_s,
            body_hash: octets("bh")?,
            signature: octets("b")?,
            domain,
        })
    }

    /// True if the identity's domain is the signing domain itself.
    pub fn is_exact(&self) -> bool {
        self.identity.rsplit_once('@').is_some_and(|(_, at)| at.eq_ignore_ascii_case(&self.domain))
    }
}

/// Digits, at most as many as the RFC allows.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= 76 && text.bytes().all(|octet| octet.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

/// True if a domain is that one or below it.
fn is_within(domain: &str, above: &str) -> bool {
    let Some(at) = domain.len().checked_sub(above.len()) else { return false };
    let tail = domain.get(at..).is_some_and(|tail| tail.eq_ignore_ascii_case(above));
    tail && (at == 0 || domain.as_bytes().get(at - 1) == Some(&b'.'))
}

/// The fields that `h=` names as they are signed: of each name the last one first (RFC 6376 5.4.2). Those that are not
/// there are nothing, so that nobody can add them.
pub fn signed_header(header: &HeaderBlock<'_>, names: &[String], canon: Canon) -> Vec<u8> {
    // One look at each field and at each name: strangers choose how many there are of both.
    let mut fields: HashMap<Vec<u8>, Vec<&Field<'_>>> = HashMap::new();
    for field in header.fields() {
        fields.entry(field.name().to_ascii_lowercase()).or_default().push(field);
    }
    let mut data = Vec::new();
    for name in names {
        let last = fields.get_mut(name.to_ascii_lowercase().as_bytes()).and_then(Vec::pop);
        data.extend(last.map(|field| canon.field(field.raw())).unwrap_or_default());
    }
    data
}

/// All that a signature covers: the fields, then its own field without its value and its line end.
pub fn signed_data(header: &HeaderBlock<'_>, names: &[String], canon: Canon, own: &[u8]) -> Vec<u8> {
    let mut data = signed_header(header, names, canon);
    let own = canon.field(&without_value(own, "b"));
    data.extend(own.strip_suffix(b"\r\n").unwrap_or(&own));
    data
}

/// A signature that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// `a=`.
    pub algorithm: Algorithm,
    /// `c=`: header and body.
    pub canon: (Canon, Canon),
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `h=`.
    pub names: Vec<String>,
    /// `t=`, in seconds since 1970.
    pub made_s: u64,
    /// `bh=`.
    pub body_hash: Vec<u8>,
}

impl Template {
    /// The value of the field with this signature, folded; an empty one to sign it.
    pub fn value(&self, signature: &[u8]) -> String {
        let (header, body) = (self.canon.0.word(), self.canon.1.word());
        let mut value = format!(
            "v=1; a={}; c={header}/{body}; d={};\r\n\ts={}; t={};\r\n\th=",
            self.algorithm.word(),
            self.domain,
            self.selector,
            self.made_s
        );
        fold(
            &mut value,
            3,
            self.names.iter().enumerate().map(|(at, name)| match at {
                0 => name.clone(),
                _ => format!(":{name}"),
            }),
        );
        value.push_str(&format!(";\r\n\tbh={};\r\n\tb=", encode_base64(&self.body_hash)));
        let text = encode_base64(signature);
        let mut rest = text.as_str();
        let mut room = LINE - 2;
        while rest.len() > room {
            let (line, behind) = rest.split_at(room);
            value.push_str(line);
            value.push_str("\r\n\t ");
            (rest, room) = (behind, LINE);
        }
        value.push_str(rest);
        value
    }
}

/// Adds words, with a new line where one would be too long.
fn fold(value: &mut String, mut column: usize, words: impl Iterator<Item = String>) {
    for word in words {
        if column + word.len() > LINE {
            value.push_str("\r\n\t ");
            column = 2;
        }
        column += word.len();
        value.push_str(&word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "v=1; a=rsa-sha256; d=Example.com; s=sel; h=From:To; bh=AAAA; b=QUJD";

    #[test]
    fn a_field_is_read_with_what_it_leaves_unsaid() {
        let read = Signature::parse(GOOD).unwrap();
        assert_eq!((read.domain.as_str(), read.selector.as_str()), ("example.com", "sel"));
        assert_eq!(read.identity, "@example.com");
        assert_eq!(read.canon, (Canon::Simple, Canon::Simple));
        assert_eq!((read.names, read.signature), (vec!["From".to_owned(), "To".to_owned()], b"ABC".to_vec()));
        assert_eq!((read.length, read.made_s, read.expires_s), (None, None, None));
    }

    #[test]
    fn what_cannot_be_checked_is_refused_with_a_reason() {
        use SignatureError::{From, Identity, Syntax, Tag, Version};
        let bad = |from: &str, to: &str| Signature::parse(&GOOD.replace(from, to)).unwrap_err();
        assert_eq!(bad("v=1", "v=2"), Version);
        assert_eq!(bad("v=1; ", ""), Version);
        assert_eq!(bad("a=rsa-sha256", "a=rsa-sha1"), SignatureError::Algorithm);
        assert_eq!(bad("From:To", "To"), From);
        assert_eq!(bad("From:To", "From::To"), Tag("h"));
        assert_eq!(bad("bh=AAAA; ", ""), Tag("bh"));
        assert_eq!(bad("b=QUJD", "b="), Tag("b"));
        assert_eq!(bad("b=QUJD", "b=!"), Tag("b"));
        assert_eq!(bad("s=sel", "s=sel; c=x"), Tag("c"));
        assert_eq!(bad("s=sel", "s=sel; l=-1"), Tag("l"));
        assert_eq!(bad("s=sel", "s=sel; t=9; x=8"), Tag("x"));
        assert_eq!(bad("s=sel", "s=sel; q=http"), Tag("q"));
        assert_eq!(bad("s=sel", "s=sel; i=a@example.org"), Identity);
        assert_eq!(bad("s=sel", "s=sel; i=a@badexample.com"), Identity);
        assert_eq!(bad("s=sel", "s=sel; s=sel"), Syntax);
        assert!(Signature::parse(&GOOD.replace("s=sel", "s=sel; i=a@sub.example.com")).is_ok());
    }

    #[test]
    fn a_signature_of_a_chain_is_held_to_the_same() {
        use SignatureError::{From, Tag};
        let good = GOOD.replace("v=1", "i=1").replace("s=sel", "s=sel; t=8; x=9");
        let read = Signature::parse_arc(&good).unwrap();
        assert_eq!((read.identity.as_str(), read.expires_s), ("@example.com", Some(9)));
        let lax = Signature::parse_arc(&good.replace("From:To", "From::To")).unwrap();
        assert_eq!(lax.names, read.names);
        let bad = |from: &str, to: &str| Signature::parse_arc(&good.replace(from, to)).unwrap_err();
        assert_eq!(bad("From:To", "To"), From);
        assert_eq!(bad("From:To", "From:ARC-Seal"), Tag("h"));
        assert_eq!(bad("From:To", &["From"; MAX_NAMES + 1].join(":")), Tag("h"));
        assert_eq!(bad("s=sel", "s=sel; l=1"), Tag("l"));
        assert_eq!(bad("x=9", "x=7"), Tag("x"));
    }

    #[test]
    fn many_names_of_many_fields_cost_a_look_at_each() {
        // A look at each field for each name would be 2,500 million comparisons.
        let (many, start) = (50_000, std::time::Instant::now());
        let mut header = HeaderBlock::default();
        for _ in 0..many {
            header.append(Field::new("X", "").unwrap());
        }
        let names = vec!["y".to_owned(); many];
        assert!(signed_header(&header, &names, Canon::Simple).is_empty());
        let names = vec!["x".to_owned(); many + 1];
        assert_eq!(signed_header(&header, &names, Canon::Simple).len(), many * "X: \r\n".len());
        assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    fn of_each_name_the_last_field_is_taken_first() {
        let header = HeaderBlock::parse(b"A: 1\r\nB: 2\r\na: 3\r\n\r\n");
        let names = ["a", "A", "a", "c", "b"].map(str::to_owned);
        assert_eq!(signed_header(&header, &names, Canon::Relaxed), b"a:3\r\na:1\r\nb:2\r\n");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let template = Template {
            algorithm: Algorithm::Ed25519Sha256,
            canon: (Canon::Relaxed, Canon::Simple),
            domain: "example.com".to_owned(),
            selector: "sel".to_owned(),
            names: (0..40).map(|n| format!("X-Field-{n}")).chain(["From".to_owned()]).collect(),
            made_s: 1_795_324_249,
            body_hash: vec![7; 32],
        };
        let value = template.value(&[9; 256]);
        assert!(value.lines().all(|line| line.len() <= 78), "{value}");
        let read = Signature::parse(&value).unwrap();
        assert_eq!((read.names, read.signature), (template.names, vec![9; 256]));
        assert_eq!((read.body_hash, read.made_s), (vec![7; 32], Some(1_795_324_249)));
        assert!(Field::new("DKIM-Signature", &value).is_some());
    }

    proptest::proptest! {
        /// Whatever stands in a field, it is read or refused, and its own value never counts for what it covers.
        #[test]
        fn any_field_is_read_or_refused(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "v=1", "a=rsa-sha256", "d=a.test", "s=s", "h=from:To", "bh=AAAA", "b=QUJD", "c=relaxed", "l=1", "x=9",
                    "t=8", "i=@a.test", ";", "; ", "\r\n\t", "=", "ä", " ", "q=dns/txt", "b=",
                ]),
                0..24,
            ),
        ) {
            let value = words.concat();
            let field = format!("DKIM-Signature: {value}\r\n");
            let own = without_value(field.as_bytes(), "b");
            proptest::prop_assert_eq!(without_value(&own, "b"), own.clone());
            if let Ok(read) = Signature::parse(&value) {
                proptest::prop_assert!(!read.signature.is_empty() && !read.names.is_empty());
            }
            let relaxed = Canon::Relaxed.field(field.as_bytes());
            proptest::prop_assert_eq!(Canon::Relaxed.field(&relaxed), relaxed);
        }
    }
}
