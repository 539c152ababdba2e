//! DMARC (RFC 9989): what an author's domain wants done with mail that is not proved to be its own, and whether it is.
//! Organisations are found by the walk through the DNS tree, not by a list.

mod record;
mod walk;

use vsmtp_ipc::edge::client_resolver::{DmarcPolicy, DmarcQuestion, DmarcResult, DmarcVerdict, Records};

use crate::finding::Kind;
use crate::zone::{Judged, Zone, is_absent};
use record::{Alignment, Record};
use walk::walk;

/// Most domains of signatures that are looked at.
const MAX_SIGNERS: usize = 10;

/// The word about a message. Where a name that decides cannot be asked, only the author's own domain is taken for it; a
/// `TempError` that names where its record was found says that only alignment is open, one that does not that the policy is.
///
/// # Errors
/// Something must be looked up first.
pub fn check(question: &DmarcQuestion, zone: &mut dyn Zone) -> Judged<DmarcVerdict> {
    let author = normal(&question.author);
    let own = walk(&author, zone)?;
    let Some((at, record)) = own.policy() else {
        let result = if own.is_unclear() { DmarcResult::TempError } else { DmarcResult::None };
        return Ok(DmarcVerdict { organisation: own.organisation(), ..DmarcVerdict::without_policy(result) });
    };
    let (at, record) = (at.clone(), record.clone());
    let organisation = own.organisation();
    let mut unclear = false;
    let mut aligned = |domain: &str, how: Alignment, zone: &mut dyn Zone| -> Judged<bool> {
        let domain = normal(domain);
        if domain == author {
            return Ok(true);
        }
        if how == Alignment::Strict {
            return Ok(false);
        }
        let other = walk(&domain, zone)?;
        if own.is_unclear() || other.is_unclear() {
            unclear |= own.may_meet(&other);
            return Ok(false);
        }
        Ok(other.organisation() == organisation)
    };
    let spf_aligned = match &question.spf {
        Some(domain) => aligned(domain, record.spf, zone)?,
        None => false,
    };
    let mut dkim_aligned = false;
    for domain in question.dkim.iter().take(MAX_SIGNERS) {
        dkim_aligned |= aligned(domain, record.dkim, zone)?;
    }
    if own.is_policy_unclear() && !(spf_aligned || dkim_aligned) {
        return Ok(DmarcVerdict::without_policy(DmarcResult::TempError));
    }
    let result = match (spf_aligned || dkim_aligned, unclear) {
        (true, _) => DmarcResult::Pass,
        (false, true) => DmarcResult::TempError,
        (false, false) => DmarcResult::Fail,
    };
    let published = published(&record, &at, &author, zone)?;
    Ok(DmarcVerdict {
        result,
        published,
        policy: if record.testing { published.softer() } else { published },
        found_at: at,
        organisation,
        spf_aligned,
        dkim_aligned,
        report_to: record.reports.clone(),
    })
}

fn normal(domain: &str) -> String {
    domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase()
}

/// Which policy of a record counts for that author (4.7).
fn published(record: &Record, at: &str, author: &str, zone: &mut dyn Zone) -> Judged<DmarcPolicy> {
    if at == author {
        return Ok(record.policy);
    }
    let below = record.below.unwrap_or(record.policy);
    match record.absent {
        Some(absent) if !exists(author, zone)? => Ok(absent),
        _ => Ok(below),
    }
}

/// A domain exists if it has an address or a mail exchanger, or if nobody can tell (3.2.12).
fn exists(domain: &str, zone: &mut dyn Zone) -> Judged<bool> {
    let found = [Kind::A, Kind::Aaaa, Kind::Mx].map(|kind| zone.at(domain, kind));
    for found in found {
        match found? {
            Ok(Records::Addresses(_) | Records::Mx(_)) => return Ok(true),
            Err(error) if is_absent(error) => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
