//! Measures the store by hand: accepts per second and CPU per accept at several depths, memory per message, and the
//! time that a start takes. `cargo run --release -p vsmtp-queue-manager --example store_bench -- DIR [MESSAGES]`

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use vsmtp_mail::{
    Address, BodyType, Domain, Envelope, NextHop, Notify, QueueIdMint, Recipient, RecipientClass, ReversePath,
};
use vsmtp_queue_manager::store::{
    Change, Chunk, Event, MessageState, NewBody, Options, Origin, RemoveReason, Store, Transaction,
    Unrecovered, Urgency,
};

type Failure = Box<dyn std::error::Error>;

fn envelope(n: u64) -> Result<Envelope, Failure> {
    let domain = Domain::parse(&format!("d{}.example.com", n % 1000))?;
    let recipient = Recipient {
        chosen: false,
        address: Address::new(&format!("user{n}"), domain.clone())?,
        original: None,
        notify: Notify::default(),
        class: RecipientClass::Other,
        next_hop: NextHop::mx(domain),
    };
    Ok(Envelope {
        reverse_path: ReversePath::parse("sender@example.org")?,
        body: BodyType::EightBitMime,
        smtputf8: false,
        ret: None,
        envid: None,
        demands: vsmtp_mail::Demands::default(),
        terms: vsmtp_mail::Terms::default(),
        recipients: vec![recipient],
    })
}

fn origin() -> Origin {
    Origin {
        service: None,
        session: "0123456789AB".into(),
        client: Some([192, 0, 2, 1].into()),
        helo: "client.example.org".into(),
        protocol: "ESMTP".into(),
        identity: None,
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn start(dir: &Path) -> Result<(Store, Receiver<()>), Failure> {
    let (wake, woken) = channel();
    let before = Instant::now();
    let wake = move || {
        let _ = wake.send(());
    };
    let (store, summaries, report) = Unrecovered::open(dir, Options::default())?.recover(Box::new(wake))?;
    let ready = before.elapsed();
    let count = summaries.fold(0, |count, summary| count + summary.recipients.len());
    say(&format!(
        "start: {} messages, {} segments ({} scanned) in {ready:.2?}, {count} recipients handed over after {:.2?}, notes {:?}",
        report.messages,
        report.segments,
        report.scanned,
        before.elapsed(),
        report.notes
    ));
    Ok((store, woken))
}

#[expect(clippy::print_stdout, reason = "this is a program for a terminal")]
fn say(line: &str) {
    println!("{line}");
}

struct Load {
    mint: QueueIdMint,
    body: Arc<Vec<u8>>,
    sent: u64,
}

/// Accepts `count` messages with `depth` of them on their way; removes each again if `drain`.
fn accept(
    store: &mut Store,
    woken: &Receiver<()>,
    load: &mut Load,
    count: u64,
    depth: usize,
    drain: bool,
) -> Result<(), Failure> {
    let (mut sent, mut done, mut open) = (0, 0, 0usize);
    let mut ids = std::collections::HashMap::new();
    let mut events = Vec::new();
    while done < count {
        while open < depth && sent < count {
            let id = load.mint.next(1_700_000_000_000 + load.sent / 10);
            load.sent += 1;
            let state = Arc::new(MessageState::fresh(1_700_000_000_000, origin(), envelope(load.sent)?));
            let body = NewBody::Inline(vec![Chunk::new(load.body.clone())]);
            let ticket =
                store.submit(Transaction::one(Change::Accept { id, state, body }, Urgency::Durable))?;
            ids.insert(ticket, id);
            (sent, open) = (sent + 1, open + 1);
        }
        woken.recv()?;
        store.poll(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Completed { ticket, result } => {
                    result?;
                    if let Some(id) = ids.remove(&ticket) {
                        (done, open) = (done + 1, open - 1);
                        if drain {
                            let change = Change::Remove { id, reason: RemoveReason::Settled };
                            store.submit(Transaction::one(change, Urgency::Lazy))?;
                        }
                    }
                }
                Event::Alarm(alarm) => say(&alarm.to_string()),
            }
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: store_bench DIR [MESSAGES]")?;
    let messages: u64 = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir)?;
    let (mut store, woken) = start(dir)?;
    let seed = std::process::id();
    let mut load = Load { mint: QueueIdMint::new(1, seed), body: Arc::new(vec![b'x'; 1024]), sent: 0 };
    for (depth, count, size, drain) in [
        (1, 2_000, 1024, true),
        (16, 50_000, 1024, true),
        (100, 100_000, 1024, true),
        (1000, 200_000, 1024, true),
        (100, 5_000, 100 * 1024, true),
    ] {
        load.body = Arc::new(vec![b'x'; size]);
        let (wall, used) = (Instant::now(), cpu());
        accept(&mut store, &woken, &mut load, count, depth, drain)?;
        let (wall, used) = (wall.elapsed(), cpu() - used);
        say(&format!(
            "{size} octets, depth {depth}: {:.0} accepts/s, {:.1} us CPU each; space {:?}",
            count as f64 / wall.as_secs_f64(),
            used.as_secs_f64() * 1e6 / count as f64,
            store.space()
        ));
    }
    load.body = Arc::new(vec![b'x'; 1024]);
    let (before, wall) = (anonymous_kib(), Instant::now());
    accept(&mut store, &woken, &mut load, messages, 1000, false)?;
    let grown = (anonymous_kib().saturating_sub(before) * 1024) as f64 - 32.0 * 1024.0 * 1024.0;
    say(&format!(
        "{messages} queued in {:.1?}: {:.0} octets of memory each besides the warm cache; space {:?}",
        wall.elapsed(),
        grown / messages as f64,
        store.space()
    ));
    let killed = std::env::var_os("STORE_BENCH_KILL").is_some();
    if killed {
        drop(store);
    } else {
        store.close();
    }
    let before = anonymous_kib();
    let (store, _woken) = start(dir)?;
    let after = anonymous_kib().saturating_sub(before) * 1024;
    say(&format!("after the start: {:.0} octets of memory each", after as f64 / store.len().max(1) as f64));
    Ok(())
}
