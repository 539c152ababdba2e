//! Messages that a service has: what becomes of the orders of an operator, and who may bring them back.

use super::*;
use crate::store::{Disposition, StateChange};

impl Bench {
    /// What a service has said of it.
    fn settle_service(&mut self, plan: &Plan, result: Result3) {
        self.settle_for(plan, result, Some(0));
    }
}

/// A message that a service has, and the secret.
fn away(bench: &mut Bench) -> (QueueId, Arc<MessageState>, vsmtp_ipc::edge::filter_queue::Returned) {
    let id = bench.stored(&["smtp:dst.test"]);
    let token = vsmtp_mail::Token::from_bytes([7; 16]);
    let delegation = crate::store::Delegation {
        phase: crate::store::Phase::Out,
        stage: crate::store::DelegatedAt::Postq,
        directive: "scan".into(),
        token,
        address: ([127, 0, 0, 1], 10026).into(),
        timeout_ms: 1000,
        return_within_s: 60,
        open: true,
        hold: None,
    };
    let disposition = Disposition::Delegated(Box::new(delegation));
    let change = Change::State { id, change: StateChange::Disposition(disposition) };
    bench
        .ledger
        .commit_alone(id, vec![change], Urgency::Durable, (Turns::FromService, Tell::Nobody))
        .unwrap();
    bench.poll();
    let state = bench.ledger.outgoing(id).unwrap().state;
    (
        id,
        state,
        vsmtp_ipc::edge::filter_queue::Returned { id: id.into(), token: token.to_bytes(), or_new: false },
    )
}

#[test]
fn an_order_to_hold_outlasts_what_a_service_does_before_it_is_on_disk() {
    for step in 0..4 {
        let mut bench = Bench::new();
        let (id, seen, returned) = away(&mut bench);
        let plan = bench.lease().unwrap();
        assert_eq!(bench.order(Request::Hold(Selection::One(id.into()))), None, "not on disk yet");
        let clock = bench.clock;
        match step {
            0 => assert!(matches!(
                delegation::welcome(&bench.ledger, returned, &seen.envelope, clock),
                Err(vsmtp_ipc::edge::filter_queue::Refusal::Busy)
            )),
            1 => delegation::overdue(&mut bench.ledger, id, &seen, clock),
            2 => delegation::unserved(&mut bench.ledger, id, "nobody is there", clock),
            _ => bench.settle_service(&plan, Result3::Delivered),
        }
        bench.poll();
        let state = bench.ledger.store.message(id).unwrap().state;
        assert!(matches!(state.disposition, Disposition::Hold(_)), "{step}: {:?}", state.disposition);
        let standing = bench.ledger.schedule.survey(id, clock.mono_ms).map(|survey| survey.standing);
        assert_eq!(standing, Some(Standing::Held), "{step}");
    }
}

#[test]
fn a_service_may_bring_back_at_once_what_it_has_taken() {
    let mut bench = Bench::new();
    let (id, _, returned) = away(&mut bench);
    let plan = bench.lease().unwrap();
    bench.settle_service(&plan, Result3::Delivered);
    let clock = bench.clock;
    assert!(bench.ledger.is_changing(id), "it is not on disk that the service has it");
    let envelope = bench.ledger.store.message(id).unwrap().state.envelope;
    let welcome = delegation::welcome(&bench.ledger, returned, &envelope, clock);
    assert!(matches!(welcome, Ok(delegation::Welcome::Take(_))));
}

#[test]
fn what_is_on_its_way_to_the_disk_is_held_but_not_released() {
    let mut bench = Bench::new();
    let (id, _, _) = away(&mut bench);
    let plan = bench.lease().unwrap();
    bench.settle_service(&plan, Result3::Delivered);
    let released = bench.order(Request::Release(Selection::One(id.into())));
    assert!(released.as_ref().is_some_and(|said| said.starts_with("Failed")), "{released:?}");
    assert_eq!(bench.order(Request::Hold(Selection::One(id.into()))), None, "it is carried out");
    bench.poll();
    let state = bench.ledger.store.message(id).unwrap().state;
    assert!(matches!(state.disposition, Disposition::Hold(_)), "{:?}", state.disposition);
    assert_eq!(bench.order(Request::Release(Selection::One(id.into()))), None, "it is carried out");
    bench.poll();
    let state = bench.ledger.store.message(id).unwrap().state;
    assert!(state.disposition.is_active());
}
