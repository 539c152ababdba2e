//! Replies as policy and operators write them: whatever the text, the wire form is one reply of bounded lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_mail::{EnhancedCode, Reply, ReplyError};
use vsmtp_smtp::ReplyParser;

/// The longest line of a reply with its CRLF (RFC 5321 4.5.3.1.5).
const MAX_LINE: usize = 512;

fuzz_target!(|text: &str| {
    if let Some(enhanced) = EnhancedCode::parse(text) {
        assert_eq!(EnhancedCode::parse(&enhanced.to_string()), Some(enhanced));
    }
    if let Ok(reply) = Reply::parse(text) {
        check(&reply);
    }
    for (code, enhanced) in
        [(250, None), (451, Some(EnhancedCode(4, 7, 1))), (599, Some(EnhancedCode(5, 999, 999)))]
    {
        if let Ok(reply) = Reply::new(code, enhanced, text) {
            assert_eq!((reply.code(), reply.enhanced()), (code, enhanced));
            check(&reply);
        }
    }
});

fn check(reply: &Reply) {
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    for line in wire.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\r\n").expect("a line ends with CRLF");
        let text = std::str::from_utf8(text).expect("a line is text");
        assert!(line.len() <= MAX_LINE && !text.chars().any(char::is_control), "{text:?}");
    }
    let mut parser = ReplyParser::default();
    let (used, parsed) = parser.push(&wire);
    let parsed = parsed.expect("one reply").expect("a whole reply");
    assert_eq!((used, parsed.code), (wire.len(), reply.code()));
    let wire = String::from_utf8(wire).expect("a reply is text");
    match Reply::parse(&wire) {
        Ok(again) => {
            assert_eq!(again.code(), reply.code());
            assert!(reply.enhanced().is_none() || again.enhanced() == reply.enhanced());
        }
        // Text that looks like an enhanced code of another class: whoever writes that in policy is told so.
        Err(error) => assert_eq!((error, reply.enhanced()), (ReplyError::Class, None)),
    }
    assert!(!reply.to_string().chars().any(char::is_control));
}
