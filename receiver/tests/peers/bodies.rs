//! Messages of all sizes, whole, in halves, and too large.

use crate::stage::{Client, Filter, Stage, only, slice};
use vsmtp_config::ReceiverSlice;
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Kept, Verdict};
use vsmtp_ipc::wire::{Body, CHUNK, Id};
use vsmtp_sys::memfd::Sealed;

fn text(octets: usize) -> String {
    let line = "All work and no play makes Jack a dull boy.\r\n";
    let mut text = format!("Subject: {octets}\r\n\r\n");
    while text.len() < octets {
        text.push_str(line);
    }
    text
}

fn data(client: &mut Client, filter: &mut Filter) {
    client.begin(filter);
    assert!(client.ask("DATA").starts_with("354"));
}

/// Sends without blocking the test: the receiver stops reading while a chunk waits.
fn send_aside(client: &Client, bytes: String) -> std::thread::JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ = std::io::Write::write_all(&mut stream, bytes.as_bytes());
    })
}

/// Takes one chunk and puts it behind `whole`. `None` at the message.
fn take(filter: &mut Filter, whole: &mut Vec<u8>) -> Option<(u64, Id)> {
    match filter.hear() {
        (Ask::Chunk { session, id, offset, len }, fds) => {
            assert_eq!(offset, whole.len() as u64);
            whole.extend(Sealed::verify(only(fds), len).unwrap().read_all(CHUNK as u64).unwrap());
            Some((session, id))
        }
        (Ask::Message { facts, body: Body::File(len), .. }, fds) => {
            assert!(fds.is_empty());
            assert_eq!(len, whole.len() as u64);
            filter.decide(facts.session, Decision::Accept(None));
            None
        }
        other => panic!("{other:?}"),
    }
}

fn take_all(filter: &mut Filter) -> String {
    let mut whole = Vec::new();
    while let Some((session, _)) = take(filter, &mut whole) {
        filter.say(&Verdict::ChunkStored { session, kept: Kept::Stored });
    }
    String::from_utf8(whole).unwrap()
}

#[test]
fn messages_around_every_border_arrive_whole() {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    for octets in [0, 15_000, 16_200, 17_000, 100_000, 1_000_000] {
        data(&mut client, &mut filter);
        let text = text(octets);
        let sender = send_aside(&client, format!("{text}.\r\n"));
        let bytes = String::from_utf8(filter.accept_message()).unwrap();
        assert!(bytes.starts_with("Received: ") && bytes.ends_with(&text), "{octets}");
        assert!(client.reply().starts_with("250"));
        sender.join().unwrap();
    }
    for (octets, parameter) in [(1_100_000, ""), (3_000_000, ""), (3_000_000, " SIZE=3000000")] {
        client.ask(&format!("MAIL FROM:<>{parameter}"));
        client.say("RCPT TO:<b@mx.test>");
        filter.accept_recipients();
        client.reply();
        client.ask("DATA");
        let text = text(octets);
        let sender = send_aside(&client, format!("{text}.\r\n"));
        let bytes = take_all(&mut filter);
        assert!(bytes.starts_with("Received: ") && bytes.ends_with(&text), "{octets}");
        assert!(client.reply().starts_with("250 2.0.0 queued as"));
        sender.join().unwrap();
    }
}

#[test]
fn when_the_queue_takes_no_chunk_the_client_hears_452_at_the_end_and_451_if_the_disk_is_not_full() {
    let full = "452 4.3.1 Insufficient system storage, try again later";
    let busy = "451 4.3.2 System is too busy, try again later";
    for (kept, reply) in [(Kept::NoRoom, full), (Kept::Unavailable, busy)] {
        when_no_chunk_is_taken(kept, reply);
    }
}

fn when_no_chunk_is_taken(kept: Kept, reply: &str) {
    // And it is no error of the client: one would end its session.
    let mut stage = Stage::start(&ReceiverSlice { error_hard_count: Some(1), ..slice() });
    let mut filter = stage.introduce((false, false, false));
    let mut client = stage.greeted();
    data(&mut client, &mut filter);
    let sender = send_aside(&client, format!("{}.\r\n", text(3_000_000)));
    let mut whole = Vec::new();
    let (session, id) = take(&mut filter, &mut whole).unwrap();
    filter.say(&Verdict::ChunkStored { session, kept });
    assert_eq!(client.reply(), reply);
    sender.join().unwrap();
    assert!(matches!(filter.hear().0, Ask::Reset { id: Some(given_up), .. } if given_up == id));
    data(&mut client, &mut filter);
    client.send("x\r\n.\r\n");
    filter.accept_message();
    assert!(client.reply().starts_with("250"));
}

#[test]
fn a_filter_that_dies_between_chunks_costs_a_451_at_the_end() {
    for answer_first in [false, true] {
        let (mut stage, mut filter) = Stage::with_filter();
        let mut client = stage.greeted();
        data(&mut client, &mut filter);
        let text = text(3_000_000);
        let (begin, end) = text.split_at(1_500_000);
        let sender = send_aside(&client, begin.to_owned());
        let mut whole = Vec::new();
        while whole.len() < if answer_first { 1_000_000 } else { 1 } {
            let (session, _) = take(&mut filter, &mut whole).unwrap();
            if answer_first {
                filter.say(&Verdict::ChunkStored { session, kept: Kept::Stored });
            }
        }
        drop(filter);
        sender.join().unwrap();
        let sender = send_aside(&client, format!("{end}.\r\n"));
        assert!(client.reply().starts_with("451 4.3.0"));
        sender.join().unwrap();
        let mut filter = stage.introduce((false, false, false));
        client.begin(&mut filter);
    }
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    data(&mut client, &mut filter);
    client.send("half a message\r\n.\r");
    drop(client);
    filter.expect_reset();
    filter.expect_forget();

    let mut client = stage.greeted();
    data(&mut client, &mut filter);
    let sender = send_aside(&client, text(1_400_000));
    let mut whole = Vec::new();
    let (session, begun) = take(&mut filter, &mut whole).unwrap();
    filter.say(&Verdict::ChunkStored { session, kept: Kept::Stored });
    sender.join().unwrap();
    drop(client);
    loop {
        match filter.hear().0 {
            Ask::Chunk { session, .. } => filter.say(&Verdict::ChunkStored { session, kept: Kept::Stored }),
            Ask::Reset { id, .. } => break assert_eq!(id, Some(begun)),
            other => panic!("{other:?}"),
        }
    }
    filter.expect_forget();
    stage.figure("body_octets_held", 0);
    stage.figure("sessions_open", 0);
}

#[test]
fn a_message_over_the_limit_is_read_refused_and_forgotten() {
    let mut small = slice();
    small.message_size_limit = 100_000;
    let mut stage = Stage::start(&small);
    let mut filter = stage.introduce((false, false, false));
    let mut client = stage.greeted();
    assert!(client.ask("MAIL FROM:<> SIZE=100001").starts_with("552"));
    data(&mut client, &mut filter);
    client.send(format!("{}.\r\n", text(150_000)));
    filter.expect_reset();
    assert_eq!(client.reply(), "552 5.3.4 Message is too big");
    data(&mut client, &mut filter);
    client.send("x\r\n.\r\n");
    filter.accept_message();
    assert!(client.reply().starts_with("250"));
}
