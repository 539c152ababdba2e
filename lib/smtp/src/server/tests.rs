//! What the dialogue files cannot show: memory, back-pressure, closing, and arbitrary bytes.

use std::sync::Arc;

use proptest::prelude::*;
use vsmtp_mail::{Domain, Reply};

use super::*;

const GREETED: &[u8] = b"HELO a\r\nMAIL FROM:<a@a>\r\n";

pub(super) fn session() -> Session {
    Session::new(Arc::new(Settings::new(Domain::parse("mx.test").unwrap())))
}

/// Feeds everything and accepts everything; collects the output and the questions.
pub(super) fn feed(session: &mut Session, mut input: &[u8], output: &mut Vec<u8>) -> (Vec<Question>, Step) {
    let (mut questions, mut body) = (Vec::new(), Vec::new());
    loop {
        let step = session.advance(std::mem::take(&mut input), &mut body);
        output.extend_from_slice(session.output());
        session.sent(usize::MAX);
        match step {
            Step::Ask(question) => {
                questions.push(question);
                session.answer(Verdict::Accept).unwrap();
            }
            Step::NeedInput | Step::Close => return (questions, step),
            _ => {}
        }
    }
}

#[test]
fn an_idle_session_holds_no_buffer() {
    assert!(size_of::<Session>() <= 192, "{}", size_of::<Session>());
    let mut session = session();
    let mut output = Vec::new();
    let burst = b"MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\nx\r\n.\r\n".repeat(500);
    feed(&mut session, b"HELO a\r\n", &mut output);
    feed(&mut session, &burst, &mut output);
    assert_eq!((session.input.pending.capacity(), session.output.capacity()), (0, 0));
    feed(&mut session, b"NOO", &mut output);
    assert!(session.input.pending.capacity() <= 16, "{}", session.input.pending.capacity());
}

#[test]
fn pipelined_recipients_share_a_question() {
    let mut session = session();
    let mut output = Vec::new();
    let rcpts = b"RCPT TO:<b@b>\r\n".repeat(150);
    let (questions, _) = feed(&mut session, &[GREETED, &rcpts, b"DATA\r\n"].concat(), &mut output);
    let counts: Vec<_> = questions
        .iter()
        .filter_map(
            |question| if let Question::Recipients(list) = question { Some(list.len()) } else { None },
        )
        .collect();
    assert_eq!(counts, [64, 64, 22]);
    assert_eq!(output.windows(9).filter(|window| window == b"250 2.1.5").count(), 150);
}

#[test]
fn missing_answers_are_unavailable_and_extra_ones_are_nothing() {
    let mut session = session();
    let mut output = Vec::new();
    feed(&mut session, GREETED, &mut output);
    let step = session.advance(b"RCPT TO:<b@b>\r\nRCPT TO:<c@c>\r\n", &mut Vec::new());
    assert!(matches!(step, Step::Ask(Question::Recipients(list)) if list.len() == 2));
    assert_eq!(session.advance(b"NOOP\r\n", &mut Vec::new()), Step::AwaitAnswer);
    session.answer_each(vec![Verdict::Accept]).unwrap();
    assert!(session.output().starts_with(b"250 2.1.5 Ok\r\n451 4.3.0"));
    assert_eq!(session.answer(Verdict::Accept), Err(NoQuestion));
    assert_eq!(session.advance(b"", &mut Vec::new()), Step::NeedInput);
    assert!(session.output().ends_with(b"250 2.0.0 Ok\r\n"));
}

#[test]
fn a_client_that_does_not_read_is_not_read_either() {
    let mut session = session();
    feed(&mut session, b"", &mut Vec::new());
    let noops = b"NOOP\r\n".repeat(5_000);
    session.settings = Arc::new(Settings {
        limits: crate::Limits { junk: u32::MAX, ..crate::Limits::default() },
        ..(*session.settings).clone()
    });
    assert_eq!(session.advance(&noops, &mut Vec::new()), Step::Flush);
    assert!(session.output().len() < MAX_OUTPUT + 512);
    let mut total = session.output().len();
    session.sent(usize::MAX);
    while session.advance(b"", &mut Vec::new()) == Step::Flush {
        total += session.output().len();
        session.sent(usize::MAX);
    }
    assert_eq!(total + session.output().len(), 5_000 * "250 2.0.0 Ok\r\n".len());
}

#[test]
fn a_greeting_that_is_one_too_many_ends_the_session_and_asks_nothing() {
    let mut session = session();
    session.settings = Arc::new(Settings {
        limits: crate::Limits { junk: 3, hard_errors: 2, ..crate::Limits::default() },
        ..(*session.settings).clone()
    });
    let mut output = Vec::new();
    let (questions, step) = feed(&mut session, &b"EHLO a\r\n".repeat(20), &mut output);
    assert_eq!(step, Step::Close);
    // The first names it, three more are free, one is an error, and the next is the last.
    assert_eq!(questions.len(), 1 + 1 + 3 + 1, "{questions:?}");
    let output = String::from_utf8(output).unwrap();
    assert!(output.lines().last().is_some_and(|line| line.starts_with("421")), "{output}");
    assert_eq!(output.matches("421").count(), 1, "{output}");
    assert_eq!(session.answer(Verdict::Accept), Err(NoQuestion));
}

#[test]
fn input_beyond_the_bound_ends_the_session() {
    let mut session = session();
    assert_eq!(session.advance(b"", &mut Vec::new()), Step::Ask(Question::Connect));
    let flood = [b'x'; 64 * 1024];
    let steps: Vec<_> = (0..6).map(|_| session.advance(&flood, &mut Vec::new())).collect();
    assert_eq!(steps.last(), Some(&Step::Close));
    assert!(session.input.pending.is_empty());
    assert_eq!(session.answer(Verdict::Accept), Err(NoQuestion));
}

#[test]
fn closing_reports_the_open_transaction_once() {
    for (input, reported) in [
        (&b"HELO a\r\n"[..], false),
        (GREETED, true),
        (b"HELO a\r\nMAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\nhalf", true),
    ] {
        let mut session = session();
        let mut output = Vec::new();
        feed(&mut session, input, &mut output);
        assert_eq!(session.in_transaction(), reported);
        session.close(Own::Timeout);
        session.close(Own::Shutdown);
        assert_eq!(session.output(), Own::Timeout.wire().as_bytes());
        if reported {
            assert_eq!(session.advance(b"more", &mut Vec::new()), Step::Dropped(Dropped::Closed));
        }
        assert_eq!(session.advance(b"", &mut Vec::new()), Step::Close);
        assert_eq!(session.waiting(), Waiting::Nothing);
    }
}

#[test]
fn closing_while_a_question_is_open_forgets_the_question() {
    let mut session = session();
    feed(&mut session, b"HELO a\r\n", &mut Vec::new());
    session.advance(b"MAIL FROM:<a@a>\r\n", &mut Vec::new());
    assert_eq!(session.waiting(), Waiting::Answer);
    session.close(Own::Shutdown);
    assert_eq!(session.answer(Verdict::Accept), Err(NoQuestion));
    assert_eq!(session.advance(b"", &mut Vec::new()), Step::Close);
}

#[test]
fn a_broken_message_is_reported_while_it_still_comes() {
    let mut session = session();
    let mut output = Vec::new();
    feed(&mut session, b"HELO a\r\nMAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n", &mut output);
    let wanted = Step::Dropped(Dropped::Body(BodyFault::BareNewline));
    assert_eq!(session.advance(b"a\nb", &mut Vec::new()), wanted);
    let mut body = Vec::new();
    assert_eq!(session.advance(b"more\r\n", &mut body), Step::NeedInput);
    assert!(body.is_empty());
    assert_eq!(session.waiting(), Waiting::Body);
    assert_eq!(session.advance(b".\r\n", &mut body), Step::NeedInput);
    assert_eq!(session.output(), Own::BareNewlineInMessage.wire().as_bytes());
    assert_eq!(session.waiting(), Waiting::Command);
}

#[test]
fn a_verdict_that_contradicts_itself_is_not_a_yes() {
    let yes_as_no = Verdict::Refuse(Reply::parse("250 2.0.0 fine").unwrap());
    let no_as_yes = Verdict::AcceptWith(Reply::parse("354 3 what").unwrap());
    for verdict in [yes_as_no, no_as_yes] {
        let mut session = session();
        feed(&mut session, GREETED, &mut Vec::new());
        session.advance(b"RCPT TO:<b@b>\r\nDATA\r\n", &mut Vec::new());
        session.answer(verdict).unwrap();
        assert_eq!(session.output(), Own::Unavailable.wire().as_bytes());
        session.sent(usize::MAX);
        session.advance(b"", &mut Vec::new());
        assert_eq!(session.output(), Own::NoValidRecipients.wire().as_bytes());
    }
}

#[test]
fn an_acceptance_that_refuses_opens_neither_a_session_nor_a_message() {
    let refusal = || Verdict::AcceptWith(Reply::parse("451 4.3.0 no").unwrap());
    let mut session = session();
    let mut body = Vec::new();
    feed(&mut session, b"", &mut body);
    session.advance(b"EHLO a\r\n", &mut body);
    session.answer(refusal()).unwrap();
    assert_eq!(session.output(), b"451 4.3.0 no\r\n");
    session.sent(usize::MAX);
    feed(&mut session, GREETED, &mut body);
    feed(&mut session, b"RCPT TO:<b@b>\r\n", &mut body);
    session.advance(b"DATA\r\n", &mut body);
    session.answer(refusal()).unwrap();
    assert_eq!(session.output(), b"451 4.3.0 no\r\n");
    assert!(!session.in_transaction());
}

#[test]
fn a_password_never_shows() {
    let mut session = session();
    let auth = crate::AuthSettings { mechanisms: vec![crate::Mechanism::new("PLAIN")], ..Default::default() };
    session.settings = Arc::new(Settings { auth, ..(*session.settings).clone() });
    session.tls_started(crate::TlsFacts::default());
    feed(&mut session, b"EHLO a\r\n", &mut Vec::new());
    let step = session.advance(b"AUTH PLAIN AGEAc2VjcmV0\r\nAGEAc2VjcmV0", &mut Vec::new());
    let Step::Ask(Question::Auth(request)) = &step else { panic!("{step:?}") };
    assert_eq!(request.initial.as_ref().unwrap().expose(), b"\0a\0secret");
    for shown in [format!("{step:?}"), format!("{session:?}")] {
        assert!(
            !shown.contains("secret") && !shown.contains("c2VjcmV0") && !shown.contains("115"),
            "{shown}"
        );
    }
}

#[test]
fn an_answer_that_is_no_login_does_not_log_in() {
    for verdict in [Verdict::Accept, Verdict::AcceptWith(Reply::parse("235 2.7.0 yes").unwrap())] {
        let mut session = session();
        let mechanism = crate::Mechanism { in_clear: true, ..crate::Mechanism::new("PLAIN") };
        let auth = crate::AuthSettings { mechanisms: vec![mechanism], ..Default::default() };
        session.settings = Arc::new(Settings { auth, ..(*session.settings).clone() });
        feed(&mut session, b"EHLO a\r\n", &mut Vec::new());
        session.advance(b"AUTH PLAIN AGEAYg==\r\n", &mut Vec::new());
        session.answer(verdict).unwrap();
        assert_eq!(session.output(), Own::AuthUnavailable.wire().as_bytes());
        assert!(!session.is_authenticated());
        assert_eq!(session.answer_auth(crate::AuthVerdict::Success), Err(NoQuestion));
    }
}

#[test]
fn the_handshake_forgets_what_was_said_in_clear() {
    let mut session = session();
    let extensions = session.settings.extensions.with(crate::Extension::StartTls);
    session.settings = Arc::new(Settings { extensions, ..(*session.settings).clone() });
    feed(&mut session, b"EHLO a\r\n", &mut Vec::new());
    let mut body = Vec::new();
    assert_eq!(session.advance(b"STARTTLS\r\n", &mut body), Step::Ask(Question::StartTls));
    session.answer(Verdict::Accept).unwrap();
    assert_eq!(session.advance(b"", &mut body), Step::StartTls);
    assert_eq!((session.waiting(), session.is_secured()), (Waiting::Handshake, false));
    session.sent(usize::MAX);
    session.tls_started(crate::TlsFacts::default());
    assert!(session.is_secured());
    session.advance(b"MAIL FROM:<a@a>\r\n", &mut body);
    assert_eq!(session.output(), Own::HeloFirst.wire().as_bytes());
}

#[test]
fn clear_text_while_the_handshake_is_awaited_ends_the_session() {
    for late in [false, true] {
        let mut session = session();
        let extensions = session.settings.extensions.with(crate::Extension::StartTls);
        session.settings = Arc::new(Settings { extensions, ..(*session.settings).clone() });
        feed(&mut session, b"", &mut Vec::new());
        let mut body = Vec::new();
        assert_eq!(session.advance(b"STARTTLS\r\n", &mut body), Step::Ask(Question::StartTls));
        if !late {
            assert_eq!(session.advance(b"NOOP\r\n", &mut body), Step::AwaitAnswer);
        }
        session.answer(Verdict::Accept).unwrap();
        let step = session.advance(if late { b"NOOP\r\n" } else { b"" }, &mut body);
        assert_eq!((step, session.ended_by()), (Step::Close, Some(Own::InputBehindTls)));
        session.tls_started(crate::TlsFacts::default());
        assert!(!session.is_secured());
    }
}

#[test]
fn a_message_refused_for_many_is_one_error() {
    let mut session = session();
    session.settings = Arc::new(Settings { protocol: crate::Protocol::Lmtp, ..(*session.settings).clone() });
    let rcpts = b"RCPT TO:<b@b>\r\n".repeat(50);
    let begin = [b"LHLO a\r\nMAIL FROM:<a@a>\r\n", &rcpts[..], b"DATA\r\n"].concat();
    feed(&mut session, &begin, &mut Vec::new());
    session.advance(b"x\r\n.\r\n", &mut Vec::new());
    session.answer(Verdict::Refuse(Reply::parse("550 5.7.1 no").unwrap())).unwrap();
    assert_eq!(session.output(), b"550 5.7.1 no\r\n".repeat(50));
    assert_eq!(session.errors(), 1);
}

#[test]
fn that_we_are_busy_or_full_is_no_error_of_the_client() {
    for (reply, errors) in [
        ("451 4.3.2 busy", 0),
        ("452 4.3.1 full", 0),
        ("451 4.7.1 later", 1),
        ("552 5.3.4 too big", 1),
        ("450 later", 1),
    ] {
        let mut session = session();
        feed(&mut session, GREETED, &mut Vec::new());
        session.advance(b"RCPT TO:<b@b>\r\n", &mut Vec::new());
        session.answer(Verdict::Refuse(Reply::parse(reply).unwrap())).unwrap();
        assert_eq!(session.output(), format!("{reply}\r\n").as_bytes());
        assert_eq!(session.errors(), errors, "{reply}");
    }
}

#[test]
fn a_login_that_cannot_be_judged_now_is_no_failed_login() {
    let is_over_after = |reply: &str| {
        let mut session = session();
        let mechanism = crate::Mechanism { in_clear: true, ..crate::Mechanism::new("PLAIN") };
        let auth = crate::AuthSettings { mechanisms: vec![mechanism], failures: 1, ..Default::default() };
        session.settings = Arc::new(Settings { auth, ..(*session.settings).clone() });
        feed(&mut session, b"EHLO a\r\n", &mut Vec::new());
        session.advance(b"AUTH PLAIN AGEAYg==\r\n", &mut Vec::new());
        session.answer_auth(crate::AuthVerdict::Refuse(Reply::parse(reply).unwrap())).unwrap();
        assert!(session.output().starts_with(reply.as_bytes()));
        (session.errors(), session.ended_by())
    };
    assert_eq!(is_over_after("451 4.3.2 busy"), (0, None));
    assert_eq!(is_over_after("550 5.7.1 no"), (1, Some(Own::TooManyErrors)));
}

#[test]
fn a_goodbye_knows_whether_other_replies_go_with_it() {
    for (input, alone) in
        [(&b"QUIT\r\n"[..], true), (b"QUIT\r\nNOOP\r\n", true), (b"NOOP\r\nQUIT\r\n", false)]
    {
        let mut session = session();
        feed(&mut session, b"EHLO a\r\n", &mut Vec::new());
        assert_eq!(session.advance(input, &mut Vec::new()), Step::Close);
        assert_eq!((session.ended_by(), session.has_quit_alone()), (Some(Own::Closing), alone));
    }
    let mut session = session();
    session.close(Own::Timeout);
    assert!(!session.has_quit_alone());
}

#[test]
fn s4_a_million_chunks_of_one_octet_cost_nothing() {
    const CHUNKS: usize = 1_000_000;
    let mut session = session();
    let extensions = session.settings.extensions.with(crate::Extension::Chunking);
    session.settings = Arc::new(Settings { extensions, ..(*session.settings).clone() });
    feed(&mut session, &[GREETED, b"RCPT TO:<b@b>\r\n"].concat(), &mut Vec::new());
    let (mut body, mut size, mut replies) = (Vec::new(), 0, 0);
    let thousand = b"BDAT 1\r\nx".repeat(1000);
    for _ in 0..CHUNKS / 1000 {
        let mut input = &thousand[..];
        loop {
            let step = session.advance(std::mem::take(&mut input), &mut body);
            assert!(
                session.output().len() < MAX_OUTPUT + 512 && session.input.pending.len() <= thousand.len()
            );
            replies += session.output().iter().filter(|octet| **octet == b'\n').count();
            session.sent(usize::MAX);
            size += std::mem::take(&mut body).len();
            match step {
                Step::NeedInput => break,
                Step::Ask(_) => session.answer(Verdict::Accept).unwrap(),
                other => assert_eq!(other, Step::Flush),
            }
        }
    }
    assert_eq!((size, replies, session.errors(), session.in_transaction()), (CHUNKS, CHUNKS, 0, true));
    assert_eq!(session.input.pending.capacity(), 0);
}

#[test]
fn errors_are_seen_by_the_caller() {
    let mut session = session();
    let mut output = Vec::new();
    feed(&mut session, &b"FOO\r\n".repeat(10), &mut output);
    assert_eq!((session.errors(), session.deserves_delay()), (10, true));
    let (_, step) = feed(&mut session, &b"FOO\r\n".repeat(10), &mut output);
    assert_eq!(step, Step::Close);
    assert!(output.ends_with(Own::TooManyErrors.wire().as_bytes()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn bytes_may_be_cut_anywhere_and_never_panic(
        input in "((EHLO a|MAIL FROM:<a@a>|RCPT TO:<b@b>|RCPT TO:<|DATA|RSET|NOOP|QUIT|x|\\.|\\.\\.|\\PC{0,9})(\r\n|\r\n|\r\n|\n|\r)){0,24}",
        cuts in proptest::collection::vec(1usize..30, 1..5),
    ) {
        let input = [b"EHLO a\r\n", input.as_bytes()].concat();
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        let mut one = session();
        let (asked, _) = feed(&mut one, &input, &mut whole);
        let (mut other, mut asked_too) = (session(), Vec::new());
        let (mut rest, mut sizes) = (&input[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let size = sizes.next().map_or(1, |size| (*size).min(rest.len()));
            asked_too.extend(feed(&mut other, &rest[..size], &mut pieces).0);
            rest = &rest[size..];
        }
        prop_assert_eq!(whole.escape_ascii().to_string(), pieces.escape_ascii().to_string());
        prop_assert_eq!(flatten(asked), flatten(asked_too));
        prop_assert_eq!(one.errors(), other.errors());
    }

    #[test]
    fn noise_never_panics_and_stays_bounded(input in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let mut session = session();
        for piece in input.chunks(97) {
            feed(&mut session, piece, &mut Vec::new());
            prop_assert!(session.input.pending.len() <= crate::PATH_LINE_LIMIT);
        }
    }
}

/// Batches of recipients depend on the cut; the recipients do not.
fn flatten(questions: Vec<Question>) -> Vec<String> {
    let one = |question| match question {
        Question::Recipients(list) => list.into_iter().map(|rcpt| format!("{rcpt:?}")).collect(),
        other => vec![format!("{other:?}")],
    };
    questions.into_iter().flat_map(one).collect()
}

#[test]
fn a_time_of_release_is_one_of_those_that_ehlo_has_promised() {
    let mut settings = Settings::new(Domain::parse("mx.test").unwrap());
    settings.extensions = crate::Extensions::of(&[crate::Extension::FutureRelease]);
    let mut session = Session::new(Arc::new(settings));
    session.opened_at(1_795_324_249);
    let mut say = |line: &str| {
        let mut output = Vec::new();
        feed(&mut session, line.as_bytes(), &mut output);
        String::from_utf8(output).unwrap()
    };
    say("");
    assert!(say("EHLO c.test\r\n").ends_with("250 FUTURERELEASE 2592000 2026-12-22T05:10:49Z\r\n"));
    for (parameters, code) in [
        ("HOLDFOR=2592001", "501"),
        ("HOLDFOR=2592000", "250"),
        ("HOLDUNTIL=2026-12-22T05:10:50Z", "501"),
        ("HOLDUNTIL=2026-12-22T05:10:49Z", "250"),
    ] {
        let reply = say(&format!("MAIL FROM:<a@a.test> {parameters}\r\n"));
        assert!(reply.starts_with(code), "{parameters}: {reply}");
        say("RSET\r\n");
    }
}
