//! `docs/queue-format.md` says what `layout.rs` says.

use super::layout::*;

const DOCUMENT: &str = include_str!("../../../../docs/queue-format.md");

/// The cells of the first table below a heading, without its head.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, below) = DOCUMENT.split_once(&format!("\n{heading}\n")).expect(heading);
    let rows =
        below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn fields(heading: &str, expected: &[Span]) {
    let rows = table(heading);
    let documented: Vec<_> =
        rows.iter().map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap(), row[2])).collect();
    let written: Vec<_> = expected.iter().map(|span| (span.at, span.len, span.name)).collect();
    assert_eq!(documented, written, "{heading}");
}

#[test]
fn headers_are_as_documented() {
    fields("### Segment header", &segment::FIELDS);
    fields("### Record header", &record::FIELDS);
    fields("### Sidecar header", &sidecar::FIELDS);
    let magic = |heading: &str| table(heading)[0][3].trim_matches('`').as_bytes().to_vec();
    assert_eq!(magic("### Segment header"), SEGMENT_MAGIC);
    assert_eq!(magic("### Record header"), RECORD_MAGIC.to_le_bytes());
    assert_eq!(magic("### Sidecar header"), SIDECAR_MAGIC);
}

#[test]
fn kinds_and_numbers_are_as_documented() {
    let rows = table("### Kinds");
    let documented: Vec<_> = rows.iter().map(|row| (row[0].parse().unwrap(), row[1])).collect();
    let written: Vec<_> = Kind::ALL.iter().map(|(kind, name)| (*kind as u8, *name)).collect();
    assert_eq!(documented, written);
    let rows = table("## Numbers");
    let documented: Vec<(&str, u64)> = rows.iter().map(|row| (row[0], row[1].parse().unwrap())).collect();
    assert_eq!(
        documented,
        [
            ("format version", u64::from(FORMAT_VERSION)),
            ("record version", u64::from(RECORD_VERSION)),
            ("record version with terms", u64::from(RECORD_VERSION_WITH_TERMS)),
            ("sidecar version", u64::from(SIDECAR_VERSION)),
            ("segment block", SEGMENT_BLOCK),
            ("alignment", ALIGN),
            ("record header length", RECORD_HEADER_LEN as u64),
            ("sidecar header length", SIDECAR_HEADER_LEN as u64),
            ("largest structured part", MAX_META as u64),
            ("largest body in a segment", MAX_INLINE_BODY as u64),
            ("most records of a transaction", MAX_TRANSACTION_RECORDS as u64),
            ("largest epoch", u64::from(MAX_EPOCH)),
            ("largest sequence", MAX_SEQUENCE),
            ("smallest segment", MIN_SEGMENT_BYTES),
            ("largest segment", MAX_SEGMENT_BYTES),
        ]
    );
    let places = table("## The spool");
    for area in super::Area::ALL {
        assert!(places.iter().any(|row| row[0].contains(&format!("{}/", area.name()))), "{area:?}");
    }
}
