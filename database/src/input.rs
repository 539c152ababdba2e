//! What a server says, read line by line and by length, within bounds. Takes nothing for granted: lines have an end and a
//! longest length, and all of an answer is bounded together.

use std::fmt;
use std::io::{self, Read};

use vsmtp_ipc::edge::filter_database::MAX_ANSWER;

/// Longest line of an answer, in octets, without its end.
pub const MAX_LINE: usize = 4096;
/// Most octets of one answer as it comes: what reaches rules, and what is said around it.
pub const MAX_REPLY: usize = 1 << 20;
/// Octets that are read at once.
const AT_ONCE: usize = 16 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The connection has failed, or was not in time.
    Io(io::Error),
    /// That is not how such a server answers.
    Nonsense(&'static str),
    /// More than an answer may have.
    TooLarge,
    /// The server says no, in its own words; the next question can be put on the same connection.
    No(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// Octets that are read, and not used yet.
pub struct Input<R> {
    from: R,
    buffer: Vec<u8>,
    /// Those before it are used.
    at: usize,
    /// Octets that may still come.
    left: usize,
}

impl<R> fmt::Debug for Input<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("unused", &(self.buffer.len() - self.at)).finish_non_exhaustive()
    }
}

impl<R> Input<R> {
    /// Nothing is read yet.
    pub fn new(from: R) -> Self {
        Input { from, buffer: Vec::new(), at: 0, left: MAX_REPLY }
    }

    /// Another answer begins; true if nothing is left of the one before.
    pub fn begin(&mut self) -> bool {
        let is_empty = self.at == self.buffer.len();
        self.buffer = Vec::new();
        self.at = 0;
        self.left = MAX_REPLY;
        is_empty
    }

    /// What it is read from.
    pub fn source(&mut self) -> &mut R {
        &mut self.from
    }
}

impl<R: Read> Input<R> {
    /// The next line, without its end.
    ///
    /// # Errors
    /// There is none, or it is too long, or ends in a bare line feed.
    pub fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut seen = 0;
        let end = loop {
            let unused = self.buffer.get(self.at..).unwrap_or_default();
            let found = unused.get(seen..).unwrap_or_default().iter().position(|octet| *octet == b'\n');
            if let Some(found) = found {
                break seen + found;
            }
            seen = unused.len();
            if seen > MAX_LINE + 1 {
                return Err(Failure::Nonsense("a line without an end"));
            }
            self.fill()?;
        };
        let line = self.take(end + 1);
        match line.strip_suffix(b"\r\n") {
            Some(line) if line.len() <= MAX_LINE => Ok(line.to_vec()),
            Some(_) => Err(Failure::Nonsense("a line without an end")),
            None => Err(Failure::Nonsense("a line that ends in a bare line feed")),
        }
    }

    /// As many octets.
    ///
    /// # Errors
    /// They do not come, or are more than an answer may have.
    pub fn exact(&mut self, len: usize) -> Result<Vec<u8>, Failure> {
        if len > MAX_ANSWER {
            return Err(Failure::TooLarge);
        }
        while self.buffer.len() - self.at < len {
            self.fill()?;
        }
        Ok(self.take(len))
    }

    /// As many octets, and the end of a line behind them.
    ///
    /// # Errors
    /// The same, and something else stands behind them.
    pub fn block(&mut self, len: usize) -> Result<Vec<u8>, Failure> {
        let mut octets = self.exact(len.saturating_add(2))?;
        if octets.split_off(len) != b"\r\n" {
            return Err(Failure::Nonsense("a value that is longer than was said"));
        }
        Ok(octets)
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let taken = self.buffer.get(self.at..self.at + len).unwrap_or_default().to_vec();
        self.at += taken.len();
        taken
    }

    fn fill(&mut self) -> Result<(), Failure> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + AT_ONCE.min(self.left), 0);
        let read = loop {
            match self.from.read(self.buffer.get_mut(old..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = read.as_ref().copied().unwrap_or(0);
        self.buffer.truncate(old + count);
        self.left -= count;
        match read {
            Ok(0) if self.left == 0 => Err(Failure::TooLarge),
            Ok(0) => Err(Failure::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says an octet at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
            let (Some(place), [first, rest @ ..]) = (octets.first_mut(), self.0) else { return Ok(0) };
            *place = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn lines_and_blocks_are_the_same_however_they_come() {
        let said = b"+OK\r\nab\r\n\r\nrest";
        let mut all = Input::new(&said[..]);
        let mut slow = Input::new(Slow(said));
        assert_eq!((all.line().unwrap(), all.block(2).unwrap()), (b"+OK".to_vec(), b"ab".to_vec()));
        assert_eq!((slow.line().unwrap(), slow.block(2).unwrap()), (b"+OK".to_vec(), b"ab".to_vec()));
        assert_eq!((all.line().unwrap(), slow.line().unwrap()), (vec![], vec![]));
        assert!(!all.begin() && slow.begin(), "something is left of the first");
    }

    #[test]
    fn what_is_too_long_or_has_no_end_is_an_error() {
        let line = |octets: Vec<u8>| Input::new(&octets[..]).line().map(|line| line.len());
        let of = |len: usize, end: &str| [vec![b'x'; len], end.as_bytes().to_vec()].concat();
        assert_eq!(line(of(MAX_LINE, "\r\n")).unwrap(), MAX_LINE);
        assert!(matches!(line(of(MAX_LINE + 1, "\r\n")), Err(Failure::Nonsense(_))));
        assert!(matches!(line(of(MAX_REPLY, "")), Err(Failure::Nonsense(_))));
        assert!(matches!(line(of(1, "\n")), Err(Failure::Nonsense(_))));
        assert!(matches!(line(of(1, "")), Err(Failure::Io(_))));
        let octets = vec![b'x'; 2 * MAX_REPLY];
        let mut input = Input::new(&octets[..]);
        assert!(matches!(input.exact(MAX_ANSWER + 1), Err(Failure::TooLarge)));
        let mut all = 0;
        while let Ok(block) = input.exact(MAX_ANSWER) {
            all += block.len();
        }
        assert_eq!(all, MAX_REPLY);
        assert!(matches!(input.exact(1), Err(Failure::TooLarge)));
    }
}
