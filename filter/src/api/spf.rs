//! `spf::`: whether the client may send for the sender's domain. The resolver judges; these functions wait for it and say
//! what follows. vSL 1.x and 2.x use the same words for opposite policies: `check_spf()` lets pass what the domain does not
//! forbid, `spf::check()` what it allows.

use std::time::Duration;

use rhai::{ImmutableString, Map};
use vsmtp_ipc::edge::client_resolver::{Query, Records, SpfQuestion, SpfResult, SpfVerdict};
use vsmtp_mail::{EnhancedCode, Reply};

use super::general::Surroundings;
use super::handle::Handle;
use super::registry::{Outcome, Registry, name};
use crate::names::Names;
use crate::object::Fault;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{Shared, SpfCheck};

/// Longest wait for a judgement (RFC 7208 4.6.4 asks for at least 20 seconds).
const PATIENCE: Duration = Duration::from_secs(20);

/// What is let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// vSL 1.x: what the domain does not forbid. Not asked about senders of our own domains.
    Forbidden { soft: bool },
    /// vSL 2.x: what the domain allows.
    Allowed { soft: bool },
}

/// Which fields the message gets.
#[derive(Debug, Clone, Copy)]
struct Fields {
    results: bool,
    received: bool,
}

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let errors = "if a word is another";
    let check = name("spf", "check", &[])
        .doc("() -> status", "Whether the client may send for the sender's domain, with the fields and the policy of `#{ header: \"both\", policy: \"strict\" }`. Senders of clients on this host are not checked. Waits for the resolver.")
        .example("rule \"spf\" || spf::check()");
    let with_header = check
        .doc("(header: string) -> status", "The same; `header` says which fields the message gets: `spf` (Received-SPF), `auth` (Authentication-Results), `both` or `none`.")
        .errors(errors)
        .example("rule \"spf\" || spf::check(\"auth\")");
    let with_policy = check
        .doc(
            "(header: string, policy: string) -> status",
            "The same; `strict` lets pass only what the domain allows, `soft` what it doubts too (softfail).",
        )
        .errors(errors)
        .example("rule \"spf\" || spf::check(\"both\", \"soft\")");
    let with_map = check
        .doc("(parameters: map) -> status", "The same with `header` and `policy` in a map.")
        .errors("if a word is another, or the map has other entries")
        .example("rule \"spf\" || spf::check(#{ header: \"both\", policy: \"strict\" })");
    let names = surroundings.names.clone();
    registry.waits0(check, Stage::Mail, move |t| {
        decide(t, &*names, &[], fields("both")?, Policy::Allowed { soft: false })
    });
    let names = surroundings.names.clone();
    registry.waits1(with_header, Stage::Mail, move |t, header: ImmutableString| {
        decide(t, &*names, &[], fields(&header)?, Policy::Allowed { soft: false })
    });
    let names = surroundings.names.clone();
    registry.waits2(with_policy, Stage::Mail, move |t, header: ImmutableString, policy: ImmutableString| {
        decide(t, &*names, &[], fields(&header)?, Policy::Allowed { soft: is_soft(&policy)? })
    });
    let names = surroundings.names.clone();
    registry.waits1(with_map, Stage::Mail, move |t, parameters: Map| {
        let (fields, soft) = parameters_of(&parameters)?;
        decide(t, &*names, &[], fields, Policy::Allowed { soft })
    });
    let names = surroundings.names.clone();
    let raw_check = name("spf", "check_raw", &[])
        .doc("() -> map", "What the resolver says, with `result` (`pass`, `fail`, `softfail`, `neutral`, `none`, `temperror`, `permerror`) and `mechanism` or `problem`. Decides nothing. Waits for the resolver.")
        .example("spf::check_raw().result == \"none\"");
    registry.waits0(raw_check, Stage::Mail, move |t| find(t, &*names).map(|check| raw(&check.verdict)));
    old(registry, surroundings);
}

/// As vSL 1.x has it.
fn old(registry: &mut Registry, surroundings: &Surroundings) {
    let check = name("", "check_spf", &["check_spf"])
        .doc("(header: string) -> status", "SPF as vSL 1.x has it: refuses what the domain forbids or doubts, lets pass what it says nothing of. Not asked about senders of our own domains. `header` is as in `spf::check`. Waits for the resolver.")
        .errors("if a word is another")
        .example("rule \"spf\" || check_spf(\"both\")");
    let with_policy = check
        .doc(
            "(header: string, policy: string) -> status",
            "The same; `soft` lets pass what the domain doubts (softfail).",
        )
        .example("rule \"spf\" || check_spf(\"both\", \"soft\")");
    let (names, own) = (surroundings.names.clone(), surroundings.own_domains.clone());
    registry.waits1(check, Stage::Mail, move |t, header: ImmutableString| {
        decide(t, &*names, &own, fields(&header)?, Policy::Forbidden { soft: false })
    });
    let (names, own) = (surroundings.names.clone(), surroundings.own_domains.clone());
    registry.waits2(with_policy, Stage::Mail, move |t, header: ImmutableString, policy: ImmutableString| {
        decide(t, &*names, &own, fields(&header)?, Policy::Forbidden { soft: is_soft(&policy)? })
    });
    // The function that scripts of 1.x may call below `check_spf()`: it says, and decides nothing.
    let names = surroundings.names.clone();
    registry.system_waits2("check_spf", Stage::Mail, move |t, _: Handle, _: Handle| {
        find(t, &*names).map(|check| raw(&check.verdict))
    });
}

fn fields(word: &str) -> Outcome<Fields> {
    let (results, received) = match word {
        "both" => (true, true),
        "auth" => (true, false),
        "spf" => (false, true),
        "none" => (false, false),
        _ => return Err(Fault(format!("'{word}' is not \"spf\", \"auth\", \"both\" or \"none\""))),
    };
    Ok(Fields { results, received })
}

fn is_soft(word: &str) -> Outcome<bool> {
    match word {
        "soft" => Ok(true),
        "strict" => Ok(false),
        _ => Err(Fault(format!("'{word}' is not \"strict\" or \"soft\""))),
    }
}

fn parameters_of(map: &Map) -> Outcome<(Fields, bool)> {
    let text = |key: &str, default: &str| map.get(key).map_or(default.to_owned(), ToString::to_string);
    if let Some(other) = map.keys().find(|key| !matches!(key.as_str(), "header" | "policy")) {
        return Err(Fault(format!("spf::check knows 'header' and 'policy', not '{other}'")));
    }
    Ok((fields(&text("header", "both"))?, is_soft(&text("policy", "strict"))?))
}

/// What the resolver says, once for each message.
pub(super) fn find(shared: &Shared, names: &dyn Names) -> Outcome<SpfCheck> {
    let question = {
        let transaction = shared.lock();
        if let Some(known) = &transaction.authentication.spf {
            return Ok(known.clone());
        }
        let helo = transaction.helo.as_deref().unwrap_or_default().to_owned();
        transaction.peer.client.map(|(client, _)| SpfQuestion {
            client,
            helo,
            sender: transaction.said_sender_parts(),
            receiver: transaction.peer.server_name.to_string(),
        })
    };
    let nothing = |result, by: &str| SpfVerdict { result, by: by.to_owned(), explanation: None };
    let check = match question {
        None => SpfCheck {
            verdict: nothing(SpfResult::None, "a client of this host"),
            domain: String::new(),
            is_sender: true,
        },
        Some(question) => {
            let is_sender = question.sender.is_some();
            let domain = question.sender.as_ref().map_or(&question.helo, |(_, domain)| domain).clone();
            let verdict = match names.ask_one(Query::Spf(question), PATIENCE) {
                Ok(Records::Spf(verdict)) => verdict,
                _ => nothing(SpfResult::TempError, "the resolver does not answer"),
            };
            SpfCheck { verdict, domain, is_sender }
        }
    };
    shared.lock().authentication.spf = Some(check.clone());
    Ok(check)
}

fn decide(
    shared: &Shared,
    names: &dyn Names,
    own: &[String],
    fields: Fields,
    policy: Policy,
) -> Outcome<Status> {
    {
        let transaction = shared.lock();
        let is_own = |domain: &String| own.iter().any(|own| own.eq_ignore_ascii_case(domain));
        // Whoever writes to us from this very host is not a host of anybody else.
        if transaction.peer.client.is_none()
            || transaction.said_sender_parts().is_some_and(|(_, d)| is_own(&d))
        {
            return Ok(Status::Next);
        }
    }
    let check = find(shared, names)?;
    {
        let mut transaction = shared.lock();
        transaction.want_results(fields.results, fields.received)?;
    }
    Ok(status(&check, policy))
}

fn status(check: &SpfCheck, policy: Policy) -> Status {
    use SpfResult::{Fail, Neutral, None, Pass, PermError, SoftFail, TempError};
    match (check.verdict.result, policy) {
        (Pass, _) => Status::Next,
        (TempError, _) => {
            Status::Reject(Reply::fixed(451, EnhancedCode(4, 7, 24), "SPF validation error, try again later"))
        }
        (PermError, _) => Status::Deny(Reply::fixed(550, EnhancedCode(5, 7, 24), "SPF validation error")),
        (None | Neutral, Policy::Forbidden { .. }) => Status::Next,
        (SoftFail, Policy::Forbidden { soft: true } | Policy::Allowed { soft: true }) => Status::Next,
        (Fail | SoftFail | None | Neutral, _) => Status::Deny(refusal(check)),
    }
}

/// With the domain's own words, if it has some.
fn refusal(check: &SpfCheck) -> Reply {
    let plain = || Reply::fixed(550, EnhancedCode(5, 7, 23), "SPF validation failed");
    let Some(words) = &check.verdict.explanation else { return plain() };
    let text = format!("SPF validation failed, {} says: {words}", check.domain);
    Reply::new(550, Some(EnhancedCode(5, 7, 23)), &text).unwrap_or_else(|_| plain())
}

/// As `check_raw()` shows it.
fn raw(verdict: &SpfVerdict) -> Map {
    let mut map = Map::new();
    map.insert("result".into(), verdict.result.word().into());
    let key = match verdict.result {
        SpfResult::TempError | SpfResult::PermError => "problem",
        _ => "mechanism",
    };
    map.insert(key.into(), ImmutableString::from(verdict.by.as_str()).into());
    map
}
