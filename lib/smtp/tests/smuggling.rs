//! S8 and S9: nothing but CRLF.CRLF ends a message, at every cut of the bytes, for every policy, and again after our own
//! client has sent the message on. And the decoder against a slow and simple one.
#![allow(missing_docs, reason = "a test has no public items")]

use std::sync::Arc;

use proptest::prelude::*;
use vsmtp_mail::Domain;
use vsmtp_smtp::{
    BareNewline, BodyFault, BodyLimits, DataDecoder, DotStuffer, Extension, Progress, Question, Session,
    Settings, Step, Verdict,
};

const BREAKS: [&[u8]; 5] = [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\0"];

/// What a session made of the bytes: messages that were offered, and senders that were named.
fn play(bare: BareNewline, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<String>) {
    let mut settings = Settings::new(Domain::parse("mx.test").unwrap());
    settings.bare_newline = bare;
    settings.extensions = settings.extensions.with(Extension::Chunking).with(Extension::BinaryMime);
    let mut session = Session::new(Arc::new(settings));
    let (mut body, mut messages, mut senders) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut input = *piece;
        loop {
            match session.advance(std::mem::take(&mut input), &mut body) {
                Step::NeedInput | Step::Close => break,
                Step::Dropped(_) => body.clear(),
                Step::Ask(question) => {
                    match question {
                        Question::Mail(mail) => senders.push(mail.reverse_path.to_string()),
                        Question::Message(_) => messages.push(std::mem::take(&mut body)),
                        _ => {}
                    }
                    session.answer(Verdict::Accept).unwrap();
                }
                Step::Flush | Step::AwaitAnswer | Step::AuthCancelled | Step::StartTls => {}
                Step::XClient(_) | Step::XForward(_) => {}
            }
            session.sent(usize::MAX);
        }
    }
    (messages, senders)
}

fn attack(before: &[u8], after: &[u8]) -> Vec<u8> {
    [
        &b"HELO a\r\nMAIL FROM:<first@a>\r\nRCPT TO:<b@b>\r\nDATA\r\nSubject: x\r\n\r\ntext"[..],
        before,
        b".",
        after,
        b"MAIL FROM:<smuggled@a>\r\nRCPT TO:<b@b>\r\nDATA\r\nevil\r\n.\r\nMAIL FROM:<last@a>\r\n",
    ]
    .concat()
}

#[test]
fn s8_only_crlf_dot_crlf_ends_a_message() {
    for bare in [BareNewline::Refuse, BareNewline::Normalise] {
        for before in BREAKS {
            for after in BREAKS {
                let stream = attack(before, after);
                let (whole_messages, whole_senders) = play(bare, &[&stream]);
                // A message may end only where the bytes really are CRLF.CRLF.
                let ended = before.ends_with(b"\r\n") && after == b"\r\n";
                let wanted: &[&str] =
                    if ended { &["first@a", "smuggled@a", "last@a"] } else { &["first@a", "last@a"] };
                assert_eq!(whole_senders, wanted, "{before:?} {after:?}");
                let lone = |bytes: &[u8]| bytes != b"\r\n" && bytes != b"\0";
                let kept = bare == BareNewline::Normalise || !lone(before) && !lone(after);
                let kept = usize::from(kept) + usize::from(ended);
                assert_eq!(whole_messages.len(), kept, "{bare:?} {before:?} {after:?}");
                for at in 0..stream.len() {
                    let cut = play(bare, &[&stream[..at], &stream[at..]]);
                    assert_eq!(cut, (whole_messages.clone(), whole_senders.clone()), "cut at {at}");
                }
                let bytes: Vec<&[u8]> = stream.chunks(1).collect();
                assert_eq!(play(bare, &bytes), (whole_messages.clone(), whole_senders));
            }
        }
    }
}

/// The same attack in chunks; `middle` is where the one ends and the other begins.
fn attack_by_bdat(before: &[u8], after: &[u8], body: &str, middle: usize) -> (Vec<u8>, Vec<u8>) {
    let message = [
        &b"Subject: x\r\n\r\ntext"[..],
        before,
        b".",
        after,
        b"MAIL FROM:<smuggled@a>\r\nRCPT TO:<b@b>\r\nBDAT 0 LAST\r\nQUIT\r\n",
    ]
    .concat();
    let (first, second) = message.split_at(middle.min(message.len()));
    let stream = [
        format!("EHLO a\r\nMAIL FROM:<first@a>{body}\r\nRCPT TO:<b@b>\r\nBDAT {}\r\n", first.len())
            .as_bytes(),
        first,
        format!("BDAT {} LAST\r\n", second.len()).as_bytes(),
        second,
        b"MAIL FROM:<last@a>\r\n",
    ]
    .concat();
    (message, stream)
}

#[test]
fn s8_a_chunk_ends_where_its_size_says_and_nowhere_else() {
    for bare in [BareNewline::Refuse, BareNewline::Normalise] {
        for (before, after) in BREAKS.into_iter().flat_map(|before| BREAKS.map(|after| (before, after))) {
            for body in ["", " BODY=BINARYMIME"] {
                let length = attack_by_bdat(before, after, body, 0).0.len();
                for middle in 0..=length {
                    let (message, stream) = attack_by_bdat(before, after, body, middle);
                    let (messages, senders) = play(bare, &[&stream]);
                    assert_eq!(senders, ["first@a", "last@a"], "{before:?} {after:?} {middle}");
                    let lone = |bytes: &[u8]| bytes != b"\r\n" && bytes != b"\0";
                    match (body, bare) {
                        (" BODY=BINARYMIME", _) => assert_eq!(messages, [message]),
                        (_, BareNewline::Refuse) if lone(before) || lone(after) => {
                            assert!(messages.is_empty())
                        }
                        _ => assert_eq!(messages.len(), 1),
                    }
                    if middle % 16 == 0 {
                        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
                        assert_eq!(play(bare, &bytes), (messages, senders));
                    }
                }
            }
        }
    }
}

#[test]
fn s9_what_came_in_chunks_is_one_message_on_the_next_server() {
    for (before, after) in BREAKS.into_iter().flat_map(|before| BREAKS.map(|after| (before, after))) {
        let (_, stream) = attack_by_bdat(before, after, "", 20);
        for message in play(BareNewline::Normalise, &[&stream]).0 {
            let mut stuffer = DotStuffer::default();
            let mut wire = b"HELO a\r\nMAIL FROM:<first@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n".to_vec();
            stuffer.push(&message, &mut wire);
            stuffer.finish(&mut wire);
            assert_eq!(play(BareNewline::Refuse, &[&wire]), (vec![message], vec!["first@a".to_owned()]));
        }
    }
}

#[test]
fn s9_what_was_normalised_is_still_one_message_on_the_next_server() {
    for before in BREAKS {
        for after in BREAKS {
            let (messages, _) = play(BareNewline::Normalise, &[&attack(before, after)]);
            for message in messages {
                let mut stuffer = DotStuffer::default();
                let mut wire = b"HELO a\r\nMAIL FROM:<first@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n".to_vec();
                stuffer.push(&message, &mut wire);
                stuffer.finish(&mut wire);
                assert_eq!(play(BareNewline::Refuse, &[&wire]), (vec![message], vec!["first@a".to_owned()]));
            }
        }
    }
}

#[test]
fn a_message_that_is_too_big_ends_no_sooner_either() {
    let mut settings = Settings::new(Domain::parse("mx.test").unwrap());
    settings.limits.body.size = 10;
    let mut session = Session::new(Arc::new(settings));
    let mut body = Vec::new();
    let mut output = Vec::new();
    let mut stream = &b"HELO a\r\nMAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n0123456789abcdef\r\n\n.\n\r\n.\r\r\nQUIT\r\n.\r\n"[..];
    loop {
        match session.advance(std::mem::take(&mut stream), &mut body) {
            Step::NeedInput => break,
            Step::Ask(Question::Message(_)) => panic!("accepted"),
            Step::Ask(_) => session.answer(Verdict::Accept).unwrap(),
            _ => {}
        }
        output.extend_from_slice(session.output());
        session.sent(usize::MAX);
    }
    output.extend_from_slice(session.output());
    let text = String::from_utf8(output).unwrap();
    assert!(text.ends_with("<CR><LF>.<CR><LF>\r\n552 5.3.4 Message is too big\r\n"), "{text}");
}

/// The body as a simple reading of RFC 5321 has it: the bytes, and where they end.
fn reference(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let framed = [b"\r\n", input].concat();
    let end = framed.windows(5).position(|window| window == b"\r\n.\r\n")?;
    let mut out = Vec::new();
    let mut rest = &input[..end];
    while !rest.is_empty() {
        let length = rest.windows(2).position(|window| window == b"\r\n").unwrap_or(rest.len());
        let line = rest[..length].strip_prefix(b".").unwrap_or(&rest[..length]);
        for (at, byte) in line.iter().enumerate() {
            match byte {
                b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
                _ => out.push(line[at]),
            }
        }
        out.extend_from_slice(b"\r\n");
        rest = rest.get(length + 2..).unwrap_or_default();
    }
    Some((out, end + 3))
}

fn decode(input: &[u8], bare: BareNewline, cuts: &[usize]) -> (DataDecoder, Vec<u8>, Option<usize>) {
    let mut decoder = DataDecoder::new(BodyLimits::default(), bare);
    let (mut out, mut at, mut cuts) = (Vec::new(), 0, cuts.iter().cycle());
    while at < input.len() {
        let size = cuts.next().map_or(input.len(), |size| (*size).clamp(1, input.len() - at));
        match decoder.push(&input[at..at + size], &mut out) {
            Progress::End(used) => return (decoder, out, Some(at + used)),
            _ => at += size,
        }
    }
    (decoder, out, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_decoder_agrees_with_the_simple_one(
        mut input in "([.\r\na]|\r\n|\r\n\\.|received:|Received: x\r\n|a{70}\r\n|\r\n\r\n(a{70}\r\n){5,9}){0,60}",
        cuts in proptest::collection::vec(1usize..20, 0..2),
    ) {
        input.push_str("\r\n.\r\nNOOP\r\n");
        let input = input.into_bytes();
        let (body, end) = reference(&input).unwrap();
        let (decoder, out, used) = decode(&input, BareNewline::Normalise, &cuts);
        prop_assert_eq!(used, Some(end));
        prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&body));
        let facts = decoder.facts();
        prop_assert_eq!(facts.size, body.len() as u64);
        let text = String::from_utf8(body).unwrap();
        let header_end = match text.find("\r\n\r\n") {
            _ if text.starts_with("\r\n") => 2,
            Some(at) => at + 4,
            None => text.len(),
        };
        prop_assert_eq!(facts.header_size, header_end as u64);
        let lines = text[..header_end].split("\r\n");
        let hops = lines.filter(|line| line.to_ascii_lowercase().starts_with("received:")).count();
        prop_assert_eq!(facts.hops as usize, hops);

        let (strict, kept, used) = decode(&input, BareNewline::Refuse, &cuts);
        prop_assert_eq!(used, Some(end));
        let lone = String::from_utf8_lossy(&input[..end]).replace("\r\n", "").contains(['\r', '\n']);
        prop_assert_eq!(strict.fault(), lone.then_some(BodyFault::BareNewline));
        prop_assert!(lone || kept == out);
    }

    #[test]
    fn limits_hold_at_every_cut(
        input in "([a-c]{1,9}\r\n){1,20}",
        size in 1u64..100,
        line in 1u64..9,
        cuts in proptest::collection::vec(1usize..20, 0..6),
    ) {
        let wire = [input.as_bytes(), b".\r\n"].concat();
        for (limits, fault) in [
            (BodyLimits { size, ..BodyLimits::default() }, (input.len() as u64 > size).then_some(BodyFault::TooBig)),
            (
                BodyLimits { line, ..BodyLimits::default() },
                input.lines().any(|text| text.len() as u64 > line).then_some(BodyFault::LineTooLong),
            ),
            (
                BodyLimits { header: size, ..BodyLimits::default() },
                (input.len() as u64 > size).then_some(BodyFault::HeaderTooBig),
            ),
        ] {
            let mut decoder = DataDecoder::new(limits.clone(), BareNewline::Refuse);
            let (mut out, mut at, mut sizes) = (Vec::new(), 0, cuts.iter().cycle());
            let mut ended = false;
            while at < wire.len() {
                let step = sizes.next().map_or(wire.len(), |size| (*size).min(wire.len() - at)).min(wire.len() - at);
                ended = matches!(decoder.push(&wire[at..at + step], &mut out), Progress::End(_));
                at += step;
            }
            prop_assert!(ended);
            prop_assert_eq!(decoder.fault(), fault);
            prop_assert!(limits.size == BodyLimits::default().size || out.len() as u64 <= limits.size);
        }
    }
}
