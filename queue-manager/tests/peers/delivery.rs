//! From the filter to deliver and back.

use vsmtp_ipc::edge::ctl_queue::{Request, Selection, State};
use vsmtp_ipc::edge::queue_deliver::{Result3, Said};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::Terms;
use vsmtp_mail::QueueId;

use crate::stage::{BODY, Stage, octets, outcome};

#[test]
fn a_message_goes_in_and_out() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(&[("b@dst.test", "smtp:dst.test"), ("c@dst.test", "smtp:dst.test")]);
    let id = filter.store(message);
    let (attempt, descriptors) = deliver.hear();
    assert_eq!((attempt.id, attempt.reverse_path.as_str()), (id, "a@src.test"));
    assert_eq!(attempt.next_hop, "smtp:dst.test");
    let recipients: Vec<(u32, &str)> =
        attempt.recipients.iter().map(|r| (r.index, r.address.as_str())).collect();
    assert_eq!(recipients, [(0, "b@dst.test"), (1, "c@dst.test")]);
    deliver.settle(&attempt, Result3::Delivered);
    assert_eq!(octets(attempt.body, descriptors), BODY);
    stage.figure("messages", 0);
    let id = QueueId::from(id);
    stage.logged("event=removed");
    let log = stage.log();
    assert!(log.contains(&format!("event=accepted id={id} from=<a@src.test> recipients=2")), "{log}");
    assert!(
        log.contains(&format!("event=delivered id={id} to=<b@dst.test> next_hop=smtp:dst.test")),
        "{log}"
    );
    assert!(log.contains(&format!("event=removed id={id} why=settled")), "{log}");
}

#[test]
fn a_delivery_without_a_host_logs_no_host() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    filter.store(message);
    let (attempt, _) = deliver.hear();
    let mut local = outcome(attempt.lease, &[(0, Result3::Delivered)]);
    local.remote.clear();
    local.tls.clear();
    deliver.say(&local);
    stage.logged("event=removed");
    let log = stage.log();
    assert!(log.contains("next_hop=smtp:dst.test status="), "{log}");
}

#[test]
fn what_was_stored_survives_the_death_of_the_process() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(&[("b@dst.test", "smtp:dst.test"), ("c@dst.test", "smtp:dst.test")]);
    let id = filter.store(message);
    // One recipient is delivered before the death; only the other one is tried after it.
    let (attempt, _) = deliver.hear();
    deliver.say(&outcome(attempt.lease, &[(0, Result3::Delivered), (1, Result3::Deferred)]));
    stage.logged("event=deferred");
    stage.figure("commits_open", 0);
    let mut stage = stage.kill_and_restart(&[]);
    stage.no_rules();
    let mut deliver = stage.deliver();
    let mut operator = stage.operator();
    stage.figure("active", 1);
    let entries = operator.list(Some(State::Deferred));
    assert_eq!((entries.len(), entries[0].id, entries[0].recipients_total), (1, id, 1));
    assert_eq!(entries[0].recipients[0].diagnostic, "the host said so to 1");
    assert_eq!(operator.flush_all(), 1);
    let (attempt, descriptors) = deliver.hear();
    assert_eq!((attempt.id, attempt.recipients.len(), attempt.recipients[0].index), (id, 1, 1));
    deliver.settle(&attempt, Result3::Delivered);
    assert_eq!(octets(attempt.body, descriptors), BODY);
    stage.figure("messages", 0);
}

#[test]
fn leases_of_a_dead_deliver_process_come_back() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    filter.store(message);
    deliver.hear();
    drop(deliver);
    stage.logged("event=edge-closed");
    let mut deliver = stage.deliver();
    assert_eq!(stage.operator().flush_all(), 1);
    deliver.serve(Result3::Delivered);
    stage.figure("messages", 0);
}

#[test]
fn who_takes_no_more_gets_no_more_and_what_was_on_its_way_goes_to_another_at_once() {
    let (mut stage, mut filter, mut old) = Stage::with_peers();
    let message = |stage: &mut Stage, hop: &str| stage.message(&[("b@dst.test", hop)]);
    let on_its_way = message(&mut stage, "smtp:dst.test");
    let id = filter.store(on_its_way);
    let (attempt, _) = old.hear();
    old.say_other(&Said::NoMore);
    old.say_other(&Said::Back(attempt.lease));
    // Its successor has another name, as after a reload.
    let mut new = stage.deliver_process(1);
    assert_eq!(new.serve(Result3::Delivered).id, id, "long before a retry");
    for hop in ["smtp:a.test", "smtp:b.test", "smtp:c.test", "smtp:d.test"] {
        let next = message(&mut stage, hop);
        let id = filter.store(next);
        assert_eq!(new.serve(Result3::Delivered).id, id);
    }
    stage.figure("messages", 0);
    // Nobody hands back for ever, or what is not his.
    for lie in [&[Said::Back(attempt.lease)][..], &[Said::NoMore, Said::Back(attempt.lease)]] {
        let mut liar = stage.deliver_process(2);
        lie.iter().for_each(|said| liar.say_other(said));
        assert!(liar.is_dropped());
        stage.misbehaved(Role::DeliverSmtp);
    }
}

#[test]
fn one_next_hop_that_hangs_does_not_keep_a_released_message_from_the_others() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(&[("a@dst.test", "smtp:hangs.test"), ("b@dst.test", "smtp:other.test")]);
    let id = filter.store(message);
    let (first, second) = (deliver.hear().0, deliver.hear().0);
    let (hung, other) = if first.next_hop == "smtp:hangs.test" { (first, second) } else { (second, first) };
    deliver.settle(&other, Result3::Deferred);
    stage.logged("event=deferred");
    let mut operator = stage.operator();
    for order in [Request::Hold(Selection::One(id)), Request::Release(Selection::One(id))] {
        assert_eq!(operator.changed(&order), 1);
    }
    assert_eq!(deliver.hear_withdrawal(), hung.lease);
    assert!(deliver.is_idle(&mut stage), "the next hop may have taken it");
    deliver.say_other(&Said::Back(hung.lease));
    let mut tried = [deliver.serve(Result3::Delivered), deliver.serve(Result3::Delivered)];
    tried.sort_by(|one, other| one.next_hop.cmp(&other.next_hop));
    assert_eq!(tried.map(|attempt| attempt.next_hop), ["smtp:hangs.test", "smtp:other.test"]);
    stage.figure("messages", 0);
}

#[test]
fn a_deliver_process_that_lies_is_dropped_and_its_leases_come_back() {
    let lies: [fn(u64) -> vsmtp_ipc::edge::queue_deliver::Outcome; 4] = [
        |lease| outcome(lease + 1, &[(0, Result3::Delivered)]),
        |lease| outcome(lease, &[]),
        |lease| outcome(lease, &[(7, Result3::Delivered)]),
        |lease| {
            let mut outcome = outcome(lease, &[(0, Result3::Delivered)]);
            outcome.settled[0].enhanced = (5, 0, 0);
            outcome
        },
    ];
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    filter.store(message);
    for lie in lies {
        let (attempt, _) = deliver.hear();
        deliver.say(&lie(attempt.lease));
        assert!(deliver.is_dropped());
        stage.misbehaved(Role::DeliverSmtp);
        deliver = stage.deliver();
        assert_eq!(stage.operator().flush_all(), 1);
    }
    deliver.serve(Result3::Delivered);
    stage.figure("messages", 0);
}

#[test]
fn next_hops_in_mailboxes_go_to_the_mailbox_process() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(&[("b@src.test", "maildir")]);
    filter.store(message);
    assert!(deliver.is_idle(&mut stage));
    let socket = stage.introduce(Role::DeliverMailbox, 0);
    let edge = vsmtp_ipc::EdgeId::QueueDeliver;
    let mut mailbox = crate::stage::Deliver(vsmtp_ipc::Channel::new(socket, edge));
    assert_eq!(mailbox.serve(Result3::Delivered).next_hop, "maildir");
    stage.figure("messages", 0);
}

/// A machine of many cores has as many deliver processes, and twice as many over a reload.
#[test]
fn many_deliver_processes_leave_room_for_that_of_the_mailboxes_and_for_their_successors() {
    let (mut stage, mut filter, deliver) = Stage::with_peers();
    let mut many: Vec<_> = (1..300).map(|instance| stage.deliver_process(instance)).collect();
    let socket = stage.introduce(Role::DeliverMailbox, 0);
    let edge = vsmtp_ipc::EdgeId::QueueDeliver;
    let mut mailbox = crate::stage::Deliver(vsmtp_ipc::Channel::new(socket, edge));
    let message = stage.message(&[("b@src.test", "maildir")]);
    filter.store(message);
    assert_eq!(mailbox.serve(Result3::Delivered).next_hop, "maildir");
    // The old ones take nothing new, and are there as long as they have something to finish.
    many.push(deliver);
    for old in &mut many {
        old.say_other(&Said::NoMore);
    }
    let mut new = stage.deliver_process(300);
    let message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    filter.store(message);
    assert_eq!(new.serve(Result3::Delivered).next_hop, "smtp:dst.test");
    stage.figure("messages", 0);
}

#[test]
fn hundreds_of_messages_are_all_delivered_once() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut expected = std::collections::BTreeSet::new();
    for round in 0..10 {
        for ticket in 0..50u64 {
            let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
            message.ticket = ticket;
            expected.insert(message.id.0);
            filter.say(&vsmtp_ipc::edge::filter_queue::Submit::Message(message), Vec::new());
        }
        for _ in 0..50 {
            assert!(
                matches!(filter.hear().0, vsmtp_ipc::edge::filter_queue::Receipt::Stored { .. }),
                "{round}"
            );
        }
        for _ in 0..50 {
            let attempt = deliver.serve(Result3::Delivered);
            assert!(expected.remove(&attempt.id.0), "delivered twice");
        }
    }
    assert!(expected.is_empty());
    stage.figure("messages", 0);
}

#[test]
fn terms_survive_the_death_of_the_process_and_are_shown() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.envelope.terms =
        Some(Box::new(Terms { priority: 7, lifetime_s: Some(3600), ..Default::default() }));
    let arrived_ms = message.arrived_ms;
    let id = filter.store(message);
    assert_eq!(deliver.serve(Result3::Deferred).priority, 7);
    stage.logged("event=deferred");
    stage.figure("commits_open", 0);
    for _ in 0..2 {
        let entries = stage.operator().list(None);
        assert_eq!((entries.len(), entries[0].id, entries[0].priority), (1, id, 7));
        let late_by = entries[0].expires_ms.abs_diff(arrived_ms + 3_600_000);
        assert!(late_by < 60_000, "{late_by}");
        stage = stage.kill_and_restart(&[]);
        stage.logged("event=loaded");
    }
}
