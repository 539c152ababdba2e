//! What a message says in our name is ours, at every stage.

use super::*;
use crate::judge::{PostJudged, PostMessage};

const FORGED: &str = "Authentication-Results: mx.example.com; dkim=pass header.d=bank.test\r\n";
const LATER: &str = "#{ postq: [ action \"spf\" || { spf::check(\"auth\"); } ] }";

fn with(above: &str, below: &str) -> Vec<u8> {
    format!("{above}Received: by mx.example.com\r\n{below}Subject: hi\r\n\r\nbody\r\n").into_bytes()
}

#[test]
fn words_in_our_name_are_gone_before_rules_after_the_queue_see_them() {
    for (script, is_cleaned) in
        [(LATER, true), ("#{ delivery: [ action \"a\" || msg::has_header(\"X\") ] }", true), ("#{}", false)]
    {
        let bench = bench(script);
        bench.begin();
        bench.rcpt("jane@example.com");
        let stored = only(bench.message(&with("", FORGED)));
        let cleaned = stored.pieces.first().map(|piece| match piece {
            Piece::Text(header) => String::from_utf8_lossy(header).into_owned(),
            other => panic!("{other:?}"),
        });
        let header = "Received: by mx.example.com\r\nSubject: hi\r\n\r\n".to_owned();
        assert_eq!(cleaned, is_cleaned.then_some(header), "{script}");
    }
}

#[test]
fn only_what_stands_above_our_trace_is_taken_over_after_the_queue() {
    let ours = "Authentication-Results: mx.example.com; dkim=pass header.d=good.test\r\n";
    for (bytes, dkim) in [
        // Received when there were no rules that would have removed it.
        (with("", FORGED), ""),
        (with(ours, FORGED), ";\r\n\tdkim=pass header.d=good.test"),
        (with(ours, ""), ";\r\n\tdkim=pass header.d=good.test"),
        (format!("{FORGED}\r\n").into_bytes(), ""),
    ] {
        let bench = bench(LATER);
        bench.begin();
        bench.rcpt("jane@example.com");
        let message = PostMessage {
            id: QueueIdMint::new(1, 1).next(1),
            stage: Some(Stage::Postq),
            is_report: false,
            reroute: false,
            envelope: only(bench.message(MESSAGE)).envelope,
            peer: peer(Some("203.0.113.5")),
            helo: "client.test".to_owned(),
            arrived_ms: 0,
            resume: None,
            content: Arc::new(Inline(Arc::new(bytes))),
        };
        let PostJudged::Edit(edit) = bench.judge.post(message) else { panic!() };
        let Some(Piece::Text(header)) = edit.pieces.first() else { panic!() };
        let header = String::from_utf8_lossy(header);
        let (field, _) = header.split_once("\r\nReceived").or(header.split_once("\r\n\r\n")).unwrap();
        let shown = "reason=\"the resolver does not answer\" smtp.mailfrom=a@client.test";
        let expected = format!("Authentication-Results: mx.example.com;\r\n\tspf=temperror {shown}{dkim}");
        assert_eq!(field, expected);
        assert_eq!(header.matches("Authentication-Results").count(), 1, "{header}");
    }
}
