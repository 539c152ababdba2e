//! What greylisting knows as octets, for files that outlive the process: three tables, each the number of its records and
//! these in the order of their last use. Little-endian. Pure.
//!
//! Octets that do not hold are an error, never a part of what they may have been.

use vsmtp_keeper::Format;

use crate::greylist::{Greylist, Record};
use crate::recent::Recent;

/// Octets of a record besides its key: the key's length, two times, a count.
const FIXED: usize = 2 + 8 + 8 + 4;
/// Most octets: three full tables of the longest keys that fit into them.
const MAX_SNAPSHOT: usize = 3 * (4 + 65_536 * FIXED + (8 << 20));
/// What the files are.
pub const FORMAT: Format = Format { magic: *b"vSMTgl01", max_octets: MAX_SNAPSHOT };

/// All that is known.
pub fn write(greylist: &Greylist) -> Vec<u8> {
    let mut out = Vec::new();
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
    out
}

/// What was known then.
///
/// # Errors
/// What is wrong with the octets.
pub fn read(mut octets: &[u8]) -> Result<Greylist, &'static str> {
    let mut greylist = Greylist::default();
    for table in greylist.tables_mut() {
        read_table(&mut octets, table)?;
    }
    if octets.is_empty() { Ok(greylist) } else { Err("there is more than there should be") }
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
        let mut list = read(&write(&sample())).unwrap();
        assert_eq!(list.sizes(), Sizes { waiting: 9, welcome: 1, known: 1 });
        assert_eq!((list.ask(1_400, &triple(3), &TERMS), list.ask(1_200, &triple(4), &TERMS)), (0, 100));
        let list = read(&write(&list)).unwrap();
        assert_eq!(list.sizes(), Sizes { waiting: 9, welcome: 1, known: 1 });
    }

    #[test]
    fn what_is_cut_off_or_has_more_behind_it_is_refused() {
        let octets = write(&sample());
        for at in 0..octets.len() {
            assert!(read(&octets[..at]).is_err(), "{at}");
        }
        let more = [&octets[..], b"x"].concat();
        assert_eq!(read(&more).map(drop), Err("there is more than there should be"));
    }

    #[test]
    fn a_full_list_fits_into_the_largest_file() {
        let mut list = Greylist::default();
        let long = "x".repeat(200);
        for number in 0..100_000u32 {
            let sender = format!("{number}{long}@src.test");
            list.ask(0, &Triple { sender, ..triple(0) }, &TERMS);
        }
        assert!(write(&list).len() <= MAX_SNAPSHOT);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&octets);
        }
    }
}
