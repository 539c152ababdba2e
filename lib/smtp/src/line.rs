//! Command lines. Only CRLF ends a line (RFC 5321 2.3.8); nothing else may, or two servers would see two dialogues in
//! one stream of bytes (SMTP smuggling). Never keeps bytes: what is too long or broken is skipped, not stored.

use memchr::{memchr, memchr2};

/// Longest command line with its CRLF, in octets (RFC 5321 4.5.3.1.4).
pub const LINE_LIMIT: usize = 512;
/// Longest MAIL or RCPT line with its CRLF, in octets: paths and the parameters of SIZE, DSN and SMTPUTF8.
pub const PATH_LINE_LIMIT: usize = 2048;
/// Most octets that are skipped in search of the end of a broken line.
pub(crate) const SKIP_LIMIT: usize = 1 << 20;

/// What to do with a CR or LF that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BareNewline {
    /// Refuse the command, and the message at its end.
    #[default]
    Refuse,
    /// A lone LF ends a command; in a message lone CR and LF become CRLF. They never end the message.
    Normalise,
}

/// The first line of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line without its end; `used` octets of input are done with.
    Complete { text: &'a [u8], used: usize },
    /// Its end has not come yet.
    Partial,
    /// It holds a CR or LF of its own: skip to the next CRLF, after `used` octets.
    Bare { used: usize },
    /// It is longer than the limit: skip to the next CRLF, after `used` octets.
    TooLong { used: usize },
}

/// Where the skipping of a broken line has come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    /// The next line begins after this many octets.
    Done(usize),
    /// So many octets are gone and the end has not come.
    More(usize),
}

/// Finds the first line of at most `limit` octets, CRLF included.
pub(crate) fn split(input: &[u8], limit: usize, bare: BareNewline) -> Line<'_> {
    let window = &input[..input.len().min(limit)];
    let mut from = 0;
    while let Some(found) = memchr2(b'\r', b'\n', &window[from..]) {
        let at = from + found;
        match (window[at], window.get(at + 1), bare) {
            (b'\r', Some(b'\n'), _) => return Line::Complete { text: &window[..at], used: at + 2 },
            (b'\r', None, _) if input.len() < limit => return Line::Partial,
            (b'\r', None, _) => return Line::TooLong { used: at },
            (b'\n', _, BareNewline::Normalise) => {
                return Line::Complete { text: &window[..at], used: at + 1 };
            }
            (_, _, BareNewline::Refuse) => return Line::Bare { used: at + 1 },
            // A lone CR is left in the text, where the command parser refuses it as a control character.
            (_, _, BareNewline::Normalise) => from = at + 1,
        }
    }
    if input.len() < limit { Line::Partial } else { Line::TooLong { used: window.len() } }
}

/// Skips to behind the next CRLF. A CR at the very end is not skipped: its LF may follow.
pub(crate) fn skip(input: &[u8]) -> Skip {
    let mut from = 0;
    while let Some(found) = memchr(b'\r', &input[from..]) {
        let at = from + found;
        match input.get(at + 1) {
            Some(b'\n') => return Skip::Done(at + 2),
            Some(_) => from = at + 1,
            None => return Skip::More(at),
        }
    }
    Skip::More(input.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(input: &[u8]) -> Line<'_> {
        split(input, 16, BareNewline::Refuse)
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(refuse(b"NOOP\r\nQUIT\r\n"), Line::Complete { text: b"NOOP", used: 6 });
        for partial in [&b""[..], b"NOOP", b"NOOP\r"] {
            assert_eq!(refuse(partial), Line::Partial);
        }
        assert_eq!(refuse(b"NOOP\nQ"), Line::Bare { used: 5 });
        assert_eq!(refuse(b"NOOP\r\r\n"), Line::Bare { used: 5 });
        assert_eq!(refuse(b"NOOP\0\r\n"), Line::Complete { text: b"NOOP\0", used: 7 });
    }

    #[test]
    fn normalising_takes_a_lone_lf() {
        let normalise = |input| split(input, 16, BareNewline::Normalise);
        assert_eq!(normalise(b"NOOP\nQ"), Line::Complete { text: b"NOOP", used: 5 });
        assert_eq!(normalise(b"NO\rOP\r\n"), Line::Complete { text: b"NO\rOP", used: 7 });
    }

    #[test]
    fn the_limit_counts_the_crlf() {
        assert!(matches!(refuse(b"0123456789abcd\r\n"), Line::Complete { used: 16, .. }));
        assert_eq!(refuse(b"0123456789abcde\r\n"), Line::TooLong { used: 15 });
        assert_eq!(refuse(b"0123456789abcdefg"), Line::TooLong { used: 16 });
        assert_eq!(refuse(b"0123456789abcde\r"), Line::TooLong { used: 15 });
    }

    #[test]
    fn skipping_stops_behind_crlf_only() {
        assert_eq!(skip(b"x\ny\rz\r\nNOOP"), Skip::Done(7));
        assert_eq!(skip(b"xyz\r"), Skip::More(3));
        assert_eq!(skip(b"xyz"), Skip::More(3));
    }
}
