//! Which parts of a message may be edited, and where they stand in it, to the octet (RFC 2046). Stricter than any reader:
//! where two readers could see two different things, nothing is edited.

use std::ops::Range;

use vsmtp_mail::{HeaderBlock, header_end};

use super::coding::{Charset, Coding};

/// Deepest nesting of multiparts.
const MAX_DEPTH: usize = 16;
/// Most parts.
const MAX_PARTS: usize = 1_000;

/// A part that is no container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Media type in lower case.
    pub kind: String,
    pub charset: Option<Charset>,
    pub coding: Option<Coding>,
    /// It is text that is shown with the message.
    pub is_shown: bool,
    /// Its paragraphs are flowed (RFC 3676).
    pub is_flowed: bool,
    /// Its type says more than its character set and its format.
    pub says_more: bool,
    /// Its header in the body of the message; `None` if that is the message's own.
    pub header: Option<Range<usize>>,
    /// Where it stands in the body of the message.
    pub body: Range<usize>,
}

/// Why nothing of a message may be edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untouchable {
    /// Somebody has signed or encrypted it, or it is a report.
    Sealed,
    /// Readers may not agree on what its parts are.
    Odd,
}

/// All parts of a message that are no containers, in order.
///
/// # Errors
/// Nothing of it may be edited.
pub(super) fn leaves(header: &HeaderBlock<'_>, body: &[u8]) -> Result<Vec<Leaf>, Untouchable> {
    let breaks = memchr::memchr2_iter(b'\r', b'\n', body);
    let is_whole = |at: usize| match body.get(at) {
        Some(b'\r') => body.get(at + 1) == Some(&b'\n'),
        _ => at > 0 && body.get(at - 1) == Some(&b'\r'),
    };
    if !breaks.into_iter().all(is_whole) {
        return Err(Untouchable::Odd);
    }
    let mut leaves = Vec::new();
    let whole = Entity { header: None, body: 0..body.len() };
    collect(header, body, whole, 0, &mut leaves)?;
    Ok(leaves)
}

struct Entity {
    header: Option<Range<usize>>,
    body: Range<usize>,
}

fn collect(
    header: &HeaderBlock<'_>,
    all: &[u8],
    entity: Entity,
    depth: usize,
    leaves: &mut Vec<Leaf>,
) -> Result<(), Untouchable> {
    if leaves.len() >= MAX_PARTS || depth > MAX_DEPTH || !header.is_complete() {
        return Err(Untouchable::Odd);
    }
    let kind = single(header, "Content-Type")?;
    let kind = kind.as_deref().map_or(Some(Value::plain()), |value| Value::read(value, true));
    let kind = kind.ok_or(Untouchable::Odd)?;
    let coding = match single(header, "Content-Transfer-Encoding")? {
        None => Some(Coding::SevenBit),
        Some(coding) => Value::read(&coding, false).and_then(|coding| Coding::read(&coding.word)),
    };
    let Some(subtype) = kind.word.strip_prefix("multipart/") else {
        leaves.push(leaf(header, &kind, coding, entity)?);
        return Ok(());
    };
    if matches!(subtype, "signed" | "encrypted" | "report") {
        return Err(Untouchable::Sealed);
    }
    if !matches!(coding, Some(Coding::SevenBit | Coding::EightBit)) {
        return Err(Untouchable::Odd);
    }
    let boundary =
        kind.parameter("boundary").filter(|boundary| !boundary.is_empty()).ok_or(Untouchable::Odd)?;
    for part in parts(all, entity.body, boundary.as_bytes())? {
        let bytes = &all[part.clone()];
        let end = part.start + header_end(bytes);
        let inner = HeaderBlock::parse(&all[part.start..end]);
        let entity = Entity { header: Some(part.start..end), body: end..part.end };
        // Of what a digest holds nothing is shown as text.
        if subtype == "digest" && inner.named("Content-Type").next().is_none() {
            continue;
        }
        collect(&inner, all, entity, depth + 1, leaves)?;
    }
    Ok(())
}

fn leaf(
    header: &HeaderBlock<'_>,
    kind: &Value,
    coding: Option<Coding>,
    entity: Entity,
) -> Result<Leaf, Untouchable> {
    let disposition = single(header, "Content-Disposition")?;
    let disposition = disposition.as_deref().map(|value| Value::read(value, false));
    let is_named = |value: &Value, name: &str| value.parameters.iter().any(|(own, _)| own.starts_with(name));
    let is_inline = match &disposition {
        None => true,
        // What cannot be read may be an attachment.
        Some(None) => false,
        Some(Some(value)) => value.word == "inline" && !is_named(value, "filename"),
    };
    Ok(Leaf {
        is_shown: is_inline && !is_named(kind, "name"),
        is_flowed: kind.parameter("format").is_some_and(|format| format.eq_ignore_ascii_case("flowed")),
        says_more: kind.parameters.iter().any(|(name, _)| !matches!(name.as_str(), "charset" | "format")),
        charset: Charset::read(kind.parameter("charset").unwrap_or_default()),
        kind: kind.word.clone(),
        coding,
        header: entity.header,
        body: entity.body,
    })
}

/// The value of a field that may be there once, on one line.
fn single(header: &HeaderBlock<'_>, name: &str) -> Result<Option<String>, Untouchable> {
    let mut fields = header.named(name);
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Untouchable::Odd);
    }
    String::from_utf8(field.unfolded()).map(Some).map_err(|_| Untouchable::Odd)
}

/// What stands between the lines of a boundary, without the line break before each of these.
fn parts(all: &[u8], within: Range<usize>, boundary: &[u8]) -> Result<Vec<Range<usize>>, Untouchable> {
    let (mut parts, mut open) = (Vec::new(), None);
    let mut at = within.start;
    while at < within.end {
        let rest = &all[at..within.end];
        let len = memchr::memmem::find(rest, b"\r\n").map_or(rest.len(), |end| end + 2);
        let line = &rest[..len];
        if let Some(behind) = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary)) {
            if let Some(start) = open {
                // A part without a line: nobody agrees on what that is.
                let end = at.checked_sub(2).filter(|end| *end >= start).ok_or(Untouchable::Odd)?;
                parts.push(start..end);
            }
            match behind.trim_ascii_end() {
                b"" => open = Some(at + len),
                b"--" => return Ok(parts),
                _ => return Err(Untouchable::Odd),
            }
            if parts.len() >= MAX_PARTS {
                return Err(Untouchable::Odd);
            }
        }
        at += len;
    }
    // It has no end.
    Err(Untouchable::Odd)
}

/// A structured field: a word and parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    /// In lower case.
    word: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Value {
    fn plain() -> Self {
        Value { word: "text/plain".to_owned(), parameters: Vec::new() }
    }

    /// `None` if it is not to the letter of RFC 2045, comments and a semicolon at the end excepted.
    fn read(text: &str, is_type: bool) -> Option<Self> {
        let mut words = Words(text);
        let mut word = words.token()?.to_ascii_lowercase();
        if is_type {
            words.take('/').then_some(())?;
            word = format!("{word}/{}", words.token()?.to_ascii_lowercase());
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        while words.take(';') && !words.is_at_end()? {
            let name = words.token()?.to_ascii_lowercase();
            words.take('=').then_some(())?;
            let value = words.value()?;
            if parameters.iter().any(|(other, _)| *other == name) {
                return None;
            }
            parameters.push((name, value));
        }
        words.is_at_end()?.then_some(Value { word, parameters })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    /// Passes blanks and comments; `None` if a comment has no end.
    fn skip(&mut self) -> Option<()> {
        loop {
            self.0 = self.0.trim_start();
            let Some(comment) = self.0.strip_prefix('(') else { return Some(()) };
            // One inside another is too odd to be followed.
            let end = comment.find([')', '(', '\\'])?;
            self.0 = comment.get(end..)?.strip_prefix(')')?;
        }
    }

    fn is_at_end(&mut self) -> Option<bool> {
        self.skip()?;
        Some(self.0.is_empty())
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.skip().and_then(|()| self.0.strip_prefix(wanted));
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn token(&mut self) -> Option<&'a str> {
        self.skip()?;
        let is_part = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c);
        let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn value(&mut self) -> Option<String> {
        self.skip()?;
        let Some(quoted) = self.0.strip_prefix('"') else { return self.token().map(str::to_owned) };
        let (mut value, mut chars) = (String::new(), quoted.char_indices());
        loop {
            match chars.next()? {
                (at, '"') => {
                    self.0 = quoted.get(at + 1..)?;
                    return Some(value);
                }
                (_, '\\') => value.push(chars.next()?.1),
                (_, c) => value.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> Result<Vec<Leaf>, Untouchable> {
        let (header, body) = message.split_at(header_end(message.as_bytes()));
        leaves(&HeaderBlock::parse(header.as_bytes()), body.as_bytes())
    }

    #[test]
    fn parts_are_found_to_the_octet() {
        let message = "Content-Type: multipart/mixed; boundary=\"b c\"\r\n\r\npreamble\r\n--b c \r\n\r\none\r\n\
                       --b c\r\nContent-Type: text/html; charset=utf-8\r\nContent-Disposition: attachment\r\n\r\n\r\n--b c--\r\nend";
        let body = &message[header_end(message.as_bytes())..];
        let found = of(message).unwrap();
        let texts: Vec<&str> = found.iter().map(|leaf| &body[leaf.body.clone()]).collect();
        assert_eq!(texts, ["one", ""]);
        assert_eq!(found.iter().map(|leaf| leaf.is_shown).collect::<Vec<_>>(), [true, false]);
        assert_eq!(found[1].charset, Some(Charset::Utf8));
        assert_eq!(of("Subject: x\r\n\r\nbody").unwrap()[0].body, 0..4);
    }

    #[test]
    fn what_readers_may_disagree_about_is_not_touched() {
        let multipart = |kind: &str, body: &str| format!("Content-Type: multipart/{kind}\r\n\r\n{body}");
        for kind in ["signed; boundary=b", "encrypted; boundary=b", "report; boundary=b"] {
            assert_eq!(of(&multipart(kind, "--b\r\n\r\nx\r\n--b--\r\n")), Err(Untouchable::Sealed));
        }
        let inside = multipart(
            "mixed; boundary=a",
            "--a\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\
            x\r\n--b--\r\n--a--\r\n",
        );
        assert_eq!(of(&inside), Err(Untouchable::Sealed));
        let odd = [
            multipart("mixed", "--b\r\n\r\nx\r\n--b--\r\n"),
            multipart("mixed; boundary=b", "--b\r\n\r\nx\r\n"),
            multipart("mixed; boundary=b", "--b\r\n\r\nx\r\n--bc\r\n--b--\r\n"),
            multipart("mixed; boundary=b", "--b\r\n--b--\r\n"),
            multipart("mixed; boundary=b; boundary=c", "--b\r\n\r\nx\r\n--b--\r\n"),
            multipart("mixed; boundary*0=b", "--b\r\n\r\nx\r\n--b--\r\n"),
            multipart("mixed; boundary=b\r\nContent-Transfer-Encoding: base64", "--b\r\n\r\nx\r\n--b--\r\n"),
            "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nx".to_owned(),
            "Content-Type: text\r\n\r\nx".to_owned(),
            "Subject: x\r\n\r\na\nb".to_owned(),
            "Subject: x\r\n\r\na\rb".to_owned(),
        ];
        for message in odd {
            assert_eq!(of(&message), Err(Untouchable::Odd), "{message:?}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let (mut message, mut end) = (String::new(), String::new());
        for depth in 0..=MAX_DEPTH + 1 {
            message += &format!("Content-Type: multipart/mixed; boundary=b{depth}-\r\n\r\n--b{depth}-\r\n");
            end = format!("\r\n--b{depth}---{end}");
        }
        assert_eq!(of(&(message + "\r\nx" + &end)), Err(Untouchable::Odd));
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_or_refused(bytes in proptest::collection::vec(proptest::sample::select(
            b"Content-Type: multipart/mixed;boundary=b\r\n\r\n--b".to_vec()), 0..300)) {
            let end = header_end(&bytes);
            if let Ok(leaves) = leaves(&HeaderBlock::parse(&bytes[..end]), &bytes[end..]) {
                proptest::prop_assert!(leaves.iter().all(|leaf| leaf.body.end <= bytes.len() - end));
            }
        }
    }
}
