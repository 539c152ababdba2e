//! Faults from outside: a disk that is full or fails, damage on it, too few descriptors, peers and rules that behave as
//! badly as they can. What was accepted is delivered all the same, and everybody else is served meanwhile.

mod clients;
mod damage;
mod descriptors;
mod disk;
mod next_hops;
mod power;
mod rules;
mod space;
mod system_calls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vsmtp_tests::{Client, Mta, ReplyText, Sink};

/// What good mail may take at most beside whoever behaves badly. Long, for a machine that is slow by itself: who is held up
/// by others is so for as long as these go on, or until a time-out of minutes.
const SLOWEST: Duration = Duration::from_secs(20);

/// Lines of configuration with which deferred mail is tried again soon.
const IMPATIENT: &str = "config.queue.backoff.min = \"1s\"; config.queue.backoff.max = \"1s\";";

/// A next hop that can be closed: then it asks everybody to come back later.
struct Gate {
    sink: Sink,
    closed: Arc<AtomicBool>,
}

impl Gate {
    fn closed() -> Gate {
        let closed = Arc::new(AtomicBool::new(true));
        let is_closed = Arc::clone(&closed);
        let sink = Sink::scripted(move |line| {
            (line.starts_with("MAIL") && is_closed.load(Ordering::SeqCst))
                .then(|| "451 4.3.0 later".to_owned())
        });
        Gate { sink, closed }
    }

    fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    fn config(&self) -> String {
        format!("config.delivery.relayhost = \"[127.0.0.1]:{}\"; {IMPATIENT}", self.sink.port())
    }

    /// Numbers of the messages that arrived, in order.
    fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.sink.messages().iter().filter_map(|got| number(&got.data)).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// A message of some length that can be told from others.
fn message(number: u64, length: usize) -> String {
    let line = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-+\r\n";
    format!("Subject: fault\r\nX-Number: {number}\r\n\r\n{}end of {number}", line.repeat(length / line.len()))
}

/// The number of a message that is whole.
fn number(mail: &str) -> Option<u64> {
    let number = mail.lines().find_map(|line| line.strip_prefix("X-Number: "))?.trim().parse().ok()?;
    let text = message(number, 0);
    let (_, body) = mail.split_once("\n\r\n").or_else(|| mail.split_once("\n\n"))?;
    body.trim_end().ends_with(text.rsplit("\r\n").next()?).then_some(number)
}

/// Sends one message over a connection of its own.
fn send(mta: &Mta, to: &str, text: &str) -> ReplyText {
    match Client::try_hello(mta.port()) {
        Ok(mut client) => client.mail("a@src.test", &[to], text),
        Err(said) => said.unwrap_or_else(|| ReplyText(String::new())),
    }
}

/// The most memory that a process has held so far, in octets.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    kib.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
