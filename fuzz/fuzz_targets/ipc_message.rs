//! Every message of every edge: the first octet chooses the type, the rest is the message. What decodes is canonical,
//! and what passes the door into the vocabulary of mail comes back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_ipc::edge::{
    client_resolver, ctl_filter, ctl_keys, ctl_master, ctl_queue, ctl_repl, ctl_resolver, filter_auth,
    filter_database, filter_keys, filter_limits, filter_queue, filter_runner, master_child, queue_deliver,
    queue_filter, receiver_auth, receiver_filter, receiver_keys, receiver_limits,
};
use vsmtp_ipc::wire::{self, Body, Envelope, MailFrom, Piece, RcptTo, Recipient, Reply, check_pieces};
use vsmtp_ipc::{MAX_DESCRIPTORS, Message, decode, encode};
use vsmtp_mail as mail;

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 42 {
        0 => drop(message::<master_child::ToChild>(bytes)),
        1 => drop(message::<master_child::ToMaster>(bytes)),
        2 => message::<receiver_filter::Ask>(bytes).iter().for_each(ask),
        3 => message::<receiver_filter::Verdict>(bytes).iter().for_each(verdict),
        4 => message::<filter_queue::Submit>(bytes).iter().for_each(submit),
        5 => drop(message::<filter_queue::Receipt>(bytes)),
        6 => message::<queue_filter::PostAsk>(bytes).iter().for_each(|ask| envelope(&ask.envelope)),
        7 => message::<queue_filter::PostVerdict>(bytes).iter().for_each(post_verdict),
        8 => message::<queue_deliver::Ask>(bytes).iter().for_each(|ask| {
            if let queue_deliver::Ask::Attempt(attempt) = ask {
                check_body(&attempt.body);
            }
        }),
        9 => drop(message::<queue_deliver::Said>(bytes)),
        10 => drop(message::<client_resolver::Question>(bytes)),
        11 => drop(message::<client_resolver::Answer>(bytes)),
        12 => drop(message::<ctl_master::Request>(bytes)),
        13 => drop(message::<ctl_master::Answer>(bytes)),
        14 => drop(message::<ctl_queue::Request>(bytes)),
        15 => drop(message::<ctl_queue::Answer>(bytes)),
        16 => drop(canonical::<master_child::Evaluate>(bytes)),
        17 => canonical::<Envelope>(bytes).iter().for_each(envelope),
        18 => drop(message::<receiver_limits::Ask>(bytes)),
        19 => message::<receiver_limits::Answer>(bytes).iter().for_each(limits_answer),
        20 => message::<filter_database::Ask>(bytes).iter().for_each(statement),
        21 => message::<filter_database::Answer>(bytes).iter().for_each(rows),
        22 => drop(message::<ctl_filter::Request>(bytes)),
        23 => drop(message::<ctl_filter::Answer>(bytes)),
        24 => drop(message::<ctl_keys::Request>(bytes)),
        25 => drop(message::<ctl_keys::Answer>(bytes)),
        26 => drop(message::<ctl_resolver::Request>(bytes)),
        27 => drop(message::<ctl_resolver::Answer>(bytes)),
        28 => drop(message::<ctl_repl::Request>(bytes)),
        29 => drop(message::<ctl_repl::Answer>(bytes)),
        30 => drop(message::<filter_auth::Ask>(bytes)),
        31 => drop(message::<filter_auth::Answer>(bytes)),
        32 => drop(message::<filter_keys::Ask>(bytes)),
        33 => drop(message::<filter_keys::Answer>(bytes)),
        34 => drop(message::<filter_limits::Ask>(bytes)),
        35 => drop(message::<filter_limits::Answer>(bytes)),
        36 => drop(message::<filter_runner::Ask>(bytes)),
        37 => drop(message::<filter_runner::Answer>(bytes)),
        38 => drop(message::<receiver_auth::Ask>(bytes)),
        39 => drop(message::<receiver_auth::Answer>(bytes)),
        40 => drop(message::<receiver_keys::Ask>(bytes)),
        _ => drop(message::<receiver_keys::Answer>(bytes)),
    }
});

fn canonical<T: bincode::Encode + bincode::Decode<()>>(bytes: &[u8]) -> Option<T> {
    let value: T = decode(bytes).ok()?;
    assert_eq!(encode(&value).expect("what decodes encodes"), bytes, "there is one way to say each thing");
    Some(value)
}

fn message<M: Message>(bytes: &[u8]) -> Option<M> {
    canonical(bytes).inspect(|message: &M| assert!(message.descriptors() <= MAX_DESCRIPTORS))
}

fn ask(ask: &receiver_filter::Ask) {
    match ask {
        receiver_filter::Ask::Mail(_, from) => mail_from(from),
        receiver_filter::Ask::Recipients { mail, recipients, .. } => {
            mail_from(mail);
            recipients.iter().for_each(rcpt_to);
        }
        receiver_filter::Ask::Message { body, .. } => check_body(body),
        _ => {}
    }
}

fn verdict(verdict: &receiver_filter::Verdict) {
    let all = match verdict {
        receiver_filter::Verdict::Decided { decision, .. } => std::slice::from_ref(decision),
        receiver_filter::Verdict::Recipients { decisions, .. } => decisions,
        _ => &[],
    };
    for decision in all {
        use receiver_filter::Decision::{Accept, Close, Refuse};
        if let Accept(Some(found)) | Refuse(found) | Close(found) = decision {
            reply(found);
        }
    }
}

fn limits_answer(answer: &receiver_limits::Answer) {
    use receiver_limits::{Answer, Entry};
    match answer {
        Answer::Entered { entry: Entry::Refuse(found) | Entry::Condemn(found), .. } => reply(found),
        Answer::Spent { spent, .. } => spent.refusal.iter().for_each(reply),
        _ => {}
    }
}

fn statement(ask: &filter_database::Ask) {
    assert!(!ask.is_within_bounds() || ask.statement.len() <= filter_database::MAX_STATEMENT);
}

fn rows(answer: &filter_database::Answer) {
    let Ok(found) = &answer.result else { return };
    if found.is_within_bounds() {
        assert!(found.rows.iter().all(|row| row.len() == found.columns.len()));
    }
}

fn submit(submit: &filter_queue::Submit) {
    if let filter_queue::Submit::Message(message) = submit {
        envelope(&message.envelope);
        check_body(&message.body);
        pieces(&message.pieces, message.body.len());
    }
}

fn post_verdict(verdict: &queue_filter::PostVerdict) {
    match verdict {
        queue_filter::PostVerdict::Edit { envelope: edited, pieces: list, .. } => {
            envelope(edited);
            pieces(list, 1000);
        }
        queue_filter::PostVerdict::Refuse { reply: found, .. } => reply(found),
        _ => {}
    }
}

fn mail_from(from: &MailFrom) {
    let _ = mail::ReversePath::parse(&from.reverse_path);
    if let Ok(Some(envid)) = wire::envid(from.envid.as_deref()) {
        assert!(envid.len() <= mail::MAX_ENVID && !envid.chars().any(char::is_control));
    }
}

fn rcpt_to(to: &RcptTo) {
    if let Some(Ok(original)) = to.original.as_ref().map(wire::original_recipient) {
        assert!(!original.kind.chars().chain(original.address.chars()).any(char::is_control));
    }
}

fn reply(wire: &Reply) {
    if let Ok(reply) = mail::Reply::try_from(wire) {
        assert_eq!(mail::Reply::try_from(&Reply::from(&reply)), Ok(reply));
    }
}

fn envelope(wire: &Envelope) {
    for recipient in &wire.recipients {
        if let Ok(inside) = mail::Recipient::try_from(recipient) {
            assert_eq!(mail::Recipient::try_from(&Recipient::from(&inside)), Ok(inside));
        }
    }
    if let Ok(inside) = mail::Envelope::try_from(wire) {
        assert!(!inside.recipients.is_empty() && inside.recipients.len() <= mail::MAX_RECIPIENTS);
        assert_eq!(mail::Envelope::try_from(&Envelope::from(&inside)), Ok(inside));
    }
}

fn check_body(body: &Body) {
    assert_eq!(body.is_empty(), body.len() == 0);
}

fn pieces(list: &[Piece], body_len: u64) {
    let Ok(len) = check_pieces(list, body_len) else { return };
    assert!(list.len() <= wire::MAX_PIECES);
    let mut sum = 0u64;
    for piece in list {
        sum += match piece {
            Piece::Text(text) => text.len() as u64,
            Piece::Original { offset, len } => {
                assert!(*offset <= body_len && *len <= body_len - *offset);
                *len
            }
        };
    }
    assert_eq!(len, if list.is_empty() { body_len } else { sum });
}
