//! What a long queue costs. Run with `--ignored`; `VSMTP_SCALE` says how many messages.

use std::time::{Duration, Instant};

use vsmtp_ipc::edge::ctl_queue::Request;
use vsmtp_ipc::edge::filter_queue::{Receipt, Submit};
use vsmtp_ipc::edge::queue_deliver::Result3;

use crate::stage::Stage;

/// Most octets of anonymous memory for each queued recipient.
const MAX_OCTETS: u64 = 300;
/// When a queue of any length accepts, and when it delivers, after a start. For release builds, with nothing else running.
const ACCEPTS: Duration = Duration::from_secs(2);
const DELIVERS: Duration = Duration::from_secs(5);
/// What an empty queue-manager may take, in a queue so short that it counts.
const BASE: u64 = 80 << 20;
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
    let (mut sent, mut stored) = (0, 0);
    while stored < count {
        while sent < count && sent - stored < 60 {
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

/// Octets of anonymous memory of the process.
fn anonymous(stage: &Stage) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.process.child.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
