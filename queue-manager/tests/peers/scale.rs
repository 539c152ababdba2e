//! What a long queue costs: in memory always, and in time with `--ignored`, where `VSMTP_SCALE` says how many messages.

use std::ops::Range;
use std::time::{Duration, Instant};

use vsmtp_config::Value;
use vsmtp_ipc::edge::ctl_queue::Request;
use vsmtp_ipc::edge::filter_queue::{Receipt, Submit};
use vsmtp_ipc::edge::queue_deliver::Result3;

use crate::stage::{Filter, Stage};

/// Most octets of anonymous memory for each queued recipient.
const MAX_OCTETS: u64 = 300;
/// When a queue of any length accepts, and when it delivers, after a start. For release builds, with nothing else running.
const ACCEPTS: Duration = Duration::from_secs(2);
const DELIVERS: Duration = Duration::from_secs(5);
/// What an empty queue-manager may take, in a queue so short that it counts.
const BASE: u64 = 80 << 20;
/// Messages that are on their way to the disk at once.
const AT_ONCE: u64 = 60;
/// From so many messages on nothing else counts.
const LONG: u64 = 1_000_000;

#[test]
#[ignore = "takes minutes"]
#[expect(clippy::print_stderr, reason = "the figures are the point")]
fn a_long_queue() {
    let count: u64 = std::env::var("VSMTP_SCALE").map_or(100_000, |text| text.parse().unwrap());
    let mut stage = Stage::start(&[]);
    stage.no_rules();
    let mut filter = stage.filter();
    let began = Instant::now();
    store(&mut stage, &mut filter, 0..count);
    let took = began.elapsed();
    eprintln!("{count} stored in {took:?}; {} octets each", anonymous(&stage) / count);
    let mut operator = stage.operator();
    let began = Instant::now();
    operator.ask(&Request::List { state: None, after: None, limit: 200 });
    eprintln!("first page in {:?}", began.elapsed());
    let began = Instant::now();
    let mut stage = stage.kill_and_restart(&[]);
    eprintln!("ready in {:?}", began.elapsed());
    let mut filter = stage.filter();
    let message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    filter.store(message);
    let accepts = began.elapsed();
    eprintln!("accepts after {accepts:?}");
    stage.no_rules();
    let mut deliver = stage.deliver();
    deliver.serve(Result3::Delivered);
    let delivers = began.elapsed();
    eprintln!("delivers after {delivers:?}");
    stage.logged("event=loaded");
    eprintln!("loaded after {:?}; {} octets each", began.elapsed(), anonymous(&stage) / count);
    let base = if count < LONG { BASE } else { 0 };
    assert!(anonymous(&stage) <= base + MAX_OCTETS * count, "{}", anonymous(&stage));
    assert!(accepts < ACCEPTS && delivers < DELIVERS, "{accepts:?}, {delivers:?}");
}

/// Bodies that wait for their first attempt are kept besides, within `queue.cache_size`.
#[test]
fn a_longer_queue_takes_little_memory_for_each_recipient() {
    const SHORT: u64 = 2_000;
    const LONGER: u64 = 12_000;
    let mut stage = Stage::start(&[("queue.cache_size", Value::Int(0))]);
    stage.no_rules();
    let mut filter = stage.filter();
    store(&mut stage, &mut filter, 0..SHORT);
    let short = anonymous(&stage);
    store(&mut stage, &mut filter, SHORT..LONGER);
    let longer = anonymous(&stage);
    assert!(longer.saturating_sub(short) <= MAX_OCTETS * (LONGER - SHORT), "{short} and {longer}");
}

/// Has messages with those numbers stored, one recipient each, for a thousand next hops, many of them at once.
fn store(stage: &mut Stage, filter: &mut Filter, numbers: Range<u64>) {
    let (mut sent, mut stored) = (numbers.start, numbers.start);
    while stored < numbers.end {
        while sent < numbers.end && sent - stored < AT_ONCE {
            let mut message = stage.message(&[(
                &format!("b{sent}@d{}.test", sent % 1000),
                &format!("smtp:d{}.test", sent % 1000),
            )]);
            message.envelope.reverse_path = format!("a{}@src.test", sent % 100);
            filter.say(&Submit::Message(message), Vec::new());
            sent += 1;
        }
        assert!(matches!(filter.hear().0, Receipt::Stored { .. }));
        stored += 1;
    }
}

/// Octets of anonymous memory of the process.
fn anonymous(stage: &Stage) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.process.child.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
