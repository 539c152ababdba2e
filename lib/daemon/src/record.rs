//! One structured log line: `event=accepted id=… size=1024 from="a b"@c`. Keys and events are words of our own source;
//! values come from anywhere, and no value can end the line, forge a field or send an escape sequence to a terminal.

use std::fmt::{self, Display, Write};

use log::Level;

/// Longest value of one field, in octets; the rest is cut and marked.
const MAX_VALUE: usize = 1024;

/// A line being written.
#[must_use]
pub struct Record {
    level: Level,
    line: String,
}

impl Record {
    /// Begins a line at level info.
    pub fn new(event: &'static str) -> Self {
        Self::at(Level::Info, event)
    }

    /// Begins a line at any level.
    pub fn at(level: Level, event: &'static str) -> Self {
        let mut line = String::new();
        if log::log_enabled!(level) {
            line.reserve(160);
            line.push_str("event=");
            line.push_str(event);
        }
        Record { level, line }
    }

    /// Adds a field.
    pub fn field(mut self, key: &'static str, value: impl Display) -> Self {
        if !self.line.is_empty() {
            self.line.push(' ');
            self.line.push_str(key);
            self.line.push('=');
            write_value(&mut self.line, &value);
        }
        self
    }

    /// Adds a field if there is a value.
    pub fn maybe(self, key: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// Hands the line to the log.
    pub fn emit(self) {
        if !self.line.is_empty() {
            log::log!(self.level, "{}", self.line);
        }
    }
}

/// Writes a value bare if it is one clean word, otherwise in quotes with escapes.
fn write_value(line: &mut String, value: &dyn Display) {
    let start = line.len();
    let _ = write!(Cut { line, left: MAX_VALUE }, "{value}");
    let is_bare = |c: char| !c.is_control() && !matches!(c, ' ' | '"' | '\\' | '=' | '\u{2028}' | '\u{2029}');
    let written = line.get(start..).unwrap_or("");
    let is_word = |octet: u8| matches!(octet, b'!'..=b'~') && !matches!(octet, b'"' | b'\\' | b'=');
    if !written.is_empty() && (written.bytes().all(is_word) || written.chars().all(is_bare)) {
        return;
    }
    let raw = line.split_off(start);
    line.push('"');
    for c in raw.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// A writer that stops taking text after so many octets.
struct Cut<'a> {
    line: &'a mut String,
    left: usize,
}

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.left == 0 {
            return Ok(());
        }
        let mut end = text.len().min(self.left);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.line.push_str(&text[..end]);
        self.left -= end;
        if end < text.len() {
            self.line.push('…');
            self.left = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: &str) -> String {
        let mut out = String::from("x=");
        write_value(&mut out, &value);
        out
    }

    #[test]
    fn clean_words_stand_bare_and_others_are_quoted() {
        assert_eq!(line("a@b.c"), "x=a@b.c");
        assert_eq!(line(""), "x=\"\"");
        assert_eq!(line("a b"), "x=\"a b\"");
        assert_eq!(line("a\" level=x"), "x=\"a\\\" level=x\"");
        assert_eq!(line("a\u{2028}b\u{2029}c"), "x=\"a\\u{2028}b\\u{2029}c\"");
        assert_eq!(line("a\u{2029}c"), "x=\"a\\u{2029}c\"");
    }

    #[test]
    fn no_value_ends_the_line_or_speaks_to_a_terminal() {
        let forged = line("a\r\nevent=delivered\x1b[2J\0\u{9b}");
        assert_eq!(forged, "x=\"a\\r\\nevent=delivered\\u{1b}[2J\\u{0}\\u{9b}\"");
        assert!(line(&"é".repeat(5000)).len() < MAX_VALUE + 16);
    }
}
