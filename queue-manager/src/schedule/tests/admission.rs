//! What comes in: recovered waits, what is refused, and what a recipient costs.

use super::*;

#[test]
fn recovered_waits_are_kept_but_never_frozen() {
    let mut bench = Bench::new();
    let sender = ReversePath::Null;
    let hop = NextHop::parse("smtp:dst.test").unwrap();
    for wait_ms in [60_000, u64::MAX] {
        let id = bench.mint.next(1);
        let admission = Admission {
            id,
            sender: Sender::from(&sender),
            age_ms: HOUR,
            standing: Standing::Active,
            warned: true,
            timing: Timing::default(),
        };
        let pending = Pending { index: 3, next_hop: &hop, attempts: 7, wait_ms };
        bench.schedule.admit(&admission, [pending], bench.now).unwrap();
        let again = bench.schedule.admit(&admission, [pending], bench.now);
        assert_eq!(again, Err(AdmitError::Known));
    }
    assert_eq!(bench.next(), None);
    bench.sleep_until_due();
    assert!((61_000..61_200).contains(&bench.now), "{}", bench.now);
    let plan = bench.next().unwrap();
    assert_eq!((plan.recipients.as_slice(), plan.attempts), (&[3][..], 7));
    bench.sleep_until_due();
    assert!(bench.now < 1000 + 4_000_100 && bench.next().is_some());
}

#[test]
fn messages_without_recipients_and_impossible_places_are_refused_whole() {
    let mut bench = Bench::new();
    let (sender, hop) = (ReversePath::Null, NextHop::parse("maildir").unwrap());
    let id = bench.mint.next(1);
    let admission = Admission {
        id,
        sender: Sender::from(&sender),
        age_ms: 0,
        standing: Standing::Active,
        warned: false,
        timing: Timing::default(),
    };
    assert_eq!(bench.schedule.admit(&admission, [], 0), Err(AdmitError::Recipients));
    let pending = |index| Pending { index, next_hop: &hop, attempts: 0, wait_ms: 0 };
    assert_eq!(
        bench.schedule.admit(&admission, [pending(0), pending(10_000)], 0),
        Err(AdmitError::Recipients)
    );
    assert_eq!(bench.schedule.totals(), Totals::default());
    assert_eq!(bench.schedule.messages.len() + bench.schedule.jobs.len() + bench.schedule.items.len(), 0);
}

#[test]
fn a_recipient_costs_what_was_promised() {
    let mut bench = Bench::new();
    let count = 100_000;
    for n in 0..count {
        bench.add(&format!("s{}@src.test", n % 1000), &[format!("smtp:d{}.test", n % 500).as_str()]);
    }
    assert_eq!(bench.schedule.destinations(), 500);
    // Flows are at most as many as next hops times classes; here every eighth message has one of its own.
    let schedule = &bench.schedule;
    let octets = schedule.messages.len() * size_of::<Message>()
        + schedule.jobs.len() * size_of::<Job>()
        + schedule.items.len() * size_of::<Item>()
        + schedule.flows.len() * size_of::<Flow>()
        + (schedule.messages.len() + schedule.flows.len()) * 11
        + schedule.messages.len() * size_of::<u64>();
    assert!(octets / count <= 150, "{} octets for each recipient", octets / count);
}
