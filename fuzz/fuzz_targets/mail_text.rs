//! The small text forms: queue ids, durations, xtext, escaped text, log fields.
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use vsmtp_daemon::Record;
use vsmtp_mail::{QueueId, escape_text, parse_duration};
use vsmtp_smtp::{decode_xtext, encode_xtext};

fuzz_target!(|text: &str| {
    if let Ok(id) = QueueId::parse(text) {
        assert_eq!(id.to_string(), text.to_ascii_uppercase());
        assert_eq!(QueueId::from_bytes(id.to_bytes()), id);
    }
    if let Some(duration) = parse_duration(text) {
        assert!(duration.as_secs() <= 1000 * 86_400);
        assert_eq!(parse_duration(&format!("{}ms", duration.as_millis())), Some(duration));
    }
    let encoded = encode_xtext(text);
    assert!(encoded.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b'='));
    let is_clean = !text.chars().any(char::is_control);
    assert_eq!(decode_xtext(&encoded).as_deref(), is_clean.then_some(text));
    if let Some(decoded) = decode_xtext(text) {
        assert!(!decoded.chars().any(char::is_control));
        assert_eq!(decode_xtext(&encode_xtext(&decoded)), Some(decoded));
    }
    assert!(!escape_text(text).chars().any(char::is_control));
    log_line(text);
});

/// A value in a log line ends neither the line nor its own field.
fn log_line(text: &str) {
    static LOG: Once = Once::new();
    LOG.call_once(|| {
        log::set_logger(&Check).expect("the only logger");
        log::set_max_level(log::LevelFilter::Info);
    });
    Record::new("fuzz").field("value", text).field("last", 1).emit();
}

struct Check;

impl log::Log for Check {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{line:?}");
        let rest = line.strip_prefix("event=fuzz value=").expect("what comes first");
        let value = rest.strip_suffix(" last=1").expect("what comes last");
        match value.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.char_indices().find(|(_, c)| {
                    let ends = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                });
                assert_eq!(end.map(|(at, _)| at + 1), Some(quoted.len()), "{line:?}");
            }
            None => assert!(!value.is_empty() && !value.contains([' ', '=', '"', '\\']), "{line:?}"),
        }
    }

    fn flush(&self) {}
}
