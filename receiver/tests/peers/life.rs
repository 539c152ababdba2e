//! How a receiver lives and ends, and whom it serves over the local socket.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::stage::{Stage, slice};
use vsmtp_ipc::edge::master_child::{Listener, ToChild};
use vsmtp_ipc::edge::receiver_filter::Ask;
use vsmtp_ipc::wire::Service;

#[test]
fn told_to_stop_it_accepts_no_more_and_ends_with_its_last_session() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    stage.tell(&ToChild::StopAccepting, Vec::new());
    client.begin(&mut filter);
    client.ask("DATA");
    client.send("x\r\n.\r\n");
    filter.accept_message();
    assert!(client.reply().starts_with("250"));
    assert!(TcpStream::connect(stage.address).is_err(), "nobody holds the listener any more");
    client.ask("QUIT");
    assert!(stage.wait());
}

#[test]
fn a_short_drain_sends_the_idle_away_and_lets_a_message_finish() {
    let (mut stage, mut filter) = Stage::with_filter();
    let (mut idle, mut busy) = (stage.greeted(), stage.greeted());
    busy.begin(&mut filter);
    busy.ask("DATA");
    busy.send("x\r\n");
    stage.tell(&ToChild::Drain { deadline_ms: 9_000 }, Vec::new());
    assert_eq!(idle.reply(), "421 4.3.2 Service is shutting down, try again later");
    assert!(idle.is_closed());
    busy.send(".\r\n");
    filter.accept_message();
    assert!(busy.reply().starts_with("250 2.0.0 queued as"));
    assert!(busy.reply().starts_with("421 4.3.2"));
    assert!(busy.is_closed());
    assert!(stage.wait());
}

#[test]
fn a_long_drain_disturbs_nobody() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    stage.tell(&ToChild::Drain { deadline_ms: 600_000 }, Vec::new());
    client.begin(&mut filter);
    client.ask("QUIT");
    assert!(stage.wait());
}

#[test]
fn at_the_end_of_a_drain_even_half_a_message_is_sent_away() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    client.begin(&mut filter);
    client.ask("DATA");
    client.send("x\r\n");
    stage.tell(&ToChild::Drain { deadline_ms: 300 }, Vec::new());
    assert!(client.reply().starts_with("421 4.3.2"));
    filter.expect_reset();
    filter.expect_forget();
    assert!(stage.wait());
}

#[test]
fn without_its_master_it_ends() {
    let (mut stage, _filter) = Stage::with_filter();
    let mut client = stage.greeted();
    let (ours, _) = vsmtp_sys::seqpacket::pair().unwrap();
    stage.process.master =
        vsmtp_ipc::edge::master_child::MasterEnd::new(ours, vsmtp_ipc::EdgeId::MasterChild);
    assert!(client.reply().starts_with("421 4.3.2"));
    assert!(stage.wait());
}

#[test]
fn a_client_that_sends_all_and_closes_its_side_hears_all() {
    let (stage, _filter) = Stage::with_filter();
    let mut client = stage.connect();
    client.send("EHLO client.test\r\nNOOP\r\nMAIL FROM:<>\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    let replies: Vec<_> = (0..4).map(|_| client.reply()[..3].to_owned()).collect();
    assert_eq!(replies, ["220", "250", "250", "250"]);
    assert!(client.is_closed(), "it does not wait for more");
}

#[test]
fn a_local_client_is_known_by_its_user() {
    let (mut stage, mut filter) = Stage::with_filter();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("submit");
    let listener = UnixListener::bind(&path).unwrap();
    stage.tell(&ToChild::Listener(Listener::Submit), vec![listener.into()]);
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(crate::stage::PATIENCE)).unwrap();
    client
        .write_all(
            b"EHLO localhost\r\nMAIL FROM:<root>\r\nMAIL FROM:<root@mx.test>\r\nRCPT TO:<b@mx.test>\r\n",
        )
        .unwrap();
    let (facts, _) = filter.accept_recipients();
    let me = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    assert_eq!((facts.uid, facts.client, facts.server), (Some(me), None, None));
    client.write_all(b"DATA\r\nx\r\n.\r\n").unwrap();
    let bytes = String::from_utf8(filter.accept_message()).unwrap();
    assert!(bytes.starts_with(&format!("Received: from localhost (local user {me})\r\n")), "{bytes}");
    client.write_all(b"QUIT\r\n").unwrap();
    let mut replies = String::new();
    client.read_to_string(&mut replies).unwrap();
    assert!(replies.ends_with("221 2.0.0 Bye\r\n"), "{replies}");
    assert!(matches!(filter.hear().0, Ask::Forget { .. }));
}

#[test]
fn an_accepted_connection_does_not_wait_for_full_packets() {
    // What a listener is set to, its connections inherit; the receiver counts on it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::from(std::os::fd::OwnedFd::from(listener));
    stream.set_nodelay(true).unwrap();
    let listener = std::net::TcpListener::from(std::os::fd::OwnedFd::from(stream));
    let _client = TcpStream::connect(address).unwrap();
    assert!(listener.accept().unwrap().0.nodelay().unwrap());
    let _ = slice();
}

#[test]
fn the_filter_hears_what_the_client_came_for() {
    let (mut stage, mut filter) = Stage::with_filter();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lmtp = Listener::Smtp { address: address.to_string(), service: Service::Lmtp };
    stage.tell(&ToChild::Listener(lmtp), vec![listener.into()]);
    let mut smtp = stage.greeted();
    assert_eq!(smtp.begin(&mut filter).service, Service::Smtp);
    stage.address = address;
    let mut client = stage.connect();
    assert_eq!(client.reply(), "220 mx.test LMTP");
    assert!(client.ask("LHLO client.test").contains("250-mx.test"));
    assert_eq!(client.begin(&mut filter).service, Service::Lmtp);
    client.say("RCPT TO:<c@mx.test>");
    filter.accept_recipients();
    client.say("DATA\r\nx\r\n.");
    let message = String::from_utf8(filter.accept_message()).unwrap();
    assert!(message.contains(" with LMTP id "), "{message}");
    let replies = [client.reply(), client.reply(), client.reply(), client.reply()];
    assert!(replies[2].starts_with("250 2.0.0 queued as") && replies[2] == replies[3], "{replies:?}");
}
