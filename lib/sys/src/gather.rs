//! Writing a list of pieces completely: short writes are continued, lists longer than the kernel takes are split.

use std::io::{self, IoSlice};

/// The most pieces one call may carry (the kernel's UIO_MAXIOV).
const MAX_PIECES: usize = 1024;

/// How many bytes a list of pieces holds.
pub(crate) fn total(parts: &[IoSlice<'_>]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

/// Writes all of `parts` through `write(pieces, bytes written before)`, which may write less than it was given.
///
/// The usual case, one complete write, allocates nothing.
pub(crate) fn write_all(
    parts: &[IoSlice<'_>],
    mut write: impl FnMut(&[IoSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<u64> {
    let wanted = total(parts);
    let mut written = 0;
    if parts.len() <= MAX_PIECES && wanted > 0 {
        written = progress(write(parts, 0)?)?;
    }
    while written < wanted {
        let rest = remainder(parts, written);
        written += progress(write(&rest, written)?)?;
    }
    Ok(written)
}

/// A write that takes nothing would be repeated for ever.
fn progress(written: usize) -> io::Result<u64> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written as u64) }
}

/// The pieces left after the first `skip` bytes, at most as many as one call takes.
fn remainder<'a>(parts: &'a [IoSlice<'_>], mut skip: u64) -> Vec<IoSlice<'a>> {
    let mut rest = Vec::with_capacity(parts.len().min(MAX_PIECES));
    for part in parts {
        let length = part.len() as u64;
        if skip >= length {
            skip -= length;
            continue;
        }
        let start = usize::try_from(skip).expect("skip is below the length of a slice");
        rest.push(IoSlice::new(part.split_at(start).1));
        skip = 0;
        if rest.len() == MAX_PIECES {
            break;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(parts: &[IoSlice<'_>], per_call: usize) -> (Vec<u8>, usize) {
        let mut out = Vec::new();
        let mut calls = 0;
        let written = write_all(parts, |pieces, done| {
            assert!(pieces.len() <= MAX_PIECES);
            assert_eq!(done, out.len() as u64);
            calls += 1;
            let flat: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let taken = flat.len().min(per_call);
            out.extend_from_slice(&flat[..taken]);
            Ok(taken)
        });
        assert_eq!(written.unwrap(), out.len() as u64);
        (out, calls)
    }

    #[test]
    fn short_writes_are_continued_where_they_stopped() {
        let parts = [b"ab".as_slice(), b"", b"cdefg", b"h"].map(IoSlice::new);
        for per_call in 1..=9 {
            let (out, calls) = collect(&parts, per_call);
            assert_eq!(out, b"abcdefgh");
            assert_eq!(calls, 8usize.div_ceil(per_call));
        }
    }

    #[test]
    fn a_long_list_is_split() {
        let bytes: Vec<u8> = (0..=255u8).cycle().take(3000).collect();
        let parts: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
        let (out, calls) = collect(&parts, usize::MAX);
        assert_eq!(out, bytes);
        assert_eq!(calls, 3);
    }

    #[test]
    fn nothing_to_write_makes_no_call_and_a_write_of_nothing_is_an_error() {
        assert_eq!(collect(&[], 1).1, 0);
        assert_eq!(collect(&[IoSlice::new(b"")], 1).1, 0);
        let error = write_all(&[IoSlice::new(b"x")], |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
