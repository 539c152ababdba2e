//! What a report returns of the original: all of it, or its header.

use vsmtp_mail::header_end;

use super::{Kind, MAX_HEADER_RETURN, Original, asks_for_header};

/// The part of the original that is returned.
pub(super) struct Returned<'a> {
    bytes: &'a [u8],
    is_whole: bool,
    /// Holds header fields that only RFC 6532 allows, so the type must say so (RFC 6533 5).
    is_global: bool,
}

impl<'a> Returned<'a> {
    /// Failures return what RET asked for, all of it by default; other reports the header, which is enough to
    /// recognise the message (RFC 3461 6.2).
    pub fn choose(kind: Kind, original: &Original<'a>, max_return: usize) -> Self {
        let header = original.start.get(..header_end(original.start)).unwrap_or(original.start);
        let is_all_here = original.size == original.start.len() as u64 && original.start.len() <= max_return;
        let is_failure = matches!(kind, Kind::Failure | Kind::DoubleBounce);
        let is_whole = is_failure && is_all_here && !asks_for_header(original.envelope);
        let bytes = if is_whole { original.start } else { cut_at_line(header) };
        Returned { bytes, is_whole, is_global: !header.is_ascii() }
    }

    /// True if only RFC 6532 allows what is in its header.
    pub fn is_global(&self) -> bool {
        self.is_global
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn contains(&self, needle: &[u8]) -> bool {
        self.bytes.windows(needle.len()).any(|window| window == needle)
    }

    pub fn content_type(&self) -> String {
        let kind = match (self.is_whole, self.is_global) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        let encoding = if self.bytes.is_ascii() { "" } else { "\r\nContent-Transfer-Encoding: 8bit" };
        format!("Content-Type: {kind}{encoding}")
    }

    /// Writes the octets, with every line end as CRLF: what a script has put into the message must not put a bare one
    /// into a report.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut last = 0;
        for &byte in self.bytes {
            match byte {
                b'\n' if last != b'\r' => out.extend_from_slice(b"\r\n"),
                b'\n' => out.push(b'\n'),
                _ => {
                    if last == b'\r' {
                        out.push(b'\n');
                    }
                    out.push(byte);
                }
            }
            last = byte;
        }
        if last == b'\r' {
            out.push(b'\n');
        } else if last != b'\n' {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A header that is longer than anybody reads ends with its last whole line within the limit.
fn cut_at_line(header: &[u8]) -> &[u8] {
    let Some(start) = header.get(..MAX_HEADER_RETURN) else { return header };
    let end = start.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    &start[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Returned { bytes, is_whole: true, is_global: false }.write(&mut out);
        out
    }

    #[test]
    fn line_ends_are_made_whole() {
        assert_eq!(written(b"a\r\nb\nc\rd\r\r\n\n"), b"a\r\nb\r\nc\r\nd\r\n\r\n\r\n");
        assert_eq!(written(b"a"), b"a\r\n");
        assert_eq!(written(b"a\r"), b"a\r\n");
    }

    #[test]
    fn endless_headers_are_cut() {
        let header = b"X: 12345678\r\n".repeat(10_000);
        let cut = cut_at_line(&header);
        assert!(cut.len() <= MAX_HEADER_RETURN && cut.ends_with(b"\r\n"));
        assert_eq!(cut_at_line(&vec![b'x'; MAX_HEADER_RETURN + 1]), b"");
    }
}
