//! The form of a file. Little-endian: eight octets that name what is kept and its version, a number that grows with each
//! writing, the length of the rest, a CRC-32C of all but itself; then what is kept. Pure.
//!
//! Octets that do not hold are an error, never a part of what they may have been.

/// Octets before what is kept.
pub const HEADER: usize = 28;

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Names it, and the version of its octets.
    pub magic: [u8; 8],
    /// Most octets of it.
    pub max_octets: usize,
}

/// What stands before a body that is the writing of that number.
pub fn header(format: &Format, number: u64, body: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let length = (body.len() as u64).to_le_bytes();
    let head: Vec<u8> = [format.magic, number.to_le_bytes(), length].concat();
    let sum = checksum(&head, body).to_le_bytes();
    header.iter_mut().zip(head.into_iter().chain(sum)).for_each(|(place, octet)| *place = octet);
    header
}

/// The number of a writing, and its body. What stands behind is of a longer writing before it.
///
/// # Errors
/// What is wrong with the octets.
pub fn open<'o>(format: &Format, octets: &'o [u8]) -> Result<(u64, &'o [u8]), &'static str> {
    let mut rest = octets;
    if take(&mut rest)? != format.magic {
        return Err("it is of another format");
    }
    let number = u64::from_le_bytes(take(&mut rest)?);
    let length = u64::from_le_bytes(take(&mut rest)?);
    let sum = u32::from_le_bytes(take(&mut rest)?);
    let head = octets.get(..HEADER - 4).unwrap_or_default();
    let body = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or("it is cut off")?;
    if checksum(head, body) == sum { Ok((number, body)) } else { Err("its checksum is wrong") }
}

/// The number that a header states; `None` if it is of another format.
pub fn number(format: &Format, mut header: &[u8]) -> Option<u64> {
    let magic = take(&mut header).ok()?;
    let number = u64::from_le_bytes(take(&mut header).ok()?);
    (magic == format.magic).then_some(number)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (first, behind) = rest.split_first_chunk().ok_or("it is cut off")?;
    *rest = behind;
    Ok(*first)
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMAT: Format = Format { magic: *b"testing1", max_octets: 1_000 };

    fn file(number: u64, body: &[u8]) -> Vec<u8> {
        [&header(&FORMAT, number, body), body].concat()
    }

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let long = file(7, b"what is known");
        assert_eq!(open(&FORMAT, &long), Ok((7, &b"what is known"[..])));
        assert_eq!(number(&FORMAT, &long), Some(7));
        // A shorter writing over a longer one.
        let short = file(9, b"");
        let over = [&short[..], &long[short.len()..]].concat();
        assert_eq!(open(&FORMAT, &over), Ok((9, &b""[..])));
        let other = Format { magic: *b"testing2", ..FORMAT };
        assert_eq!(open(&other, &long), Err("it is of another format"));
        assert_eq!(number(&other, &long), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let octets = file(7, b"what is known");
        for at in 0..octets.len() {
            let mut damaged = octets.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(open(&FORMAT, &damaged).is_err(), "{at}");
            assert!(open(&FORMAT, &octets[..at]).is_err(), "{at}");
        }
        assert_eq!(open(&FORMAT, &[]), Err("it is cut off"));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = open(&FORMAT, &octets);
            let _ = open(&FORMAT, &[&FORMAT.magic[..], &octets].concat());
        }
    }
}
