//! Measures the relay path alone, against a server of the caller's choice. By hand:
//! `smtp-sink -u nobody -c 127.0.0.1:2599 1000 &` and `VSMTP_SINK=2599 cargo test -p vsmtp-deliver --test roles load -- --ignored --nocapture`.

use std::io::Write;

use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_sys::clock;

use crate::harness::{attempt, inline, start};

/// Messages sent.
const MESSAGES: u64 = 20_000;

#[test]
#[ignore = "a measurement, which needs a server"]
fn load() {
    let Ok(port) = std::env::var("VSMTP_SINK") else { return };
    let next_hop = format!("smtp:[127.0.0.1]:{port}");
    let body = format!("From: a@src.test\r\n\r\n{}", "0123456789abcdef0123456789abcdef\r\n".repeat(30));
    for in_flight in [1, 5, 20, 100] {
        let mut deliver = start(|slice| slice.connections = in_flight);
        let began = clock::monotonic_us();
        let (mut sent, mut settled) = (0, 0);
        while settled < MESSAGES {
            while sent < MESSAGES && sent - settled < u64::from(in_flight) {
                deliver.lease(&attempt(sent, &next_hop, &["b@dst.test"], inline(&body)));
                sent += 1;
            }
            assert_eq!(deliver.outcome().settled[0].result, Result3::Delivered);
            settled += 1;
        }
        let took = (clock::monotonic_us() - began) as f64;
        let cpu = cpu_us(deliver.process.child.pid);
        let _ = writeln!(
            std::io::stdout(),
            "{in_flight} in flight: {:.0} messages/s, {:.1} us of processor time per message",
            MESSAGES as f64 / took * 1e6,
            cpu / MESSAGES as f64
        );
    }
}

/// User and system time of a process so far, to 10 ms.
fn cpu_us(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 10_000.0
}
