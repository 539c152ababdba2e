//! SMTP replies and enhanced status codes (RFC 5321 4.2, RFC 3463). A reply cannot hold a line break or a control
//! character, so no text from a peer, a script or a disk can forge a second reply line.

use std::fmt;
use std::io::Write;

/// Longest text of one reply line, in octets, so that the line stays within RFC 5321's 512.
const MAX_LINE_TEXT: usize = 480;
/// Octets of `NNN E.NNN.NNN ` before the text of a line, at most.
const MAX_CODES: usize = 14;
/// Most lines of one reply.
const MAX_LINES: usize = 64;

/// An enhanced status code such as 5.7.1 (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl EnhancedCode {
    /// Parses `class.subject.detail` with class 2, 4 or 5 and at most three digits for the others.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = parts.next()?.parse::<u8>().ok().filter(|class| matches!(class, 2 | 4 | 5))?;
        let mut number =
            || parts.next().filter(|s| (1..=3).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit()));
        let (subject, detail) = (number()?.parse().ok()?, number()?.parse().ok()?);
        parts.next().is_none().then_some(EnhancedCode(class, subject, detail))
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A whole reply: code, enhanced code, one or more lines of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<Box<str>>,
}

/// Why something is not a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    /// The code is not from 200 to 599.
    Code,
    /// The enhanced code's class is not the code's first digit.
    Class,
    /// The text is not `NNN[ -][E.N.H ]text`, or its lines carry different codes.
    Syntax,
    /// More than 64 lines.
    TooLong,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplyError::Code => "reply code must be from 200 to 599",
            ReplyError::Class => "enhanced code must begin with the reply code's first digit",
            ReplyError::Syntax => {
                "reply must be NNN, a space or '-', and text, with the same NNN on every line"
            }
            ReplyError::TooLong => "reply has too many lines",
        })
    }
}

impl std::error::Error for ReplyError {}

impl Reply {
    /// Makes a reply. Line breaks in `text` make lines; other control characters are escaped; long lines are folded.
    pub fn new(code: u16, enhanced: Option<EnhancedCode>, text: &str) -> Result<Self, ReplyError> {
        if !(200..=599).contains(&code) {
            return Err(ReplyError::Code);
        }
        if enhanced.is_some_and(|e| u16::from(e.0) != code / 100) {
            return Err(ReplyError::Class);
        }
        let mut lines = Vec::new();
        for line in text.split('\n').map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty()) {
            fold(&escape_text(line), &mut lines);
        }
        if lines.is_empty() {
            lines.push("".into());
        }
        if lines.len() > MAX_LINES {
            return Err(ReplyError::TooLong);
        }
        Ok(Reply { code, enhanced, lines })
    }

    /// For replies that are written in our own source: a wrong one becomes a plain 451 rather than a panic.
    pub fn fixed(code: u16, enhanced: EnhancedCode, text: &str) -> Self {
        Self::new(code, Some(enhanced), text).unwrap_or(Reply {
            code: 451,
            enhanced: Some(EnhancedCode(4, 3, 0)),
            lines: vec!["internal error".into()],
        })
    }

    /// Parses `NNN[ -][E.N.H ]text`, one or more lines; empty lines are ignored.
    pub fn parse(text: &str) -> Result<Self, ReplyError> {
        let (mut code, mut enhanced, mut body) = (None, None, String::new());
        for line in text.split('\n').map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty()) {
            let digits =
                line.get(..3).filter(|d| d.bytes().all(|b| b.is_ascii_digit())).ok_or(ReplyError::Syntax)?;
            let this: u16 = digits.parse().map_err(|_| ReplyError::Syntax)?;
            if *code.get_or_insert(this) != this {
                return Err(ReplyError::Syntax);
            }
            let rest = line.get(3..).unwrap_or("");
            let rest =
                rest.strip_prefix([' ', '-']).or(rest.is_empty().then_some("")).ok_or(ReplyError::Syntax)?;
            let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            let text = match EnhancedCode::parse(first) {
                Some(found) => {
                    enhanced = enhanced.or(Some(found));
                    tail
                }
                None => rest,
            };
            body.push_str(text);
            body.push('\n');
        }
        Self::new(code.ok_or(ReplyError::Syntax)?, enhanced, &body)
    }

    /// The same with an enhanced code, if it has none and may have one: those of the class 3 have none (RFC 2034 4). It is the one
    /// with which the text begins, if that fits, and else one of this subject and detail.
    pub fn completed(mut self, subject: u16, detail: u16) -> Self {
        let class = u8::try_from(self.code / 100).ok().filter(|class| matches!(class, 2 | 4 | 5));
        let (None, Some(class)) = (self.enhanced, class) else { return self };
        let said = self.lines.first().and_then(|line| leading_code(line, class)).map(|(code, _)| code);
        if said.is_some() {
            for line in &mut self.lines {
                *line = leading_code(line, class).map_or_else(|| line.clone(), |(_, text)| text.into());
            }
        }
        self.enhanced = Some(said.unwrap_or(EnhancedCode(class, subject, detail)));
        self
    }

    /// The three-digit code, 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code, if there is one.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The lines of text, without codes; at least one.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| &**line)
    }

    /// True for 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// True for 4xx.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// True for 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the wire form: every line with code and enhanced code, each ended by CRLF.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let last = self.lines.len() - 1;
        out.reserve(self.lines.iter().map(|line| line.len() + MAX_CODES + 2).sum());
        for (at, line) in self.lines.iter().enumerate() {
            let mark = if at == last { ' ' } else { '-' };
            // Writing to a Vec cannot fail.
            let _ = match self.enhanced {
                Some(enhanced) => write!(out, "{}{mark}{enhanced} ", self.code),
                None => write!(out, "{}{mark}", self.code),
            };
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// One line, as in logs and delivery reports: `550 5.1.1 no such user; second line`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for (at, line) in self.lines.iter().enumerate() {
            write!(f, "{}{line}", if at == 0 { " " } else { "; " })?;
        }
        Ok(())
    }
}

/// Replaces control characters by `?`, so that the text is safe in a reply line, a header or a report.
pub fn escape_text(text: &str) -> String {
    if text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { if c == '\t' { ' ' } else { '?' } } else { c }).collect()
}

/// The enhanced code of this class with which a line begins, and what is behind it.
fn leading_code(line: &str, class: u8) -> Option<(EnhancedCode, &str)> {
    let (first, text) = line.split_once(' ').unwrap_or((line, ""));
    EnhancedCode::parse(first).filter(|code| code.0 == class).map(|code| (code, text))
}

fn fold(line: &str, lines: &mut Vec<Box<str>>) {
    let mut rest = line;
    while rest.len() > MAX_LINE_TEXT {
        let mut cut = MAX_LINE_TEXT;
        while !rest.is_char_boundary(cut) {
            cut -= 1;
        }
        let at = rest[..cut].rfind(' ').filter(|at| *at > 0).unwrap_or(cut);
        lines.push(rest[..at].into());
        rest = rest[at..].trim_start_matches(' ');
    }
    lines.push(rest.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_carries_both_codes() {
        let reply = Reply::new(550, Some(EnhancedCode(5, 7, 1)), "no\nand no").unwrap();
        assert_eq!(wire(&reply), "550-5.7.1 no\r\n550 5.7.1 and no\r\n");
        assert_eq!(reply.to_string(), "550 5.7.1 no; and no");
    }

    #[test]
    fn an_enhanced_code_is_added_where_there_is_none_and_may_be_one() {
        for (code, text, completed) in [
            (550, "5.7.27 no\n5.7.27 really\nno", "550 5.7.27 no; really; no"),
            (550, "5.7.27", "550 5.7.27 "),
            (550, "4.7.1 no", "550 5.7.1 4.7.1 no"),
            (450, "4.2 is the version", "450 4.7.1 4.2 is the version"),
            (354, "3.0.0 go on", "354 3.0.0 go on"),
        ] {
            assert_eq!(Reply::new(code, None, text).unwrap().completed(7, 1).to_string(), completed);
        }
        let both = Reply::new(550, Some(EnhancedCode(5, 7, 1)), "5.7.27 said of another").unwrap();
        assert_eq!(both.clone().completed(7, 1), both);
        for (text, completed) in [
            ("250 fine", "250 2.7.1 fine"),
            ("450 not now", "450 4.7.1 not now"),
            ("550 5.1.1 nobody", "550 5.1.1 nobody"),
            ("354 go on", "354 go on"),
        ] {
            assert_eq!(Reply::parse(text).unwrap().completed(7, 1).to_string(), completed);
        }
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let reply = Reply::new(250, None, "ok\r250 forged\x1b[2J\0").unwrap();
        assert_eq!(wire(&reply), "250 ok?250 forged?[2J?\r\n");
    }

    #[test]
    fn texts_of_scripts_parse() {
        let reply = Reply::parse("501-4.7.1 a\r\n501 b\r\n");
        assert_eq!(reply, Err(ReplyError::Class));
        assert_eq!(Reply::parse("554 permanent\r\n").unwrap().to_string(), "554 permanent");
        assert_eq!(Reply::parse("550 5.7.2").unwrap().enhanced(), Some(EnhancedCode(5, 7, 2)));
        for bad in ["", "5", "55x a", "550a", "550-a\r\n551 b", "100 a", "999 b", "5500"] {
            assert!(Reply::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_lines_are_folded_below_512() {
        let reply = Reply::new(550, None, &"é".repeat(2000)).unwrap();
        assert!(wire(&reply).lines().all(|line| line.len() <= 510));
    }

    proptest::proptest! {
        #[test]
        fn parse_never_panics_and_prints_clean_lines(text in "\\PC{0,60}|(25[0-9][ -]\\PC{0,20}\r\n){0,4}") {
            if let Ok(reply) = Reply::parse(&text) {
                proptest::prop_assert!(wire(&reply).ends_with("\r\n"));
            }
        }
    }
}
