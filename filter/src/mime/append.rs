//! Text that rules put at the end of what a message shows: a disclaimer, a footer of a list. One part is changed and nothing
//! else; where that cannot be done so that every reader sees the same, nothing is.
//!
//! Pure: it is given a header and a body, and says what is to stand in the place of what.

use std::ops::Range;

use vsmtp_mail::{Field, HeaderBlock};

use super::coding::{Charset, Coding};
use super::entity::{Leaf, leaves};
use crate::object::Fault;

/// Largest text that is appended, in octets.
pub const MAX_APPENDED: usize = 64 << 10;
/// Longest line of it, in octets (RFC 5322 2.1.1).
const MAX_LINE: usize = 998;

/// Octets that take the place of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// Those that go.
    pub from: Range<usize>,
    /// Those that come.
    pub text: Vec<u8>,
}

/// What is to be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Fields of the message's own header that get these values.
    pub fields: Vec<(&'static str, String)>,
    /// Of the body, from its beginning to its end.
    pub body: Vec<Splice>,
}

/// Which part is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The first `text/plain` that is no attachment.
    Text,
    /// The first `text/html` that is none.
    Html,
}

/// Appends a text to what a message shows. `is_8bit`: its body may have octets above ASCII, as the envelope says. `None`: there
/// is no such part, or it must not be touched.
///
/// # Errors
/// The text itself cannot be appended to anything.
pub fn append(
    header: &HeaderBlock<'_>,
    body: &[u8],
    shown: Shown,
    text: &str,
    is_8bit: bool,
) -> Result<Option<Change>, Fault> {
    let lines = lines(text)?;
    let Ok(leaves) = leaves(header, body) else { return Ok(None) };
    let kind = if shown == Shown::Text { "text/plain" } else { "text/html" };
    let found = leaves.iter().find(|leaf| leaf.is_shown && leaf.kind == kind);
    Ok(found.and_then(|leaf| within(header, body, leaf, &lines, is_8bit)))
}

/// The lines of a text.
fn lines(text: &str) -> Result<Vec<&str>, Fault> {
    if text.len() > MAX_APPENDED || text.contains('\0') {
        return Err(Fault(format!("what is appended is larger than {MAX_APPENDED} bytes, or has a NUL")));
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    if lines.iter().any(|line| line.len() > MAX_LINE || line.contains('\r')) {
        return Err(Fault(format!(
            "what is appended has a line of more than {MAX_LINE} bytes, or half a line break"
        )));
    }
    Ok(lines)
}

/// The change of one part.
fn within(
    header: &HeaderBlock<'_>,
    body: &[u8],
    leaf: &Leaf,
    lines: &[&str],
    is_8bit: bool,
) -> Option<Change> {
    let (charset, coding) = (leaf.charset?, leaf.coding?);
    let raw = body.get(leaf.body.clone())?;
    let now = coding.decode(raw)?;
    if memchr::memmem::find(&now, b"-----BEGIN PGP ").is_some() {
        return None;
    }
    let is_html = leaf.kind == "text/html";
    let (at, before, after) = place(&now, is_html, leaf.header.is_none());
    let text: Vec<String> = lines.iter().map(|line| flowed(line, leaf.is_flowed && !is_html)).collect();
    let text = format!("{before}{}{after}", text.join("\r\n"));
    let may_be_8bit = is_8bit && coding == Coding::EightBit;
    let said = charset.encode(&text).filter(|said| {
        said.is_ascii() || may_be_8bit || matches!(coding, Coding::QuotedPrintable | Coding::Base64)
    });
    // HTML can say all in ASCII.
    let said = said.or_else(|| is_html.then(|| references(&text).into_bytes()));
    if let Some(said) = said {
        return Some(Change { fields: Vec::new(), body: vec![inserted(leaf, coding, &now, at, said)] });
    }
    // A text of another label: what is there must mean the same under it.
    let is_ascii = charset == Charset::Ascii && now.is_ascii();
    if !is_ascii && charset != Charset::Utf8 || is_ascii && leaf.says_more {
        return None;
    }
    let said = text.into_bytes();
    let other = if coding == Coding::Base64 { Coding::Base64 } else { Coding::QuotedPrintable };
    let whole = [&now[..at], &said, &now[at..]].concat();
    let splice = Splice { from: leaf.body.clone(), text: other.encode(&whole) };
    relabelled(header, body, leaf, is_ascii, other, splice)
}

/// What changes of the body when this is inserted there in the text.
fn inserted(leaf: &Leaf, coding: Coding, now: &[u8], at: usize, said: Vec<u8>) -> Splice {
    match coding {
        Coding::SevenBit | Coding::EightBit => {
            let at = leaf.body.start + at;
            Splice { from: at..at, text: said }
        }
        Coding::QuotedPrintable | Coding::Base64 => {
            let whole = [&now[..at], &said, &now[at..]].concat();
            let mut text = coding.encode(&whole);
            // The end of the whole message is the end of a line.
            if leaf.header.is_none() && !text.ends_with(b"\r\n") {
                text.extend_from_slice(b"\r\n");
            }
            Splice { from: leaf.body.clone(), text }
        }
    }
}

/// Where in a text something is inserted, and what comes before and after it.
fn place(now: &[u8], is_html: bool, is_whole: bool) -> (usize, &'static str, &'static str) {
    let lower = now.to_ascii_lowercase();
    let end = |tag: &[u8]| memchr::memmem::rfind(&lower, tag).filter(|_| is_html);
    if let Some(at) = end(b"</body").or_else(|| end(b"</html")) {
        return (at, "", "\r\n");
    }
    let is_at_line = now.is_empty() || now.ends_with(b"\r\n");
    let ends_line = is_whole || is_at_line && !now.is_empty();
    (now.len(), if is_at_line { "" } else { "\r\n" }, if ends_line { "\r\n" } else { "" })
}

/// A line as it stands in flowed text (RFC 3676 4.4): not flowed itself, and not taken for quoted.
fn flowed(line: &str, is_flowed: bool) -> String {
    if !is_flowed || line == "-- " {
        return line.to_owned();
    }
    let line = line.trim_end_matches(' ');
    let is_stuffed = line.starts_with([' ', '>']) || line.starts_with("From ");
    format!("{}{line}", if is_stuffed { " " } else { "" })
}

/// HTML in ASCII.
fn references(html: &str) -> String {
    let one = |c: char| if c.is_ascii() { c.to_string() } else { format!("&#{};", u32::from(c)) };
    html.chars().map(one).collect()
}

/// The change of a part that is UTF-8 from now on, in this coding.
fn relabelled(
    top: &HeaderBlock<'_>,
    body: &[u8],
    leaf: &Leaf,
    was_ascii: bool,
    coding: Coding,
    splice: Splice,
) -> Option<Change> {
    let coding = if coding == Coding::Base64 { "base64" } else { "quoted-printable" };
    let flowed = if leaf.is_flowed { "; format=flowed" } else { "" };
    let mut fields = vec![("Content-Transfer-Encoding", coding.to_owned())];
    if was_ascii {
        fields.insert(0, ("Content-Type", format!("{}; charset=utf-8{flowed}", leaf.kind)));
    }
    let Some(range) = leaf.header.clone() else {
        if top.named("MIME-Version").next().is_none() {
            fields.insert(0, ("MIME-Version", "1.0".to_owned()));
        }
        let mut splice = splice;
        if !splice.text.ends_with(b"\r\n") {
            splice.text.extend_from_slice(b"\r\n");
        }
        return Some(Change { fields, body: vec![splice] });
    };
    let mut header = HeaderBlock::parse(body.get(range.clone())?);
    for (name, value) in fields {
        header.set(Field::new(name, &value)?);
    }
    Some(Change { fields: Vec::new(), body: vec![Splice { from: range, text: header.to_bytes() }, splice] })
}

#[cfg(test)]
mod tests {
    use vsmtp_mail::header_end;

    use super::*;

    fn changed(message: &str, shown: Shown, text: &str, is_8bit: bool) -> Option<String> {
        let end = header_end(message.as_bytes());
        let mut header = HeaderBlock::parse(&message.as_bytes()[..end]);
        let mut body = message.as_bytes()[end..].to_vec();
        let change = append(&header, &body, shown, text, is_8bit).unwrap()?;
        for splice in change.body.into_iter().rev() {
            body.splice(splice.from, splice.text);
        }
        for (name, value) in change.fields {
            header.set(Field::new(name, &value).unwrap());
        }
        Some(String::from_utf8([header.to_bytes(), body].concat()).unwrap())
    }

    fn text(message: &str, text: &str) -> Option<String> {
        changed(message, Shown::Text, text, true)
    }

    #[test]
    fn plain_text_gets_lines_at_its_end_and_nothing_else_changes() {
        let cases = [
            ("Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n\r\nbody\r\none\r\ntwo\r\n"),
            ("Subject: x\r\n\r\nbody", "Subject: x\r\n\r\nbody\r\none\r\ntwo\r\n"),
            ("Subject: x\r\n\r\n", "Subject: x\r\n\r\none\r\ntwo\r\n"),
        ];
        for (before, after) in cases {
            assert_eq!(text(before, "one\ntwo\n").as_deref(), Some(after));
        }
        let mixed = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment\r\n\r\nnot\r\n\
                     --b\r\nX: y\r\n\r\nthis\r\n--b\r\n\r\nnor this\r\n--b--\r\n";
        assert_eq!(
            text(mixed, "end").unwrap(),
            mixed.replace("this\r\n--b\r\n\r\n", "this\r\nend\r\n--b\r\n\r\n")
        );
    }

    #[test]
    fn encodings_and_character_sets_are_those_of_the_part_as_long_as_they_can_be() {
        let typed = |charset: &str, coding: &str, body: &str| {
            format!(
                "Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {coding}\r\n\r\n{body}"
            )
        };
        let coded = |charset: &str, coding: &str, body: &str| text(&typed(charset, coding, body), "\u{e9}");
        assert_eq!(
            coded("iso-8859-1", "quoted-printable", "=E8\r\n"),
            Some(typed("iso-8859-1", "quoted-printable", "=E8\r\n=E9\r\n"))
        );
        assert_eq!(
            coded("utf-8", "base64", "w6gNCg==\r\n"),
            Some(typed("utf-8", "base64", "w6gNCsOpDQo=\r\n"))
        );
        assert_eq!(
            coded("utf-8", "8bit", "\u{e8}\r\n"),
            Some(typed("utf-8", "8bit", "\u{e8}\r\n\u{e9}\r\n"))
        );
        // The envelope allows no octets above ASCII.
        let clear = changed(&typed("utf-8", "8bit", "a\r\n"), Shown::Text, "\u{e9}", false).unwrap();
        let encoded = typed("utf-8", "quoted-printable", "a\r\n=C3=A9\r\n");
        assert_eq!(clear, encoded.replace("\r\n\r\n", "\r\nMIME-Version: 1.0\r\n\r\n"));
        assert_eq!(coded("koi8-r", "quoted-printable", "a\r\n"), None);
        assert_eq!(coded("utf-16", "base64", "YQBiAA=="), None);
        assert_eq!(coded("utf-8", "x-uuencode", "a\r\n"), None);
        // ASCII is UTF-8 too.
        assert_eq!(
            text("Subject: x\r\n\r\na=b\r\n", "\u{e9}").as_deref(),
            Some(
                "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Transfer-Encoding: quoted-printable\r\n\r\na=3Db\r\n=C3=A9\r\n"
            )
        );
    }

    #[test]
    fn html_gets_it_before_its_end() {
        let message = |html: &str| format!("Content-Type: text/html; charset=iso-8859-1\r\n\r\n{html}");
        let html = |before: &str| changed(&message(before), Shown::Html, "<p>\u{20ac}</p>", true);
        assert_eq!(
            html("<html>x</BODY ></html>\r\n"),
            Some(message("<html>x<p>&#8364;</p>\r\n</BODY ></html>\r\n"))
        );
        assert_eq!(html("x\r\n"), Some(message("x\r\n<p>&#8364;</p>\r\n")));
        assert_eq!(text(&message("x"), "no plain text"), None);
    }

    #[test]
    fn flowed_text_stays_as_it_is_meant() {
        let message = "Content-Type: text/plain; format=flowed\r\n\r\nbody\r\n";
        let after = text(message, "-- \n> no quote\nFrom us \n").unwrap();
        assert_eq!(after, format!("{message}-- \r\n > no quote\r\n From us\r\n"));
    }

    #[test]
    fn what_is_signed_or_encrypted_is_left_alone() {
        let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n";
        let smime = "Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n";
        let pgp = "Subject: x\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nx\r\n";
        for message in [signed, smime, pgp] {
            assert_eq!(text(message, "x"), None, "{message}");
        }
        let long = "x".repeat(MAX_LINE + 1);
        for wrong in [long.as_str(), "a\0", "a\rb", &"x\n".repeat(MAX_APPENDED)] {
            assert!(append(&HeaderBlock::parse(b"\r\n"), b"", Shown::Text, wrong, true).is_err());
        }
    }
}
