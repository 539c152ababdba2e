//! memcached, and what pretends to be it.

use vsmtp_ipc::edge::filter_database::{Parameter, Refused};

use crate::stage::{Event, Played, Says, Stage, text};

fn start(server: &Played, timeout: &str) -> Stage {
    Stage::start(&format!("memcache://127.0.0.1:{}", server.port), timeout)
}

#[test]
fn a_value_is_what_it_is_and_a_key_that_is_none_reaches_no_server() {
    let server = Played::start(|_, heard| match heard.starts_with(b"gets") {
        true => Says::This(b"VALUE a 0 3 7\r\nx\r\n\r\nEND\r\n".to_vec()),
        false => Says::This(b"STORED\r\n".to_vec()),
    });
    let mut stage = start(&server, "1m");
    let hostile = "x\r\nflush_all\r\n";
    assert_eq!(stage.value("set", &[text("a"), text(hostile), Parameter::Int(60)]).unwrap(), "STORED");
    assert_eq!(server.event(), Event::Connected);
    assert_eq!(server.heard(), format!("set a 0 60 {}\r\n{hostile}\r\n", hostile.len()));
    for key in ["a b", "a\r\nflush_all", "", &"x".repeat(251)] {
        assert!(stage.failure("get", &[text(key)]).contains("no such question"), "{key}");
    }
    let rows = stage.ask("get", &[text("a"), text("b")]).unwrap().rows;
    assert_eq!(rows, [["a", "x\r\n", "7"].map(|text| Some(text.to_owned())).to_vec()]);
    assert_eq!(server.heard(), "gets a b\r\n");
}

#[test]
fn whatever_memcached_says_is_an_error_and_the_next_question_has_a_new_connection() {
    for nonsense in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\r\n",
        "VALUE b 0 1 1\r\nx\r\nEND\r\n",
        "VALUE a 0 999999999 1\r\n",
        "VALUE a 0 1 1\r\nxy\r\nEND\r\n",
        "STORED\r\n",
        "END\n",
    ] {
        let server = Played::start(move |_, _| Says::This(nonsense.as_bytes().to_vec()));
        let mut stage = start(&server, "1m");
        for _ in 0..2 {
            let why = stage.failure("get", &[text("a")]);
            assert!(why.contains("not understood") || why.contains("larger"), "{nonsense}: {why}");
            assert_eq!(server.event(), Event::Connected);
            assert_eq!(server.heard(), "gets a\r\n");
            assert_eq!(server.event(), Event::Closed);
        }
    }
    // Where a value may be taken for commands, nothing more is said.
    let server = Played::start(|_, _| Says::This(b"SERVER_ERROR object too large for cache\r\n".to_vec()));
    let mut stage = start(&server, "1m");
    for _ in 0..2 {
        let why = stage.failure("set", &[text("a"), text("b"), Parameter::Int(0)]);
        assert!(why.contains("too large for cache"), "{why}");
        assert_eq!(server.event(), Event::Connected);
        assert_eq!(server.heard(), "set a 0 0 1\r\nb\r\n");
        assert_eq!(server.event(), Event::Closed);
    }
}

#[test]
fn values_and_counts_without_end_keep_no_thread() {
    for (what, begin) in [("get", "VALUE a 0 200000 1\r\n"), ("get", "VAL"), ("stats", "STAT a b\r\nSTAT ")] {
        let server = Played::start(move |_, _| Says::Drips(begin.as_bytes().to_vec(), b'x'));
        let mut stage = start(&server, "500ms");
        let parameters = if what == "get" { vec![text("a")] } else { Vec::new() };
        for _ in 0..2 {
            assert_eq!(stage.ask(what, &parameters), Err(Refused::Late), "{begin}");
            assert_eq!(server.event(), Event::Connected);
            assert!(matches!(server.event(), Event::Heard(_)));
            assert_eq!(server.event(), Event::Closed);
        }
    }
    let server = Played::start(|_, _| Says::This("STAT a b\r\n".repeat(1001).into_bytes()));
    assert!(start(&server, "1m").failure("stats", &[]).contains("larger"));
}
