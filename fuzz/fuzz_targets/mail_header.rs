//! Header blocks: byte-exact as they came, and an edit changes what it was asked to change and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_mail::{Field, HeaderBlock, header_end};

fuzz_target!(|message: &[u8]| {
    let end = header_end(message);
    let block = &message[..end];
    assert!(end == message.len() || block.ends_with(b"\r\n"));
    let parsed = HeaderBlock::parse(block);
    assert_eq!(parsed.to_bytes(), block);
    assert_eq!(parsed.clone().into_owned().to_bytes(), block);
    for field in parsed.fields() {
        assert!(!field.name().is_empty() && !field.name().contains(&b':'));
        assert!(!field.unfolded().iter().any(|b| matches!(b, b'\r' | b'\n')));
    }
    edit(&parsed);
    // The first line of the message as a name and a value that a rule would set.
    let text = String::from_utf8_lossy(message);
    let (name, value) = text.split_once('\0').unwrap_or(("X-New", &text));
    if let Some(field) = Field::new(name, value) {
        let raw = field.raw().to_vec();
        let alone = HeaderBlock::parse(&raw);
        assert_eq!(alone.fields().count(), 1, "a field that a rule sets is one field");
        assert_eq!(alone.fields().next(), Some(&field));
        assert_eq!(header_end(&[&raw, &b"\r\n"[..]].concat()), raw.len() + 2, "and ends no header");
    }
});

fn edit(parsed: &HeaderBlock<'_>) {
    let before = parsed.to_bytes();
    let names =
        |block: &HeaderBlock<'_>| block.fields().map(|field| field.name().to_vec()).collect::<Vec<_>>();
    let new = Field::new("X-Fuzz", "1").expect("a field");

    let mut added = parsed.clone();
    added.prepend(new.clone());
    assert_eq!(added.to_bytes(), [b"X-Fuzz: 1\r\n", &before[..]].concat());
    assert_eq!(names(&added)[1..], names(parsed)[..]);
    assert!(added.remove("x-fuzz"));
    assert_eq!(added.to_bytes(), before);

    let mut set = parsed.clone();
    set.set(new);
    set.set(Field::new("X-FUZZ", "2").expect("a field"));
    assert_eq!(set.named("x-fuzz").next().map(|field| field.unfolded()), Some(b"2".to_vec()));
    assert_eq!(names(&set).len(), names(parsed).len() + usize::from(parsed.named("x-fuzz").next().is_none()));

    let first = parsed.fields().next().and_then(|field| std::str::from_utf8(field.name()).ok());
    if let Some(first) = first {
        let mut renamed = parsed.clone();
        assert!(renamed.rename(first, "X-Renamed"));
        assert_eq!(
            renamed.fields().next().map(|field| field.value()),
            parsed.fields().next().map(|field| field.value())
        );
        assert_eq!(names(&renamed)[1..], names(parsed)[1..]);
        let mut removed = parsed.clone();
        assert!(removed.remove(first));
        assert_eq!(names(&removed)[..], names(parsed)[1..]);
    }
}
