//! The walk through the DNS tree (RFC 9989 4.10): at most eight names from a domain to its top, and what they make of it.

use super::record::{Record, begins};
use crate::zone::{Judged, Zone, is_absent};

/// Labels of the second name, however long the first one is.
const LONGEST: usize = 7;

/// What was found on the way.
#[derive(Debug)]
pub struct Walk {
    start: String,
    /// Domains with a record, the longest first.
    records: Vec<(String, Record)>,
    /// Domains that could not be asked: each may have a record.
    unclear: Vec<String>,
}

/// Walks up from a domain.
///
/// # Errors
/// Something must be looked up first.
pub fn walk(domain: &str, zone: &mut dyn Zone) -> Judged<Walk> {
    let mut walk = Walk { start: domain.to_owned(), records: Vec::new(), unclear: Vec::new() };
    let labels: Vec<&str> = domain.split('.').collect();
    let second = labels.len().saturating_sub(1).min(LONGEST);
    let lengths = std::iter::once(labels.len()).chain((1..=second).rev());
    let names: Vec<String> = lengths
        .filter_map(|length| labels.get(labels.len().saturating_sub(length)..).map(|labels| labels.join(".")))
        .collect();
    // All are asked before the first that is missing ends this turn: there are few.
    for name in &names {
        let _ = zone.texts(&format!("_dmarc.{name}"));
    }
    for name in names {
        let texts = match zone.texts(&format!("_dmarc.{name}"))? {
            Ok(texts) => texts,
            Err(error) => {
                if !is_absent(error) {
                    walk.unclear.push(name);
                }
                continue;
            }
        };
        let mut records = texts.iter().filter(|text| begins(text)).map(|text| Record::parse(text));
        if let (Some(Some(record)), None) = (records.next(), records.next()) {
            let ends = record.is_public_suffix.is_some();
            walk.records.push((name, record));
            if ends {
                break;
            }
        }
    }
    Ok(walk)
}

impl Walk {
    /// True if a domain on the way could not be asked, so that the organisation may be another one.
    pub fn is_unclear(&self) -> bool {
        !self.unclear.is_empty()
    }

    /// True if another record than the one that was found may be the one that counts: one of the domain itself always does.
    pub fn is_policy_unclear(&self) -> bool {
        self.is_unclear() && !self.records.iter().any(|(at, _)| *at == self.start)
    }

    /// True if both may be of one organisation, once all can be asked.
    pub fn may_meet(&self, other: &Walk) -> bool {
        let labels: Vec<&str> = self.start.split('.').collect();
        let mut above = (0..labels.len()).filter_map(|at| labels.get(at..).map(|labels| labels.join(".")));
        above.any(|domain| self.may_stand_at(&domain) && other.may_stand_at(&domain))
    }

    /// True if the organisation may be this domain: it is where the walk began, it may have a record, or one above it may
    /// say that it is a public suffix.
    fn may_stand_at(&self, domain: &str) -> bool {
        let may_have_record = |name: &str| {
            self.unclear.iter().chain(self.records.iter().map(|(at, _)| at)).any(|at| at == name)
        };
        let is_here =
            self.start == domain || self.start.strip_suffix(domain).is_some_and(|s| s.ends_with('.'));
        let above = domain.split_once('.').map(|(_, above)| above);
        is_here && (self.start == domain || may_have_record(domain) || above.is_some_and(may_have_record))
    }

    /// The domain that stands for the whole organisation (4.10.2).
    pub fn organisation(&self) -> String {
        for (at, record) in &self.records {
            match record.is_public_suffix {
                Some(false) => return at.clone(),
                Some(true) if *at != self.start => return self.below(at),
                _ => {}
            }
        }
        self.records.last().map_or_else(|| self.start.clone(), |(at, _)| at.clone())
    }

    /// One label more than that domain, towards where the walk began.
    fn below(&self, suffix: &str) -> String {
        let labels = suffix.split('.').count() + 1;
        let all: Vec<&str> = self.start.split('.').collect();
        all.get(all.len().saturating_sub(labels)..).unwrap_or_default().join(".")
    }

    /// The record that counts for the domain where the walk began: its own, its organisation's, that of the public suffix
    /// above it (4.10.1).
    pub fn policy(&self) -> Option<&(String, Record)> {
        let organisation = self.organisation();
        let at = |domain: &str| self.records.iter().find(|(at, _)| at == domain);
        let suffix = || self.records.iter().find(|(_, record)| record.is_public_suffix == Some(true));
        at(&self.start).or_else(|| at(&organisation)).or_else(suffix)
    }
}
