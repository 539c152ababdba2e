//! Redis, and what pretends to be it.

use vsmtp_ipc::edge::filter_database::{MAX_ANSWER, MAX_ROWS, Parameter, Refused};

use crate::stage::{Event, Played, Says, Stage, text};

fn start(server: &Played, timeout: &str) -> Stage {
    Stage::start(&format!("redis://mail:s%3Acret@127.0.0.1:{}/2", server.port), timeout)
}

/// Lets everybody in, and then says this to everything.
fn after_login(says: impl Fn(&[u8]) -> Says + Send + Sync + 'static) -> Played {
    Played::start(move |number, heard| match number {
        0 | 1 => Says::This(b"+OK\r\n".to_vec()),
        _ => says(heard),
    })
}

fn login(server: &Played) {
    assert_eq!(server.event(), Event::Connected);
    assert_eq!(server.heard(), "*3\r\n$4\r\nAUTH\r\n$4\r\nmail\r\n$6\r\ns:cret\r\n");
    assert_eq!(server.heard(), "*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n");
}

#[test]
fn what_a_client_has_said_stays_one_word_of_one_command() {
    let server = after_login(|heard| match heard.starts_with(b"*2\r\n$3\r\nGET") {
        true => Says::This(b"$4\r\na\r\n\xff\r\n".to_vec()),
        false => Says::This(b":7\r\n".to_vec()),
    });
    let mut stage = start(&server, "1m");
    let hostile = "x\r\n*1\r\n$8\r\nFLUSHALL\r\n";
    assert_eq!(stage.value("get", &[text(hostile)]).unwrap(), "a\r\n\u{fffd}");
    login(&server);
    assert_eq!(server.heard(), format!("*2\r\n$3\r\nGET\r\n${}\r\n{hostile}\r\n", hostile.len()));
    assert_eq!(stage.value("increment", &[text("a"), Parameter::Int(5)]).unwrap(), "7");
    assert_eq!(server.heard(), "*3\r\n$6\r\nINCRBY\r\n$1\r\na\r\n$1\r\n5\r\n");
    // What is no question of ours reaches no server.
    for (what, parameters) in [("flushall", vec![]), ("eval", vec![text("x")]), ("select 1", vec![])] {
        assert!(stage.failure(what, &parameters).contains("no such question"));
    }
    assert_eq!(stage.value("exists", &[text("a")]).unwrap(), "7");
    assert_eq!(server.heard(), "*2\r\n$6\r\nEXISTS\r\n$1\r\na\r\n");
}

#[test]
fn a_server_that_says_no_is_asked_again_and_one_that_does_not_know_us_is_not() {
    let server = after_login(|_| Says::This(b"-WRONGTYPE no\r\n".to_vec()));
    let mut stage = start(&server, "1m");
    assert_eq!(stage.failure("get", &[text("a")]), "WRONGTYPE no");
    assert_eq!(stage.failure("get", &[text("a")]), "WRONGTYPE no");
    login(&server);
    assert!(server.heard().contains("GET") && server.heard().contains("GET"), "on one connection");
    let server = Played::start(|_, _| Says::This(b"-WRONGPASS invalid\r\n".to_vec()));
    let mut stage = start(&server, "1m");
    assert_eq!(stage.failure("get", &[text("a")]), "WRONGPASS invalid");
    assert_eq!(server.event(), Event::Connected);
    assert!(server.heard().contains("AUTH"));
    assert_eq!(server.event(), Event::Closed);
}

#[test]
fn a_server_that_says_our_password_again_is_not_quoted() {
    for says in [
        "-ERR unknown command 'AUTH', with args beginning with: 'mail' 's:cret' \r\n",
        "-ERR unknown command 'AUTH', with args beginning with: 'mail' 's:cr\r\n",
        "-ERR AUTH s:cret is wrong\r\n",
    ] {
        let server = Played::start(move |_, _| Says::This(says.as_bytes().to_vec()));
        let why = start(&server, "1m").failure("get", &[text("a")]);
        assert!(why.starts_with("ERR ") && why.contains("AUTH") && !why.contains("s:cr"), "{why}");
    }
}

#[test]
fn a_connection_that_the_server_has_closed_or_spoken_on_is_made_anew() {
    for says in [|| Says::Last(b":1\r\n".to_vec()), || Says::This(b":1\r\n:2\r\n".to_vec())] {
        let server = after_login(move |_| says());
        let mut stage = start(&server, "1m");
        for _ in 0..2 {
            assert_eq!(
                stage.value("exists", &[text("a")]).unwrap(),
                "1",
                "never the answer to another question"
            );
            login(&server);
            assert!(server.heard().contains("EXISTS"));
            assert_eq!(server.event(), Event::Closed);
        }
    }
}

#[test]
fn whatever_a_server_says_is_an_error_and_the_next_question_has_a_new_connection() {
    let large = format!("${}\r\n", MAX_ANSWER + 1).into_bytes();
    for nonsense in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"\r\n".to_vec(),
        b"$99999999999999999999\r\n".to_vec(),
        b"*1\r\n*1\r\n*1\r\n*1\r\n".to_vec(),
        b"*2\r\n:1\r\n:2\r\n".to_vec(),
        b"$1\r\nabc\r\n".to_vec(),
        b"*9999999\r\n".to_vec(),
        vec![b'+'; 100_000],
        large,
    ] {
        let said = nonsense.clone();
        let server = after_login(move |_| Says::This(said.clone()));
        let mut stage = start(&server, "1m");
        for _ in 0..2 {
            let why = stage.failure("get", &[text("a")]);
            assert!(why.contains("not understood") || why.contains("larger"), "{nonsense:?}: {why}");
            login(&server);
            assert!(server.heard().contains("GET"));
            assert_eq!(server.event(), Event::Closed);
        }
    }
}

#[test]
fn a_server_that_never_comes_to_an_end_keeps_no_thread() {
    for begin in ["", "$100000\r\n", "*8000\r\n", "+"] {
        let server = after_login(move |_| Says::Drips(begin.as_bytes().to_vec(), b'1'));
        let mut stage = start(&server, "500ms");
        for _ in 0..2 {
            assert_eq!(stage.ask("get", &[text("a")]), Err(Refused::Late), "{begin}");
            login(&server);
            assert!(server.heard().contains("GET"));
            assert_eq!(server.event(), Event::Closed);
        }
    }
}

#[test]
fn keys_are_gathered_and_those_without_end_are_too_many() {
    let server = after_login(|heard| {
        let is_first = heard.starts_with(b"*6\r\n$4\r\nSCAN\r\n$1\r\n0\r\n");
        Says::This(match is_first {
            true => b"*2\r\n$2\r\n17\r\n*2\r\n$1\r\nb\r\n$1\r\na\r\n".to_vec(),
            false => b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nb\r\n".to_vec(),
        })
    });
    let mut stage = start(&server, "1m");
    let found = stage.ask("keys", &[text("*")]).unwrap();
    assert_eq!(found.rows, [vec![Some("a".to_owned())], vec![Some("b".to_owned())]]);
    // One that always has more.
    let number = std::sync::atomic::AtomicUsize::new(0);
    let server = after_login(move |_| {
        let mut says = b"*2\r\n$2\r\n17\r\n*100\r\n".to_vec();
        for _ in 0..100 {
            let key = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            says.extend_from_slice(format!("$6\r\n{key:06}\r\n").as_bytes());
        }
        Says::This(says)
    });
    let mut stage = start(&server, "1m");
    let why = stage.failure("keys", &[text("*")]);
    assert!(why.contains(&format!("larger than {MAX_ROWS} rows")), "{why}");
    // And one that always has nothing.
    let server = after_login(|_| Says::This(b"*2\r\n$2\r\n17\r\n*0\r\n".to_vec()));
    let mut stage = start(&server, "500ms");
    assert_eq!(stage.ask("keys", &[text("*")]), Err(Refused::Late));
}
