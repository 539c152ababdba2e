//! TLSA records as mail uses them (RFC 7672): what is usable prints as it is, and matches what it is about and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_tls::client::{Association, Matching, Selector};

fuzz_target!(|data: &[u8]| {
    let Some((fields, data)) = data.split_first_chunk::<3>() else { return };
    let [usage, selector, matching] = fields.map(|octet| octet % 5);
    let Some(record) = Association::new(usage, selector, matching, data) else {
        // Usages of public authorities, and words that nobody knows, are of no use; and so are digests of a wrong length.
        let known = (2..=3).contains(&usage) && selector <= 1 && matching <= 2;
        let fits = match matching {
            0 => !data.is_empty() && data.len() <= 8 * 1024,
            1 => data.len() == 32,
            _ => data.len() == 64,
        };
        assert!(!(known && fits));
        return;
    };
    let text = record.to_text();
    let mut words = text.split(' ');
    for expected in [usage, selector, matching] {
        assert_eq!(words.next().and_then(|word| word.parse().ok()), Some(expected), "{text}");
    }
    let digits = words.next().unwrap_or_default().as_bytes();
    let read: Vec<u8> = digits
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    assert_eq!((read.as_slice(), words.next()), (data, None));
    // Only the part that it is about, and only all of it.
    let (certificate, key) = match record.selector {
        Selector::Certificate => (data, &b"a key"[..]),
        Selector::Key => (&b"a certificate"[..], data),
    };
    let is_whole = record.matching == Matching::Whole;
    assert_eq!(record.matches(certificate, key), is_whole, "{text}");
    let longer = [data, b"x"].concat();
    assert!(!is_whole || !record.matches(&longer, &longer) && !record.matches(b"", b""));
});
