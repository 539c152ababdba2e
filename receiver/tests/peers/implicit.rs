//! The limiter and TLS: clients that begin with it come to the door before their handshake, and handshakes are spent.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use rustls::version::TLS13;
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::receiver_limits::{Ask, Entry, Kind, Spent, Wanted};

use crate::keys::{Keys, Secure, client_config, tls};
use crate::limiter::{DOOR, GO, granted, spent};
use crate::stage::{Filter, LIMITS, Limiter, PATIENCE, Stage, reply, slice};
use crate::tls::submissions;

/// A stage with TLS, a limiter that wants this, and the address of a listener for TLS from the first octet.
fn stage(wanted: Wanted) -> (Stage, Filter, Limiter, SocketAddr) {
    let mut strict = slice();
    strict.exempt.clear();
    strict.tls = Some(tls());
    let mut stage = Stage::start(&strict);
    Keys::introduce(&mut stage).serve();
    let limiter = stage.introduce_limiter(wanted);
    let implicit = submissions(&mut stage);
    let filter = stage.introduce((false, false, false));
    (stage, filter, limiter, implicit)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client that makes its handshake and hears the greeting.
fn shake(stream: TcpStream) -> JoinHandle<String> {
    std::thread::spawn(move || Secure::shake(&client_config(&TLS13), stream).unwrap().reply())
}

/// All that the server says until it closes.
fn said(mut stream: &TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest
}

/// Expects a client at the door that is not to be tested; its ticket.
fn at_the_door(limiter: &mut Limiter) -> u64 {
    match limiter.hear() {
        Ask::Connect { ticket, screen: false, .. } => ticket,
        other => panic!("expected a client, not {other:?}"),
    }
}

#[test]
fn a_client_is_at_the_door_before_its_handshake_and_only_once() {
    let (_stage, _filter, mut limiter, implicit) = stage(Wanted { handshakes: true, ..DOOR });
    // It is asked about though it says nothing.
    let silent = connect(implicit);
    let ticket = at_the_door(&mut limiter);
    limiter.entry(ticket, GO);
    assert_eq!(spent(&mut limiter, Kind::Handshakes, 1, granted(1)), ticket);
    // The handshake and the greeting need no other word of the limiter.
    assert_eq!(shake(silent).join().unwrap(), "220 mx.test ESMTP");
    // The client has left, and its place is free.
    assert!(matches!(limiter.hear(), Ask::Left { ticket: gone } if gone == ticket));
}

#[test]
fn silent_clients_beyond_the_limit_are_closed_and_the_place_of_one_that_leaves_is_free() {
    const LIMIT: usize = 50;
    let (_stage, _filter, mut limiter, implicit) = stage(DOOR);
    let mut silent: Vec<(TcpStream, u64)> = Vec::new();
    for _ in 0..LIMIT {
        let stream = connect(implicit);
        let ticket = at_the_door(&mut limiter);
        limiter.entry(ticket, GO);
        silent.push((stream, ticket));
    }
    let more = connect(implicit);
    let refused = at_the_door(&mut limiter);
    limiter.entry(refused, Entry::Refuse(reply("421 4.7.0 Too many connections")));
    assert_eq!(said(&more), b"", "no clear text where TLS is expected");
    assert!(matches!(limiter.hear(), Ask::Left { ticket } if ticket == refused));
    let (first, ticket) = silent.swap_remove(0);
    drop(first);
    assert!(matches!(limiter.hear(), Ask::Left { ticket: gone } if gone == ticket));
}

#[test]
fn a_client_that_is_refused_gets_no_handshake() {
    let (mut stage, _filter, mut limiter, implicit) = stage(DOOR);
    let stream = connect(implicit);
    let shaking = std::thread::spawn(move || Secure::shake(&client_config(&TLS13), stream).is_err());
    let ticket = at_the_door(&mut limiter);
    limiter.entry(ticket, Entry::Refuse(reply("421 4.7.0 Too many connections")));
    assert!(shaking.join().unwrap());
    stage.figure("turned_away", 1);
    stage.figure("sessions_open", 0);
}

#[test]
fn a_limiter_that_tests_a_client_before_its_handshake_is_dropped() {
    for nonsense in [Entry::Screen { wait_ms: 10 }, Entry::Test] {
        let (mut stage, _filter, mut limiter, implicit) = stage(DOOR);
        let client = connect(implicit);
        let ticket = at_the_door(&mut limiter);
        limiter.entry(ticket, nonsense);
        stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(LIMITS)));
        // It goes on as if there were no limits.
        assert_eq!(shake(client).join().unwrap(), "220 mx.test ESMTP");
    }
}

#[test]
fn a_limiter_that_is_silent_or_dies_at_the_door_holds_nobody_up() {
    let (_stage, _filter, mut limiter, implicit) = stage(DOOR);
    let client = shake(connect(implicit));
    at_the_door(&mut limiter);
    assert_eq!(client.join().unwrap(), "220 mx.test ESMTP");
    let client = shake(connect(implicit));
    // Of the first one it hears that it has left.
    assert!(matches!(limiter.hear(), Ask::Left { .. }));
    at_the_door(&mut limiter);
    drop(limiter);
    assert_eq!(client.join().unwrap(), "220 mx.test ESMTP");
}

#[test]
fn handshakes_are_spent_before_they_begin() {
    let (stage, _filter, mut limiter, implicit) = stage(Wanted { handshakes: true, ..Wanted::default() });
    let refusal = || Some(reply("421 4.7.0 Too many TLS handshakes"));
    let config = client_config(&TLS13);
    // STARTTLS: granted, and refused with the limiter's words.
    let mut client = stage.greeted();
    client.say("STARTTLS");
    spent(&mut limiter, Kind::Handshakes, 1, granted(1));
    assert_eq!(client.reply(), "220 2.0.0 Ready to start TLS");
    let mut secure = Secure::shake(&config, client.stream).unwrap();
    assert!(secure.ask("EHLO client.test").starts_with("250"));
    let mut client = stage.greeted();
    client.say("STARTTLS");
    spent(&mut limiter, Kind::Handshakes, 1, Spent { granted: 0, delay_ms: 0, refusal: refusal() });
    assert_eq!(client.reply(), "421 4.7.0 Too many TLS handshakes");
    assert!(client.is_closed());
    // From the first octet: the same, and a client that is refused hears nothing.
    for is_granted in [true, false] {
        let stream = connect(implicit);
        if is_granted {
            let client = shake(stream);
            spent(&mut limiter, Kind::Handshakes, 1, granted(1));
            assert_eq!(client.join().unwrap(), "220 mx.test ESMTP");
        } else {
            spent(&mut limiter, Kind::Handshakes, 1, Spent { granted: 0, delay_ms: 0, refusal: refusal() });
            assert_eq!(said(&stream), b"");
        }
    }
    // A limiter that is silent, or that dies, holds up no handshake.
    let mut client = stage.greeted();
    client.say("STARTTLS");
    assert!(matches!(limiter.hear(), Ask::Spend { .. }));
    assert_eq!(client.reply(), "220 2.0.0 Ready to start TLS");
    let client = shake(connect(implicit));
    assert!(matches!(limiter.hear(), Ask::Spend { .. }));
    drop(limiter);
    assert_eq!(client.join().unwrap(), "220 mx.test ESMTP");
}
