//! What greylisting knows as octets, for a file that outlives the process. Little-endian: eight octets that name the
//! format, a number that grows with each writing, the length of the rest, a CRC-32C of all but itself; then the three
//! tables, each the number of its records and these in the order of their last use. Pure.
//!
//! Octets that do not hold are an error, never a part of what they may have been.

use crate::greylist::{Greylist, Record};
use crate::recent::Recent;

/// Names the format and its version.
const MAGIC: [u8; 8] = *b"vSMTgl01";
/// Octets before the tables.
pub const HEADER: usize = 28;
/// Octets of a record besides its key: the key's length, two times, a count.
const FIXED: usize = 2 + 8 + 8 + 4;
/// Largest file, in octets: three full tables of the longest keys that fit into them.
pub const MAX_SNAPSHOT: usize = 3 * (4 + 65_536 * FIXED + (8 << 20)) + HEADER;

/// All that is known, as the writing of that number.
pub fn write(greylist: &Greylist, number: u64) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    for table in greylist.tables() {
        out.extend((table.len() as u32).to_le_bytes());
        for (key, record) in table.by_use() {
            // Keys are far shorter; a longer one could not be read back.
            let key = key.get(..key.len().min(u16::MAX.into())).unwrap_or_default();
            out.extend((key.len() as u16).to_le_bytes());
            out.extend(key.as_bytes());
            out.extend(record.since_s.to_le_bytes());
            out.extend(record.until_s.to_le_bytes());
            out.extend(record.count.to_le_bytes());
        }
    }
    let length = (out.len() - HEADER) as u64;
    let head: Vec<u8> =
        [&MAGIC[..], &number.to_le_bytes(), &length.to_le_bytes()].into_iter().flatten().copied().collect();
    let sum = checksum(&head, out.get(HEADER..).unwrap_or_default());
    for (place, octet) in out.iter_mut().zip(head.into_iter().chain(sum.to_le_bytes())) {
        *place = octet;
    }
    out
}

/// The number of a writing and what was known then.
///
/// # Errors
/// What is wrong with the octets.
pub fn read(octets: &[u8]) -> Result<(u64, Greylist), &'static str> {
    let mut rest = octets;
    if take(&mut rest)? != MAGIC {
        return Err("it is of another format");
    }
    let number = u64::from_le_bytes(take(&mut rest)?);
    let length = u64::from_le_bytes(take(&mut rest)?);
    let sum = u32::from_le_bytes(take(&mut rest)?);
    let head = octets.get(..HEADER - 4).unwrap_or_default();
    // What stands behind is of a longer writing before this one.
    let mut tables =
        usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or("it is cut off")?;
    if checksum(head, tables) != sum {
        return Err("its checksum is wrong");
    }
    let mut greylist = Greylist::default();
    for table in greylist.tables_mut() {
        read_table(&mut tables, table)?;
    }
    if tables.is_empty() { Ok((number, greylist)) } else { Err("there is more than there should be") }
}

fn read_table(rest: &mut &[u8], table: &mut Recent<Record>) -> Result<(), &'static str> {
    for _ in 0..u32::from_le_bytes(take(rest)?) {
        let length = usize::from(u16::from_le_bytes(take(rest)?));
        let (key, behind) = rest.split_at_checked(length).ok_or("a key is cut off")?;
        *rest = behind;
        let key = std::str::from_utf8(key).map_err(|_| "a key is no text")?;
        let since_s = u64::from_le_bytes(take(rest)?);
        let until_s = u64::from_le_bytes(take(rest)?);
        let count = u32::from_le_bytes(take(rest)?);
        table.put(key, Record { since_s, until_s, count });
    }
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (first, behind) = rest.split_first_chunk().ok_or("it is cut off")?;
    *rest = behind;
    Ok(*first)
}

fn checksum(head: &[u8], tables: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), tables)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vsmtp_ipc::edge::filter_limits::{Terms, Triple};

    use super::*;
    use crate::greylist::Sizes;

    const TERMS: Terms = Terms { delay_s: 300, window_s: 3_600, lifetime_s: 86_400, known_after: 3 };

    fn triple(number: u32) -> Triple {
        let sender = format!("ä{number}@src.test");
        Triple { client: "2001:db8::".parse().unwrap(), sender, recipient: "b@dst.test".into() }
    }

    fn sample() -> Greylist {
        let mut list = Greylist::default();
        for number in 0..10 {
            list.ask(1_000, &triple(number), &TERMS);
        }
        list.accepted(1_300, &triple(3), &TERMS);
        list
    }

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let octets = write(&sample(), 7);
        let (number, mut list) = read(&octets).unwrap();
        assert_eq!((number, list.sizes()), (7, Sizes { waiting: 9, welcome: 1, known: 1 }));
        assert_eq!((list.ask(1_400, &triple(3), &TERMS), list.ask(1_200, &triple(4), &TERMS)), (0, 100));
        let (number, list) = read(&write(&list, 8)).unwrap();
        assert_eq!((number, list.sizes()), (8, Sizes { waiting: 9, welcome: 1, known: 1 }));
        // A shorter writing over a longer one.
        let short = write(&Greylist::default(), 9);
        let over = [&short[..], &octets[short.len()..]].concat();
        assert_eq!(read(&over).map(|(number, list)| (number, list.sizes().waiting)), Ok((9, 0)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let octets = write(&sample(), 7);
        for at in 0..octets.len() {
            let mut damaged = octets.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(read(&damaged).is_err(), "{at}");
            assert!(read(&octets[..at]).is_err(), "{at}");
        }
        assert_eq!(read(&[]).map(drop), Err("it is cut off"));
    }

    #[test]
    fn a_full_list_fits_into_the_largest_file() {
        let mut list = Greylist::default();
        let long = "x".repeat(200);
        for number in 0..100_000u32 {
            let sender = format!("{number}{long}@src.test");
            list.ask(0, &Triple { sender, ..triple(0) }, &TERMS);
        }
        assert!(write(&list, 1).len() <= MAX_SNAPSHOT);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&octets);
            // The same behind a header that holds.
            let length = (octets.len() as u64).to_le_bytes();
            let head = [&MAGIC[..], &1u64.to_le_bytes(), &length].concat();
            let sum = checksum(&head, &octets).to_le_bytes();
            let _ = read(&[&head[..], &sum, &octets].concat());
        }
    }
}
