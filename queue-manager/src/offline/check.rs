//! `verify`: every octet against its checksum, and what a start would have to say.

use std::io::Write;

use serde_json::json;
use vsmtp_mail::escape_text;

use super::Failure;
use crate::store::{Note, Offline, RecoveryReport};

/// Checks everything; a failure if anything is not as it was written.
pub fn verify(
    spool: &Offline,
    report: &RecoveryReport,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let verified = spool.verify();
    // Fewer are named than there may be.
    let bad = spool.len().saturating_sub(verified.good);
    // A folder that cannot be listed is no reason not to say the rest.
    let set_aside = spool.set_aside().unwrap_or_default();
    if json {
        let unreadable =
            verified.bad.iter().map(|(id, why)| json!({ "queue_id": id.to_string(), "reason": why }));
        let aside = set_aside.iter().map(|(name, size)| json!({ "name": name, "size": size }));
        let object = json!({
            "good": verified.good,
            "bad": bad,
            "records": verified.records,
            "octets": verified.octets,
            "unreadable": unreadable.collect::<Vec<_>>(),
            "interrupted": report.interrupted,
            "notes": report.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "more_notes": report.more_notes,
            "set_aside": aside.collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")?;
    } else {
        for (name, value) in [
            ("good messages", verified.good as u64),
            ("bad messages", bad as u64),
            ("records", verified.records),
            ("octets read", verified.octets),
        ] {
            writeln!(out, "{name:14}  {value}")?;
        }
        for (id, why) in &verified.bad {
            writeln!(out, "bad: {id}: {}", escape_text(why))?;
        }
        for note in &report.notes {
            writeln!(out, "a start would report: {}", escape_text(&note.to_string()))?;
        }
        if report.more_notes > 0 {
            writeln!(out, "a start would report {} more", report.more_notes)?;
        }
        for (name, size) in &set_aside {
            writeln!(out, "set aside before: corrupt/{}, {size} octets", escape_text(name))?;
        }
    }
    let harmless = report.more_notes == 0 && report.notes.iter().all(|note| matches!(note, Note::Foreign(_)));
    if bad == 0 && harmless { Ok(()) } else { Err(Failure::Damaged("the spool is damaged".to_owned())) }
}
