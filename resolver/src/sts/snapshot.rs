//! Policies as octets, for files that outlive the process: one after the other, each its domain, the id of its record, when
//! it was fetched and last asked for, and its text as a domain might publish it. Little-endian. Pure.
//!
//! Octets that do not hold are an error: what is read is as strict with itself as with what strangers publish.

use std::sync::Arc;

use vsmtp_keeper::Format;

use super::policy::Policy;
use super::record;
use crate::name;

/// Octets of one policy besides its texts: three lengths and two times.
const FIXED: usize = 1 + 1 + 8 + 8 + 4;
/// Most octets of all policies together.
pub const MAX_OCTETS: usize = 8 << 20;
/// What the files are.
pub const FORMAT: Format = Format { magic: *b"vSMTst01", max_octets: MAX_OCTETS };

/// One policy, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The mail domain.
    pub domain: String,
    /// What its record stated.
    pub id: String,
    /// What it says.
    pub policy: Arc<Policy>,
    /// When it was fetched, in seconds since 1970.
    pub fetched_s: u64,
    /// When somebody asked for it last, in seconds since 1970.
    pub asked_s: u64,
}

impl Kept {
    /// How many it becomes.
    pub fn octets(&self) -> usize {
        FIXED + self.domain.len() + self.id.len() + self.policy.text_octets()
    }
}

/// All of them.
pub fn write<'k>(all: impl Iterator<Item = &'k Kept>) -> Vec<u8> {
    let mut out = Vec::new();
    for Kept { domain, id, policy, fetched_s, asked_s } in all {
        // Both are far shorter; longer ones could not be read back.
        for text in [domain, id] {
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        }
        out.extend(fetched_s.to_le_bytes());
        out.extend(asked_s.to_le_bytes());
        let text = policy.to_string();
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    }
    out
}

/// What was written.
///
/// # Errors
/// What is wrong with the octets.
pub fn read(mut octets: &[u8]) -> Result<Vec<Kept>, &'static str> {
    let mut all = Vec::new();
    while !octets.is_empty() {
        all.push(read_one(&mut octets)?);
    }
    Ok(all)
}

fn read_one(rest: &mut &[u8]) -> Result<Kept, &'static str> {
    let [length] = take(rest)?;
    let domain = text(rest, length.into())?;
    let is_domain = name::parse(&domain).and_then(|name| name::host_text(&name)).as_ref() == Some(&domain);
    let [length] = take(rest)?;
    let id = text(rest, length.into())?;
    if !is_domain || !record::is_id(&id) {
        return Err("a policy is nobody's");
    }
    let (fetched_s, asked_s) = (u64::from_le_bytes(take(rest)?), u64::from_le_bytes(take(rest)?));
    let length = u32::from_le_bytes(take(rest)?);
    let policy = Policy::parse(text(rest, length as usize)?.as_bytes()).map_err(|_| "it holds no policy")?;
    Ok(Kept { domain, id, policy: Arc::new(policy), fetched_s, asked_s })
}

fn text(rest: &mut &[u8], length: usize) -> Result<String, &'static str> {
    let (text, behind) = rest.split_at_checked(length).ok_or("it is cut off")?;
    *rest = behind;
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| "it is no text")
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (first, behind) = rest.split_first_chunk().ok_or("it is cut off")?;
    *rest = behind;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(domain: &str, policy: &str) -> Kept {
        let policy = Arc::new(Policy::parse(policy.as_bytes()).unwrap());
        Kept { domain: domain.to_owned(), id: "20160831085700Z".to_owned(), policy, fetched_s: 7, asked_s: 8 }
    }

    fn sample() -> Vec<Kept> {
        vec![
            kept(
                "dst.test",
                "version: STSv1\nmode: enforce\nmx: mx.dst.test\nmx: *.example.net\nmax_age: 604800\n",
            ),
            kept("xn--bcher-kva.example", "version: STSv1\nmode: none\nmax_age: 0\n"),
            kept("_test.test", "version: STSv1\nmode: testing\nmx: *.test\nmax_age: 31557600\n"),
        ]
    }

    #[test]
    fn what_was_written_is_read_as_it_was_and_is_as_long_as_was_said() {
        let octets = write(sample().iter());
        assert_eq!(octets.len(), sample().iter().map(Kept::octets).sum::<usize>());
        assert_eq!(read(&octets), Ok(sample()));
        assert_eq!(read(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_nobody_could_have_published_is_refused() {
        for (domain, id) in
            [("Dst.test", "1"), ("", "1"), ("192.0.2.1", "1"), ("dst.test", ""), ("dst.test", "-")]
        {
            let kept = Kept { domain: domain.to_owned(), id: id.to_owned(), ..sample().remove(0) };
            assert_eq!(read(&write([&kept].into_iter())), Err("a policy is nobody's"), "{domain} {id}");
        }
        let octets = write(sample().iter());
        let forged = String::from_utf8_lossy(&octets).replace("enforce", "enforcf");
        assert_eq!(read(forged.as_bytes()), Err("it holds no policy"));
        let whole = [0, sample()[0].octets(), sample()[0].octets() + sample()[1].octets()];
        for at in (0..octets.len()).filter(|at| !whole.contains(at)) {
            assert!(read(&octets[..at]).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&octets);
        }
    }
}
