//! The messages of the load tests. Number and attempt give every octet of one, so that whoever finds it at the far end
//! can tell whether it is whole.

use std::fmt::Write;

use crate::Dice;

/// Every so many letters is larger than fits in a segment of the queue, and takes the way of large bodies.
const LARGE_EVERY: u64 = 101;
/// Every so many letters has a body beyond what the receiver keeps in its own memory.
const MIDDLE_EVERY: u64 = 17;
const LARGE_LINES: u64 = 20_000;
const MIDDLE_LINES: u64 = 700;
const SMALL_LINES: u64 = 30;
/// Letters go to so many mailboxes, and to so many addresses elsewhere.
const MAILBOXES: u64 = 5;

/// One attempt to send one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Letter {
    /// Which letter.
    pub number: u64,
    /// Which attempt of its client, from 1.
    pub attempt: u32,
}

impl Letter {
    /// The mailboxes that letters go to, at local.test.
    pub fn mailboxes() -> Vec<String> {
        (0..MAILBOXES).map(|n| format!("u{n}")).collect()
    }

    /// Whom the next hop does not know: the sender must get a report instead.
    pub const UNKNOWN: &str = "unknown@dst.test";

    /// To whom: a mailbox, addresses elsewhere, or both, and now and then somebody unknown.
    pub fn recipients(&self) -> Vec<String> {
        let own = format!("u{}@local.test", self.number % MAILBOXES);
        let other = |n: u64| format!("r{}@dst.test", (self.number + n) % 7);
        match self.number % 8 {
            0 | 4 => vec![own],
            6 => vec![Letter::UNKNOWN.to_owned()],
            3 => vec![own, other(0), Letter::UNKNOWN.to_owned()],
            7 => vec![own, other(0), other(1)],
            _ => vec![other(0)],
        }
    }

    /// The message, lines ended by CRLF, before dots are stuffed.
    pub fn text(&self) -> String {
        let Letter { number, attempt } = self;
        format!(
            "From: load@src.test\r\nSubject: letter {number}\r\nX-Load: {number} {attempt}\r\n\r\n{}",
            body(*number)
        )
    }

    /// Finds out which letter a delivery report is about; `None` if it says nothing of the unknown recipient.
    pub fn read_report(report: &str) -> Option<Letter> {
        let about = report.contains("Action: failed") && report.contains(Letter::UNKNOWN);
        let words = report.lines().find_map(|line| line.strip_prefix("X-Load: ")).filter(|_| about)?;
        Letter::parse(words)
    }

    fn parse(words: &str) -> Option<Letter> {
        let (number, attempt) = words.split_once(' ')?;
        Some(Letter { number: number.parse().ok()?, attempt: attempt.parse().ok()? })
    }

    /// Finds out which letter a delivered message is; `None` if it is none. The flag says whether it is whole: body
    /// octet by octet, and each field of `once` exactly one time.
    pub fn read(mail: &str, once: &[&str]) -> Option<(Letter, bool)> {
        let mail = mail.replace("\r\n", "\n");
        let (header, found) = mail.split_once("\n\n")?;
        let letter = Letter::parse(header.lines().find_map(|line| line.strip_prefix("X-Load: "))?)?;
        let times = |name: &str| header.lines().filter(|line| line.starts_with(name)).count();
        let whole = found == body(letter.number).replace("\r\n", "\n");
        Some((letter, whole && once.iter().all(|name| times(name) == 1)))
    }
}

/// Lines of all lengths, some of them empty, some beginning with dots.
fn body(number: u64) -> String {
    let mut dice = Dice::new(number);
    let most = match number {
        n if n % LARGE_EVERY == LARGE_EVERY - 1 => LARGE_LINES,
        n if n % MIDDLE_EVERY == MIDDLE_EVERY - 1 => MIDDLE_LINES,
        _ => SMALL_LINES,
    };
    let mut out = String::new();
    for line in 0..most / 2 + dice.below(most / 2) {
        let thrown = dice.throw();
        let filler = "abcdefghijklmnopqrstuvwxyz0123456789 ,;:-_+*/%&()=!?<>[]{}#".as_bytes();
        let length = thrown as usize % filler.len();
        let text = String::from_utf8_lossy(filler.get(..length).unwrap_or(filler));
        let dots = if thrown.is_multiple_of(11) { "." } else { "" };
        let _ = write!(out, "{dots}{text}{line:x}{thrown:x}\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_known_again_and_damage_is_seen() {
        for number in [0, 16, 100] {
            let letter = Letter { number, attempt: 3 };
            let text = letter.text();
            assert_eq!(Letter::read(&text, &[]), Some((letter, true)));
            let mut torn = text.clone();
            torn.truncate(text.len() - 3);
            assert_eq!(Letter::read(&torn, &[]), Some((letter, false)));
            assert_eq!(
                Letter::read(&text.replace("\r\n\r\n", "\r\nX: y\r\nX: y\r\n\r\n"), &["X:"]),
                Some((letter, false))
            );
        }
        assert_eq!(Letter::read("Subject: other\r\n\r\nbody", &[]), None);
    }
}
