//! How a message's terms look on disk, and in the short form that sidecars hold. Each term that is not the default has a
//! number of its own, so that another one needs no other version: who does not know it sets the message aside.

use vsmtp_mail::{DeliverBy, MAX_LIFETIME_S, MAX_REPORT_TEXT, Priority, Release, RulesOf, Terms};

use super::codec::{Malformed, Put, Take};
use super::encode;
use super::message::Timing;

/// The numbers of the terms.
const PRIORITY: u8 = 1;
const NOT_BEFORE: u8 = 2;
const RELEASE: u8 = 3;
const LIFETIME: u8 = 4;
const RULES: u8 = 5;
const REPORT_TEXT: u8 = 6;
const REPORT_FROM: u8 = 7;
const BY: u8 = 8;

/// What the flags of [`BY`] say, and those of the short form.
const RETURNS: u8 = 1;
const TRACED: u8 = 2;

/// Writes terms that are not all the default.
pub(super) fn put(out: &mut Vec<u8>, terms: &Terms) {
    let Terms { priority, lifetime_s, not_before_s, release, by, rules, report_text, report_from } = terms;
    let at = out.len();
    out.put_u8(0);
    let mut count = 0;
    if *priority != Priority::default() {
        out.put_u8(PRIORITY);
        out.put_u8(priority.number().to_le_bytes()[0]);
        count += 1;
    }
    if let Some(not_before_s) = not_before_s {
        out.put_u8(NOT_BEFORE);
        out.put_u64(*not_before_s);
        count += 1;
    }
    if let Some(release) = release {
        out.put_u8(RELEASE);
        put_release(out, *release);
        count += 1;
    }
    if let Some(lifetime_s) = lifetime_s {
        out.put_u8(LIFETIME);
        out.put_u32(*lifetime_s);
        count += 1;
    }
    if let Some(rules) = rules {
        out.put_u8(RULES);
        put_rules(out, rules);
        count += 1;
    }
    if let Some(text) = report_text {
        out.put_u8(REPORT_TEXT);
        out.put_str(text);
        count += 1;
    }
    if let Some(address) = report_from {
        out.put_u8(REPORT_FROM);
        encode::put_address(out, address);
        count += 1;
    }
    if let Some(DeliverBy { seconds, returns, traced }) = by {
        out.put_u8(BY);
        out.put_u32(seconds.cast_unsigned());
        out.put_u8(if *returns { RETURNS } else { 0 } | if *traced { TRACED } else { 0 });
        count += 1;
    }
    if let Some(slot) = out.get_mut(at) {
        *slot = count;
    }
}

/// Reads terms: in the order of their numbers, none twice.
pub(super) fn take(take: &mut Take<'_>) -> Result<Terms, Malformed> {
    let mut terms = Terms::default();
    let mut last = 0;
    for _ in 0..take.u8()? {
        let number = take.u8()?;
        if number <= last {
            return Err(Malformed("order of terms"));
        }
        last = number;
        match number {
            PRIORITY => terms.priority = take_priority(take)?,
            NOT_BEFORE => terms.not_before_s = Some(take.u64()?),
            RELEASE => terms.release = Some(take_release(take)?),
            LIFETIME => {
                let lifetime_s = Some(take.u32()?).filter(|lifetime_s| *lifetime_s <= MAX_LIFETIME_S);
                terms.lifetime_s = Some(lifetime_s.ok_or(Malformed("lifetime"))?);
            }
            RULES => terms.rules = Some(take_rules(take)?),
            REPORT_TEXT => terms.report_text = Some(take_words(take)?),
            REPORT_FROM => terms.report_from = Some(encode::take_address(take)?),
            BY => terms.by = Some(take_by(take)?),
            _ => return Err(Malformed("term")),
        }
    }
    Ok(terms)
}

fn put_release(out: &mut Vec<u8>, release: Release) {
    let (code, seconds) = match release {
        Release::After(seconds) => (0, seconds.into()),
        Release::At(at_s) => (1, at_s),
    };
    out.put_u8(code);
    out.put_u64(seconds);
}

fn take_release(take: &mut Take<'_>) -> Result<Release, Malformed> {
    match (take.u8()?, take.u64()?) {
        (0, seconds) => u32::try_from(seconds).map(Release::After).map_err(|_| Malformed("release")),
        (1, at_s) => Ok(Release::At(at_s)),
        _ => Err(Malformed("release")),
    }
}

fn take_by(take: &mut Take<'_>) -> Result<DeliverBy, Malformed> {
    let (seconds, flags) = (take.u32()?.cast_signed(), take.u8()?);
    let by = DeliverBy::new(seconds.into(), flags & RETURNS != 0, flags & TRACED != 0);
    by.filter(|_| flags <= RETURNS | TRACED).ok_or(Malformed("time to deliver by"))
}

fn take_words(take: &mut Take<'_>) -> Result<Box<str>, Malformed> {
    let text = take.str()?;
    let is_clean = text.len() <= MAX_REPORT_TEXT && !text.chars().any(|c| c.is_control() && c != '\n');
    is_clean.then(|| text.into()).ok_or(Malformed("words of a report"))
}

fn put_rules(out: &mut Vec<u8>, rules: &RulesOf) {
    let (code, domain) = match rules {
        RulesOf::Root => return out.put_u8(0),
        RulesOf::Outgoing(domain) => (1, domain),
        RulesOf::Internal(domain) => (2, domain),
        RulesOf::Incoming(domain) => (3, domain),
    };
    out.put_u8(code);
    out.put_str(domain.as_str());
}

fn take_rules(take: &mut Take<'_>) -> Result<RulesOf, Malformed> {
    let of = match take.u8()? {
        0 => return Ok(RulesOf::Root),
        1 => RulesOf::Outgoing,
        2 => RulesOf::Internal,
        3 => RulesOf::Incoming,
        _ => return Err(Malformed("rules")),
    };
    encode::take_domain(take).map(of)
}

fn take_priority(take: &mut Take<'_>) -> Result<Priority, Malformed> {
    Priority::new(i8::from_le_bytes(take.array()?).into()).ok_or(Malformed("priority"))
}

/// Writes the short form.
pub(super) fn put_timing(out: &mut Vec<u8>, timing: &Timing) {
    out.put_u8(timing.priority.number().to_le_bytes()[0]);
    out.put_u64(timing.lifetime_ms.unwrap_or(u64::MAX));
    out.put_u64(timing.wait_ms);
    out.put_u64(timing.late_ms.unwrap_or(u64::MAX));
    out.put_u8(u8::from(timing.is_strict));
}

/// Reads the short form.
pub(super) fn take_timing(take: &mut Take<'_>) -> Result<Timing, Malformed> {
    let some = |ms: u64| Some(ms).filter(|ms| *ms != u64::MAX);
    let (priority, lifetime_ms, wait_ms) = (take_priority(take)?, some(take.u64()?), take.u64()?);
    let (late_ms, is_strict) = (some(take.u64()?), take.u8()? == 1);
    Ok(Timing { priority, lifetime_ms, wait_ms, late_ms, is_strict })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<Terms, Malformed> {
        let mut taken = Take::new(octets, "terms");
        let terms = take(&mut taken)?;
        taken.end().map(|()| terms)
    }

    #[test]
    fn terms_stand_once_and_in_order() {
        let terms = Terms {
            priority: Priority::LEAST,
            lifetime_s: Some(7),
            not_before_s: Some(8),
            release: Some(Release::After(9)),
            by: DeliverBy::new(-2, false, true),
            rules: Some(RulesOf::Root),
            report_text: Some(
                "a
b"
                .into(),
            ),
            report_from: Some(vsmtp_mail::Address::parse("a@b.test").unwrap()),
        };
        let mut octets = Vec::new();
        put(&mut octets, &terms);
        let reports = b"\x06\x03\0a\nb\x07\x01\0a\x06\0b.test\x08\xfe\xff\xff\xff\x02";
        let waits =
            [&[NOT_BEFORE, 8, 0, 0, 0, 0, 0, 0, 0][..], &[RELEASE, 0, 9, 0, 0, 0, 0, 0, 0, 0]].concat();
        let rest = [LIFETIME, 7, 0, 0, 0, RULES, 0];
        assert_eq!(octets, [&[8, PRIORITY, 0xf7][..], &waits, &rest, reports].concat());
        assert_eq!(read(&octets), Ok(terms));
        for wrong in [
            &[2, PRIORITY, 1, PRIORITY, 1][..],
            &[2, LIFETIME, 7, 0, 0, 0, PRIORITY, 1],
            &[1, PRIORITY, 10],
            &[1, LIFETIME, 255, 255, 255, 255],
            &[1, 0],
            &[1, RULES, 4],
            &[1, NOT_BEFORE, 0, 0, 0, 0],
            &[1, RELEASE, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            &[1, RELEASE, 2, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, BY, 0, 0, 0, 0, RETURNS],
            &[1, BY, 1, 0, 0, 0, 4],
            &[1, REPORT_TEXT, 2, 0, b'a', b'\r'],
            &[1, REPORT_FROM, 1, 0, b'a', 3, 0, b'a', b' ', b'b'],
            &[1, RULES, 1, 3, 0, b'a', b' ', b'b'],
            &[1, 99],
            &[2, PRIORITY, 1],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_short_form_says_what_the_schedule_needs() {
        for timing in [
            Timing { priority: Priority::LEAST, ..Timing::default() },
            Timing {
                priority: Priority::MOST,
                lifetime_ms: Some(60_000),
                wait_ms: 5,
                late_ms: Some(7),
                is_strict: true,
            },
        ] {
            let mut octets = Vec::new();
            put_timing(&mut octets, &timing);
            assert_eq!(take_timing(&mut Take::new(&octets, "timing")), Ok(timing));
        }
    }
}
