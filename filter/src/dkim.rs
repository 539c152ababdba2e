//! Signatures of a message (RFC 6376): which there are, what they cover, and the hash of the body. Whether a signature is
//! right by its key, the resolver says; making one is the key holder's. Reads the message in bounded parts.

use std::cmp::Reverse;
use std::io;

use sha2::{Digest, Sha256};
use vsmtp_ipc::edge::client_resolver::{
    SignatureAlgorithm, SignatureQuestion, SignatureResult, SignatureVerdict,
};
use vsmtp_mail::dkim::{Algorithm, BodyCanon, Canon, End, Signature, signed_data};
use vsmtp_mail::{Field, HeaderBlock};

use crate::author;
use crate::transaction::Content;

/// Signatures of one message that are checked.
pub const MAX_SIGNATURES: usize = 5;
/// Fields that are read to choose them of; more are not looked at.
const MAX_READ: usize = 50;
/// Clocks may differ so much, in seconds.
const SKEW_S: u64 = 100;
/// Octets of the body that are read at once.
const PART: usize = 64 * 1024;
/// Octets of a signature that name it (RFC 6008).
const SHOWN: usize = 8;

/// The field.
pub const FIELD: &str = "DKIM-Signature";

/// What became of one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The word of RFC 8601 2.7.1.
    pub word: &'static str,
    /// `d=`, empty if the field cannot be read.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `i=`.
    pub identity: String,
    /// `a=`.
    pub algorithm: &'static str,
    /// How `b=` begins.
    pub start: String,
    /// Why it is not right.
    pub reason: String,
    /// The domain is still trying it out.
    pub testing: bool,
}

/// A signature, as far as it can be checked without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// Decided.
    Known(Checked),
    /// Up to its key.
    Ask(Checked, SignatureQuestion),
}

impl Checked {
    fn of(signature: &Signature) -> Self {
        let start = vsmtp_mail::dkim::encode_base64(&signature.signature);
        Checked {
            word: "neutral",
            domain: signature.domain.clone(),
            selector: signature.selector.clone(),
            identity: signature.identity.clone(),
            algorithm: signature.algorithm.word(),
            start: start.get(..SHOWN).unwrap_or(&start).to_owned(),
            reason: String::new(),
            testing: false,
        }
    }

    fn unreadable(reason: String) -> Self {
        Checked {
            word: "permerror",
            domain: String::new(),
            selector: String::new(),
            identity: String::new(),
            algorithm: "",
            start: String::new(),
            reason,
            testing: false,
        }
    }

    /// With what the resolver says; a body that is signed in part only proves nothing of the rest.
    pub fn by_key(mut self, verdict: &SignatureVerdict) -> Self {
        self.testing = verdict.testing;
        self.word = match verdict.result {
            SignatureResult::Pass if self.reason.is_empty() => "pass",
            SignatureResult::Pass => "neutral",
            SignatureResult::Fail => "fail",
            SignatureResult::TempError => "temperror",
            SignatureResult::PermError => "permerror",
        };
        if verdict.result != SignatureResult::Pass {
            self.reason.clone_from(&verdict.reason);
        }
        self
    }

    /// True if it proves its domain.
    pub fn is_good(&self) -> bool {
        self.word == "pass"
    }
}

/// The signatures of a message as it came. `header` is that of the content, `offset` where its body begins.
///
/// # Errors
/// The content cannot be read.
pub fn candidates(
    header: &HeaderBlock<'_>,
    content: &dyn Content,
    offset: u64,
    now_s: u64,
) -> io::Result<Vec<Candidate>> {
    let read = chosen(header);
    let wanted: Vec<(Canon, Option<u64>)> = read
        .iter()
        .flat_map(|(_, read)| read)
        .map(|signature| (signature.canon.1, signature.length))
        .collect();
    let mut hashes = body_hashes(content, offset, &wanted)?.into_iter();
    let candidate = |(field, read): (&Field<'_>, Result<Signature, String>)| match read {
        Err(reason) => Candidate::Known(Checked::unreadable(reason)),
        Ok(signature) => weigh(header, field, &signature, hashes.next(), now_s),
    };
    Ok(read.into_iter().map(candidate).collect())
}

/// A field, and what it says or why it cannot be read.
type Read<'a> = (&'a Field<'a>, Result<Signature, String>);

/// The signatures that are checked, in the order of their fields: others on the way may have put theirs in front of the
/// author's, so that the nearer a domain is to the author's the sooner it is taken, and what cannot be read is last. How many
/// labels make an organisation is not asked here: whoever shares more of them than a public suffix comes before who does not.
fn chosen<'a>(header: &'a HeaderBlock<'a>) -> Vec<Read<'a>> {
    if !header.is_complete() {
        return Vec::new();
    }
    let author = author::domain(header).unwrap_or_default();
    let read = |field: &'a Field<'a>| {
        let value = std::str::from_utf8(field.value()).map_err(|_| "not a list of tags".to_owned());
        let read = value.and_then(|value| Signature::parse(value).map_err(|error| error.to_string()));
        (field, read)
    };
    let mut all: Vec<(usize, Read<'a>)> = header.named(FIELD).take(MAX_READ).map(read).enumerate().collect();
    all.sort_by_key(|(_, (_, read))| match read {
        Ok(signature) if signature.domain == author => (0, Reverse(0)),
        Ok(signature) => (1, Reverse(common_labels(&signature.domain, &author))),
        Err(_) => (2, Reverse(0)),
    });
    all.truncate(MAX_SIGNATURES);
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, read)| read).collect()
}

/// How many labels two domains have in common at their ends.
fn common_labels(one: &str, other: &str) -> usize {
    one.rsplit('.').zip(other.rsplit('.')).take_while(|(a, b)| a == b).count()
}

fn weigh(
    header: &HeaderBlock<'_>,
    field: &Field<'_>,
    signature: &Signature,
    body: Option<(Vec<u8>, End)>,
    now_s: u64,
) -> Candidate {
    let mut checked = Checked::of(signature);
    let known =
        |word, reason: &str| Candidate::Known(Checked { word, reason: reason.to_owned(), ..checked.clone() });
    if is_expired(signature, now_s) {
        return known("fail", "signature has expired");
    }
    match body {
        Some((_, End::Short(_))) => return known("permerror", "body is shorter than is signed"),
        Some((hash, _)) if hash != signature.body_hash => return known("fail", "body hash did not verify"),
        None => return known("temperror", "body was not hashed"),
        Some((_, End::Cut)) => checked.reason = "body is signed in part only".to_owned(),
        Some((_, End::All)) => {}
    }
    let data = signed_data(header, &signature.names, signature.canon.0, field.raw());
    Candidate::Ask(checked, question_of(signature, data))
}

/// True if its time is over.
pub fn is_expired(signature: &Signature, now_s: u64) -> bool {
    signature.expires_s.is_some_and(|expires| now_s > expires.saturating_add(SKEW_S))
}

/// Whether a signature of these octets is right by its key.
pub fn question_of(signature: &Signature, data: Vec<u8>) -> SignatureQuestion {
    SignatureQuestion {
        domain: signature.domain.clone(),
        selector: signature.selector.clone(),
        algorithm: on_the_wire(signature.algorithm),
        exact: signature.is_exact(),
        data,
        signature: signature.signature.clone(),
    }
}

/// As the edges have it.
pub fn on_the_wire(algorithm: Algorithm) -> SignatureAlgorithm {
    match algorithm {
        Algorithm::RsaSha256 => SignatureAlgorithm::RsaSha256,
        Algorithm::Ed25519Sha256 => SignatureAlgorithm::Ed25519Sha256,
    }
}

/// SHA-256 of the body, made the same in each of these ways, in one pass.
///
/// # Errors
/// The content cannot be read.
pub fn body_hashes(
    content: &dyn Content,
    offset: u64,
    wanted: &[(Canon, Option<u64>)],
) -> io::Result<Vec<(Vec<u8>, End)>> {
    let mut running: Vec<(BodyCanon, Sha256)> =
        wanted.iter().map(|(canon, length)| (BodyCanon::new(*canon, *length), Sha256::new())).collect();
    let mut at = offset;
    while at < content.len() && !running.is_empty() {
        let part = content.read(at, PART)?;
        if part.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += part.len() as u64;
        for (body, hash) in &mut running {
            body.update(&part, &mut |octets| hash.update(octets));
        }
    }
    let end = |(body, mut hash): (BodyCanon, Sha256)| {
        let end = body.finish(&mut |octets| hash.update(octets));
        (hash.finalize().to_vec(), end)
    };
    Ok(running.into_iter().map(end).collect())
}

#[cfg(test)]
mod tests {
    use vsmtp_mail::header_end;

    use super::*;
    use crate::process::content::Inline;

    const RFC_8463: &[u8] = include_bytes!("../../lib/mail/tests/data/rfc8463.eml");
    const RFC_6376: &[u8] = include_bytes!("../../lib/mail/tests/data/rfc6376.eml");

    fn of(message: &[u8], now_s: u64) -> Vec<Candidate> {
        let offset = header_end(message);
        let content = Inline(std::sync::Arc::new(message.to_vec()));
        candidates(&HeaderBlock::parse(&message[..offset]), &content, offset as u64, now_s).unwrap()
    }

    fn known(message: &[u8], now_s: u64) -> Vec<(&'static str, String)> {
        let of_known = |candidate| match candidate {
            Candidate::Known(checked) => (checked.word, checked.reason),
            Candidate::Ask(checked, _) => ("?", checked.reason),
        };
        of(message, now_s).into_iter().map(of_known).collect()
    }

    #[test]
    fn bodies_of_the_rfcs_have_their_hashes() {
        for (message, signatures) in [(RFC_8463, 2), (RFC_6376, 1)] {
            assert_eq!(known(message, 0), vec![("?", String::new()); signatures]);
            let changed = [message, b"more\r\n"].concat();
            assert!(
                known(&changed, 0)
                    .iter()
                    .all(|(word, reason)| *word == "fail" && reason.contains("body hash"))
            );
        }
    }

    #[test]
    fn what_can_be_told_without_a_key_is() {
        let text = String::from_utf8(RFC_6376.to_vec()).unwrap();
        let with = |tag: &str| text.replacen("q=dns/txt;", &format!("q=dns/txt; {tag};"), 1).into_bytes();
        assert_eq!(known(&with("x=1000"), 1100)[0].0, "?");
        assert_eq!(known(&with("x=1000"), 1101), [("fail", "signature has expired".to_owned())]);
        assert_eq!(known(&with("l=9999"), 0)[0].1, "body is shorter than is signed");
        assert_eq!(known(&with("v=2"), 0)[0].0, "permerror");
        // A part of the body that is signed in full, and then more.
        let length = text.len() - header_end(text.as_bytes());
        let longer = [with(&format!("l={length}")), b"more\r\n".to_vec()].concat();
        let Candidate::Ask(checked, _) = of(&longer, 0).remove(0) else { panic!() };
        let right = SignatureVerdict { result: SignatureResult::Pass, reason: String::new(), testing: false };
        assert_eq!(checked.by_key(&right).word, "neutral");
        let many = text.replace("DKIM-Signature: v=1", &"DKIM-Signature: v=3\r\n".repeat(9)).into_bytes();
        assert_eq!(known(&many, 0).len(), MAX_SIGNATURES);
    }

    #[test]
    fn what_stands_in_front_of_the_authors_signature_does_not_hide_it() {
        let text = String::from_utf8(RFC_6376.to_vec()).unwrap();
        let stranger = "DKIM-Signature: v=1; a=rsa-sha256; d=other.test; s=s; h=from; bh=AAAA; b=QUJD\r\n";
        for others in ["DKIM-Signature: x\r\n", stranger] {
            let found = known((others.repeat(20) + &text).as_bytes(), 0);
            assert_eq!(found.len(), MAX_SIGNATURES, "{others}");
            assert_eq!(found.last(), Some(&("?", String::new())), "{others}");
        }
    }

    #[test]
    fn an_organisations_signature_goes_before_those_of_its_public_suffix() {
        let signature = |domain: &str| {
            format!("DKIM-Signature: v=1; a=rsa-sha256; d={domain}; s=s; h=from; bh=AAAA; b=QUJD\r\n")
        };
        let strangers: String = (0..20).map(|n| signature(&format!("stranger{n}.co.uk"))).collect();
        for own in ["example.co.uk", "mail.example.co.uk", "a.example.co.uk"] {
            let text = format!("{strangers}{}From: jane@a.example.co.uk\r\n\r\nHello.\r\n", signature(own));
            let domain = |candidate: Candidate| match candidate {
                Candidate::Known(checked) | Candidate::Ask(checked, _) => checked.domain,
            };
            let found: Vec<String> = of(text.as_bytes(), 0).into_iter().map(domain).collect();
            assert_eq!(found.len(), MAX_SIGNATURES, "{own}");
            assert_eq!(found.last().map(String::as_str), Some(own));
        }
    }
}
