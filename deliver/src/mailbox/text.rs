//! What is written into a mailbox: Return-Path and Delivered-To on top (RFC 5321 4.4, RFC 9228), the message without any
//! Return-Path that it brought, lines ended by LF as mailboxes have them. The body of a binary message (RFC 3030) has no
//! lines and stays as it is. Streams; holds the header and one chunk.

use std::io;
use std::ops::Range;

use vsmtp_mail::{Address, BodyType, HeaderBlock, ReversePath, header_end};

use crate::content::Content;
use crate::mailbox::quote::FromQuoter;

/// Octets read at once.
const CHUNK: usize = 64 * 1024;
/// So much of a message is looked at for its header; fields beyond are carried along unseen.
const MAX_HEADER: usize = 1024 * 1024;
/// Most own-address checks; a message that was redelivered more often has looped.
const MAX_DELIVERED_TO: usize = 100;

/// Why a message is not delivered although nothing is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loop;

/// A message made ready for one mailbox.
pub struct MailboxText<'a> {
    content: &'a Content,
    top: String,
    /// Ranges of the original that are left out, in order.
    skipped: Vec<Range<u64>>,
    /// From here on octets are no lines.
    raw_from: u64,
}

impl<'a> MailboxText<'a> {
    /// Reads the header. `Ok(Err(Loop))` if the message was delivered to this address before.
    pub fn new(
        content: &'a Content,
        body_type: BodyType,
        reverse_path: &ReversePath,
        recipient: &Address,
    ) -> io::Result<Result<Self, Loop>> {
        let head = head(content)?;
        let (mut skipped, mut delivered) = (Vec::new(), 0usize);
        for line in header_lines(&head) {
            let block = HeaderBlock::parse(head.get(line.clone()).unwrap_or_default());
            let Some(field) = block.fields().next() else { continue };
            if field.is("Return-Path") {
                skipped.push(line.start as u64..line.end as u64);
            } else if field.is("Delivered-To") {
                delivered += 1;
                if delivered > MAX_DELIVERED_TO || is_address(&field.unfolded(), recipient) {
                    return Ok(Err(Loop));
                }
            }
        }
        let top = format!("Return-Path: <{reverse_path}>\r\nDelivered-To: {recipient}\r\n");
        let is_binary = body_type == BodyType::BinaryMime;
        let raw_from = if is_binary { header_end(&head) as u64 } else { u64::MAX };
        Ok(Ok(MailboxText { content, top, skipped, raw_from }))
    }

    /// Gives the text to `sink`, piece by piece, with LF line ends.
    pub fn write_to(&self, sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.write(None, sink)
    }

    /// The same with the lines quoted that an mbox reader would take for the next message.
    pub fn write_quoted_to(&self, sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.write(Some(FromQuoter::default()), sink)
    }

    fn write(
        &self,
        mut quoter: Option<FromQuoter>,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut ends = LineEnds::default();
        let (mut plain, mut out) = (Vec::with_capacity(CHUNK + 1), Vec::new());
        let mut give = |bytes: &[u8], raw: bool, last: bool| {
            plain.clear();
            if raw || last {
                ends.finish(&mut plain);
            }
            if raw {
                plain.extend_from_slice(bytes);
            } else {
                ends.push(bytes, &mut plain);
            }
            let Some(quoter) = &mut quoter else { return sink(&plain) };
            out.clear();
            quoter.push(&plain, &mut out);
            if last {
                quoter.finish(&mut out);
            }
            sink(&out)
        };
        give(self.top.as_bytes(), false, false)?;
        let mut buffer = vec![0; usize::try_from(self.content.len()).unwrap_or(CHUNK).min(CHUNK)];
        for range in self.kept() {
            let mut offset = range.start;
            while offset < range.end {
                let raw = offset >= self.raw_from;
                let end = if raw { range.end } else { range.end.min(self.raw_from) };
                let left = usize::try_from(end - offset).unwrap_or(CHUNK);
                let wanted = buffer.len().min(left);
                let part = buffer.get_mut(..wanted).unwrap_or_default();
                offset += self.content.read_at(part, offset)? as u64;
                give(part, raw, false)?;
            }
        }
        give(b"", false, true)
    }

    /// The ranges between the skipped ones.
    fn kept(&self) -> Vec<Range<u64>> {
        let starts = std::iter::once(0).chain(self.skipped.iter().map(|range| range.end));
        let ends = self.skipped.iter().map(|range| range.start).chain(std::iter::once(self.content.len()));
        starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end).collect()
    }
}

fn head(content: &Content) -> io::Result<Vec<u8>> {
    let head = content.head(CHUNK)?;
    let is_whole = head.len() as u64 == content.len() || header_end(&head) < head.len();
    if is_whole { Ok(head) } else { content.head(MAX_HEADER) }
}

/// Where the fields of the header stand, each with its folded lines; only the two that matter here.
fn header_lines(head: &[u8]) -> Vec<Range<usize>> {
    let header = head.get(..header_end(head)).unwrap_or(head);
    let mut lines: Vec<Range<usize>> = Vec::new();
    let mut wanted = false;
    let mut start = 0;
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if let Some(last) = lines.last_mut().filter(|_| wanted) {
                last.end = end;
            }
        } else {
            wanted = starts_with_name(line, b"return-path") || starts_with_name(line, b"delivered-to");
            if wanted {
                lines.push(start..end);
            }
        }
        start = end;
    }
    lines
}

fn starts_with_name(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// Compared as mailboxes are: case does not count.
fn is_address(value: &[u8], address: &Address) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let text = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
    Address::parse(text).is_ok_and(|other| {
        other.domain() == address.domain() && other.folded_local_part() == address.folded_local_part()
    })
}

/// CRLF becomes LF; a lone CR or LF stays.
#[derive(Default)]
struct LineEnds {
    carriage_return: bool,
}

impl LineEnds {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if self.carriage_return && byte != b'\n' {
                out.push(b'\r');
            }
            self.carriage_return = byte == b'\r';
            if !self.carriage_return {
                out.push(byte);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.carriage_return) {
            out.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &[u8], recipient: &str) -> Result<String, Loop> {
        Ok(String::from_utf8(octets(message, BodyType::EightBitMime, recipient)?).unwrap())
    }

    fn octets(message: &[u8], body_type: BodyType, recipient: &str) -> Result<Vec<u8>, Loop> {
        let content = Content::Memory(message.to_vec());
        let sender = ReversePath::parse("s@src.test").unwrap();
        let recipient = Address::parse(recipient).unwrap();
        let text = MailboxText::new(&content, body_type, &sender, &recipient).unwrap()?;
        let mut out = Vec::new();
        text.write_to(|part| {
            out.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
        Ok(out)
    }

    #[test]
    fn a_binary_body_stays_as_it_is() {
        for body in [&b"\0\r\n\r\r\n\n\xff\r"[..], b"", b"\r\n"] {
            let message = [b"Subject: a\r\nReturn-Path: <x@y>\r\n\r\n", body].concat();
            let top = b"Return-Path: <s@src.test>\nDelivered-To: j@dst.test\nSubject: a\n\n";
            assert_eq!(octets(&message, BodyType::BinaryMime, "j@dst.test").unwrap(), [top, body].concat());
        }
    }

    #[test]
    fn the_top_is_new_and_the_only_return_path() {
        let message =
            b"Return-Path: <x@y>\r\nSubject: a\r\n b\r\nRETURN-path:\r\n <z@y>\r\n\r\nReturn-Path: body\r\n";
        assert_eq!(
            text(message, "Jane@dst.test").unwrap(),
            "Return-Path: <s@src.test>\nDelivered-To: Jane@dst.test\nSubject: a\n b\n\nReturn-Path: body\n"
        );
    }

    #[test]
    fn lone_line_ends_stay_as_they_are() {
        assert!(
            text(b"A: b\r\n\r\nx\ry\nz\r\r\n\r", "a@dst.test").unwrap().ends_with("A: b\n\nx\ry\nz\r\n\r")
        );
    }

    #[test]
    fn own_address_in_delivered_to_is_a_loop() {
        for header in ["Delivered-To: jane@DST.test", "delivered-to:\r\n <JANE@dst.test>"] {
            let message = format!("{header}\r\nA: b\r\n\r\n");
            assert_eq!(text(message.as_bytes(), "Jane@dst.test"), Err(Loop), "{header}");
        }
        assert!(text(b"Delivered-To: other@dst.test\r\n\r\n", "jane@dst.test").is_ok());
        assert!(text(b"A: b\r\n\r\nDelivered-To: jane@dst.test\r\n", "jane@dst.test").is_ok());
        let many = "Delivered-To: a@b.test\r\n".repeat(MAX_DELIVERED_TO + 1);
        assert_eq!(text(many.as_bytes(), "jane@dst.test"), Err(Loop));
    }

    #[test]
    fn a_long_message_streams_whatever_the_chunks_cut() {
        let mut message = b"A: b\r\n\r\n".to_vec();
        while message.len() < 3 * CHUNK {
            message.extend_from_slice(b"0123456789\r\n");
        }
        let expected = String::from_utf8(message.clone()).unwrap().replace("\r\n", "\n");
        assert!(text(&message, "a@dst.test").unwrap().ends_with(&expected));
    }
}
