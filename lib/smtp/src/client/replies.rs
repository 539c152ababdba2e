//! Replies of a server, from bytes that may be endless, broken or forged. Keeps a bounded part and never fails silently:
//! a reply is whole and clear, or it is a fault.

use std::fmt;

use memchr::memchr;
use vsmtp_mail::{EnhancedCode, Reply, escape_text};

/// Longest reply line that is kept, in octets; the rest of the line is dropped. RFC 5321 allows 512.
const MAX_LINE: usize = 2048;
/// Most octets of one reply, kept or not.
const MAX_REPLY: usize = 64 * 1024;
/// Most octets of text that go on into logs and bounces.
const MAX_TEXT: usize = 4096;
/// Most lines that go on into logs and bounces.
const MAX_TEXT_LINES: usize = 20;

/// A whole reply: code, and text with one `\n` between lines, free of other control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedReply {
    /// 200 to 599.
    pub code: u16,
    /// Without the codes; enhanced codes are still in it.
    pub text: String,
}

/// Why something is not a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyFault {
    /// Not `NNN text`, or NNN is out of range.
    Garbage,
    /// Its lines contradict each other in the first digit.
    MixedCodes,
    /// Longer than 64 KiB.
    Endless,
}

impl fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplyFault::Garbage => "not an SMTP reply",
            ReplyFault::MixedCodes => "a reply with contradicting codes",
            ReplyFault::Endless => "an endless reply",
        })
    }
}

impl std::error::Error for ReplyFault {}

/// Cuts a stream of bytes into replies.
#[derive(Debug, Default)]
pub struct ReplyParser {
    line: Vec<u8>,
    text: String,
    code: Option<u16>,
    octets: usize,
}

impl ReplyParser {
    /// Takes input up to the end of one reply; tells how much was taken, and the reply if it is complete. After a fault
    /// the stream cannot be trusted any more.
    pub fn push(&mut self, input: &[u8]) -> (usize, Option<Result<ParsedReply, ReplyFault>>) {
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            let end = memchr(b'\n', rest);
            let taken = end.map_or(rest.len(), |at| at + 1);
            used += taken;
            self.octets = self.octets.saturating_add(taken);
            if self.octets > MAX_REPLY {
                return (used, Some(Err(ReplyFault::Endless)));
            }
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&rest[..taken.min(room)]);
            if end.is_some() {
                match self.end_of_line() {
                    Ok(None) => {}
                    Ok(Some(reply)) => return (used, Some(Ok(reply))),
                    Err(fault) => return (used, Some(Err(fault))),
                }
            }
        }
        (used, None)
    }

    /// True if part of a reply has come.
    pub fn is_partial(&self) -> bool {
        self.octets > 0
    }

    fn end_of_line(&mut self) -> Result<Option<ParsedReply>, ReplyFault> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, last, text) = split(line).ok_or(ReplyFault::Garbage)?;
        if self.code.is_some_and(|before| before / 100 != code / 100) {
            return Err(ReplyFault::MixedCodes);
        }
        if self.code.is_some() {
            self.text.push('\n');
        }
        match std::str::from_utf8(text) {
            Ok(clean) if !clean.chars().any(char::is_control) => self.text.push_str(clean),
            _ => self.text.push_str(&escape_text(&String::from_utf8_lossy(text))),
        }
        self.code = Some(code);
        if !last {
            return Ok(None);
        }
        let whole = std::mem::take(self);
        Ok(Some(ParsedReply { code, text: whole.text }))
    }
}

/// Code, whether it is the last line, text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let code = code.parse().ok().filter(|code| (200..=599).contains(code))?;
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

impl ParsedReply {
    /// For logs and bounces: the text is cut to 4 KiB and 20 lines, and a stale enhanced code is left in the text.
    pub fn to_reply(&self) -> Reply {
        let enhanced = self.text.split([' ', '\n']).next().and_then(EnhancedCode::parse);
        let enhanced = enhanced.filter(|enhanced| u16::from(enhanced.0) == self.code / 100);
        let mark = enhanced.map(|enhanced| enhanced.to_string()).unwrap_or_default();
        let mut text = String::new();
        for line in self.text.lines().take(MAX_TEXT_LINES) {
            let line = line.strip_prefix(&*mark).map_or(line, str::trim_start);
            text.extend(line.chars().take(MAX_TEXT.saturating_sub(text.len()) / 4));
            text.push('\n');
        }
        Reply::new(self.code, enhanced, &text)
            .unwrap_or_else(|_| Reply::fixed(451, EnhancedCode(4, 5, 0), "unreadable reply"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8]) -> Option<Result<ParsedReply, ReplyFault>> {
        ReplyParser::default().push(input).1
    }

    fn reply(input: &str) -> Reply {
        parse(input.as_bytes()).unwrap().unwrap().to_reply()
    }

    #[test]
    fn replies_of_one_and_more_lines() {
        assert_eq!(reply("250 ok\r\n").to_string(), "250 ok");
        assert_eq!(reply("550-5.1.1 no\r\n550 5.1.1 user\r\n").to_string(), "550 5.1.1 no; user");
        assert_eq!(reply("250\r\n").to_string(), "250 ");
        assert_eq!(reply("250 ok\n").code(), 250);
        assert_eq!(parse(b"250-a\r\n250"), None);
    }

    #[test]
    fn an_enhanced_code_may_be_bare_stale_or_missing() {
        assert_eq!(reply("550 5.7.1\r\n").to_string(), "550 5.7.1 ");
        assert_eq!(reply("450 5.1.1 stale\r\n").to_string(), "450 5.1.1 stale");
        assert_eq!(reply("450 5.1.1 stale\r\n").enhanced(), None);
        assert_eq!(reply("550 5.1.1234 x\r\n").enhanced(), None);
    }

    #[test]
    fn garbage_is_a_fault() {
        for bad in [
            &b"\r\n"[..],
            b"hello\r\n",
            b"25\r\n",
            b"250ok\r\n",
            b"+50 ok\r\n",
            b"150 x\r\n",
            b"650 x\r\n",
            b"\xff\xff\xff\r\n",
        ] {
            assert_eq!(parse(bad), Some(Err(ReplyFault::Garbage)), "{bad:?}");
        }
        assert_eq!(parse(b"250-a\r\n550 b\r\n"), Some(Err(ReplyFault::MixedCodes)));
        assert_eq!(parse(b"250-a\r\n251 b\r\n").unwrap().unwrap().code, 251);
    }

    #[test]
    fn endless_replies_end_in_bounded_memory() {
        let mut parser = ReplyParser::default();
        let fault = (0..100_000).find_map(|_| parser.push(b"250-again\r\n").1);
        assert_eq!(fault, Some(Err(ReplyFault::Endless)));
        let mut parser = ReplyParser::default();
        let fault = (0..100_000).find_map(|_| {
            assert!(parser.line.len() <= MAX_LINE);
            parser.push(b"250 no end").1
        });
        assert_eq!(fault, Some(Err(ReplyFault::Endless)));
    }

    #[test]
    fn long_texts_are_cut_for_the_log() {
        let long = format!("550 {}\r\n", "é".repeat(1500));
        assert!(reply(&long).lines().map(str::len).sum::<usize>() <= MAX_TEXT);
        let many = "550-x\r\n".repeat(500) + "550 y\r\n";
        assert_eq!(reply(&many).lines().count(), MAX_TEXT_LINES);
    }

    proptest::proptest! {
        #[test]
        fn bytes_may_be_cut_anywhere(input in "([0-9]{3}[ -][a-z.0-9 ]{0,8}\r?\n){0,4}", size in 1usize..5) {
            let whole = ReplyParser::default().push(input.as_bytes());
            let mut parser = ReplyParser::default();
            let mut found = None;
            for piece in input.as_bytes().chunks(size) {
                found = parser.push(piece).1;
                if found.is_some() { break; }
            }
            proptest::prop_assert_eq!(whole.1, found);
        }

        #[test]
        fn nothing_panics(input in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Some(Ok(reply)) = parse(&input) {
                let text = reply.to_reply().to_string();
                proptest::prop_assert!(!text.chars().any(char::is_control));
            }
        }
    }
}
