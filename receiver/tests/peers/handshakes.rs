//! Handshakes that take time: a key holder that is slow, dies or lies, clients that are slow, many at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use vsmtp_config::{SecurityLevel, ServerTls};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::receiver_keys::{Answer, SIGN_MS};

use crate::keys::{KEYS, Keys, Secure, client_config, tls};
use crate::stage::{Client, PATIENCE, Stage, next};
use crate::tls::{begin, ready, secured, stage, starttls, submissions};

/// How long a signature is waited for.
const SIGN: Duration = Duration::from_millis(SIGN_MS);

#[test]
fn a_silent_key_holder_costs_the_handshake_and_nothing_else() {
    let mut slice = secured(tls());
    slice.timeouts.connect = 5 * SIGN;
    let mut stage = Stage::start(&slice);
    let mut filter = stage.introduce((false, false, false));
    let mut keys = Keys::introduce(&mut stage);
    let stream = ready(&stage);
    // One who says nothing is the receiver's own clock: his time is five times that of a signature.
    let mut silent = stage.connect();
    assert!(silent.reply().starts_with("220"));
    let began = Instant::now();
    let shaking = std::thread::spawn(move || Secure::shake(&client_config(&TLS13), stream).is_err());
    let (late, _) = keys.hear();
    stage.greeted().begin(&mut filter);
    assert!(shaking.join().unwrap());
    assert!(began.elapsed() >= SIGN, "it is waited for");
    assert!(silent.reply().starts_with("421"));
    stage.logged("why=timeout");
    let log = stage.log();
    let (failed, over) = (log.find("event=tls-failed"), log.find("why=timeout"));
    assert!(failed.is_some() && failed < over, "and not for long: {log}");
    // Its answer comes too late for anybody, and is no misbehaviour.
    keys.say(&Answer::Signed { ticket: late, signature: None });
    keys.serve();
    starttls(&stage);
    stage.figure("handshakes_failed", 1);
}

#[test]
fn those_who_wait_for_signatures_delay_nobody_who_needs_none() {
    const STALLED: usize = 100;
    let mut stage = Stage::start(&secured(tls()));
    let _filter = stage.introduce((false, false, false));
    let mut keys = Keys::introduce(&mut stage);
    let address = submissions(&mut stage);
    let config = client_config(&TLS13);
    let first = std::thread::spawn({
        let config = config.clone();
        move || Secure::shake(&config, TcpStream::connect(address).unwrap()).unwrap().reply()
    });
    keys.sign();
    assert!(first.join().unwrap().starts_with("220"));
    // From now on nobody signs. Four are waited for at once, so the last of these has half a minute to wait.
    let mut stalled: Vec<TcpStream> = (0..STALLED)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&hello()).unwrap();
            stream
        })
        .collect();
    keys.hear();
    let mut resumed = Secure::shake(&config, TcpStream::connect(address).unwrap()).unwrap();
    assert!(resumed.is_resumed());
    assert!(resumed.reply().starts_with("220"));
    let last = stalled.last_mut().unwrap();
    last.set_nonblocking(true).unwrap();
    let waits = last.read(&mut [0; 1]).expect_err("it waits");
    assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock, "the others came first");
}

/// The first words of a client that comes for the first time.
fn hello() -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("mx.test").unwrap();
    let mut client = rustls::ClientConnection::new(client_config(&TLS13), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn when_the_key_holder_dies_sessions_go_on_and_the_next_one_serves() {
    let mut stage = Stage::start(&secured(tls()));
    let mut filter = stage.introduce((false, false, false));
    let mut keys = Keys::introduce(&mut stage);
    let config = client_config(&TLS13);
    let stream = ready(&stage);
    let shaking = std::thread::spawn(move || Secure::shake(&config, stream).unwrap());
    keys.sign();
    let mut client = shaking.join().unwrap();
    client.ask("EHLO client.test");
    let stream = ready(&stage);
    let hopeless = std::thread::spawn(move || Secure::shake(&client_config(&TLS13), stream).is_err());
    keys.hear();
    // A ticket needs no signature.
    let implicit = submissions(&mut stage);
    let first = TcpStream::connect(implicit).unwrap();
    let tickets = client_config(&TLS13);
    let shaking = std::thread::spawn({
        let tickets = tickets.clone();
        move || Secure::shake(&tickets, first).unwrap().reply()
    });
    keys.sign();
    assert!(shaking.join().unwrap().starts_with("220"));
    let mut early = stage.greeted();
    assert!(early.ask("EHLO client.test").contains("STARTTLS"));
    drop(keys);
    assert!(hopeless.join().unwrap(), "the one that waited for it");
    begin(&mut client, &mut filter);
    stage.logged("event=keys-lost");
    let mut resumed = Secure::shake(&tickets, TcpStream::connect(implicit).unwrap()).unwrap();
    assert!(resumed.is_resumed());
    assert!(resumed.reply().starts_with("220"));
    // Nobody is told to begin what cannot be done, and who asks may go on in clear.
    assert!(!stage.greeted().ask("EHLO client.test").contains("STARTTLS"));
    assert!(early.ask("STARTTLS").starts_with("454 4.7.0"));
    assert!(early.ask("NOOP").starts_with("250"));
    Keys::introduce(&mut stage).serve();
    starttls(&stage);
}

#[test]
fn while_the_key_holder_is_away_nobody_gives_up_mail_that_needs_tls() {
    let mut stage = Stage::start(&secured(ServerTls { security_level: SecurityLevel::Encrypt, ..tls() }));
    let _filter = stage.introduce((false, false, false));
    let keys = Keys::introduce(&mut stage);
    let mut early = stage.greeted();
    assert!(early.ask("EHLO client.test").contains("STARTTLS"));
    drop(keys);
    stage.logged("event=keys-lost");
    let mut late = stage.greeted();
    assert!(!late.ask("EHLO client.test").contains("STARTTLS"));
    assert_eq!(late.ask("MAIL FROM:<a@client.test>"), "454 4.7.0 TLS is not available now");
    assert!(early.ask("STARTTLS").starts_with("454 4.7.0"));
    assert_eq!(early.ask("MAIL FROM:<a@client.test>"), "454 4.7.0 TLS is not available now");
    Keys::introduce(&mut stage).serve();
    assert!(late.ask("EHLO client.test").contains("STARTTLS"));
    assert!(late.ask("MAIL FROM:<a@client.test>").starts_with("530 5.7.0"));
}

#[test]
fn a_key_holder_that_says_what_nobody_may_say_is_reported() {
    let mut stage = Stage::start(&secured(tls()));
    let mut keys = Keys::introduce(&mut stage);
    keys.say(&Answer::Signed { ticket: 99, signature: None });
    stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(KEYS)));
    assert!(matches!(next(keys.edge()), Err(ChannelError::Closed)));
}

#[test]
fn slow_handshakes_starve_nobody_and_end_in_time() {
    const TIMEOUT: Duration = Duration::from_secs(6);
    let mut stage = Stage::start(&secured(ServerTls { handshake_timeout: TIMEOUT, ..tls() }));
    let mut filter = stage.introduce((false, false, false));
    Keys::introduce(&mut stage).serve();
    let address = submissions(&mut stage);
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|at| {
            let mut stream = TcpStream::connect(address).unwrap();
            // Nothing, a part of a record's head, a part of a hello.
            let begin: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
            stream.write_all(&begin[..at % begin.len()]).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    let _swift = starttls(&stage);
    let mut other = stage.greeted();
    other.begin(&mut filter);
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
    // One byte now and then keeps nobody alive.
    while began.elapsed() < TIMEOUT - Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(300));
        for stream in &mut slow[250..] {
            let _ = stream.write_all(&[0]);
        }
    }
    for stream in &mut slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        let ended = match stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        };
        assert!(ended && rest.len() < 16, "{rest:?}");
    }
    stage.figure("sessions_open", 2);
}

#[test]
fn a_flood_of_handshakes_is_refused_not_kept() {
    let patient = ServerTls { handshake_timeout: Duration::from_secs(60), ..tls() };
    let mut stage = Stage::start(&secured(patient));
    let _filter = stage.introduce((false, false, false));
    // Nobody signs.
    let keys = Keys::introduce(&mut stage);
    let mut promised: Client = stage.greeted();
    assert!(promised.ask("STARTTLS").starts_with("220"));
    let address = submissions(&mut stage);
    let hello = hello();
    let mut streams = Vec::new();
    for _ in 0..400 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&hello).unwrap();
        streams.push(stream);
    }
    stage.hear_master(|said| {
        matches!(said, ToMaster::Beat(figures)
            if figures.iter().any(|f| f.name == "handshakes_refused" && f.value > 0))
    });
    let mut other: Client = stage.greeted();
    assert!(other.ask("NOOP").starts_with("250"), "others are served");
    assert!(other.ask("STARTTLS").starts_with("454 4.7.0"), "before it says a word of TLS");
    stage.logged("event=tls-busy client=");
    assert!(other.ask("NOOP").starts_with("250"), "and goes on in clear");
    // Who was told to begin waits in line with the others, and comes to its turn.
    let shaking = std::thread::spawn(move || {
        let mut client = Secure::shake(&client_config(&TLS13), promised.stream).unwrap();
        client.ask("NOOP")
    });
    drop(streams);
    keys.serve();
    assert!(shaking.join().unwrap().starts_with("250"));
}

#[test]
fn those_who_come_back_with_tickets_all_at_once_take_turns() {
    let (mut stage, _filter) = stage();
    let address = submissions(&mut stage);
    let config = client_config(&TLS12);
    let connect = || TcpStream::connect(address).unwrap();
    assert!(!Secure::shake(&config, connect()).unwrap().is_resumed());
    // While the receiver does not run, everybody comes to the door and says hello.
    stage.process.freeze();
    let name = rustls::pki_types::ServerName::try_from("mx.test").unwrap();
    let comers: Vec<_> = (0..100)
        .map(|_| {
            let (mut stream, mut connection) =
                (connect(), rustls::ClientConnection::new(config.clone(), name.clone()).unwrap());
            connection.write_tls(&mut stream).unwrap();
            (stream, connection)
        })
        .collect();
    stage.process.thaw();
    for (stream, connection) in comers {
        let mut client = Secure::go_on(stream, connection).unwrap();
        assert!(client.is_resumed());
        assert!(client.reply().starts_with("220 "));
    }
    // 64 of them come in at once, and not all of these go on at once.
    stage.hear_master(|said| {
        matches!(said, ToMaster::Beat(figures)
            if figures.iter().any(|f| f.name == "handshakes_waited" && f.value > 0))
    });
}
