//! `dkim::`: signatures of the message. Checking waits for the resolver, signing for the key holder.

mod sign;

pub(super) use sign::{Keys, wanted_of_map};

use std::sync::Arc;
use std::time::Duration;

use rhai::{Dynamic, ImmutableString, Map};
use vsmtp_ipc::edge::client_resolver::{Query, Records, SignatureResult, SignatureVerdict};
use vsmtp_mail::HeaderBlock;

use super::general::Surroundings;
use super::registry::{Outcome, Registry, name};
use crate::dkim::{Candidate, Checked, candidates};
use crate::names::Names;
use crate::object::Fault;
use crate::process::cede;
use crate::stage::Stage;
use crate::transaction::{Content, Shared};

/// Longest wait for the keys of all signatures.
const PATIENCE: Duration = Duration::from_secs(15);
/// Largest header that is read, in octets; the stages before let no larger one pass.
const MAX_HEADER: usize = 16 << 20;

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    sign::register(registry, surroundings);
    let names = surroundings.names.clone();
    let verify = name("dkim", "verify", &["verify_dkim", "dkim_verify"])
        .doc("() -> map", "Checks up to five signatures of the message as it came. The map has `status` (`none`, `pass`, `fail`, `neutral`, `temperror`, `permerror`), `sdid`, `auid`, `selector`, `algorithm`, `reason` and `testing` of the best one, and all of them as `signatures`. The result is shown in Authentication-Results. Waits for the resolver.")
        .errors("if the message cannot be read")
        .example("dkim::verify().status == \"none\"");
    registry.waits0(verify, Stage::Preq, move |shared| {
        let found = find(shared, &*names)?;
        shared.lock().want_results(true, false)?;
        Ok(shown(&found))
    });
    let has_result = name("dkim", "has_result", &[])
        .doc("() -> bool", "Signatures were checked, or a result was stored.")
        .example("!dkim::has_result()");
    let result = name("dkim", "result", &[])
        .doc("() -> map", "What `dkim::verify` has answered, or what was stored.")
        .errors("if neither has happened")
        .example("dkim::verify(); dkim::result().status == \"none\"");
    let store = name("dkim", "store", &[])
        .doc("(result: map)", "Takes `status`, `sdid`, `auid`, `selector` and `reason` of a map for what was found.")
        .errors("if `status` is no status of DKIM")
        .example("dkim::store(#{ status: \"pass\", sdid: \"example.com\" }); dkim::result().sdid == \"example.com\"");
    registry.on0(has_result, Stage::Preq, |t| Ok(t.authentication.dkim.is_some()));
    registry.on0(result, Stage::Preq, |t| {
        t.authentication
            .dkim
            .as_deref()
            .map(shown)
            .ok_or_else(|| Fault::new("no signature was checked so far"))
    });
    registry.on1(store, Stage::Preq, |t, result: Map| {
        t.authentication.dkim = Some(vec![stored(&result)?]);
        Ok(())
    });
}

/// What became of the signatures, once for each message.
pub(super) fn find(shared: &Shared, names: &dyn Names) -> Outcome<Vec<Checked>> {
    if let Some(known) = &shared.lock().authentication.dkim {
        return Ok(known.clone());
    }
    let (header, content, offset, at_s) = read(shared)?;
    let unreadable = |error: std::io::Error| Fault(format!("the message cannot be read: {error}"));
    let found = candidates(&HeaderBlock::parse(&header), &*content, offset, at_s).map_err(unreadable)?;
    let found = ask(found, names);
    shared.lock().authentication.dkim = Some(found.clone());
    Ok(found)
}

/// A message as it came: header, content, where the body begins, and when it was sent, in seconds since 1970.
pub(super) type Message = (Vec<u8>, Arc<dyn Content>, u64, u64);

/// The message as it came: what rules have changed since is none of a signer's business.
pub(super) fn read(shared: &Shared) -> Outcome<Message> {
    let (content, offset, at_s) = {
        let transaction = shared.lock();
        let content = transaction.content.clone();
        let content = content.ok_or_else(|| Fault::new("the message is not here"))?;
        let at_s = transaction.mail.as_ref().map_or(0, |mail| mail.at_ms / 1000);
        (content, transaction.body_offset, at_s)
    };
    // Strangers say how much there is to hash: others are not to wait for it.
    cede();
    let header = content.read(0, usize::try_from(offset).unwrap_or(usize::MAX).min(MAX_HEADER));
    let header = header.map_err(|error| Fault(format!("the message cannot be read: {error}")))?;
    Ok((header, content, offset, at_s))
}

/// Asks about all keys at once.
fn ask(found: Vec<Candidate>, names: &dyn Names) -> Vec<Checked> {
    let question = |candidate: &Candidate| match candidate {
        Candidate::Ask(_, question) => Some(Query::Signature(question.clone())),
        Candidate::Known(_) => None,
    };
    let mut answers = names.ask(found.iter().filter_map(question).collect(), PATIENCE).into_iter();
    let mut settle = |candidate| match candidate {
        Candidate::Known(checked) => checked,
        Candidate::Ask(checked, _) => match answers.next() {
            Some(Ok(Records::Signature(verdict))) => checked.by_key(&verdict),
            _ => checked.by_key(&SignatureVerdict {
                result: SignatureResult::TempError,
                reason: "the resolver does not answer".to_owned(),
                testing: false,
            }),
        },
    };
    found.into_iter().map(&mut settle).collect()
}

/// As scripts see it: the best signature, and all of them.
fn shown(found: &[Checked]) -> Map {
    let rank = |checked: &&Checked| match checked.word {
        "pass" => 0,
        "neutral" => 1,
        "temperror" => 2,
        "fail" => 3,
        _ => 4,
    };
    let mut map = found.iter().min_by_key(rank).map_or_else(Map::new, one);
    if found.is_empty() {
        map.insert("status".into(), "none".into());
    }
    let all: rhai::Array = found.iter().map(|checked| Dynamic::from(one(checked))).collect();
    map.insert("signatures".into(), all.into());
    map
}

fn one(checked: &Checked) -> Map {
    let text = |text: &str| Dynamic::from(ImmutableString::from(text));
    [
        ("status", text(checked.word)),
        ("sdid", text(&checked.domain)),
        ("auid", text(&checked.identity)),
        ("selector", text(&checked.selector)),
        ("algorithm", text(checked.algorithm)),
        ("reason", text(&checked.reason)),
        ("testing", checked.testing.into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.into(), value))
    .collect()
}

/// What a script has found by itself.
fn stored(map: &Map) -> Outcome<Checked> {
    let text = |key: &str| map.get(key).map(ToString::to_string).unwrap_or_default();
    let status = text("status");
    let words = ["none", "pass", "fail", "neutral", "temperror", "permerror", "policy"];
    let word = words.into_iter().find(|word| *word == status);
    Ok(Checked {
        word: word.ok_or_else(|| Fault(format!("'{status}' is no status of DKIM")))?,
        domain: text("sdid"),
        selector: text("selector"),
        identity: text("auid"),
        algorithm: "",
        start: String::new(),
        reason: text("reason"),
        testing: false,
    })
}
