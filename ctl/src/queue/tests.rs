//! The queue commands against a queue-manager that plays a script.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use serde_json::Value;
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::ctl_queue::{Condition, Destination, Entry, EntryRecipient, PAGE, Selection};
use vsmtp_ipc::wire::Id;
use vsmtp_mail::QueueId;
use vsmtp_sys::{memfd::Sealed, seqpacket};

use super::*;
use crate::arguments::{StateWord, Which};
use crate::status::tests::printed;

type Reply = Box<dyn Fn(&Request) -> (Answer, Vec<OwnedFd>) + Send>;

fn queue(turns: usize, reply: Reply) -> (Queue, JoinHandle<Vec<Request>>) {
    let (ours, theirs) = seqpacket::pair().unwrap();
    let play = move || {
        let mut line: Line<Answer, Request> = Line::over(theirs, EdgeId::CtlQueue).unwrap();
        let turn = |_| {
            let request = line.receive().unwrap().message;
            let (answer, descriptors) = reply(&request);
            line.send(&answer, descriptors).unwrap();
            request
        };
        (0..turns).map(turn).collect()
    };
    (Line::over(ours, EdgeId::CtlQueue).unwrap(), thread::spawn(play))
}

fn id(n: u32) -> Id {
    let mut bytes = [0; QueueId::LEN];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    Id(bytes)
}

fn entry(n: u32) -> Entry {
    Entry {
        id: id(n),
        state: State::Deferred,
        quarantine: String::new(),
        reason: String::new(),
        priority: 0,
        expires_ms: 0,
        size: 1234,
        arrived_ms: 1_795_324_249_000,
        next_attempt_ms: 0,
        reverse_path: "jane@example.com".to_owned(),
        recipients: vec![EntryRecipient {
            address: "joe@example.org".to_owned(),
            next_hop: "smtp:example.org".to_owned(),
            status: "deferred".to_owned(),
            attempts: 3,
            diagnostic: "451 4.3.0 \x1b[31mlater".to_owned(),
        }],
        recipients_total: 5,
    }
}

/// A queue of `total` messages, numbered from 1.
fn pages(total: u32) -> Reply {
    Box::new(move |request| {
        let Request::List { after, limit, .. } = request else { panic!("not a list: {request:?}") };
        let first =
            1 + after.map_or(0, |Id(bytes)| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let last = total.min(first + limit - 1);
        (Answer::Page((first..=last).map(entry).collect()), vec![])
    })
}

fn list(limit: Option<u64>) -> QueueCommand {
    QueueCommand::List { state: Some(StateWord::Deferred), limit }
}

#[test]
fn a_long_list_comes_in_pages_and_has_every_message_once() {
    let total = 2 * PAGE + 7;
    let (mut line, asked) = queue(3, pages(total));
    let (text, failure) = printed(true, |out| run(&list(None), &mut line, out));
    assert!(failure.is_none());
    let ids: std::collections::BTreeSet<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["queue_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((text.lines().count(), ids.len()), (total as usize, total as usize));
    assert_eq!(asked.join().unwrap().len(), 3);
}

#[test]
fn a_limit_asks_for_no_more() {
    let (mut line, asked) = queue(1, pages(1000));
    let (text, _) = printed(false, |out| run(&list(Some(3)), &mut line, out));
    assert_eq!(text.lines().filter(|line| line.contains("deferred")).count(), 3, "{text}");
    assert!(text.contains("<jane@example.com> -> joe@example.org and 4 more"), "{text}");
    assert!(text.contains("2026-11-22T05:10:49Z"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(matches!(asked.join().unwrap().as_slice(), [Request::List { limit: 3, .. }]));
}

#[test]
fn a_page_sent_twice_does_not_loop_for_ever() {
    let same: Reply = Box::new(|_| (Answer::Page((1..=PAGE).map(entry).collect()), vec![]));
    let (mut line, _asked) = queue(2, same);
    let (_, failure) = printed(true, |out| run(&list(None), &mut line, out));
    assert_eq!(failure.unwrap().status(), 75);
}

#[test]
fn show_and_cat() {
    let (mut line, asked) = queue(
        3,
        Box::new(|request| match request {
            Request::Show(_) => (Answer::Shown(entry(9)), vec![]),
            _ => {
                let body = Sealed::create(c"body", &[IoSlice::new(b"Subject: x\r\n\r\n\x00\xff")]).unwrap();
                (Answer::Body(body.len()), vec![body.into_fd()])
            }
        }),
    );
    let (text, _) = printed(false, |out| run(&QueueCommand::Show { id: id(9).into() }, &mut line, out));
    assert!(text.contains("joe@example.org") && text.contains("451 4.3.0"), "{text}");
    for _ in 0..2 {
        let mut sink = Vec::new();
        let cat = QueueCommand::Cat { id: id(9).into() };
        run(&cat, &mut line, &mut Output::new(&mut sink, false)).unwrap();
        assert_eq!(sink, b"Subject: x\r\n\r\n\x00\xff");
    }
    asked.join().unwrap();
}

#[test]
fn changes_name_what_failed_and_do_the_rest() {
    let (mut line, asked) = queue(
        2,
        Box::new(|request| match request {
            Request::Delete(Selection::One(one)) if *one == id(1) => {
                (Answer::Failed("no such message".to_owned()), vec![])
            }
            _ => (Answer::Changed(1), vec![]),
        }),
    );
    let ids = [1, 2].map(|n| QueueId::from(id(n)).to_string()).to_vec();
    let delete = QueueCommand::Delete(Which { ids: ids.clone(), all: false, state: None });
    let (text, failure) = printed(false, |out| run(&delete, &mut line, out));
    assert_eq!(text, "deleted: 1 message\n");
    assert_eq!(failure.unwrap().to_string(), format!("{}: no such message", ids[0]));
    asked.join().unwrap();
}

#[test]
fn all_of_a_state_is_one_request() {
    for all in [true, false] {
        let (mut line, asked) = queue(1, Box::new(|_| (Answer::Changed(42), vec![])));
        let release = QueueCommand::Release(Which { ids: vec![], all, state: Some(StateWord::Held) });
        let (text, _) = printed(true, |out| run(&release, &mut line, out));
        assert_eq!(text, "{\"changed\":42,\"failed\":[]}\n");
        let asked = asked.join().unwrap();
        assert!(matches!(asked.as_slice(), [Request::Release(Selection::All(Some(State::Held)))]));
    }
}

#[test]
fn next_hops_come_in_pages_too_and_show_what_keeps_them() {
    let destination = |number: u32| Destination {
        number,
        next_hop: format!("smtp:d{number}.test"),
        condition: if number == 2 { Condition::Resting } else { Condition::Up },
        messages: 7,
        attempts: 1,
        concurrency: 5,
        next_attempt_ms: if number == 2 { 1_795_324_249_000 } else { 0 },
        reason: if number == 2 { "connect: timeout".to_owned() } else { String::new() },
    };
    let total = PAGE + 3;
    let reply = move || -> Reply {
        Box::new(move |request| {
            let Request::Destinations { after, limit } = request else { panic!("{request:?}") };
            let first = after.map_or(0, |after| after + 1);
            (Answer::Destinations((first..total.min(first + limit)).map(destination).collect()), vec![])
        })
    };
    let (mut line, _) = queue(2, reply());
    let (text, failure) = printed(true, |out| run(&QueueCommand::Destinations, &mut line, out));
    assert!(failure.is_none());
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[2]["state"]), (total as usize, &Value::from("resting")));
    let (mut line, _) = queue(2, reply());
    let (text, _) = printed(false, |out| run(&QueueCommand::Destinations, &mut line, out));
    assert!(text.contains("resting") && text.contains("(connect: timeout)"), "{text}");
}
