//! What is urgent goes before, and what can wait goes too.

use std::collections::BTreeMap;

use super::*;

fn urgent(number: i64) -> Timing {
    Timing { priority: vsmtp_mail::Priority::new(number).unwrap(), ..Timing::default() }
}

#[test]
fn what_is_urgent_goes_before_and_what_can_wait_is_never_forgotten() {
    const EACH: usize = 60;
    let mut bench = one_at_a_time();
    let mut priority_of = BTreeMap::new();
    for n in 0..EACH {
        for number in [-9, -1, 0, 1, 9] {
            let sender = format!("a{}@src.test", n % 7);
            let id = bench.add_with(&sender, &["smtp:dst.test"], 0, urgent(number));
            priority_of.insert(id, number.signum());
        }
    }
    let mut order = Vec::new();
    while let Some(plan) = bench.next() {
        assert_eq!(bench.next(), None, "one at a time");
        order.push(priority_of[&plan.id]);
        bench.settle(&plan, Verdict::Settled, Reached::Yes);
    }
    assert_eq!(order.len(), 5 * EACH);
    // As long as all have something to do, each has its share of any thirteen in a row.
    let last_urgent = order.iter().rposition(|sign| *sign == 1).unwrap();
    for some in order[..last_urgent].windows(13) {
        let count = |sign| some.iter().filter(|other| **other == sign).count();
        assert_eq!((count(1), count(0), count(-1)), (9, 3, 1), "{order:?}");
    }
}

#[test]
fn an_urgent_message_overtakes_those_that_wait_for_its_next_hop() {
    let mut bench = one_at_a_time();
    for n in 0..100 {
        bench.add(&format!("a{n}@src.test"), &["smtp:dst.test"]);
    }
    for _ in 0..20 {
        let plan = bench.next().unwrap();
        assert_eq!(bench.next(), None);
        let urgent = bench.add_with("b@src.test", &["smtp:dst.test"], 0, urgent(1));
        bench.settle(&plan, Verdict::Settled, Reached::Yes);
        let mut overtook = 0;
        loop {
            let plan = bench.next().unwrap();
            bench.settle(&plan, Verdict::Settled, Reached::Yes);
            if plan.id == urgent {
                break;
            }
            overtook += 1;
        }
        assert!(overtook <= 1, "{overtook} went before it");
    }
}
