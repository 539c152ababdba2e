//! Little-endian numbers and counted strings: the alphabet of every structure on disk. Reading is bounded by the input
//! and answers `Malformed`, never a panic.

use std::fmt;

use super::layout::Span;

/// Something read from disk is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(
    /// The part that is wrong.
    pub &'static str,
);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Appends to a buffer.
pub(super) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    /// A text of at most 65,535 octets: its length, then itself. A longer one is cut at a character boundary.
    fn put_str(&mut self, value: &str);
    /// Octets with a 32-bit length before them.
    fn put_blob(&mut self, value: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_str(&mut self, value: &str) {
        let cut = cut_at(value, usize::from(u16::MAX));
        self.put_u16(cut.len() as u16);
        self.extend_from_slice(cut.as_bytes());
    }

    fn put_blob(&mut self, value: &[u8]) {
        self.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.extend_from_slice(value);
    }
}

/// The longest prefix of at most `max` octets that ends at a character boundary.
pub(super) fn cut_at(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Takes from the front of a slice.
#[derive(Debug, Clone)]
pub(super) struct Take<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Take<'a> {
    /// `what` names the structure in errors.
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Take { rest: bytes, what }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed(self.what))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[value]| value)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, Malformed> {
        let len = usize::from(self.u16()?);
        std::str::from_utf8(self.bytes(len)?).map_err(|_| Malformed(self.what))
    }

    pub(super) fn blob(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed(self.what))?;
        self.bytes(len)
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Every octet must have been taken.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(self.what)) }
    }
}

/// Reads and writes fields of fixed size by their [`Span`]. The buffer is the structure: as long as its last field.
pub(super) mod fixed {
    use super::Span;

    /// The octets of a field; empty if the buffer is too short.
    pub(in crate::store) fn get<'a>(buffer: &'a [u8], span: &Span) -> &'a [u8] {
        buffer.get(span.at..span.at + span.len).unwrap_or_default()
    }

    pub(in crate::store) fn get_uint(buffer: &[u8], span: &Span) -> u64 {
        debug_assert!(span.len <= 8);
        let mut wide = [0u8; 8];
        for (to, from) in wide.iter_mut().zip(get(buffer, span)) {
            *to = *from;
        }
        u64::from_le_bytes(wide)
    }

    pub(in crate::store) fn get_u32(buffer: &[u8], span: &Span) -> u32 {
        debug_assert!(span.len <= 4);
        get_uint(buffer, span) as u32
    }

    pub(in crate::store) fn put(buffer: &mut [u8], span: &Span, value: &[u8]) {
        debug_assert_eq!(span.len, value.len());
        if let Some(field) = buffer.get_mut(span.at..span.at + span.len) {
            field.copy_from_slice(value);
        }
    }

    pub(in crate::store) fn put_uint(buffer: &mut [u8], span: &Span, value: u64) {
        put(buffer, span, &value.to_le_bytes()[..span.len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        let mut out = Vec::new();
        out.put_u8(1);
        out.put_u16(2);
        out.put_u32(3);
        out.put_u64(4);
        out.put_str("five");
        out.put_blob(b"six");
        let mut take = Take::new(&out, "test");
        assert_eq!((take.u8(), take.u16(), take.u32(), take.u64()), (Ok(1), Ok(2), Ok(3), Ok(4)));
        assert_eq!(take.str(), Ok("five"));
        assert_eq!(take.blob(), Ok(&b"six"[..]));
        assert_eq!(take.clone().end(), Ok(()));
        assert_eq!(take.u8(), Err(Malformed("test")));
    }

    #[test]
    fn a_length_beyond_the_input_is_refused() {
        assert!(Take::new(&[255, 255, 0], "test").str().is_err());
        assert!(Take::new(&[255, 255, 255, 255], "test").blob().is_err());
        assert!(Take::new(&[1, 0, 0xff], "test").str().is_err());
        assert!(Take::new(&[0], "test").end().is_err());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut_at("aé", 2), "a");
        assert_eq!(cut_at("aé", 3), "aé");
    }
}
