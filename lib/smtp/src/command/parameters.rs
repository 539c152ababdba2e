//! Parameters of MAIL and RCPT (RFC 1870, 2852, 3461, 4865, 4954, 6152, 6531, 6710, 8689). A parameter of an extension that the listener does not
//! offer is as unknown as any other word.

use vsmtp_mail::{
    BodyType, DeliverBy, MAX_ENVID, Notify, OriginalRecipient, Priority, Release, Ret, parse_rfc3339,
};

use super::{MailRequest, RcptRequest, SyntaxFault};
use crate::extension::{Extension, Extensions};
use crate::reply::Own;
use crate::xtext;

/// Most digits of SIZE= (RFC 1870 4).
const MAX_SIZE_DIGITS: usize = 20;
/// Longest ORCPT= as sent, in octets (RFC 3461 4.2).
const MAX_ORCPT: usize = 500;

/// Reads the parameters of MAIL into the request.
pub(super) fn mail(text: &str, offered: Extensions, request: &mut MailRequest) -> Result<(), SyntaxFault> {
    let (mut body, mut submitter, mut urgency, mut by) = (None, None, None, None);
    // A message has one time of release: HOLDFOR and HOLDUNTIL fill the same slot.
    let release = &mut request.wishes.release;
    for (keyword, value) in words(text) {
        match known(keyword, MAIL, offered)? {
            "SIZE" => put(&mut request.size, value.and_then(size))?,
            "BODY" => put(&mut body, value.and_then(|value| body_type(value, offered)))?,
            "RET" => put(&mut request.ret, value.and_then(ret))?,
            // Nobody is trusted with it, so it is read and forgotten.
            "AUTH" => put(&mut submitter, value.and_then(xtext::decode))?,
            "ENVID" => put(&mut request.envid, value.and_then(envid))?,
            "BY" => put(&mut by, value.and_then(deliver_by))?,
            "HOLDFOR" => put(release, value.and_then(hold_for))?,
            "HOLDUNTIL" => put(release, value.and_then(parse_rfc3339).map(Release::At))?,
            "MT-PRIORITY" => put(&mut urgency, value.and_then(priority))?,
            "REQUIRETLS" => flag(&mut request.requiretls, value)?,
            _ => flag(&mut request.smtputf8, value)?,
        }
    }
    request.body = body.unwrap_or_default();
    request.wishes.priority = urgency.unwrap_or_default();
    request.wishes.by = by;
    Ok(())
}

/// Reads the parameters of RCPT into the request.
pub(super) fn rcpt(text: &str, offered: Extensions, request: &mut RcptRequest) -> Result<(), SyntaxFault> {
    for (keyword, value) in words(text) {
        match known(keyword, RCPT, offered)? {
            "NOTIFY" => put(&mut request.notify, value.and_then(notify))?,
            _ => put(&mut request.original, value.and_then(original))?,
        }
    }
    Ok(())
}

const MAIL: &[(&str, Extension)] = &[
    ("SIZE", Extension::Size),
    ("BODY", Extension::EightBitMime),
    ("SMTPUTF8", Extension::SmtpUtf8),
    ("RET", Extension::Dsn),
    ("ENVID", Extension::Dsn),
    ("AUTH", Extension::Auth),
    ("REQUIRETLS", Extension::RequireTls),
    ("MT-PRIORITY", Extension::MtPriority),
    ("BY", Extension::DeliverBy),
    ("HOLDFOR", Extension::FutureRelease),
    ("HOLDUNTIL", Extension::FutureRelease),
];
const RCPT: &[(&str, Extension)] = &[("NOTIFY", Extension::Dsn), ("ORCPT", Extension::Dsn)];

fn words(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(' ').filter(|word| !word.is_empty()).map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    })
}

fn known(
    keyword: &str,
    table: &'static [(&'static str, Extension)],
    offered: Extensions,
) -> Result<&'static str, SyntaxFault> {
    let mut hits = table
        .iter()
        .filter(|(name, extension)| name.eq_ignore_ascii_case(keyword) && offered.has(*extension));
    hits.next().map(|(name, _)| *name).ok_or(Own::UnknownParameter)
}

/// Fills a slot once; a second time, or with a value that did not parse, is a fault.
fn put<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), SyntaxFault> {
    if slot.is_some() || value.is_none() {
        return Err(Own::BadParameter);
    }
    *slot = value;
    Ok(())
}

/// Sets a parameter without a value; with one, or a second time, it is a fault.
fn flag(slot: &mut bool, value: Option<&str>) -> Result<(), SyntaxFault> {
    if value.is_some() || *slot {
        return Err(Own::BadParameter);
    }
    *slot = true;
    Ok(())
}

/// Twenty digits may exceed 64 bits: such a size is larger than any limit, which is all that matters.
fn size(value: &str) -> Option<u64> {
    let digits = (1..=MAX_SIZE_DIGITS).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

fn body_type(value: &str, offered: Extensions) -> Option<BodyType> {
    let binary = offered.has(Extension::BinaryMime).then_some(("BINARYMIME", BodyType::BinaryMime));
    let plain = [("7BIT", BodyType::SevenBit), ("8BITMIME", BodyType::EightBitMime)];
    let mut known = plain.into_iter().chain(binary);
    known.find(|(word, _)| word.eq_ignore_ascii_case(value)).map(|(_, body)| body)
}

fn ret(value: &str) -> Option<Ret> {
    if value.eq_ignore_ascii_case("FULL") {
        Some(Ret::Full)
    } else {
        value.eq_ignore_ascii_case("HDRS").then_some(Ret::Headers)
    }
}

/// RFC 4865: up to nine digits, of which the first is not 0.
fn hold_for(value: &str) -> Option<Release> {
    let is_number = (1..=9).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    value.parse().ok().filter(|_| is_number && !value.starts_with('0')).map(Release::After)
}

/// RFC 2852: up to nine digits with or without a sign, then what is to happen.
fn deliver_by(value: &str) -> Option<DeliverBy> {
    let (time, mode) = value.split_once(';')?;
    let digits = time.strip_prefix(['+', '-']).unwrap_or(time);
    let is_number = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let (returns, traced) = match mode.to_ascii_uppercase().as_str() {
        "N" => (false, false),
        "NT" => (false, true),
        "R" => (true, false),
        "RT" => (true, true),
        _ => return None,
    };
    time.parse().ok().filter(|_| is_number).and_then(|seconds| DeliverBy::new(seconds, returns, traced))
}

/// RFC 6710: one digit, and a sign before it only if it is negative.
fn priority(value: &str) -> Option<Priority> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let is_one = digits.len() == 1 && digits.bytes().all(|b| b.is_ascii_digit()) && value != "-0";
    value.parse().ok().filter(|_| is_one).and_then(Priority::new)
}

fn envid(value: &str) -> Option<Box<str>> {
    let text = xtext::decode(value)?;
    ((1..=MAX_ENVID).contains(&text.len()) && text.is_ascii()).then(|| text.into())
}

fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in value.split(',') {
        match () {
            () if word.eq_ignore_ascii_case("SUCCESS") => notify.success = true,
            () if word.eq_ignore_ascii_case("FAILURE") => notify.failure = true,
            () if word.eq_ignore_ascii_case("DELAY") => notify.delay = true,
            () => return None,
        }
    }
    Some(notify)
}

fn original(value: &str) -> Option<OriginalRecipient> {
    let (kind, address) = value.split_once(';').filter(|_| value.len() <= MAX_ORCPT)?;
    let atom = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if kind.is_empty() || address.is_empty() || !kind.bytes().all(atom) {
        return None;
    }
    let decoded = xtext::decode(address)?;
    let utf8 = kind.eq_ignore_ascii_case(xtext::UTF8);
    let decoded = if utf8 { xtext::decode_utf8_address(&decoded)? } else { decoded };
    (utf8 || decoded.is_ascii()).then(|| OriginalRecipient { kind: kind.into(), address: decoded.into() })
}
