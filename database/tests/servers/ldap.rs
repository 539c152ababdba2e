//! LDAP, and what pretends to be it.

use vsmtp_database::ber::{self, ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE, element};
use vsmtp_ipc::edge::filter_database::Refused;

use crate::stage::{Event, Played, Says, Stage, text};

fn start(server: &Played, timeout: &str) -> Stage {
    Stage::start(&format!("ldap://127.0.0.1:{}", server.port), timeout)
}

fn message(number: i64, tag: u8, content: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[ber::number(INTEGER, number), element(tag, content)].concat())
}

/// An end of an operation.
fn ended(number: i64, tag: u8, code: i64) -> Vec<u8> {
    message(
        number,
        tag,
        &[ber::number(ENUMERATED, code), element(OCTETS, b""), element(OCTETS, b"")].concat(),
    )
}

fn entry(dn: &str) -> Vec<u8> {
    message(3, 0x64, &[element(OCTETS, dn.as_bytes()), element(SEQUENCE, b"")].concat())
}

/// The number and the operation of what a server hears.
fn operation(heard: &Event) -> (i64, u8, Vec<u8>) {
    let Event::Heard(octets) = heard else { panic!("{heard:?}") };
    let mut whole = Reader::new(octets);
    let mut message = Reader::new(whole.expect(SEQUENCE).unwrap());
    assert!(whole.is_empty(), "one message at a time");
    let number = message.number(INTEGER).unwrap();
    let (tag, content) = message.take().unwrap();
    (number, tag, content.to_vec())
}

#[test]
fn a_value_is_sent_as_it_is_and_what_is_no_filter_reaches_no_server() {
    let server = Played::start(|heard, _| match heard {
        0 => Says::This([entry("cn=a"), ended(3, 0x65, 0)].concat()),
        _ => Says::This(ended(4, 0x65, 0)),
    });
    let mut stage = start(&server, "1m");
    let hostile = "*)(uid=*";
    let ask = [
        text("dc=x"),
        text("sub"),
        text("(uid=?)"),
        vsmtp_ipc::edge::filter_database::Parameter::Int(0),
        text(hostile),
    ];
    let found = stage.ask("search_values", &ask).unwrap();
    assert_eq!(found.rows, [vec![Some("cn=a".to_owned()), None, None]]);
    assert_eq!(server.event(), Event::Connected);
    let (number, tag, content) = operation(&server.event());
    assert_eq!((number, tag), (3, 0x63));
    let sent = element(0xa3, &[element(OCTETS, b"uid"), element(OCTETS, hostile.as_bytes())].concat());
    assert!(content.windows(sent.len()).any(|window| window == sent), "{content:?}");
    for filter in ["uid=a", "(uid=a", "(uid=a)(b=c)", "(uid=*)(uid=*)"] {
        let why = stage.failure("search", &[text("dc=x"), text("sub"), text(filter)]);
        assert!(why.contains("filter"), "{filter}: {why}");
    }
    assert!(stage.failure("delete", &[text("cn=a")]).contains("no such question"));
    stage.ask("search", &[text("dc=x"), text("sub"), text("(uid=a)")]).unwrap();
    assert_eq!(operation(&server.event()).1, 0x63, "on the same connection, and nothing between");
}

#[test]
fn whatever_a_directory_says_is_an_error_and_the_next_question_has_a_new_connection() {
    let endless = [0x30, 0x84, 0x7f, 0xff, 0xff, 0xff].to_vec();
    for nonsense in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0x30, 0x80, 0, 0],
        vec![0x30, 3, 2, 1, 3],
        // An answer to another question, one that goes away, and one of another kind.
        ended(4, 0x65, 0),
        ended(0, 0x78, 52),
        ended(3, 0x6f, 6),
        message(3, 0x64, &[4, 0x7f]),
        (0..=1000).flat_map(|_| entry("cn=a")).collect(),
        endless,
    ] {
        let said = nonsense.clone();
        let server = Played::start(move |_, _| Says::This(said.clone()));
        let mut stage = start(&server, "1m");
        for _ in 0..2 {
            let why = stage.failure("search", &[text("dc=x"), text("sub"), text("(uid=a)")]);
            assert!(why.contains("not understood") || why.contains("larger"), "{nonsense:?}: {why}");
            assert_eq!(server.event(), Event::Connected);
            assert_eq!(operation(&server.event()).1, 0x63);
            assert_eq!(server.event(), Event::Closed);
        }
    }
}

#[test]
fn an_answer_to_the_question_before_is_none_to_this_one() {
    let server = Played::start(|_, _| Says::This([entry("cn=a"), ended(3, 0x65, 0)].concat()));
    let mut stage = start(&server, "1m");
    for (connected, number) in [(true, 3), (false, 4), (true, 3)] {
        let answer = stage.ask("search", &[text("dc=x"), text("sub"), text("(uid=a)")]);
        assert_eq!(answer.is_ok(), connected, "{answer:?}");
        if connected {
            assert_eq!(server.event(), Event::Connected);
        }
        assert_eq!(operation(&server.event()).0, number);
        if !connected {
            assert_eq!(server.event(), Event::Closed);
        }
    }
}

#[test]
fn a_directory_that_never_comes_to_an_end_keeps_no_thread() {
    for begin in [vec![0x30, 0x83, 3, 0, 0], vec![0x30], entry("cn=a")] {
        let server = Played::start(move |_, _| Says::Drips(begin.clone(), 0x30));
        let mut stage = start(&server, "500ms");
        for _ in 0..2 {
            assert_eq!(
                stage.ask("search", &[text("dc=x"), text("sub"), text("(uid=a)")]),
                Err(Refused::Late)
            );
            assert_eq!(server.event(), Event::Connected);
            assert_eq!(operation(&server.event()).1, 0x63);
            assert_eq!(server.event(), Event::Closed);
        }
    }
}

#[test]
fn nothing_is_said_in_clear_where_tls_is_wanted() {
    let start_tls = |server: &Played| {
        let parts = [("dn", "cn=mail"), ("pw", "s3cret")];
        Stage::start_with(&format!("ldap://localhost:{}", server.port), "1m", &parts, true)
    };
    let ask = |stage: &mut Stage| stage.failure("search", &[text("dc=x"), text("sub"), text("(uid=a)")]);
    // It does not know TLS; it knows it, and goes on in clear; it has said more before TLS began.
    let more = [ended(1, 0x78, 0), ended(2, 0x61, 0)].concat();
    for (says, word) in [
        (ended(1, 0x78, 2), "protocolError"),
        (ended(2, 0x61, 0), "not understood"),
        (more, "not understood"),
    ] {
        let server = Played::start(move |_, _| Says::This(says.clone()));
        let why = ask(&mut start_tls(&server));
        assert!(why.contains(word), "{why}");
        assert_eq!(server.event(), Event::Connected);
        let (number, tag, content) = operation(&server.event());
        assert_eq!((number, tag), (1, 0x77));
        assert!(content.ends_with(b"1.3.6.1.4.1.1466.20037"));
        assert_eq!(server.event(), Event::Closed);
    }
    let server = Played::start(|number, _| match number {
        0 => Says::This(ended(1, 0x78, 0)),
        _ => Says::This(ended(2, 0x61, 0)),
    });
    let why = ask(&mut start_tls(&server));
    assert!(!why.is_empty());
    assert_eq!(server.event(), Event::Connected);
    assert_eq!(operation(&server.event()).1, 0x77);
    let Event::Heard(hello) = server.event() else { panic!("a greeting of TLS") };
    assert!(hello.starts_with(&[0x16, 3]) && !hello.windows(6).any(|window| window == b"s3cret"));
}

#[test]
fn who_is_not_known_asks_nothing() {
    let server = Played::start(|_, _| Says::This(ended(2, 0x61, 49)));
    let parts = [("dn", "cn=mail"), ("pw", "s3cret")];
    let mut stage = Stage::start_with(&format!("ldap://127.0.0.1:{}", server.port), "1m", &parts, false);
    let why = stage.failure("compare", &[text("cn=a"), text("mail"), text("x")]);
    assert!(why.contains("invalidCredentials (49)") && !why.contains("s3cret"), "{why}");
    assert_eq!(server.event(), Event::Connected);
    assert_eq!(operation(&server.event()).1, 0x60);
    assert_eq!(server.event(), Event::Closed);
}
