//! Messages of every shape arrive octet by octet as they were sent, in a Maildir (where lines end in LF) and at a next
//! hop, and large ones are never held in memory.

use std::path::Path;

use vsmtp_tests::{Client, Mta, ReplyText, Settings, Sink, wait_until};

use crate::{ends_with_message, with_lf};

/// Most that a process may grow by while such a message passes through it, in KiB.
const GROWTH_KIB: u64 = 64 * 1024;
const MIB: usize = 1 << 20;
/// As many MiB as the limit lets a message be with its header.
const LARGE: usize = 99;

/// Sends a message whose lines end in CRLF, to a mailbox here and to one elsewhere.
fn send(client: &mut Client, message: &[u8]) -> ReplyText {
    assert_eq!(client.say("MAIL FROM:<a@src.test> BODY=8BITMIME").code(), 250);
    assert_eq!(client.say("RCPT TO:<b@local.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
    assert_eq!(client.say("DATA").code(), 354);
    let mut wire = Vec::with_capacity(message.len() + message.len() / 64);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    client.send(&wire);
    client.reply()
}

/// A header that tells messages apart, and a body.
fn message(name: &str, body: &[u8]) -> Vec<u8> {
    [format!("From: a@src.test\r\nSubject: {name}\r\n\r\n").as_bytes(), body].concat()
}

/// Lines of octets that repeat only after a long time; no CR, LF or NUL but at their ends.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut out = Vec::with_capacity(length + 80);
    while out.len() < length {
        for _ in 0..70 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let octet = (state >> 56) as u8;
            out.push(if matches!(octet, 0 | b'\r' | b'\n') { b'.' } else { octet });
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// So many MiB of the same noise, each behind its number: quickly made, and none can take another's place.
fn numbered(count: usize) -> Vec<u8> {
    let block = noise(MIB - 160);
    let mut out = Vec::with_capacity(count * MIB);
    for number in 0..count {
        out.extend_from_slice(format!("block {number}\r\n").as_bytes());
        out.extend_from_slice(&block);
    }
    out
}

fn start(sink: &Sink) -> Mta {
    let config = format!(
        "config.delivery.relayhost = \"[127.0.0.1]:{}\"; config.server.message_size_limit = \"100MiB\";",
        sink.port()
    );
    Mta::start(&Settings { config, ..Settings::default() })
}

#[test]
fn no_octet_changes() {
    let sink = Sink::start();
    let mta = start(&sink);
    let full = "x".repeat(998);
    let messages = [
        message(
            "eight bits",
            &(1..=255).filter(|o| !b"\r\n".contains(o)).chain(*b"\r\n").collect::<Vec<u8>>(),
        ),
        message("dots", b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n"),
        message("long lines", format!("{full}\r\n.{}\r\n{full}\r\n", &full[1..]).as_bytes()),
        message("no body", b""),
        message("only an empty line", b"\r\n"),
        message("100 KiB", &noise(100 * 1024)),
        message("16 KiB border", &noise(16 * 1024)),
        message("1 MiB border", &noise(MIB)),
        message("2 MiB", &noise(2 * MIB)),
        b"\r\nno header at all\r\n".to_vec(),
        b"no header and no empty line\r\n".to_vec(),
    ];
    let mut client = Client::hello(mta.port());
    for message in &messages {
        let reply = send(&mut client, message);
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    wait_until("the next hop has them all", || sink.messages().len() == messages.len());
    mta.wait_for_mail("local.test", "b", messages.len());
    let in_maildir = mta.maildir_octets("local.test", "b");
    for message in &messages {
        let name = String::from_utf8_lossy(&message[..message.len().min(60)]).into_owned();
        let relayed = sink.messages().iter().any(|got| ends_with_message(&got.octets, message));
        assert!(relayed, "changed on its way to the next hop: {name:?}");
        let stored = in_maildir.iter().any(|got| ends_with_message(got, &with_lf(message)));
        assert!(stored, "changed on its way to the Maildir: {name:?}");
    }
    wait_until("the queue is empty", || mta.queued() == 0);
}

#[test]
fn large_messages_pass_without_being_held_in_memory() {
    let sink = Sink::start();
    let mta = start(&sink);
    let warm = message("warm", b"up\r\n");
    let mut client = Client::hello(mta.port());
    assert_eq!(send(&mut client, &warm).code(), 250);
    wait_until("the queue is empty", || mta.queued() == 0);
    let before: Vec<(String, u32, u64)> =
        mta.processes().into_iter().map(|it| (it.name, it.pid, peak_kib(it.pid))).collect();
    let large = message("nearly 100 MiB", &numbered(LARGE));
    let reply = send(&mut client, &large);
    assert_eq!(reply.code(), 250, "{reply:?}");
    wait_until("the queue is empty", || mta.queued() == 0);
    for got in &sink.messages()[1..] {
        assert!(ends_with_message(&got.octets, &large), "changed on its way to the next hop");
    }
    for (name, pid, peak) in before {
        let grown = peak_kib(pid).saturating_sub(peak);
        assert!(grown < GROWTH_KIB, "{name} grew by {grown} KiB");
    }
    let (files, large) = (mta.maildir_octets("local.test", "b"), with_lf(&large));
    assert_eq!(files.iter().filter(|file| ends_with_message(file, &large)).count(), 1);
}

/// Most memory that the process has had at once.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.unwrap_or_else(|error| panic!("status of {pid}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("VmHWM in the status")
}
