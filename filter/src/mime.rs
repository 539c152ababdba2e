//! What a message is made of (RFC 2045, RFC 2183, RFC 2231): read once, into values that scripts can hold. It only looks;
//! what is changed of a message is said in `mime/append.rs`, which finds parts by a stricter reading of its own.
//!
//! On failure: a message that is too large or has too many parts is a fault of the call, which a rule can catch. The
//! library that reads it runs behind a look at the number of its parts, and a panic of it is such a fault too.

mod append;
mod coding;
mod entity;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders, PartType};

use crate::object::Fault;

pub use append::{Change, Shown, Splice, append};

/// Largest message that is read for its parts, in octets.
pub const MAX_MIME_BYTES: usize = 16 << 20;
/// Most lines that look like boundaries.
const MAX_BOUNDARY_LINES: usize = 10_000;
/// Most fields that open a multipart or a message inside the message: it bounds how deep parts can be nested.
const MAX_CONTAINERS: usize = 256;
/// Most parts that scripts see.
const MAX_PARTS: usize = 10_000;
/// Messages inside messages whose parts are looked at.
const MAX_MESSAGE_DEPTH: usize = 8;
/// Longest name, type or the like of a part that scripts see, in octets.
const MAX_WORD: usize = 1024;

/// One part that is no container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Media type in lower case, such as `text/plain`.
    pub kind: Box<str>,
    /// File name, decoded; empty if it has none.
    pub name: Box<str>,
    /// Content-Disposition in lower case: `inline`, `attachment`, or empty.
    pub disposition: Box<str>,
    /// Parameter charset in lower case; empty if there is none.
    pub charset: Box<str>,
    /// Content-ID without brackets; empty if there is none.
    pub id: Box<str>,
    /// Octets, decoded.
    pub size: usize,
    /// Not shown as text: it has a name, says that it is an attachment, or is neither text nor multipart.
    pub is_attachment: bool,
    /// The text of a text part, decoded; `None` for others.
    pub text: Option<Arc<str>>,
}

/// The parts of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Media type of the whole.
    pub kind: Box<str>,
    /// The parts in order; those of messages inside it too.
    pub parts: Vec<Part>,
}

impl Part {
    /// What stands behind the last dot of the name, in lower case, without what Windows drops at the end.
    pub fn extension(&self) -> String {
        let name = self.name.trim_end_matches(['.', ' ', '\t']);
        name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase()).unwrap_or_default()
    }
}

/// Reads a message.
pub fn read(message: &[u8]) -> Result<Tree, Fault> {
    if message.len() > MAX_MIME_BYTES {
        return Err(Fault(format!(
            "the message is larger than {MAX_MIME_BYTES} bytes: its parts are not read"
        )));
    }
    look(message)?;
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        let message = MessageParser::default().parse(message);
        message.map(|message| tree(&message)).unwrap_or_default()
    }));
    parsed.map_err(|_| {
        log::error!("event=mime-panicked bytes={}", message.len());
        Fault::new("the parts of this message cannot be read")
    })
}

/// Counts what makes reading expensive, before anything is read.
fn look(message: &[u8]) -> Result<(), Fault> {
    let (mut boundaries, mut containers) = (0, 0);
    for line in message.split(|byte| *byte == b'\n') {
        boundaries += usize::from(line.starts_with(b"--"));
        containers += usize::from(opens_container(line));
    }
    if boundaries > MAX_BOUNDARY_LINES || containers > MAX_CONTAINERS {
        return Err(Fault::new("the message has more parts than are looked at"));
    }
    Ok(())
}

/// A line of a header that makes what follows a container. Folded values count too, and so do lines that only look so.
fn opens_container(line: &[u8]) -> bool {
    let value = match memchr::memchr(b':', line) {
        Some(colon)
            if line
                .get(..colon)
                .is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"content-type")) =>
        {
            line.get(colon + 1..).unwrap_or_default()
        }
        _ if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) => line,
        _ => return false,
    };
    let value = value.trim_ascii_start();
    ["multipart/", "message/"]
        .iter()
        .any(|kind| value.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes())))
}

fn tree(message: &Message<'_>) -> Tree {
    let mut parts = Vec::new();
    let mut pending = vec![(message, 0)];
    // Messages inside are taken in the order in which they stand, each behind the one that holds it.
    while let Some((message, depth)) = pending.pop() {
        for part in &message.parts {
            if parts.len() >= MAX_PARTS {
                break;
            }
            match &part.body {
                PartType::Multipart(_) => {}
                PartType::Message(inner) => {
                    parts.push(leaf(part, inner.raw_message.len(), None));
                    if depth < MAX_MESSAGE_DEPTH {
                        pending.push((inner, depth + 1));
                    }
                }
                PartType::Text(text) | PartType::Html(text) => {
                    parts.push(leaf(part, text.len(), Some(Arc::from(&**text))));
                }
                PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
                    parts.push(leaf(part, bytes.len(), None));
                }
            }
        }
    }
    let kind = message.parts.first().map(kind_of).unwrap_or_default();
    Tree { kind, parts }
}

fn leaf(part: &MessagePart<'_>, size: usize, text: Option<Arc<str>>) -> Part {
    let kind = kind_of(part);
    let name = word(part.attachment_name());
    let disposition = word(part.content_disposition().map(|d| &*d.c_type)).to_ascii_lowercase();
    let charset = part.content_type().and_then(|kind| kind.attribute("charset"));
    let is_attachment = &*disposition == "attachment" || !name.is_empty() || text.is_none();
    Part {
        kind,
        charset: word(charset).to_ascii_lowercase().into(),
        id: word(part.content_id()),
        disposition: disposition.into(),
        name,
        size,
        is_attachment,
        text,
    }
}

fn kind_of(part: &MessagePart<'_>) -> Box<str> {
    let Some(kind) = part.content_type() else { return "text/plain".into() };
    let text = match &kind.c_subtype {
        Some(subtype) => format!("{}/{subtype}", kind.c_type),
        None => kind.c_type.to_string(),
    };
    word(Some(&text)).to_ascii_lowercase().into()
}

/// A word for scripts: bounded, and without control characters, for it goes into headers and logs.
fn word(text: Option<&str>) -> Box<str> {
    let mut out = String::new();
    for c in text.unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if out.len() + c.len_utf8() > MAX_WORD {
            break;
        }
        out.push(c);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n\
        preamble\r\n--b\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n\
        --c\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nna=EFve\r\n\
        --c\r\nContent-Type: Text/HTML\r\n\r\n<b>hi</b>\r\n--c--\r\n\
        --b\r\nContent-Type: application/zip; name=\"old.zip\"\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment; filename*=utf-8''r%C3%A9sum%C3%A9.EXE\r\nContent-ID: <1@x>\r\n\r\nUEsDBA==\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: text/plain\r\n\r\ninner text\r\n--b--\r\n";

    #[test]
    fn parts_have_types_names_and_texts() {
        let tree = read(MIXED.as_bytes()).unwrap();
        assert_eq!(&*tree.kind, "multipart/mixed");
        let kinds: Vec<&str> = tree.parts.iter().map(|part| &*part.kind).collect();
        assert_eq!(kinds, ["text/plain", "text/html", "application/zip", "message/rfc822", "text/plain"]);
        assert_eq!(tree.parts[0].text.as_deref().map(str::trim_end), Some("na\u{ef}ve"));
        assert_eq!(&*tree.parts[0].charset, "iso-8859-1");
        let zip = &tree.parts[2];
        assert_eq!((&*zip.name, zip.extension().as_str(), zip.size), ("r\u{e9}sum\u{e9}.EXE", "exe", 4));
        assert_eq!((&*zip.disposition, &*zip.id, zip.is_attachment), ("attachment", "1@x", true));
        assert_eq!(tree.parts[4].text.as_deref().map(str::trim_end), Some("inner text"));
    }

    #[test]
    fn messages_without_structure_have_one_part() {
        for message in ["Subject: x\r\n\r\nbody\r\n", "\r\nbody", "no header", ""] {
            let tree = read(message.as_bytes()).unwrap();
            assert!(tree.parts.len() <= 1, "{message:?}: {tree:?}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_a_header() {
        let message = "Content-Type: application/x; name=\"=?utf-8?Q?a=0D=0ABcc:_x?=\"\r\n\r\nx";
        let tree = read(message.as_bytes()).unwrap();
        assert!(!tree.parts[0].name.contains(['\r', '\n']), "{tree:?}");
        let part = |name: &str| Part { name: name.into(), ..tree.parts[0].clone() };
        for (name, extension) in
            [("a.exe", "exe"), ("a.EXE. ", "exe"), ("a", ""), ("a.tar.gz", "gz"), (".", "")]
        {
            assert_eq!(part(name).extension(), extension, "{name}");
        }
    }

    #[test]
    fn too_much_is_a_fault() {
        let boundaries = "--b\r\n".repeat(MAX_BOUNDARY_LINES + 1);
        let folded =
            "Content-Type:\r\n multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(MAX_CONTAINERS + 1);
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(MAX_CONTAINERS + 1);
        for message in [boundaries, folded, nested, "x".repeat(MAX_MIME_BYTES + 1)] {
            assert!(read(message.as_bytes()).is_err());
        }
    }

    #[test]
    fn the_deepest_that_is_looked_at_is_read() {
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(MAX_CONTAINERS);
        let tree = read(nested.as_bytes()).unwrap();
        assert!(tree.parts.len() <= MAX_PARTS);
        let multiparts: String = (0..MAX_CONTAINERS)
            .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"))
            .collect();
        assert!(read(multiparts.as_bytes()).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::sample::select(
            b"Content-Type: multipart/mixed;boundary=b\r\n\r\n--b".to_vec()), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
