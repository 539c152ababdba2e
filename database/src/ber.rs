//! BER, as far as LDAP has it (RFC 4511 5.1): definite lengths, tags of one octet. Pure; nothing is nested deeper than whoever
//! reads it looks.

use std::io::Read;

use crate::input::{Failure, Input};

/// A whole number.
pub const INTEGER: u8 = 0x02;
/// True or false.
pub const BOOLEAN: u8 = 0x01;
/// Octets.
pub const OCTETS: u8 = 0x04;
/// One of a list of meanings.
pub const ENUMERATED: u8 = 0x0a;
/// Several things in order.
pub const SEQUENCE: u8 = 0x30;
/// Several things.
pub const SET: u8 = 0x31;

/// Most octets that say how long something is.
const MAX_LENGTH_OCTETS: usize = 4;
const NONSENSE: Failure = Failure::Nonsense("something else than LDAP");

/// Something with its tag and length before it.
#[expect(clippy::big_endian_bytes, reason = "BER has the largest octet first")]
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut written = vec![tag];
    let len = content.len();
    match u8::try_from(len) {
        Ok(short @ 0..=0x7f) => written.push(short),
        _ => {
            let octets = len.to_be_bytes();
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            let count = u8::try_from(octets.len() - zeros).unwrap_or_default();
            written.push(0x80 | count);
            written.extend_from_slice(octets.get(zeros..).unwrap_or_default());
        }
    }
    written.extend_from_slice(content);
    written
}

/// A number.
#[expect(clippy::big_endian_bytes, reason = "BER has the largest octet first")]
pub fn number(tag: u8, number: i64) -> Vec<u8> {
    let octets = number.to_be_bytes();
    let is_spare = |at: &usize| {
        let (Some(first), Some(next)) = (octets.get(*at), octets.get(at + 1)) else { return false };
        (*first == 0 && next & 0x80 == 0) || (*first == 0xff && next & 0x80 != 0)
    };
    let spare = (0..octets.len()).take_while(is_spare).count();
    element(tag, octets.get(spare..).unwrap_or_default())
}

/// A truth value.
pub fn truth(tag: u8, is_true: bool) -> Vec<u8> {
    element(tag, &[if is_true { 0xff } else { 0 }])
}

/// What is left of something that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads these octets.
    pub fn new(octets: &'a [u8]) -> Self {
        Reader(octets)
    }

    /// True if nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next thing: its tag and what is in it.
    ///
    /// # Errors
    /// There is none that is whole.
    pub fn take(&mut self) -> Result<(u8, &'a [u8]), Failure> {
        let [tag, first, rest @ ..] = self.0 else { return Err(NONSENSE) };
        let (len, rest) = match length_octets(*first)? {
            None => (usize::from(*first), rest),
            Some(count) => {
                let (octets, rest) = rest.split_at_checked(count).ok_or(NONSENSE)?;
                (length(octets), rest)
            }
        };
        let (content, rest) = rest.split_at_checked(len).ok_or(NONSENSE)?;
        self.0 = rest;
        Ok((*tag, content))
    }

    /// The next thing, which has this tag.
    ///
    /// # Errors
    /// It has another, or there is none.
    pub fn expect(&mut self, tag: u8) -> Result<&'a [u8], Failure> {
        match self.take()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(NONSENSE),
        }
    }

    /// The next thing, which is a number with this tag, of up to 32 bits.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&mut self, tag: u8) -> Result<i64, Failure> {
        let octets = self.expect(tag)?;
        let (Some(first), 1..=4) = (octets.first(), octets.len()) else { return Err(NONSENSE) };
        let sign = if first & 0x80 == 0 { 0 } else { -1 };
        Ok(octets.iter().fold(sign, |number: i64, octet| (number << 8) | i64::from(*octet)))
    }
}

/// How many octets say the length; `None` if this one does.
fn length_octets(first: u8) -> Result<Option<usize>, Failure> {
    match first {
        0..=0x7f => Ok(None),
        // Nobody knows where it ends.
        0x80 => Err(NONSENSE),
        more => Some(usize::from(more & 0x7f))
            .filter(|count| *count <= MAX_LENGTH_OCTETS)
            .map(Some)
            .ok_or(NONSENSE),
    }
}

fn length(octets: &[u8]) -> usize {
    octets.iter().fold(0, |length, octet| (length << 8) | usize::from(*octet))
}

/// Reads one whole message, of at most as many octets as an answer may have: what is in it.
///
/// # Errors
/// That is none, or it is too large.
pub fn message<R: Read>(input: &mut Input<R>) -> Result<Vec<u8>, Failure> {
    let start = input.exact(2)?;
    let [SEQUENCE, first] = start[..] else { return Err(NONSENSE) };
    let len = match length_octets(first)? {
        None => usize::from(first),
        Some(count) => length(&input.exact(count)?),
    };
    input.exact(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        for len in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![b'x'; len];
            let written = element(OCTETS, &content);
            let mut reader = Reader::new(&written);
            assert_eq!(reader.take().unwrap(), (OCTETS, &content[..]));
            assert!(reader.is_empty());
            let whole = element(SEQUENCE, &content);
            assert_eq!(message(&mut Input::new(&whole[..])).unwrap(), content);
        }
        for (value, octets) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (-1, &[2, 1, 255]),
            (-129, &[2, 2, 255, 127]),
            (i64::from(i32::MAX), &[2, 4, 127, 255, 255, 255]),
        ] {
            assert_eq!(number(INTEGER, value), octets);
            assert_eq!(Reader::new(octets).number(INTEGER).unwrap(), value);
        }
        assert_eq!(truth(BOOLEAN, true), [1, 1, 255]);
    }

    #[test]
    fn what_is_cut_off_or_without_end_is_an_error() {
        for octets in [
            &[][..],
            &[4],
            &[4, 1],
            &[4, 0x80, 0, 0],
            &[4, 0x85, 0, 0, 0, 0, 1, 1],
            &[4, 0x82, 1],
            &[4, 0xff],
        ] {
            assert!(Reader::new(octets).take().is_err(), "{octets:?}");
        }
        for octets in [&[2, 0][..], &[2, 5, 0, 0, 0, 0, 0], &[4, 1, 1]] {
            assert!(Reader::new(octets).number(INTEGER).is_err(), "{octets:?}");
        }
        let large = [SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(message(&mut Input::new(&large[..])), Err(Failure::TooLarge)));
        assert!(matches!(message(&mut Input::new(&b"HTTP/1.1"[..])), Err(Failure::Nonsense(_))));
        assert!(matches!(message(&mut Input::new(&[SEQUENCE, 5, 0][..])), Err(Failure::Io(_))));
    }
}
