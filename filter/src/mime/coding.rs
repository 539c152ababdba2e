//! Transfer encodings (RFC 2045 6.7, 6.8) and character sets of text that is appended. Decoding is strict: what one reader
//! may take for this and another for that is not decoded.

use data_encoding::BASE64;

/// Longest line of either encoding, without its CRLF.
const MAX_LINE: usize = 76;
/// Octets that fill a line of base64.
const BASE64_LINE: usize = MAX_LINE / 4 * 3;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// `7bit`, and what is not said.
    SevenBit,
    /// `8bit` and `binary`.
    EightBit,
    QuotedPrintable,
    Base64,
}

impl Coding {
    /// What a Content-Transfer-Encoding says; `None` if nobody knows that.
    pub fn read(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "7bit" => Some(Coding::SevenBit),
            "8bit" | "binary" => Some(Coding::EightBit),
            "quoted-printable" => Some(Coding::QuotedPrintable),
            "base64" => Some(Coding::Base64),
            _ => None,
        }
    }

    /// The octets that stand encoded; `None` if they are not well encoded.
    pub fn decode(self, body: &[u8]) -> Option<Vec<u8>> {
        match self {
            // What says that it is ASCII need not be; whoever appends ASCII to it does no harm.
            Coding::SevenBit | Coding::EightBit => Some(body.to_vec()),
            Coding::QuotedPrintable => decode_quoted(body),
            Coding::Base64 => {
                let is_blank = |octet: &u8| matches!(octet, b'\r' | b'\n' | b' ' | b'\t');
                let packed: Vec<u8> = body.iter().copied().filter(|octet| !is_blank(octet)).collect();
                // Behind its end there is nothing.
                let text = packed.split(|octet| *octet == b'=').next().unwrap_or_default();
                packed[text.len()..].iter().all(|octet| *octet == b'=').then_some(())?;
                BASE64.decode(&packed).ok()
            }
        }
    }

    /// The other way round. Text that is neither quoted-printable nor base64 stays as it is.
    pub fn encode(self, text: &[u8]) -> Vec<u8> {
        match self {
            Coding::SevenBit | Coding::EightBit => text.to_vec(),
            Coding::QuotedPrintable => encode_quoted(text),
            Coding::Base64 => {
                let lines: Vec<String> = text.chunks(BASE64_LINE).map(|line| BASE64.encode(line)).collect();
                lines.join("\r\n").into_bytes()
            }
        }
    }
}

fn decode_quoted(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut lines = body.split(|octet| *octet == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        let line = if is_last { line } else { line.strip_suffix(b"\r")? };
        // What stands behind the text was added on the way.
        let mut line = line.trim_ascii_end();
        let is_soft = line.ends_with(b"=");
        if is_soft {
            line = &line[..line.len() - 1];
        }
        while let Some((octet, rest)) = line.split_first() {
            line = rest;
            if *octet == b'=' {
                let (digits, rest) = line.split_at_checked(2)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                line = rest;
            } else {
                out.push(*octet);
            }
        }
        if !is_soft && !is_last {
            out.extend_from_slice(b"\r\n");
        }
    }
    Some(out)
}

fn encode_quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8);
    let (mut column, mut rest) = (0, text);
    while let Some((octet, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\r\n") {
            out.extend_from_slice(b"\r\n");
            (column, rest) = (0, after);
            continue;
        }
        let at_end = after.is_empty() || after.starts_with(b"\r\n");
        let is_plain = match octet {
            b'=' => false,
            b'!'..=b'~' => true,
            b' ' | b'\t' => !at_end,
            _ => false,
        };
        let width = if is_plain { 1 } else { 3 };
        // The last column is for what may join the next line.
        if column + width > MAX_LINE - usize::from(!at_end) {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if is_plain {
            out.push(*octet)
        } else {
            out.extend_from_slice(format!("={octet:02X}").as_bytes())
        }
        column += width;
        rest = after;
    }
    out
}

/// Character sets that have ASCII where ASCII has it, beside ASCII itself.
const LIKE_ASCII: [&str; 30] = [
    "utf-8",
    "utf8",
    "iso-8859-1",
    "iso-8859-2",
    "iso-8859-3",
    "iso-8859-4",
    "iso-8859-5",
    "iso-8859-6",
    "iso-8859-7",
    "iso-8859-8",
    "iso-8859-9",
    "iso-8859-10",
    "iso-8859-13",
    "iso-8859-14",
    "iso-8859-15",
    "iso-8859-16",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "windows-1253",
    "windows-1254",
    "windows-1257",
    "koi8-r",
    "koi8-u",
    "latin1",
    "gb2312",
    "gbk",
    "big5",
    "euc-kr",
    "euc-jp",
];
/// What of Latin-1 (ISO 8859-1) stands elsewhere in Latin-9 (ISO 8859-15).
const NOT_LATIN_9: &str = "\u{a4}\u{a6}\u{a8}\u{b4}\u{b8}\u{bc}\u{bd}\u{be}";

/// What is known of a character set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// Nothing above ASCII; what is not stated is this.
    Ascii,
    Utf8,
    Latin1,
    Latin9,
    Windows1252,
    /// ASCII and more that we cannot write.
    Other,
}

impl Charset {
    /// `None`: not even ASCII is where it is in ASCII, as far as we know.
    pub fn read(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "" | "us-ascii" | "ascii" => Some(Charset::Ascii),
            "utf-8" | "utf8" => Some(Charset::Utf8),
            "iso-8859-1" | "latin1" => Some(Charset::Latin1),
            "iso-8859-15" => Some(Charset::Latin9),
            "windows-1252" => Some(Charset::Windows1252),
            name => LIKE_ASCII.contains(&name).then_some(Charset::Other),
        }
    }

    /// The text in this character set; `None` if it cannot be said in it.
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        let one = |c: char| match (self, c) {
            (_, c) if c.is_ascii() => u8::try_from(c).ok(),
            (Charset::Latin9 | Charset::Windows1252, '\u{20ac}') => {
                Some(if self == Charset::Latin9 { 0xa4 } else { 0x80 })
            }
            (Charset::Latin9, c) if NOT_LATIN_9.contains(c) => None,
            (Charset::Latin1 | Charset::Latin9 | Charset::Windows1252, '\u{a0}'..='\u{ff}') => {
                u8::try_from(u32::from(c)).ok()
            }
            _ => None,
        };
        if self == Charset::Utf8 { Some(text.as_bytes().to_vec()) } else { text.chars().map(one).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same_and_its_lines_are_short() {
        let long = "x".repeat(200) + " \t\r\n \r\n\r\n=a\t\u{e9}" + &"\u{20ac}".repeat(90);
        for text in ["", "a", "a\r\n", "caf\u{e9} \r\n", "\r\n", &long, &"y ".repeat(100)] {
            for coding in [Coding::QuotedPrintable, Coding::Base64] {
                let encoded = coding.encode(text.as_bytes());
                assert!(encoded.is_ascii());
                assert!(encoded.split(|octet| *octet == b'\n').all(|line| line.len() <= MAX_LINE + 1));
                assert_eq!(coding.decode(&encoded).as_deref(), Some(text.as_bytes()), "{coding:?} {text:?}");
            }
        }
    }

    #[test]
    fn what_is_not_well_encoded_is_not_decoded() {
        for body in ["a=4", "a=zz", "a=+1", "a\nb"] {
            assert_eq!(Coding::QuotedPrintable.decode(body.as_bytes()), None, "{body:?}");
        }
        assert_eq!(Coding::QuotedPrintable.decode(b"a=\r\nb  \r\nc=").as_deref(), Some(&b"ab\r\nc"[..]));
        for body in ["YQ", "YQ==YQ==", "Y*==", "-YQ="] {
            assert_eq!(Coding::Base64.decode(body.as_bytes()), None, "{body:?}");
        }
    }

    #[test]
    fn text_is_said_in_the_character_set_or_not_at_all() {
        let euro = "5 \u{20ac}";
        assert_eq!(Charset::Latin1.encode(euro), None);
        assert_eq!(Charset::Latin9.encode(euro).as_deref(), Some(&b"5 \xa4"[..]));
        assert_eq!(Charset::Windows1252.encode(euro).as_deref(), Some(&b"5 \x80"[..]));
        assert_eq!(Charset::Latin1.encode("\u{e9}").as_deref(), Some(&b"\xe9"[..]));
        assert_eq!(Charset::Latin9.encode("\u{bd}"), None);
        assert_eq!(Charset::Ascii.encode("\u{e9}"), None);
        assert_eq!(Charset::read("KOI8-R"), Some(Charset::Other));
        assert_eq!(Charset::read("utf-16"), None);
    }
}
