//! Clients that say nothing, one octet a second, a flood without a newline, garbage, or never read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vsmtp_tests::{Client, Dice, Mta, Settings, say, uninterrupted};

use crate::{SLOWEST, message, most_memory};

/// Octets of a flood, if nobody stops it.
const FLOOD: usize = 1 << 30;
/// A receiver may grow by so many octets under all of this.
const MOST_MEMORY: u64 = 48 << 20;
const SLOW: Duration = Duration::from_secs(1);

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set a time-out");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("set a time-out");
    stream
}

/// Writes until it is told to stop, the server hangs up, or all is written.
fn pour(mut stream: TcpStream, stop: &AtomicBool, total: usize, mut chunk: impl FnMut() -> Vec<u8>) {
    let mut sent = 0;
    while sent < total && !stop.load(Ordering::SeqCst) {
        let octets = chunk();
        if stream.write_all(&octets).is_err() {
            return;
        }
        sent += octets.len();
    }
}

/// In the data of a message.
fn in_data(port: u16) -> TcpStream {
    let mut stream = connect(port);
    let talk = b"EHLO x\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n";
    stream.write_all(talk).expect("send");
    let mut seen = Vec::new();
    let mut octet = [0];
    while !seen.ends_with(b"354 ") {
        let count = uninterrupted(|| stream.read(&mut octet)).expect("a reply");
        assert_eq!(count, 1, "{}", String::from_utf8_lossy(&seen));
        seen.push(octet[0]);
    }
    stream
}

type Villain = fn(u16, &AtomicBool);

const VILLAINS: [(&str, Villain); 8] = [
    ("says nothing", |port, stop| {
        let silent: Vec<TcpStream> = (0..100).map(|_| connect(port)).collect();
        wait_for(stop);
        drop(silent);
    }),
    ("one octet a second", |port, stop| {
        let mut stream = connect(port);
        for octet in b"EHLO slow.test\r\nMAIL FROM:<a@src.test>\r\n".iter().cycle() {
            if stop.load(Ordering::SeqCst) || stream.write_all(&[*octet]).is_err() {
                return;
            }
            std::thread::sleep(SLOW.min(Duration::from_millis(200)));
        }
    }),
    ("a command without end", |port, stop| pour(connect(port), stop, FLOOD, || vec![b'A'; 65_536])),
    ("a header without end", |port, stop| pour(in_data(port), stop, FLOOD, || vec![b'h'; 65_536])),
    ("a line without end", |port, stop| {
        let mut stream = in_data(port);
        let _ = stream.write_all(b"Subject: x\r\n\r\n");
        pour(stream, stop, FLOOD, || vec![b'b'; 65_536]);
    }),
    ("garbage", |port, stop| {
        let mut dice = Dice::new(5);
        while !stop.load(Ordering::SeqCst) {
            let total = 1 << 20;
            pour(connect(port), stop, total, || (0..4096).flat_map(|_| dice.throw().to_le_bytes()).collect());
        }
    }),
    ("never reads", |port, stop| {
        pour(connect(port), stop, FLOOD, || b"EHLO x\r\nNOOP\r\nRSET\r\n".repeat(500));
    }),
    ("hangs up in the middle", |port, stop| {
        while !stop.load(Ordering::SeqCst) {
            let mut stream = in_data(port);
            let _ = stream.write_all(b"Subject: half\r\n\r\nof a mess");
        }
    }),
];

fn wait_for(stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn hostile_clients_harm_only_themselves() {
    let mta = Mta::start(&Settings::default());
    let before = mta.processes();
    let receivers: Vec<u32> =
        before.iter().filter(|process| process.name.starts_with("receiver")).map(|p| p.pid).collect();
    let at_rest: Vec<u64> = receivers.iter().map(|pid| most_memory(*pid)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let port = mta.port();
    let threads: Vec<_> = VILLAINS
        .iter()
        .map(|(_, villain)| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || villain(port, &stop))
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for number in 0..40 {
        let began = Instant::now();
        let reply = Client::hello(port).mail("a@src.test", &["good@local.test"], &message(number, 2000));
        assert_eq!(reply.code(), 250, "{reply:?}");
        slowest = slowest.max(began.elapsed());
    }
    stop.store(true, Ordering::SeqCst);
    for (thread, (name, _)) in threads.into_iter().zip(VILLAINS) {
        assert!(thread.join().is_ok(), "{name}");
    }
    let grown = receivers.iter().zip(at_rest).map(|(pid, rest)| most_memory(*pid).saturating_sub(rest)).max();
    let grown = grown.unwrap_or_default();
    say(&format!(
        "beside hostile clients the slowest good message took {} ms; a receiver grew by {} KiB",
        slowest.as_millis(),
        grown / 1024
    ));
    assert!(slowest < SLOWEST && grown < MOST_MEMORY, "{slowest:?} {grown}");
    mta.wait_for_mail("local.test", "good", 40);
    assert!(mta.maildir("local.test", "b").is_empty(), "no half message is delivered");
    assert_eq!(mta.processes(), before, "nobody died");
}
