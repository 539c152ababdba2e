//! The walk through the DNS tree (RFC 9989 4.10): at most eight names from a domain to its top, and what they make of it.

use super::record::Record;
use crate::zone::{Judged, Zone, is_absent};

/// Labels of the second name, however long the first one is.
const LONGEST: usize = 7;

/// What was found on the way.
#[derive(Debug)]
pub struct Walk {
    start: String,
    /// Domains with a record, the longest first.
    records: Vec<(String, Record)>,
    /// A name could not be asked.
    pub is_unclear: bool,
}

/// Walks up from a domain.
///
/// # Errors
/// Something must be looked up first.
pub fn walk(domain: &str, zone: &mut dyn Zone) -> Judged<Walk> {
    let mut walk = Walk { start: domain.to_owned(), records: Vec::new(), is_unclear: false };
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
                walk.is_unclear |= !is_absent(error);
                continue;
            }
        };
        let mut records = texts.iter().filter_map(|text| Record::parse(text));
        if let (Some(record), None) = (records.next(), records.next()) {
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
