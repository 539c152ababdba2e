//! The header of one entity (RFC 2045): what it is, and how it looks with another label.

use super::Unconvertible;

/// How a body says that it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// `7bit`, or nothing.
    SevenBit,
    EightBit,
    Binary,
    QuotedPrintable,
    Base64,
    /// Quoted-printable and base64 as they came, and what nobody knows: not to be touched.
    Other,
}

/// What an entity is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A body.
    Leaf {
        is_text: bool,
        /// Why it must stay as it is, if it must.
        fixed: Option<&'static str>,
    },
    /// Other entities.
    Composite,
}

/// What comes behind a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inside {
    Body,
    /// Another header: a message in a message.
    Message,
    /// Parts between lines of this boundary.
    Parts {
        boundary: Vec<u8>,
        is_signed: bool,
        is_digest: bool,
    },
}

/// Where an entity stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// It is the message itself, not a part of it.
    pub is_top: bool,
    /// A signature covers it.
    pub is_signed: bool,
    /// It is a message if it does not say what it is.
    pub in_digest: bool,
}

/// A header, whole.
#[derive(Debug)]
pub(super) struct Header<'a> {
    /// All its octets, the empty line at its end included.
    pub block: &'a [u8],
    pub kind: Kind,
    pub label: Label,
    pub inside: Inside,
    place: Place,
    has_version: bool,
    has_type: bool,
}

const SIGNED: &str = "a signed part is not ASCII";
const REPORT: &str = "a part of a kind that must be ASCII is not";

impl<'a> Header<'a> {
    /// Reads a header block.
    ///
    /// # Errors
    /// What it says makes no sense, so nobody knows where its parts end.
    pub fn read(block: &'a [u8], place: Place) -> Result<Self, Unconvertible> {
        let value = |name: &str| single(block, name);
        let (content_type, encoding) = (value("content-type")?, value("content-transfer-encoding")?);
        let label = encoding.as_deref().map_or(Ok(Label::SevenBit), label)?;
        let default: &[u8] = if place.in_digest { b"message/rfc822" } else { b"text/plain" };
        let (kind, subtype, boundary) = parse_type(content_type.as_deref().unwrap_or(default))?;
        let is_encoded = label == Label::Other;
        let leaf = |fixed| (Kind::Leaf { is_text: kind == "text", fixed }, Inside::Body);
        let (what, inside) = match (kind.as_str(), subtype.as_str()) {
            ("multipart", _) if is_encoded => return Err(Unconvertible("a multipart is encoded as a whole")),
            ("multipart", subtype) => {
                let boundary = boundary.filter(|text| !text.is_empty());
                let boundary = boundary.ok_or(Unconvertible("a multipart has no boundary"))?;
                let is_signed = place.is_signed || subtype == "signed";
                (Kind::Composite, Inside::Parts { boundary, is_signed, is_digest: subtype == "digest" })
            }
            ("message", "rfc822") if !is_encoded => (Kind::Composite, Inside::Message),
            // RFC 6532 3.5 lets it be encoded, unlike its elder sister.
            ("message", "global") if !place.is_signed => leaf(None),
            ("message", _) => leaf(Some(REPORT)),
            _ if place.is_signed => leaf(Some(SIGNED)),
            _ => leaf(None),
        };
        let has_version = value("mime-version")?.is_some();
        Ok(Header { block, kind: what, label, inside, place, has_version, has_type: content_type.is_some() })
    }

    /// The block with another label; the same octets if it is the one that it has.
    pub fn write(&self, label: Label, out: &mut Vec<u8>) {
        let word = match label {
            _ if label == self.label => return out.extend_from_slice(self.block),
            Label::SevenBit => "7bit",
            Label::EightBit => "8bit",
            Label::Binary => "binary",
            Label::QuotedPrintable => "quoted-printable",
            Label::Base64 => "base64",
            Label::Other => return out.extend_from_slice(self.block),
        };
        let (fields, end) = match self.block.strip_suffix(b"\r\n") {
            Some(fields) if fields.is_empty() || fields.ends_with(b"\r\n") => (fields, &b"\r\n"[..]),
            _ => (self.block, &b""[..]),
        };
        for field in fields_of(fields) {
            if name_of(field).is_none_or(|name| !name.eq_ignore_ascii_case(b"content-transfer-encoding")) {
                out.extend_from_slice(field);
            }
        }
        if self.place.is_top && !self.has_version {
            out.extend_from_slice(b"MIME-Version: 1.0\r\n");
            if !self.has_type {
                // RFC 1428 3: nobody has said what the octets mean.
                out.extend_from_slice(b"Content-Type: text/plain; charset=unknown-8bit\r\n");
            }
        }
        out.extend_from_slice(format!("Content-Transfer-Encoding: {word}\r\n").as_bytes());
        out.extend_from_slice(end);
    }
}

/// The fields of a block, each with its lines.
fn fields_of(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            let line = rest.get(end..)?.windows(2).position(|pair| pair == b"\r\n").map(|at| at + 2);
            end += line.unwrap_or(rest.len() - end);
            if end >= rest.len() || !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, after) = rest.split_at(end);
        rest = after;
        Some(field)
    })
}

/// The name of a field; `None` if the line is none.
pub(super) fn name_of(field: &[u8]) -> Option<&[u8]> {
    let colon = field.iter().position(|octet| *octet == b':')?;
    let name = field.get(..colon)?.trim_ascii_end();
    (!name.is_empty() && name.iter().all(|octet| matches!(octet, b'!'..=b'~'))).then_some(name)
}

/// The value of a field that may be there once.
fn single(block: &[u8], name: &str) -> Result<Option<Vec<u8>>, Unconvertible> {
    let is_it = |field: &&[u8]| name_of(field).is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()));
    let mut found = fields_of(block).filter(is_it);
    let Some(field) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(Unconvertible("a MIME field is there twice"));
    }
    let colon = field.iter().position(|octet| *octet == b':').unwrap_or(0);
    let value = field.get(colon + 1..).unwrap_or_default();
    Ok(Some(value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect()))
}

fn label(value: &[u8]) -> Result<Label, Unconvertible> {
    let mut words = Words(value);
    let word = words.token().to_ascii_lowercase();
    words.skip();
    if !words.0.is_empty() {
        return Err(Unconvertible("a Content-Transfer-Encoding cannot be read"));
    }
    Ok(match word.as_slice() {
        b"7bit" => Label::SevenBit,
        b"8bit" => Label::EightBit,
        b"binary" => Label::Binary,
        _ => Label::Other,
    })
}

/// Type and subtype in lower case, and the boundary.
fn parse_type(value: &[u8]) -> Result<(String, String, Option<Vec<u8>>), Unconvertible> {
    let wrong = Unconvertible("a Content-Type cannot be read");
    let mut words = Words(value);
    let text = |token: &[u8]| String::from_utf8_lossy(token).to_ascii_lowercase();
    let kind = text(words.token());
    if !words.take(b'/') {
        return Err(wrong);
    }
    let (subtype, mut boundary) = (text(words.token()), None);
    if kind.is_empty() || subtype.is_empty() {
        return Err(wrong);
    }
    while words.take(b';') {
        let name = text(words.token());
        // Many end with a semicolon.
        if name.is_empty() {
            continue;
        }
        if !words.take(b'=') {
            return Err(wrong);
        }
        let value = words.value();
        if name == "boundary" && boundary.replace(value).is_some() {
            return Err(wrong);
        }
    }
    // Behind something odd there may be a boundary that others see.
    if words.is_at_end() || kind != "multipart" { Ok((kind, subtype, boundary)) } else { Err(wrong) }
}

/// The words of a structured field.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Passes blanks and comments.
    fn skip(&mut self) {
        let (mut depth, mut at) = (0u32, 0);
        while let Some(octet) = self.0.get(at) {
            match octet {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b'\\' if depth > 0 => at += 1,
                b' ' | b'\t' => {}
                _ if depth > 0 => {}
                _ => break,
            }
            at += 1;
        }
        self.0 = self.0.get(at..).unwrap_or_default();
    }

    fn take(&mut self, wanted: u8) -> bool {
        self.skip();
        let found = self.0.first() == Some(&wanted);
        if found {
            self.0 = self.0.get(1..).unwrap_or_default();
        }
        found
    }

    fn is_at_end(&mut self) -> bool {
        self.skip();
        self.0.is_empty()
    }

    fn token(&mut self) -> &'a [u8] {
        self.skip();
        let is_part = |octet: &u8| matches!(octet, b'!'..=b'~') && !b"()<>@,;:\\\"/[]?=".contains(octet);
        let (token, rest) = self.0.split_at(self.0.iter().take_while(|octet| is_part(octet)).count());
        self.0 = rest;
        token
    }

    /// A token or a quoted string. What is outside the grammar and common (`boundary=a/b`) is taken up to the next `;`.
    fn value(&mut self) -> Vec<u8> {
        self.skip();
        let Some(quoted) = self.0.strip_prefix(b"\"") else {
            let is_part = |octet: &u8| !matches!(octet, b';' | b' ' | b'\t' | b'(');
            let (token, rest) = self.0.split_at(self.0.iter().take_while(|octet| is_part(octet)).count());
            self.0 = rest;
            return token.to_vec();
        };
        let (mut value, mut at) = (Vec::new(), 0);
        while let Some(octet) = quoted.get(at).filter(|octet| **octet != b'"') {
            let escaped = if *octet == b'\\' { quoted.get(at + 1) } else { None };
            value.push(*escaped.unwrap_or(octet));
            at += 1 + usize::from(escaped.is_some());
        }
        self.0 = quoted.get(at + 1..).unwrap_or_default();
        value
    }
}
