//! The octets of a message on their way to a server: streamed, encoded, in one chunk, as they are, and never half of
//! them.

use std::io::{IoSlice, Write};

use vsmtp_config::TlsPolicy;
use vsmtp_ipc::edge::queue_deliver::{Attempt, Result3};
use vsmtp_ipc::wire::{Body, Body7};
use vsmtp_sys::memfd::Sealed;

use crate::harness::{MESSAGE, TO, attempt, inline, only, start};
use crate::peer::Peer;

#[test]
fn large_messages_stream_through_a_slow_server() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    let big = format!("A: b\r\n\r\n{}", ".0123456789abcdef\r\n".repeat(400_000));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(big.as_bytes()).unwrap();
    let lease = attempt(1, &peer.next_hop(), TO, Body::File(big.len() as u64));
    deliver.lease_with(&lease, std::fs::File::open(file.path()).unwrap().into());
    let mut talk = peer.accept_greeted();
    talk.take_envelope();
    let message = String::from_utf8(talk.message()).unwrap();
    talk.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    assert!(message == big.replace("\r\n.", "\r\n.."));

    let medium = &big[..100_000];
    let sealed = Sealed::create(c"body", &[IoSlice::new(medium.as_bytes())]).unwrap();
    deliver.lease_with(&attempt(2, &peer.next_hop(), TO, Body::Memfd(sealed.len())), sealed.into_fd());
    assert!(talk.take_message("250 ok\r\n").starts_with(&medium[..8]));
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn a_message_that_shrinks_on_the_way_is_never_ended() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    let big = format!("A: b\r\n\r\n{}", "0123456789abcdef\r\n".repeat(10_000));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(big.as_bytes()).unwrap();
    let lease = attempt(1, &peer.next_hop(), TO, Body::File(big.len() as u64));
    deliver.lease_with(&lease, std::fs::File::open(file.path()).unwrap().into());
    let mut talk = peer.accept_greeted();
    // Before that it was looked at, and after DATA it is read.
    talk.hear_say("MAIL", "250 ok\r\n");
    file.as_file().set_len(70_000).unwrap();
    talk.hear_say("RCPT", "250 ok\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    let mut last = String::new();
    loop {
        let line = talk.line();
        if line.is_empty() && last.len() < 17 && !last.is_empty() && last != "A: b" {
            break;
        }
        assert_ne!(line, ".", "the message was ended");
        if line.is_empty() && last.is_empty() {
            break;
        }
        last = line;
    }
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
}

fn eight_bit(lease: u64, next_hop: &str, message: &str) -> Attempt {
    let mut attempt = attempt(lease, next_hop, TO, inline(message));
    attempt.body_type = Body7::EightBitMime;
    attempt
}

#[test]
fn eight_bits_are_encoded_for_a_server_that_does_not_take_them() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    let header = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";
    let message = format!("{header}Content-Transfer-Encoding: 8bit\r\n\r\n.Grüße\r\n");
    let encoded = format!("{header}Content-Transfer-Encoding: quoted-printable\r\n\r\n.Gr=C3=BC=C3=9Fe\r\n");
    deliver.lease(&eight_bit(1, &peer.next_hop(), &message));
    let mut talk = peer.accept();
    talk.greet("250-peer.test\r\n250 SIZE 1000\r\n");
    let mail = talk.line();
    assert_eq!(mail, format!("MAIL FROM:<sender@src.test> SIZE={}", encoded.len()));
    talk.say("250 ok\r\n");
    talk.hear_say("RCPT", "250 ok\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    let got = String::from_utf8(talk.message()).unwrap();
    talk.say("250 ok\r\n");
    assert_eq!(got, encoded.replace("\r\n.", "\r\n.."));
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    // What is signed is nobody's to change.
    let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\né\r\n--b--\r\n";
    deliver.lease(&eight_bit(2, &peer.next_hop(), signed));
    assert_eq!(only(&deliver.outcome()), (Result3::Failed, (5, 6, 3)));
    deliver.logged("event=not-converted");
    // And a server that takes it gets it as it is.
    let other = Peer::new();
    deliver.lease(&eight_bit(3, &other.next_hop(), &message));
    let mut talk = other.accept_greeted();
    talk.hear_say("MAIL FROM:<sender@src.test> SIZE=", "250 ok\r\n");
    talk.hear_say("RCPT", "250 ok\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    assert_eq!(String::from_utf8(talk.message()).unwrap(), message.replace("\r\n.", "\r\n.."));
    talk.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn without_conversion_eight_bits_fail_where_they_are_not_taken() {
    let (mut deliver, peer) = (start(|slice| slice.mime_conversion = false), Peer::new());
    deliver.lease(&eight_bit(1, &peer.next_hop(), "A: b\r\n\r\né\r\n"));
    let mut talk = peer.accept();
    talk.greet("250 peer.test\r\n");
    assert_eq!(only(&deliver.outcome()), (Result3::Failed, (5, 6, 3)));
}

#[test]
fn a_message_goes_by_bdat_if_that_is_wanted_and_offered() {
    let (mut deliver, peer) = (start(|slice| slice.chunking = true), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    talk.greet("250-peer.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
    talk.hear_say("MAIL", "250 ok\r\n");
    talk.hear_say("RCPT", "250 ok\r\n");
    talk.hear(&format!("BDAT {} LAST", MESSAGE.len()));
    for line in MESSAGE.lines() {
        assert_eq!(talk.line(), line);
    }
    talk.say("250 2.6.0 yours\r\n");
    assert_eq!(only(&deliver.outcome()), (Result3::Delivered, (2, 6, 0)));
}

#[test]
fn a_service_gets_the_octets_as_they_are_in_clear_and_within_its_own_time() {
    let (mut deliver, peer) =
        (start(|slice| slice.tls.level = TlsPolicy::parse("encrypt").unwrap().into()), Peer::new());
    // Neither 8BITMIME nor TLS, and what is demanded of the way to a next hop is not demanded of it.
    let message = "Content-Type: text/plain; charset=utf-8\r\n\r\né\r\n";
    let mut lease = eight_bit(1, &peer.next_hop(), message);
    lease.demands.requiretls = true;
    lease.service_ms = Some(60_000);
    deliver.lease(&lease);
    let mut talk = peer.accept();
    talk.greet("250-peer.test\r\n250-STARTTLS\r\n250 DSN\r\n");
    assert_eq!(talk.line(), "MAIL FROM:<sender@src.test>");
    talk.say("250 ok\r\n");
    assert_eq!(talk.line(), "RCPT TO:<b@dst.test>");
    talk.say("250 ok\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    assert_eq!(String::from_utf8(talk.message()).unwrap(), message);
    talk.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    // The same address as a next hop has its own connection, under its own policy.
    deliver.lease(&eight_bit(2, &peer.next_hop(), message));
    let mut other = peer.accept();
    other.greet("250 peer.test\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
    // A service that says nothing is waited for as long as it was given, not as long as a next hop.
    let silent = Peer::new();
    let mut lease = attempt(3, &silent.next_hop(), TO, inline(MESSAGE));
    lease.service_ms = Some(50);
    deliver.lease(&lease);
    let _talk = silent.accept();
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
}
