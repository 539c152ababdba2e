//! Counts over several receivers, and what operators see.

use std::net::Ipv4Addr;

use vsmtp_ipc::edge::master_child::{LIMITS_PAGE, LimitsAnswer, LimitsRequest, LimitsRow, ToChild, ToMaster};
use vsmtp_ipc::edge::receiver_limits::{Answer, Ask, Entry, Kind, Wanted};

use crate::stage::{Stage, ip, slice};

const GO: Entry = Entry::Go { delay_ms: 0 };

fn page(stage: &mut Stage, behind: Option<std::net::IpAddr>) -> Vec<LimitsRow> {
    stage.tell(&ToChild::Limits { ticket: 7, request: LimitsRequest::Page(behind) }, Vec::new());
    match stage.process.hear_master(|said| matches!(said, ToMaster::Limits { ticket: 7, .. })) {
        ToMaster::Limits { answer: LimitsAnswer::Page { rows, .. }, .. } => rows,
        other => panic!("expected a page, not {other:?}"),
    }
}

#[test]
fn receivers_share_counts_and_a_dead_one_gives_its_sessions_back() {
    let mut stage = Stage::start(&slice());
    let ((mut one, wanted), (mut other, _)) = (stage.receiver(0), stage.receiver(1));
    assert_eq!(wanted, Wanted { connect: true, ..Wanted::default() });
    assert_eq!(one.connect(1, "192.0.2.1"), GO);
    assert_eq!(other.connect(1, "192.0.2.1"), GO);
    let Entry::Refuse(reply) = other.connect(2, "192.0.2.1") else { panic!() };
    assert_eq!((reply.code, reply.enhanced), (421, Some((4, 7, 0))));
    assert_eq!(other.connect(3, "192.0.2.2"), GO);
    drop(one);
    // Its death and our question come on two edges.
    while other.connect(2, "192.0.2.1") != GO {}
    other.say(&Ask::Left { ticket: 1 });
    other.say(&Ask::Left { ticket: 1 });
    other.say(&Ask::Left { ticket: 99 });
    assert_eq!(other.connect(4, "192.0.2.1"), GO, "once, and not twice");
    assert!(matches!(other.connect(5, "192.0.2.1"), Entry::Refuse(_)));
    let (mut again, _) = stage.receiver(0);
    again.say(&Ask::Present { ticket: 8, client: ip("192.0.2.2") });
    again.say(&Ask::Present { ticket: 8, client: ip("192.0.2.2") });
    assert!(matches!(again.connect(9, "192.0.2.2"), Entry::Refuse(_)), "one of each receiver");
}

#[test]
fn another_configuration_is_told_and_counts_go_on() {
    let mut stage = Stage::start(&slice());
    let (mut receiver, _) = stage.receiver(0);
    assert_eq!(receiver.connect(1, "192.0.2.1"), GO);
    let mut other = slice();
    (other.connections, other.recipient_rate) = (Some(1), Some(3));
    stage.tell(&ToChild::Reconfigure(vsmtp_ipc::encode(&other).unwrap()), Vec::new());
    let wanted = Wanted { connect: true, recipients: true, ..Wanted::default() };
    assert_eq!(receiver.hear(), Answer::Wanted(wanted));
    assert!(matches!(receiver.connect(2, "192.0.2.1"), Entry::Refuse(_)));
    let client = ip("192.0.2.1");
    let spent = receiver.spend(&Ask::Spend { ticket: 1, client, kind: Kind::Recipients, count: 5 });
    assert_eq!((spent.granted, spent.refusal.map(|reply| reply.code)), (3, Some(452)));
    // Networks are counted now, and open sessions are counted again.
    other.prefix_v4 = 24;
    stage.tell(&ToChild::Reconfigure(vsmtp_ipc::encode(&other).unwrap()), Vec::new());
    assert_eq!(receiver.hear(), Answer::Wanted(wanted));
    assert!(matches!(receiver.connect(2, "192.0.2.77"), Entry::Refuse(_)));
    stage.tell(&ToChild::Reconfigure(vec![1, 2, 3]), Vec::new());
    assert!(matches!(receiver.connect(2, "192.0.2.77"), Entry::Refuse(_)), "the old one stays in force");
    assert_eq!(receiver.connect(3, "198.51.100.1"), GO);
}

#[test]
fn thousands_of_clients_are_shown_by_pages_and_one_is_reset() {
    let mut stage = Stage::start(&slice());
    let (mut receiver, _) = stage.receiver(0);
    let count = 2 * LIMITS_PAGE as u32 + 100;
    for n in 0..count {
        let client = Ipv4Addr::from_bits(0x0A00_0000 + n).into();
        receiver.say(&Ask::Note { client, kind: Kind::Messages, count: n + 1 });
    }
    // What was said before is heard before.
    assert_eq!(receiver.connect(1, "192.0.2.1"), GO);
    let mut rows: Vec<LimitsRow> = Vec::new();
    loop {
        let more = page(&mut stage, rows.last().map(|row| row.network));
        let is_last = more.len() < LIMITS_PAGE;
        rows.extend(more);
        if is_last {
            break;
        }
    }
    assert_eq!(rows.len(), count as usize + 1);
    let mut counts: Vec<u32> = rows.iter().map(|row| row.counts[1]).collect();
    counts.sort_unstable();
    assert_eq!(counts, (0..=count).collect::<Vec<_>>());
    let client = ip("10.0.0.9");
    for known in [true, true] {
        stage.tell(&ToChild::Limits { ticket: 8, request: LimitsRequest::Reset(client) }, Vec::new());
        let said = stage.process.hear_master(|said| matches!(said, ToMaster::Limits { ticket: 8, .. }));
        assert!(matches!(said, ToMaster::Limits { answer: LimitsAnswer::Reset(was), .. } if was == known));
    }
    let rows: Vec<LimitsRow> = page(&mut stage, None);
    assert!(rows.iter().all(|row| row.network != client || row.counts[1] == 0));
}

#[test]
fn it_ends_when_it_is_told_to() {
    let mut stage = Stage::start(&slice());
    // That is longer than its end is waited for.
    stage.tell(&ToChild::Drain { deadline_ms: 60_000 }, Vec::new());
    assert!(stage.process.ended().success());
}
