//! Replies of a server: the same however they are cut, and safe in logs and reports.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::splittings;
use vsmtp_smtp::{ParsedReply, ReplyFault, ReplyParser};

fuzz_target!(|stream: &[u8]| {
    let [whole, rest @ ..] = splittings(stream).map(|pieces| parse(&pieces));
    for other in rest {
        assert_eq!(other, whole);
    }
    for reply in whole.iter().flatten() {
        assert!((200..=599).contains(&reply.code));
        assert!(!reply.text.chars().any(|c| c.is_control() && c != '\n'));
        let short = reply.to_reply();
        assert_eq!(short.code(), reply.code);
        let mut wire = Vec::new();
        short.write_to(&mut wire);
        let again = parse(&[&wire]);
        assert_eq!(again.len(), 1);
        assert!(matches!(&again[0], Ok(again) if again.code == reply.code), "{again:?}");
    }
});

fn parse(pieces: &[&[u8]]) -> Vec<Result<ParsedReply, ReplyFault>> {
    let (mut parser, mut found) = (ReplyParser::default(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (used, reply) = parser.push(rest);
            assert!(used > 0 && used <= rest.len() && (reply.is_some() || used == rest.len()));
            rest = &rest[used..];
            if let Some(reply) = reply {
                let is_fault = reply.is_err();
                found.push(reply);
                if is_fault {
                    return found;
                }
                assert!(!parser.is_partial());
            }
        }
    }
    found
}
