//! The schedule against its promises, with a clock that the tests turn: one file each topic. Here is the bench, and how it is
//! set up for several of them.

use vsmtp_mail::{NextHop, QueueId, QueueIdMint, ReversePath};

use super::*;
use crate::store::Timing;

mod admission;
mod advice;
mod attempts;
mod expiry;
mod lanes;
mod lifetime;
mod limits;
mod model;
mod next_hops;
mod orders;
mod priority;

const SMTP: Lane = Lane { kind: LaneKind::Smtp, instance: 0, life: 0 };
const HOUR: u64 = 3_600_000;

struct Bench {
    schedule: Schedule,
    mint: QueueIdMint,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let mut schedule = Schedule::new(Settings::default(), 42, 1000);
        schedule.lane_up(SMTP, 256, 1000);
        Bench { schedule, mint: QueueIdMint::new(0, 0), now: 1000 }
    }

    fn add(&mut self, sender: &str, hops: &[&str]) -> QueueId {
        self.add_aged(sender, hops, 0)
    }

    fn add_aged(&mut self, sender: &str, hops: &[&str], age_ms: u64) -> QueueId {
        self.add_with(sender, hops, age_ms, Timing::default())
    }

    fn add_with(&mut self, sender: &str, hops: &[&str], age_ms: u64, timing: Timing) -> QueueId {
        let id = self.mint.next(1);
        let sender = ReversePath::parse(sender).unwrap();
        let hops: Vec<NextHop> = hops.iter().map(|hop| NextHop::parse(hop).unwrap()).collect();
        let admission = Admission {
            id,
            sender: Sender::from(&sender),
            age_ms,
            standing: Standing::Active,
            warned: false,
            timing,
        };
        let pending = hops.iter().enumerate().map(|(index, next_hop)| Pending {
            index: index as u32,
            next_hop,
            attempts: 0,
            wait_ms: 0,
        });
        self.schedule.admit(&admission, pending, self.now).unwrap();
        id
    }

    fn next(&mut self) -> Option<Plan> {
        match self.schedule.next(self.now) {
            Next::Lease(plan) => Some(plan),
            Next::Idle => None,
            Next::Later => panic!("too many steps"),
        }
    }

    fn settle(&mut self, plan: &Plan, verdict: Verdict, reached: Reached<'_>) -> Settled {
        let results: Vec<(u32, Verdict)> = plan.recipients.iter().map(|index| (*index, verdict)).collect();
        self.schedule.settle(plan.lane, plan.lease, &results, reached, self.now).unwrap()
    }

    fn sleep_until_due(&mut self) {
        self.now = self.schedule.wake_ms().unwrap();
        assert!(!self.schedule.tick(self.now));
    }
}

/// A bench whose next hops take one attempt at a time.
fn one_at_a_time() -> Bench {
    let mut bench = Bench::new();
    let settings = Settings { initial_concurrency: 1, max_concurrency: 1, ..Settings::default() };
    bench.schedule.set_settings(settings);
    bench
}

fn limited(rows: &[(&str, &str)], rates: &[(u32, u64)]) -> Settings {
    use vsmtp_config::{ByNextHop, DestinationLimits, TlsDestination};
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, text)| {
            let limits = DestinationLimits::parse(text).unwrap();
            (TlsDestination::parse(name).unwrap().into(), limits.into())
        })
        .collect();
    let read = |limits: &DestinationLimits| Limits {
        concurrency: limits.concurrency,
        rates: Some(
            limits
                .rates
                .iter()
                .map(|rate| Rate { count: rate.count, period_ms: rate.period.as_millis() as u64 })
                .collect(),
        ),
    };
    let rate = |(count, period_ms): &(u32, u64)| Rate { count: *count, period_ms: *period_ms };
    let limits =
        LimitTable { rates: rates.iter().map(rate).collect(), by_next_hop: ByNextHop::new(&rows, read) };
    Settings { limits, ..Settings::default() }
}

fn advised(bench: &mut Bench, verdict: Verdict, advice: Advice) -> Settled {
    let plan = bench.next().unwrap();
    let results: Vec<(u32, Verdict)> = plan.recipients.iter().map(|index| (*index, verdict)).collect();
    let report = Report { reached: Reached::Yes, advice };
    bench.schedule.settle(plan.lane, plan.lease, &results, report, bench.now).unwrap()
}
