//! S8 on each transport: only CRLF.CRLF ends a message, wherever the packets or TLS records part.

use super::{Theatre, Transport, line::Line, script};

const BREAKS: [&[u8]; 5] = [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\0"];
const BEGIN: &[u8] = b"MAIL FROM:<first@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nSubject: x\r\n\r\ntext";
const HIDDEN: &[u8] = b"MAIL FROM:<smuggled@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nevil\r\n.\r\n";

#[test]
fn s8_in_clear() {
    attack_on(Transport::Clear);
}

#[test]
fn s8_behind_starttls() {
    attack_on(Transport::StartTls);
}

#[test]
fn s8_under_tls_from_the_first_octet() {
    attack_on(Transport::Implicit);
}

fn attack_on(transport: Transport) {
    for normalises in [false, true] {
        let options = "! hard-errors 1000000\n! extensions PIPELINING\nC: EHLO client.test\n";
        let normalise = if normalises { "! normalise\n" } else { "" };
        let theatre = Theatre::open(&script::parse(&format!("{options}{normalise}"), "smuggling"), transport);
        let mut line = theatre.enter();
        if transport != Transport::StartTls && !theatre.logs_in {
            line.expect(b"220 mx.test ESMTP");
        }
        line.send(b"EHLO client.test\r\n");
        line.expect(b"250");
        for (before, after) in BREAKS.into_iter().flat_map(|before| BREAKS.map(|after| (before, after))) {
            let attack = [BEGIN, before, b".", after, HIDDEN].concat();
            let is_an_end = before.ends_with(b"\r\n") && after == b"\r\n";
            let is_lone = |bytes: &[u8]| bytes != b"\r\n" && bytes != b"\0";
            let is_taken = normalises || !(is_lone(before) || is_lone(after));
            let mut wanted = vec![250, 250, 354, if is_taken { 250 } else { 550 }];
            if is_an_end {
                // Then the rest is what it looks like: another message.
                wanted.extend([250, 250, 354, 250]);
            }
            let place = BEGIN.len();
            let ends = place..=place + before.len() + 1 + after.len();
            for at in ends.map(Some).chain([None]) {
                let pieces: Vec<&[u8]> = match at {
                    Some(at) => vec![&attack[..at], &attack[at..]],
                    // Octet by octet.
                    None => attack.chunks(1).collect(),
                };
                for piece in pieces {
                    line.send(piece);
                }
                let case = || format!("{before:?} {after:?} cut at {at:?} on {transport:?}");
                let heard = replies(&mut line, &case);
                assert_eq!(heard, wanted, "{}", case());
                let kept = std::iter::from_fn(|| theatre.ends.body()).count();
                assert_eq!(kept, wanted[3..].iter().step_by(4).filter(|code| **code == 250).count());
            }
        }
    }
}

/// The codes of all replies, up to that of a command whose code no other has.
fn replies(line: &mut Line, case: &dyn Fn() -> String) -> Vec<u16> {
    line.send(b"VRFY end\r\n");
    let mut codes = Vec::new();
    loop {
        let reply = line.reply();
        match String::from_utf8_lossy(&reply[..3]).parse() {
            Ok(252) => return codes,
            Ok(code) => codes.push(code),
            Err(_) => panic!("{} to {}", reply.escape_ascii(), case()),
        }
    }
}
