//! `arc::`: what servers on the way have found, and a seal of our own (RFC 8617, historic). Nothing of it happens unless a
//! rule asks for it.

use std::time::Duration;

use rhai::{ImmutableString, Map};
use vsmtp_ipc::edge::client_resolver::{Query, Records, SignatureAlgorithm, SignatureResult};
use vsmtp_mail::dkim::{Canon, encode_base64, signed_data};
use vsmtp_mail::{Field, HeaderBlock};

use super::dkim::{Keys, read, wanted_of_map};
use super::general::Surroundings;
use super::registry::{Outcome, Registry, name};
use crate::arc::{Chain, MAX_SETS, MESSAGE, RESULTS, SEAL, after_broken, chain, instance, sealed_data};
use crate::dkim::body_hashes;
use crate::names::Names;
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::{ArcCheck, Shared};

/// Longest wait for the keys of a chain.
const PATIENCE: Duration = Duration::from_secs(15);
/// Fields that a set of ours signs, as far as a message has them; From in any case.
const NAMES: [&str; 12] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "DKIM-Signature",
];
/// Octets of one line of a signature.
const LINE: usize = 70;

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let verify = name("arc", "verify", &[])
        .doc("() -> map", "Checks what servers on the way have sealed: `status` (`none`, `pass`, `fail`, `temperror`), `sets`, `sdid` of the youngest seal, `reason`. Shown in Authentication-Results. Waits for the resolver.")
        .errors("if the message cannot be read")
        .example("arc::verify().status == \"none\"");
    let sealing = name("arc", "seal", &[])
        .doc("(parameters: map)", "Puts a set of our own in front of the message: `selector`, `private_key` and `sdid` as for `dkim::sign`. To be done last. Of a chain that is broken it says so; where a seal says so already, or there are 50 sets, nothing is added. Waits for the resolver and the key holder.")
        .errors("if a key of the chain cannot be looked up, or as `dkim::sign` does")
        .example("arc::seal(#{ selector: \"2026\", private_key: dkim::get_private_keys(\"own.test\") })");
    let names = surroundings.names.clone();
    registry.waits0(verify, Stage::Preq, move |shared| {
        let found = find(shared, &*names)?;
        shared.lock().want_results(true, false)?;
        Ok(shown(&found))
    });
    let (names, keys) = (surroundings.names.clone(), Keys::of_surroundings(surroundings));
    registry.waits1(sealing, Stage::Preq, move |shared, map: Map| seal(shared, &*names, &keys, &map));
}

/// What the chain of the message is, once for each message.
fn find(shared: &Shared, names: &dyn Names) -> Outcome<ArcCheck> {
    if let Some(known) = &shared.lock().authentication.arc {
        return Ok(known.clone());
    }
    let (header, content, offset, at_s) = read(shared)?;
    let check = |word, sets, domain: &str, reason: &str| ArcCheck {
        word,
        sets,
        domain: domain.to_owned(),
        reason: reason.to_owned(),
    };
    let found = match chain(&HeaderBlock::parse(&header), at_s) {
        Chain::None => check("none", 0, "", ""),
        Chain::Broken(why) => check("fail", 0, "", why),
        Chain::Ask(asked) => {
            let hashes = body_hashes(&*content, offset, &[(asked.body.0, None)]);
            let hashes = hashes.map_err(|error| Fault(format!("the message cannot be read: {error}")))?;
            let same = hashes.first().is_some_and(|(hash, _)| *hash == asked.body.1);
            let answers = match same {
                true => names.ask(asked.questions.into_iter().map(Query::Signature).collect(), PATIENCE),
                false => Vec::new(),
            };
            let word = |answer: &Result<Records, _>| match answer {
                Ok(Records::Signature(verdict)) => verdict.result,
                _ => SignatureResult::TempError,
            };
            let words: Vec<SignatureResult> = answers.iter().map(word).collect();
            let domain = asked.domain.as_str();
            if !same {
                check("fail", asked.sets, domain, "body hash did not verify")
            } else if words.iter().all(|word| *word == SignatureResult::Pass) {
                check("pass", asked.sets, domain, "")
            } else if words.contains(&SignatureResult::TempError) {
                check("temperror", asked.sets, domain, "a key cannot be looked up")
            } else {
                check("fail", asked.sets, domain, "a signature did not verify")
            }
        }
    };
    shared.lock().authentication.arc = Some(found.clone());
    Ok(found)
}

/// Puts a set of our own in front of the message: what was found so far, and whether the chain was whole until here.
fn seal(shared: &Shared, names: &dyn Names, keys: &Keys, map: &Map) -> Outcome<()> {
    let found = find(shared, names)?;
    let is_whole = matches!(found.word, "none" | "pass");
    if !is_whole && found.word != "fail" {
        return Err(Fault(format!("a chain whose status is {} is not sealed", found.word)));
    }
    let (_, _, _, made_s) = read(shared)?;
    let (header, results, server, body) = {
        let transaction = shared.lock();
        let server = transaction.peer.server_name.to_string();
        (transaction.header.clone(), transaction.results_text(), server, transaction.body_now())
    };
    // What is sealed is what goes out.
    let (content, offset) = body.ok_or_else(|| Fault::new("the message is not here"))?;
    let (selector, key, domain) = wanted_of_map(map, &server)?;
    let number = if is_whole { Some(found.sets + 1) } else { after_broken(header.fields()) };
    let Some(number) = number.filter(|number| *number <= MAX_SETS) else { return Ok(()) };
    let algorithm = match key.algorithm {
        SignatureAlgorithm::RsaSha256 => "rsa-sha256",
        SignatureAlgorithm::Ed25519Sha256 => "ed25519-sha256",
    };
    let field = |name: &str, value: &str| {
        Field::new(name, value).ok_or_else(|| Fault(format!("{name} cannot be written")))
    };
    let hashes = body_hashes(&*content, offset, &[(Canon::Relaxed, None)]);
    let hashes = hashes.map_err(|error| Fault(format!("the message cannot be read: {error}")))?;
    let hash = hashes.first().map(|(hash, _)| encode_base64(hash)).unwrap_or_default();
    let signed: Vec<String> = NAMES
        .iter()
        .filter(|name| **name == "From" || header.named(name).next().is_some())
        .map(|name| (*name).to_owned())
        .collect();

    let results = field(RESULTS, &format!("i={number}; {results}"))?;
    let start = format!(
        "i={number}; a={algorithm}; c=relaxed/relaxed; d={domain};\r\n\ts={selector}; t={made_s};\r\n\th={};\r\n\tbh={hash};\r\n\tb=",
        signed.join(":\r\n\t ")
    );
    let data = signed_data(&header, &signed, Canon::Relaxed, field(MESSAGE, &start)?.raw());
    let message = field(MESSAGE, &(start + &folded(&keys.signature(&key, data)?)))?;

    let status = found.word;
    let start =
        format!("i={number}; a={algorithm}; cv={status}; d={domain};\r\n\ts={selector}; t={made_s};\r\n\tb=");
    // The set that tells of a broken chain covers itself only.
    let mut before: Vec<&Field<'_>> =
        header.fields().filter(|f| is_whole && (f.is(RESULTS) || f.is(MESSAGE) || f.is(SEAL))).collect();
    let place = |field: &&Field<'_>| {
        let kind = [RESULTS, MESSAGE, SEAL].iter().position(|name| field.is(name));
        (instance(field), kind)
    };
    before.sort_by_key(place);
    let covered = before.into_iter().chain([&results, &message]).map(Field::raw);
    let data = sealed_data(covered, field(SEAL, &start)?.raw());
    let value = start + &folded(&keys.signature(&key, data)?);
    let mut transaction = shared.lock();
    for made in [&results, &message] {
        let name = String::from_utf8_lossy(made.name()).into_owned();
        transaction.prepend_header(&name, String::from_utf8_lossy(made.value()).trim_start())?;
    }
    transaction.prepend_header(SEAL, &value)
}

/// A signature as it stands in a field.
fn folded(signature: &[u8]) -> String {
    let text = encode_base64(signature);
    let lines = text.as_bytes().chunks(LINE).map(|line| String::from_utf8_lossy(line).into_owned());
    lines.collect::<Vec<_>>().join("\r\n\t ")
}

fn shown(found: &ArcCheck) -> Map {
    [
        ("status", ImmutableString::from(found.word).into()),
        ("sets", i64::try_from(found.sets).unwrap_or(i64::MAX).into()),
        ("sdid", ImmutableString::from(found.domain.as_str()).into()),
        ("reason", ImmutableString::from(found.reason.as_str()).into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.into(), value))
    .collect()
}
