//! What reaches the terminal: tables for people, one JSON object per line for programs. All text that came from mail or
//! from a daemon loses its control characters here, so that no sender can write escape sequences to an operator's screen.

use std::io::Write;

use serde_json::Value;
use vsmtp_mail::{Rfc5322Date, escape_text};

use crate::failure::Failure;

/// Where a command prints.
pub struct Output<'a> {
    sink: &'a mut dyn Write,
    json: bool,
}

impl<'a> Output<'a> {
    /// Prints to `sink`, as JSON if so wanted.
    pub fn new(sink: &'a mut dyn Write, json: bool) -> Self {
        Output { sink, json }
    }

    /// True if programs read this.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One object on a line. serde_json escapes control characters itself.
    pub fn object(&mut self, value: &Value) -> Result<(), Failure> {
        writeln!(self.sink, "{value}")?;
        Ok(())
    }

    /// One line for people.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.sink, "{}", escape_text(text))?;
        Ok(())
    }

    /// One row whose columns have these least widths; the last is not padded. Negative widths align to the right.
    pub fn row(&mut self, widths: &[isize], cells: &[&str]) -> Result<(), Failure> {
        let last = cells.len().saturating_sub(1);
        let mut text = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let cell = escape_text(cell);
            let width = widths.get(at).copied().unwrap_or(0);
            let pad = width.unsigned_abs().saturating_sub(cell.chars().count());
            match (width < 0, at == last) {
                (true, _) => text.extend([" ".repeat(pad), cell]),
                (false, true) => text.push_str(&cell),
                (false, false) => text.extend([cell, " ".repeat(pad)]),
            }
            if at != last {
                text.push_str("  ");
            }
        }
        writeln!(self.sink, "{text}")?;
        Ok(())
    }

    /// A table whose columns are as wide as their widest cell. For lists that are short by nature.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let widths: Vec<isize> =
            widths.into_iter().map(|width| isize::try_from(width).unwrap_or(0)).collect();
        self.row(&widths, head)?;
        for row in rows {
            self.row(&widths, &row.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// The plain sink, for message bytes.
    pub fn raw(&mut self) -> &mut dyn Write {
        self.sink
    }
}

/// Seconds as `3d4h`, `2h5m`, `40s`: the two largest units.
pub fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, length)| seconds >= *length) else { return "0s".to_owned() };
    let mut left = seconds;
    let mut text = String::new();
    for (unit, length) in units.iter().skip(first).take(2) {
        if left >= *length {
            text.push_str(&format!("{}{unit}", left / length));
        }
        left %= length;
    }
    text
}

/// A time for people; `-` for none.
pub fn moment(ms: u64) -> String {
    if ms == 0 { "-".to_owned() } else { Rfc5322Date(ms / 1000).rfc3339() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl FnOnce(&mut Output<'_>)) -> String {
        let mut sink = Vec::new();
        print(&mut Output::new(&mut sink, false));
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn columns_align() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "2".to_owned()]];
        assert_eq!(printed(|out| out.table(&["X", "Y"], &rows).unwrap()), "X     Y\na     1\nlong  2\n");
        assert_eq!(printed(|out| out.row(&[-4, 0], &["12", "x"]).unwrap()), "  12  x\n");
    }

    #[test]
    fn no_escape_sequence_reaches_the_terminal() {
        let text = printed(|out| {
            out.line("a\x1b[2Jb\r\nc").unwrap();
            out.row(&[3], &["\x07x"]).unwrap();
        });
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn spans() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3661, "1h1m"), (90_000, "1d1h"), (86_401, "1d")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
