//! The Sender Rewriting Scheme: a forwarder sends under an address of its own that holds the old sender, a time and a
//! signature, so that reports find back and nobody else can use it as a relay. Pure: the day is an argument.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use vsmtp_mail::{Address, Domain};

use crate::object::Fault;

/// Shortest secret, in octets.
const MIN_SECRET: usize = 8;
/// Characters of the signature that travel.
const HASH_LENGTH: usize = 4;
/// Days after which a rewritten address is refused.
const MAX_AGE: u64 = 21;
/// Days that a time in two characters tells apart.
const DAYS: u64 = 1024;
const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The sender under which a message of `sender` is forwarded by `domain`.
pub fn forward(sender: &Address, domain: &Domain, secret: &str, day: u64) -> Result<Address, Fault> {
    check(secret)?;
    let local = sender.local_part();
    let (first, host) = (local.get(..4).unwrap_or_default(), sender.domain().as_str());
    let rewritten = if first.eq_ignore_ascii_case("SRS0") && is_separated(local) {
        // The first forwarder can undo its own; the second only names it.
        let rest = local.get(4..).unwrap_or_default();
        format!("SRS1={}={host}={rest}", hash(secret, &[host, rest]))
    } else if first.eq_ignore_ascii_case("SRS1") && is_separated(local) {
        let (_, host, rest) = split_srs1(local)?;
        format!("SRS1={}={host}={rest}", hash(secret, &[host, rest]))
    } else {
        let time = stamp(day);
        format!("SRS0={}={time}={host}={local}", hash(secret, &[&time, host, local]))
    };
    let too_long = |error| Fault(format!("'{sender}' cannot be rewritten: {error}"));
    Address::new(&rewritten, domain.clone()).map_err(too_long)
}

/// Whom a message to a rewritten address is for.
pub fn reverse(recipient: &Address, secret: &str, day: u64) -> Result<Address, Fault> {
    check(secret)?;
    let local = recipient.local_part();
    let wrong = |why: &str| Fault(format!("'{recipient}' is not an address that was rewritten here: {why}"));
    match local.get(..4).map(str::to_ascii_uppercase).as_deref() {
        Some("SRS0") if is_separated(local) => {
            let mut parts = local.get(5..).unwrap_or_default().splitn(4, '=');
            let (Some(mark), Some(time), Some(host), Some(user)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(wrong("it has too few parts"));
            };
            if !agrees(mark, &hash(secret, &[time, host, user])) {
                return Err(wrong("its signature is wrong"));
            }
            let made = read_stamp(time).ok_or_else(|| wrong("its time is wrong"))?;
            if (day % DAYS + DAYS - made) % DAYS > MAX_AGE {
                return Err(wrong("it is too old"));
            }
            join(user, host).map_err(|error| wrong(&error))
        }
        Some("SRS1") if is_separated(local) => {
            let (mark, host, rest) = split_srs1(local)?;
            if !agrees(mark, &hash(secret, &[host, rest])) {
                return Err(wrong("its signature is wrong"));
            }
            join(&format!("SRS0{rest}"), host).map_err(|error| wrong(&error))
        }
        _ => Err(wrong("it does not begin with SRS0 or SRS1")),
    }
}

/// True if the address looks rewritten, by us or by others.
pub fn is_rewritten(address: &Address) -> bool {
    let local = address.local_part();
    local.get(..4).is_some_and(|start| ["SRS0", "SRS1"].iter().any(|tag| start.eq_ignore_ascii_case(tag)))
        && is_separated(local)
}

fn check(secret: &str) -> Result<(), Fault> {
    if secret.len() < MIN_SECRET {
        return Err(Fault(format!("the secret must have at least {MIN_SECRET} characters")));
    }
    Ok(())
}

fn is_separated(local: &str) -> bool {
    matches!(local.as_bytes().get(4), Some(b'=' | b'-' | b'+'))
}

/// Signature, first forwarder, and what follows `SRS0` at that one.
fn split_srs1(local: &str) -> Result<(&str, &str, &str), Fault> {
    let mut parts = local.get(5..).unwrap_or_default().splitn(3, '=');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(mark), Some(host), Some(rest)) => Ok((mark, host, rest)),
        _ => Err(Fault(format!("'{local}' is not a rewritten address"))),
    }
}

fn join(user: &str, host: &str) -> Result<Address, String> {
    let domain = Domain::parse(host).map_err(|error| error.to_string())?;
    Address::new(user, domain).map_err(|error| error.to_string())
}

/// Of the parts in lower case: servers on the way may change the case of local parts.
fn hash(secret: &str, parts: &[&str]) -> String {
    // An HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    for part in parts {
        mac.update(part.to_lowercase().as_bytes());
        mac.update(b"=");
    }
    let mut text = BASE64.encode(&mac.finalize().into_bytes());
    // Neither divides parts nor needs quoting.
    text.retain(|c| c.is_ascii_alphanumeric());
    text.truncate(HASH_LENGTH);
    text
}

fn agrees(given: &str, wanted: &str) -> bool {
    given.len() == HASH_LENGTH && given.eq_ignore_ascii_case(wanted)
}

fn stamp(day: u64) -> String {
    let digit = |value: u64| char::from(DIGITS[usize::try_from(value % 32).unwrap_or(0)]);
    [digit(day / 32), digit(day)].into_iter().collect()
}

fn read_stamp(text: &str) -> Option<u64> {
    let digit = |byte: &u8| DIGITS.iter().position(|digit| digit.eq_ignore_ascii_case(byte));
    let [high, low] = text.as_bytes() else { return None };
    u64::try_from(digit(high)? * 32 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a long secret";

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn one_forwarder_there_and_back() {
        let rewritten =
            forward(&address("Jane.Doe=x@Example.com"), &domain("fwd.example"), SECRET, 20_000).unwrap();
        assert!(rewritten.to_string().starts_with("SRS0="), "{rewritten}");
        assert!(rewritten.to_string().ends_with("=example.com=Jane.Doe=x@fwd.example"), "{rewritten}");
        assert!(is_rewritten(&rewritten) && !is_rewritten(&address("srs0@x.y")));
        for later in [0, 1, MAX_AGE] {
            assert_eq!(reverse(&rewritten, SECRET, 20_000 + later), Ok(address("Jane.Doe=x@example.com")));
        }
        for wrong in [20_000 + MAX_AGE + 1, 20_000 - 1] {
            assert!(reverse(&rewritten, SECRET, wrong).unwrap_err().0.contains("too old"));
        }
        let lower = address(&rewritten.to_string().to_lowercase());
        assert!(reverse(&lower, SECRET, 20_000).is_ok(), "servers on the way may change the case");
        assert!(reverse(&rewritten, "another secret", 20_000).is_err());
    }

    #[test]
    fn the_time_goes_around() {
        let rewritten = forward(&address("a@b.c"), &domain("f.g"), SECRET, DAYS * 3 - 1).unwrap();
        assert!(reverse(&rewritten, SECRET, DAYS * 3 + 5).is_ok());
    }

    #[test]
    fn several_forwarders_name_the_first() {
        let first = forward(&address("jane@example.com"), &domain("one.example"), SECRET, 5).unwrap();
        let second = forward(&first, &domain("two.example"), "secret of two", 5).unwrap();
        let third = forward(&second, &domain("three.example"), "secret of three", 5).unwrap();
        assert!(
            second.to_string().starts_with("SRS1=") && third.to_string().contains("=one.example=="),
            "{third}"
        );
        let back = reverse(&third, "secret of three", 500).unwrap();
        assert_eq!(back, first);
        assert_eq!(reverse(&back, SECRET, 6), Ok(address("jane@example.com")));
    }

    #[test]
    fn nobody_can_make_one_up() {
        for bad in
            ["SRS0=AAAA=AA=victim.example=x", "SRS0=", "SRS0=a=b", "SRS1=AAAA=victim.example==x", "jane"]
        {
            let address = Address::new(bad, domain("fwd.example")).unwrap();
            assert!(reverse(&address, SECRET, 1).is_err(), "{bad}");
        }
        assert!(forward(&address("a@b.c"), &domain("f.g"), "short", 1).is_err());
        let long = Address::new(&"x".repeat(60), domain("example.com")).unwrap();
        assert!(forward(&long, &domain("f.g"), SECRET, 1).unwrap_err().0.contains("too long"));
    }
}
