//! ARC (RFC 8617): what servers on the way have found and sealed. Reads the sets of a message, says what each seal covers,
//! and writes a set of our own. Whether a signature is right by its key, the resolver says; making one is the key holder's.

use vsmtp_ipc::edge::client_resolver::{SignatureAlgorithm, SignatureQuestion};
use vsmtp_mail::dkim::{Canon, Signature, Tags, decode_base64, signed_data, without_value};
use vsmtp_mail::{Field, HeaderBlock};

use crate::dkim::{is_expired, question_of};

/// Most sets of a message (RFC 8617 4.2.1).
pub const MAX_SETS: usize = 50;
/// Sets whose seals are checked: more than a message meets on its way.
const MAX_CHECKED: usize = 20;
/// Names of the fields.
pub const RESULTS: &str = "ARC-Authentication-Results";
/// See above.
pub const MESSAGE: &str = "ARC-Message-Signature";
/// See above.
pub const SEAL: &str = "ARC-Seal";

/// What a chain is, before keys are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    /// There is none.
    None,
    /// It is broken; why.
    Broken(&'static str),
    /// Up to its keys.
    Ask(Asked),
}

/// What is to be asked of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// How many sets there are.
    pub sets: usize,
    /// How the body is made the same, and its hash as the youngest set says it.
    pub body: (Canon, Vec<u8>),
    /// The youngest message signature, then all seals: all must be right.
    pub questions: Vec<SignatureQuestion>,
    /// Domain of the youngest seal.
    pub domain: String,
}

/// One set.
struct Set<'a> {
    results: &'a Field<'a>,
    message: &'a Field<'a>,
    seal: &'a Field<'a>,
}

/// The chain of a message as it came, in seconds since 1970.
pub fn chain(header: &HeaderBlock<'_>, now_s: u64) -> Chain {
    if !header.is_complete() {
        return Chain::Broken("the header has too many fields");
    }
    let all = |name: &'static str| header.fields().filter(move |field| field.is(name));
    let count = all(SEAL).count();
    if [RESULTS, MESSAGE, SEAL].iter().all(|name| all(name).count() == 0) {
        return Chain::None;
    }
    if count == 0 || count > MAX_SETS || [RESULTS, MESSAGE].iter().any(|name| all(name).count() != count) {
        return Chain::Broken("sets are not whole");
    }
    if count > MAX_CHECKED {
        return Chain::Broken("too many sets");
    }
    let mut sets = Vec::new();
    for number in 1..=count {
        let one = |name: &'static str| {
            let mut found = all(name).filter(|field| instance(field) == Some(number));
            found.next().filter(|_| found.next().is_none())
        };
        let (Some(results), Some(message), Some(seal)) = (one(RESULTS), one(MESSAGE), one(SEAL)) else {
            return Chain::Broken("sets are not numbered from 1");
        };
        sets.push(Set { results, message, seal });
    }
    asked(header, &sets, now_s).map_or_else(Chain::Broken, Chain::Ask)
}

fn asked(header: &HeaderBlock<'_>, sets: &[Set<'_>], now_s: u64) -> Result<Asked, &'static str> {
    for (at, set) in sets.iter().enumerate() {
        let expected = if at == 0 { "none" } else { "pass" };
        let said = tags_of(set.seal).and_then(|tags| tags.squeezed("cv")).ok_or("a seal cannot be read")?;
        if !said.eq_ignore_ascii_case(expected) {
            return Err("a seal says that the chain was broken before");
        }
    }
    let youngest = sets.last().ok_or("there is no set")?;
    let (message, body) = message_question(header, youngest.message, now_s)?;
    let mut questions = vec![message];
    for number in (1..=sets.len()).rev() {
        questions.push(seal_question(sets.get(..number).unwrap_or_default())?);
    }
    let domain = questions.get(1).map(|seal| seal.domain.clone()).unwrap_or_default();
    Ok(Asked { sets: sets.len(), body, questions, domain })
}

type Body = (Canon, Vec<u8>);

fn message_question(
    header: &HeaderBlock<'_>,
    field: &Field<'_>,
    now_s: u64,
) -> Result<(SignatureQuestion, Body), &'static str> {
    let value = std::str::from_utf8(field.value()).ok();
    let signature = value
        .and_then(|value| Signature::parse_arc(value).ok())
        .ok_or("a message signature cannot be read")?;
    if is_expired(&signature, now_s) {
        return Err("a message signature has expired");
    }
    let data = signed_data(header, &signature.names, signature.canon.0, field.raw());
    Ok((question_of(&signature, data), (signature.canon.1, signature.body_hash)))
}

/// A seal covers all sets up to its own (RFC 8617 5.1.1).
fn seal_question(sets: &[Set<'_>]) -> Result<SignatureQuestion, &'static str> {
    let bad = "a seal cannot be read";
    let own = sets.last().ok_or(bad)?;
    let tags = tags_of(own.seal).filter(|tags| tags.get("h").is_none()).ok_or(bad)?;
    let before = sets.len() - 1;
    let fields = sets.iter().take(before).flat_map(|set| [set.results, set.message, set.seal]);
    let fields = fields.chain([own.results, own.message]).map(Field::raw);
    question(&tags, sealed_data(fields, own.seal.raw())).ok_or(bad)
}

/// The number of the set that tells readers of a broken chain (RFC 8617 5.1.2); `None` if its youngest seal has told them already,
/// or if there is no number left.
pub fn after_broken<'a>(fields: impl Iterator<Item = &'a Field<'a>>) -> Option<usize> {
    let fields: Vec<&Field<'_>> =
        fields.filter(|field| [RESULTS, MESSAGE, SEAL].iter().any(|name| field.is(name))).collect();
    let youngest = fields.iter().filter_map(|field| instance(field)).max().unwrap_or(0);
    let says_so = |field: &&Field<'_>| {
        let said = tags_of(field).and_then(|tags| tags.squeezed("cv"));
        field.is(SEAL)
            && instance(field) == Some(youngest)
            && said.is_some_and(|cv| cv.eq_ignore_ascii_case("fail"))
    };
    (youngest < MAX_SETS && !fields.iter().any(says_so)).then_some(youngest + 1)
}

/// What a seal covers: these fields, then its own field without its value and its line end.
pub fn sealed_data<'a>(fields: impl Iterator<Item = &'a [u8]>, own: &[u8]) -> Vec<u8> {
    let mut data: Vec<u8> = fields.flat_map(|field| Canon::Relaxed.field(field)).collect();
    let own = Canon::Relaxed.field(&without_value(own, "b"));
    data.extend(own.strip_suffix(b"\r\n").unwrap_or(&own));
    data
}

fn question(tags: &Tags<'_>, data: Vec<u8>) -> Option<SignatureQuestion> {
    let algorithm = match tags.squeezed("a")?.to_ascii_lowercase().as_str() {
        "rsa-sha256" => SignatureAlgorithm::RsaSha256,
        "ed25519-sha256" => SignatureAlgorithm::Ed25519Sha256,
        _ => return None,
    };
    Some(SignatureQuestion {
        domain: tags.squeezed("d")?.to_ascii_lowercase(),
        selector: tags.squeezed("s")?,
        algorithm,
        exact: true,
        data,
        signature: decode_base64(&tags.squeezed("b")?).filter(|octets| !octets.is_empty())?,
    })
}

fn tags_of<'a>(field: &'a Field<'_>) -> Option<Tags<'a>> {
    Tags::parse(std::str::from_utf8(field.value()).ok()?)
}

/// `i=`, which stands first in results and anywhere in the others.
pub fn instance(field: &Field<'_>) -> Option<usize> {
    let value = std::str::from_utf8(field.value()).ok()?;
    let part = |part: &str| {
        let (name, number) = part.split_once('=')?;
        let number = number.trim();
        let plain = (1..=2).contains(&number.len()) && number.bytes().all(|octet| octet.is_ascii_digit());
        (name.trim() == "i" && plain).then(|| number.parse().ok())?
    };
    value.split(';').find_map(part).filter(|number| (1..=MAX_SETS).contains(number))
}
