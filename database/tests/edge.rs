//! The process on its edge to filters, with databases that are played: they are away, silent, or talk nonsense.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};
use vsmtp_config::{Database, DatabaseSlice, Value, encode};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::filter_database::{
    Answer, Ask, CREDITS, FilterEnd, MAX_PARAMETERS, MAX_STATEMENT, Parameter, Refused, Which,
};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_stage::{PATIENCE, Process, configure, next};

const SESSION: ProcessName = ProcessName { role: Role::FilterSession, instance: 0 };

struct Stage {
    process: Process,
}

fn database(port: u16, timeout: &str, connections: i64) -> Database {
    let parts = [
        ("url", Value::Text(format!("mysql://mail:secret@127.0.0.1:{port}/mail"))),
        ("timeout", Value::Text(timeout.to_owned())),
        ("connections", Value::Int(connections)),
    ];
    let parts = parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Database::read(&Value::Map(parts)).unwrap()
}

fn like(database: &Database) -> Which {
    let (url, timeout, connections) = database.shown();
    Which::Like { url, timeout_ms: u64::try_from(timeout.as_millis()).unwrap(), connections }
}

impl Stage {
    fn start(databases: &[(&str, &Database)]) -> Stage {
        let row = |(name, database): &(&str, &Database)| ((*name).to_owned(), (*database).clone());
        let slice = DatabaseSlice { databases: databases.iter().map(row).collect() };
        let configure = configure(Role::Database, encode(&slice).unwrap());
        let mut process = Process::start(env!("CARGO_BIN_EXE_vsmtp-database"), &[], configure);
        process.hear_master(|said| matches!(said, ToMaster::Ready));
        Stage { process }
    }

    fn filter(&mut self) -> FilterEnd {
        FilterEnd::new(self.process.introduce(SESSION), EdgeId::FilterDatabase)
    }
}

fn ask(ticket: u64, database: Which) -> Ask {
    Ask { ticket, database, statement: "select 1".to_owned(), parameters: Vec::new(), left_ms: 60_000 }
}

fn say(filter: &mut FilterEnd, ask: &Ask) {
    vsmtp_stage::say(filter, ask, Vec::new());
}

fn refused(filter: &mut FilterEnd, ticket: u64) -> Refused {
    let answer: Answer = next(filter).unwrap().message;
    assert_eq!(answer.ticket, ticket);
    answer.result.unwrap_err()
}

/// A database that says this to whoever connects, and then listens; tells of each connection.
fn played(says: Vec<u8>) -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, told) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(&says);
            let mut reader = stream.try_clone().unwrap();
            std::thread::spawn(move || while reader.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {});
            kept.push(stream);
            if connected.send(()).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// The first thing that a server says.
const HANDSHAKE: &[u8] = b"\x0a8.0.0\0\x01\0\0\0abcdefgh\0\xff\xff\x21\x02\0\xff\xff\x15\0\0\0\0\0\0\0\0\0\0abcdefghijkl\0mysql_native_password\0";

/// The length of a packet and its number go before what it says.
fn numbered(number: u8, text: &[u8]) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap().to_le_bytes();
    [&len[..3], &[number], text].concat()
}

fn packet(text: &[u8]) -> Vec<u8> {
    numbered(0, text)
}

/// A server that lets everybody in, says this to each command, and then an octet at a time without end; tells of each connection.
fn dripping(says: &'static [Vec<u8>]) -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, told) = channel();
    let serve = move |mut stream: TcpStream| {
        stream.write_all(&packet(HANDSHAKE))?;
        let _login = stream.read(&mut [0; 4096])?;
        stream.write_all(&numbered(2, b"\0\0\0\x02\0\0\0"))?;
        for answer in says {
            let _command = stream.read(&mut [0; 4096])?;
            stream.write_all(answer)?;
        }
        loop {
            stream.write_all(b"\0")?;
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || -> std::io::Result<()> { serve(stream) });
            if connected.send(()).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// A port of which nobody else can have the use, and where nobody listens.
fn closed() -> (OwnedFd, u16) {
    let kind = (AddressFamily::Inet, SockType::Stream);
    let socket = socket::socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, None).unwrap();
    socket::bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let port = socket::getsockname::<SockaddrIn>(socket.as_raw_fd()).unwrap().port();
    (socket, port)
}

#[test]
fn what_is_not_declared_is_not_asked_and_too_much_costs_the_edge() {
    let (address, _told) = played(Vec::new());
    let known = database(address.port(), "1m", 1);
    let mut stage = Stage::start(&[("accounts", &known)]);
    let mut filter = stage.filter();
    let other = database(address.port(), "59s", 1);
    let large = Ask { statement: "x".repeat(MAX_STATEMENT + 1), ..ask(3, like(&known)) };
    let many = Ask { parameters: vec![Parameter::Null; MAX_PARAMETERS + 1], ..ask(4, like(&known)) };
    for ask in [ask(1, Which::Named("nobody".to_owned())), ask(2, like(&other)), large, many] {
        say(&mut filter, &ask);
        assert_eq!(refused(&mut filter, ask.ticket), Refused::NotDeclared);
    }
    // More at once than there are credits.
    for ticket in 10..=10 + u64::from(CREDITS) {
        filter.send(&ask(ticket, Which::Named("accounts".to_owned())), Vec::new()).unwrap();
    }
    let _ = filter.flush().unwrap();
    while next(&mut filter).is_ok() {}
    stage.process.hear_master(|said| matches!(said, ToMaster::Misbehaved(SESSION)));
}

#[test]
fn a_database_that_is_silent_keeps_waiting_only_those_who_ask_it_and_not_for_ever() {
    let (silent, told) = played(Vec::new());
    let (_closed, port) = closed();
    let silent = database(silent.port(), "1m", 1);
    let away = database(port, "1m", 1);
    let mut stage = Stage::start(&[("silent", &silent), ("away", &away)]);
    let mut filter = stage.filter();
    say(&mut filter, &ask(1, like(&silent)));
    told.recv_timeout(PATIENCE).unwrap();
    // Its only connection is taken; this one waits, as long as somebody waits for it.
    say(&mut filter, &Ask { left_ms: 100, ..ask(2, like(&silent)) });
    assert_eq!(refused(&mut filter, 2), Refused::Late);
    // Others are asked meanwhile: that one is away, which is said at once.
    say(&mut filter, &ask(3, Which::Named("away".to_owned())));
    let said = refused(&mut filter, 3);
    assert!(matches!(&said, Refused::Failed(why) if !why.contains("secret")), "{said:?}");
    // Nobody waits for the first any more; what is asked then is somebody else's.
    drop(filter);
    let mut filter = stage.filter();
    say(&mut filter, &ask(4, Which::Named("away".to_owned())));
    assert!(matches!(refused(&mut filter, 4), Refused::Failed(_)));
}

#[test]
fn a_database_that_does_not_answer_in_its_time_is_late_for_all() {
    let (silent, _told) = played(Vec::new());
    let silent = database(silent.port(), "200ms", 2);
    let mut stage = Stage::start(&[("silent", &silent)]);
    let mut filter = stage.filter();
    for ticket in 0..8 {
        say(&mut filter, &ask(ticket, like(&silent)));
    }
    let mut tickets: Vec<u64> = (0..8)
        .map(|_| {
            let answer: Answer = next(&mut filter).unwrap().message;
            // Whoever was put to it may hear of the connection first.
            assert!(matches!(answer.result, Err(Refused::Late | Refused::Failed(_))), "{:?}", answer.result);
            answer.ticket
        })
        .collect();
    tickets.sort_unstable();
    assert_eq!(tickets, (0..8).collect::<Vec<_>>());
}

#[test]
fn whatever_a_database_says_is_an_error_and_the_next_one_is_asked() {
    let handshake = HANDSHAKE;
    let endless_row = [packet(handshake), packet(b"\xff\xff")].concat();
    for nonsense in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        packet(b""),
        packet(b"\x0a"),
        packet(b"\x09old server\0"),
        packet(b"\xff\x10\x04Too many connections"),
        vec![0xff; 70_000],
        endless_row,
        // Nothing is read of these before we have said who we are.
        [packet(handshake), packet(b"")].concat(),
        [packet(handshake), vec![1, 0, 0, 2, 0xfe]].concat(),
        [packet(handshake), vec![7, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 1, 0xfe]].concat(),
    ] {
        let (address, _told) = played(nonsense.clone());
        let (_closed, port) = closed();
        let (bad, away) = (database(address.port(), "500ms", 1), database(port, "1m", 1));
        let mut stage = Stage::start(&[("bad", &bad), ("away", &away)]);
        let mut filter = stage.filter();
        say(&mut filter, &ask(1, like(&bad)));
        let said = refused(&mut filter, 1);
        assert!(matches!(said, Refused::Failed(_) | Refused::Late), "{nonsense:?}: {said:?}");
        say(&mut filter, &ask(2, like(&away)));
        assert!(matches!(refused(&mut filter, 2), Refused::Failed(_)), "{nonsense:?}");
    }
}

#[test]
fn a_database_that_never_comes_to_an_end_keeps_no_connection_for_ever() {
    // The first packet of the answer is as large as it may be, and comes slowly.
    static ANSWERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![vec![0xf0, 0xff, 0x0f, 1]]);
    let (address, told) = dripping(&ANSWERS);
    let slow = database(address.port(), "1s", 1);
    let mut stage = Stage::start(&[("slow", &slow)]);
    let mut filter = stage.filter();
    for ticket in 1..=2 {
        say(&mut filter, &ask(ticket, like(&slow)));
        told.recv_timeout(PATIENCE).expect("another connection");
        assert_eq!(refused(&mut filter, ticket), Refused::Late);
    }
}

#[test]
fn sets_of_rows_without_end_cost_a_connection() {
    // Prepared: without parameters, without columns. Executed: there is more, and that for ever.
    static ANSWERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let prepared = numbered(1, b"\0\x01\0\0\0\0\0\0\0\0\0\0");
        let more = (1..=200).flat_map(|number| numbered(number, b"\0\0\0\x08\0\0\0")).collect();
        vec![prepared, more]
    });
    let (address, told) = dripping(&ANSWERS);
    let endless = database(address.port(), "30s", 1);
    let mut stage = Stage::start(&[("endless", &endless)]);
    let mut filter = stage.filter();
    for ticket in 1..=2 {
        say(&mut filter, &ask(ticket, like(&endless)));
        told.recv_timeout(PATIENCE).expect("another connection");
        let said = refused(&mut filter, ticket);
        assert!(matches!(&said, Refused::Failed(why) if why.contains("larger")), "{said:?}");
    }
}

#[test]
fn where_memory_is_short_it_ends_before_those_that_keep_mail_and_its_own_is_bounded() {
    let (_closed, port) = closed();
    let stage = Stage::start(&[("away", &database(port, "1s", 1))]);
    let of =
        |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", stage.process.child.pid)).unwrap();
    assert_eq!(of("oom_score_adj").trim(), "900");
    let limits = of("limits");
    let data = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
    let most: u64 = data.split_whitespace().nth(3).unwrap().parse().expect("a bound");
    assert!(most <= 1 << 30, "{most}");
}
