//! `dmarc::`: whether a message is proved to be of its author's domain, and what that domain wants if it is not.

use std::time::Duration;

use rhai::{ImmutableString, Map};
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::client_resolver::{
    DmarcPolicy, DmarcQuestion, DmarcResult, DmarcVerdict, Query, Records, SpfResult,
};
use vsmtp_mail::{EnhancedCode, Reply};

use super::general::Surroundings;
use super::registry::{Outcome, Registry, name};
use super::{dkim, spf};
use crate::author::{self, NoAuthor};
use crate::names::Names;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{DmarcCheck, Shared};

/// Longest wait for a judgement.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where failures go that a domain wants kept aside.
const QUARANTINE: &str = "dmarc";

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let check_all = name("dmarc", "check", &["check_dmarc"])
        .doc("() -> status", "Whether the message is proved to be of its author's domain, by SPF or DKIM, and what that domain wants if not: nothing, quarantine `dmarc`, or 550 5.7.26. Shown in Authentication-Results, and one line in the log. Waits for the resolver.")
        .errors("if the message cannot be read")
        .example("rule \"dmarc\" || dmarc::check()");
    let raw_check = name("dmarc", "check_raw", &[])
        .doc("() -> map", "The same without a decision: `result`, `author`, `policy`, `published`, `domain`, `organisation`, `spf_aligned`, `dkim_aligned`.")
        .errors("if the message cannot be read")
        .example("dmarc::check_raw().author == \"none\"");
    let names = surroundings.names.clone();
    registry.waits0(check_all, Stage::Preq, move |shared| check(shared, &*names));
    let names = surroundings.names.clone();
    registry.waits0(raw_check, Stage::Preq, move |shared| find(shared, &*names).map(|found| raw(&found)));
}

fn check(shared: &Shared, names: &dyn Names) -> Outcome<Status> {
    let found = find(shared, names)?;
    shared.lock().want_results(true, false)?;
    let refused = |text: &str| Status::Deny(Reply::fixed(550, EnhancedCode(5, 7, 26), text));
    Ok(match (&found.author, found.verdict.result, found.verdict.policy) {
        (Err(_), ..) => refused("The message must have one author's domain in From"),
        // The domain's policy is known, and asks for nothing.
        (Ok(_), DmarcResult::TempError, DmarcPolicy::None) if !found.verdict.found_at.is_empty() => {
            Status::Next
        }
        (Ok(_), DmarcResult::TempError, _) => Status::Reject(Reply::fixed(
            451,
            EnhancedCode(4, 7, 24),
            "The author's domain cannot be checked, try again later",
        )),
        (Ok(_), DmarcResult::Fail, DmarcPolicy::Quarantine) => Status::Quarantine(QUARANTINE.into()),
        (Ok(_), DmarcResult::Fail, DmarcPolicy::Reject) => {
            refused("The author's domain wants this message refused")
        }
        (Ok(_), ..) => Status::Next,
    })
}

/// What is known, once for each message.
fn find(shared: &Shared, names: &dyn Names) -> Outcome<DmarcCheck> {
    let author = {
        let transaction = shared.lock();
        if let Some(known) = &transaction.authentication.dmarc {
            return Ok(known.clone());
        }
        author::domain(&transaction.header)
    };
    let spf = spf::find(shared, names)?;
    let signatures = dkim::find(shared, names)?;
    let judge = |author: &str, spf_counts: &[SpfResult], dkim_counts: &[&str]| {
        let spf_domain = Some(spf.domain.clone()).filter(|_| spf_counts.contains(&spf.verdict.result));
        let signers = signatures.iter().filter(|signature| dkim_counts.contains(&signature.word));
        let dkim = signers.map(|signature| signature.domain.clone()).collect();
        let question = DmarcQuestion { author: author.to_owned(), spf: spf_domain, dkim };
        match names.ask_one(Query::Dmarc(question), PATIENCE) {
            Ok(Records::Dmarc(verdict)) => verdict,
            _ => DmarcVerdict::without_policy(DmarcResult::TempError),
        }
    };
    let mut verdict = match &author {
        Err(_) => DmarcVerdict::without_policy(DmarcResult::Fail),
        Ok(author) => judge(author, &[SpfResult::Pass], &["pass"]),
    };
    let is_unclear =
        spf.verdict.result == SpfResult::TempError || signatures.iter().any(|s| s.word == "temperror");
    if let (Ok(author), DmarcResult::Fail, true) = (&author, verdict.result, is_unclear) {
        // What could not be checked counts only if it would have proved the message.
        let at_best = judge(author, &[SpfResult::Pass, SpfResult::TempError], &["pass", "temperror"]);
        if at_best.result != DmarcResult::Fail {
            verdict.result = DmarcResult::TempError;
        }
    }
    let found = DmarcCheck { author, verdict };
    let mut transaction = shared.lock();
    note(&found, &transaction.client_ip, transaction.id);
    transaction.authentication.dmarc = Some(found.clone());
    Ok(found)
}

/// One line for each message that is judged: what a report to its domain is made of (RFC 9990).
fn note(found: &DmarcCheck, client: &str, id: Option<vsmtp_mail::QueueId>) {
    let verdict = &found.verdict;
    Record::new("dmarc")
        .maybe("id", id)
        .field("client", client)
        .field("author", found.author.as_deref().unwrap_or_default())
        .field("result", verdict.result.word())
        .field("published", verdict.published.word())
        .field("policy", verdict.policy.word())
        .field("domain", &verdict.found_at)
        .field("spf_aligned", verdict.spf_aligned)
        .field("dkim_aligned", verdict.dkim_aligned)
        .field("report_to", verdict.report_to.join(","))
        .emit();
}

fn raw(found: &DmarcCheck) -> Map {
    let verdict = &found.verdict;
    let text = |text: &str| rhai::Dynamic::from(ImmutableString::from(text));
    let author = match &found.author {
        Ok(author) => author.as_str(),
        Err(NoAuthor::None) => "none",
        Err(NoAuthor::Several) => "several",
    };
    [
        ("result", text(verdict.result.word())),
        ("author", text(author)),
        ("policy", text(verdict.policy.word())),
        ("published", text(verdict.published.word())),
        ("domain", text(&verdict.found_at)),
        ("organisation", text(&verdict.organisation)),
        ("spf_aligned", verdict.spf_aligned.into()),
        ("dkim_aligned", verdict.dkim_aligned.into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.into(), value))
    .collect()
}
