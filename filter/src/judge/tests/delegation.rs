//! Messages that a service is to see: what the rules say before, behind and at the directive, and who may bring them back.

use vsmtp_ipc::edge::filter_queue::Returned;
use vsmtp_ipc::edge::queue_filter::{PostStage, Resume};
use vsmtp_mail::{DELEGATION_FIELD, DelegationTicket, Envelope, QueueId, Token};

use super::*;
use crate::transaction::Peer;

const RULES: &str = r##"
    service scanner smtp = #{
        delegator: #{ address: "127.0.0.1:10026", timeout: "60s" },
        receiver: "127.0.0.1:10024",
    };
    #{
        rcpt: [ rule "nobody" || state::deny() ],
        postq: [
            action "before" || msg::append_header("X-Before", "1"),
            delegate scanner "scan" || {
                switch msg::get_header("X-Scanned") {
                    "infected" => state::quarantine("virus"),
                    "clean" => state::next(),
                    _ => throw "not scanned",
                }
            },
            action "after" || msg::append_header("X-After", "1"),
        ],
        delivery: [ delegate scanner "again" #{ evaluate: || state::next() } ],
    }"##;

fn envelope() -> Envelope {
    let bench = bench("#{}");
    bench.begin();
    assert_eq!(bench.rcpt("jane@example.com"), "accept");
    only(bench.message(MESSAGE)).envelope
}

fn post(bench: &Bench, stage: Stage, resume: Option<Resume>, message: &str) -> PostJudged {
    bench.judge.post(PostMessage {
        id: QueueIdMint::new(1, 1).next(1),
        stage: Some(stage),
        is_report: false,
        reroute: false,
        envelope: envelope(),
        peer: Peer { server: None, ..peer(Some("203.0.113.5")) },
        helo: "client.test".to_owned(),
        arrived_ms: 1,
        resume,
        content: Arc::new(Inline(Arc::new(message.as_bytes().to_vec()))),
    })
}

fn at(directive: &str, skip: bool) -> Option<Resume> {
    Some(Resume { directive: directive.to_owned(), skip, hold: None })
}

/// What becomes of it, and its header.
fn edited(judged: PostJudged) -> (Disposition, String) {
    let PostJudged::Edit(edit) = judged else { panic!("{judged:?}") };
    let Edit { disposition, pieces, .. } = *edit;
    let text = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Piece::Original { .. } => String::new(),
    });
    (disposition, text.collect())
}

#[test]
fn rules_stop_at_the_directive_and_go_on_there() {
    let bench = bench(RULES);
    let (disposition, header) = edited(post(&bench, Stage::Postq, None, "Subject: x\r\n\r\nbody\r\n"));
    let Disposition::Delegate(to) = disposition else { panic!("{disposition:?}") };
    assert_eq!((to.stage, to.directive.as_str()), (PostStage::Postq, "scan"));
    assert_eq!((to.address.to_string().as_str(), to.timeout_ms), ("127.0.0.1:10026", 60_000));
    assert_eq!((to.open, &to.hold, to.return_within_s), (false, &None, 3600));
    assert!(header.contains("X-Before: 1") && !header.contains("X-After"), "{header}");
    // Back: its body says what becomes of it, the rules before do not run again, and those of delivery delegate once more.
    let clean = "X-Scanned: clean\r\nSubject: x\r\n\r\nbody\r\n";
    let (disposition, header) = edited(post(&bench, Stage::Postq, at("scan", false), clean));
    let Disposition::Delegate(to) = disposition else { panic!("{disposition:?}") };
    assert_eq!((to.stage, to.directive.as_str()), (PostStage::Delivery, "again"));
    assert!(header.contains("X-After: 1") && !header.contains("X-Before"), "{header}");
    let last = post(&bench, Stage::Delivery, at("again", false), clean);
    assert_eq!(last, PostJudged::Keep { is_final: false });
    let infected = clean.replace("clean", "infected");
    let (disposition, _) = edited(post(&bench, Stage::Postq, at("scan", false), &infected));
    assert_eq!(disposition, Disposition::Quarantine("virus".to_owned()));
    let broken = post(&bench, Stage::Postq, at("scan", false), "Subject: x\r\n\r\n");
    assert_eq!(broken, PostJudged::Unavailable);
    // The service is done without: the rules go on behind it.
    let (_, header) = edited(post(&bench, Stage::Postq, at("scan", true), "Subject: x\r\n\r\n"));
    assert!(header.contains("X-After: 1"), "{header}");
    // Another configuration has no such directive: the stage begins anew.
    let (_, header) = edited(post(&bench, Stage::Postq, at("gone", false), "Subject: x\r\n\r\n"));
    assert!(header.contains("X-Before: 1"), "{header}");
}

#[test]
fn a_hold_of_an_earlier_rule_outlasts_the_service() {
    let rules = RULES.replace(
        "action \"before\" || msg::append_header(\"X-Before\", \"1\")",
        "action \"hold\" || queue::hold(\"look at it\")",
    );
    let bench = bench(&rules);
    let (disposition, _) = edited(post(&bench, Stage::Postq, None, "Subject: x\r\n\r\n"));
    assert!(
        matches!(&disposition, Disposition::Delegate(to) if to.hold.as_deref() == Some("look at it")),
        "{disposition:?}"
    );
    let resume =
        Some(Resume { directive: "again".to_owned(), skip: false, hold: Some("look at it".to_owned()) });
    let (disposition, _) = edited(post(&bench, Stage::Delivery, resume, "Subject: x\r\n\r\n"));
    assert_eq!(disposition, Disposition::Hold("look at it".to_owned()));
}

fn service(bench: Bench) -> Bench {
    let peer = Peer { server: Some(("127.0.0.1".parse().unwrap(), 10_024)), ..peer(Some("127.0.0.1")) };
    Bench { shared: Shared::new(Transaction::new(Arc::new(peer), bench.judge.max_recipients)), ..bench }
}

#[test]
fn who_comes_from_the_service_brings_a_message_back_or_is_refused() {
    let ticket = DelegationTicket { id: QueueId::from_bytes([3; 16]), token: Token::from_bytes([4; 16]) };
    let field = ticket.to_field("postq", "scan");
    let bench = service(bench(RULES));
    assert_eq!(show(&bench.judge.command(&bench.shared, Stage::Connect)), "accept");
    assert_eq!(show(&bench.begin()), "accept");
    // Neither rules nor the policy have anything to say about recipients.
    assert_eq!(bench.rcpt("anybody@elsewhere.example"), "accept");
    let message = format!("Received: x\r\nX-Scanned: clean\r\n{field}Subject: hi\r\n\r\nbody\r\n");
    let stored = only(bench.message(message.as_bytes()));
    assert_eq!(
        stored.returned,
        Some(Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new: false })
    );
    let [Piece::Text(header), Piece::Original { offset, len: 6 }] = &stored.pieces[..] else {
        panic!("{:?}", stored.pieces)
    };
    assert_eq!(*offset, message.len() as u64 - 6);
    assert_eq!(header, b"Received: x\r\nX-Scanned: clean\r\nSubject: hi\r\n\r\n");
    for bad in [
        MESSAGE.to_vec(),
        message.replace("token=", "t=").into_bytes(),
        format!("{DELEGATION_FIELD}: x\r\n{message}").into_bytes(),
    ] {
        bench.begin();
        bench.rcpt("anybody@elsewhere.example");
        let judged = bench.message(&bad);
        assert_eq!(show_message(&judged), "refuse 554");
    }
}

#[test]
fn the_field_of_a_stranger_is_taken_away() {
    let rules = RULES.replace("rcpt: [ rule \"nobody\" || state::deny() ],", "");
    let bench = bench(&rules);
    bench.begin();
    assert_eq!(bench.rcpt("jane@example.com"), "accept");
    let forged =
        format!("{DELEGATION_FIELD}: sent; id=\"x\"\r\nSubject: hi\r\nx-vsmtp-delegation: y\r\n\r\nbody\r\n");
    let stored = only(bench.message(forged.as_bytes()));
    assert_eq!(stored.returned, None);
    assert_eq!(stored.pieces[0], Piece::Text(b"Subject: hi\r\n\r\n".to_vec()));
}

#[test]
fn what_has_our_field_may_come_back_wherever_others_come_in_and_with_no_rule_left() {
    let ticket = DelegationTicket { id: QueueId::from_bytes([3; 16]), token: Token::from_bytes([4; 16]) };
    let message = format!("Received: x\r\n{}Subject: hi\r\n\r\nbody\r\n", ticket.to_field("postq", "scan"));
    for rules in [&RULES.replace("rcpt: [ rule \"nobody\" || state::deny() ],", ""), "#{}"] {
        let bench = bench(rules);
        bench.begin();
        // The policy is that of the address, as for anybody.
        assert!(bench.rcpt("anybody@elsewhere.example").starts_with("refuse"));
        assert_eq!(bench.rcpt("jane@example.com"), "accept");
        let stored = only(bench.message(message.as_bytes()));
        let returned = Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new: true };
        assert_eq!(stored.returned, Some(returned));
        assert_eq!(stored.pieces[0], Piece::Text(b"Received: x\r\nSubject: hi\r\n\r\n".to_vec()));
    }
}

#[test]
fn a_header_that_cannot_be_seen_whole_does_not_come_back() {
    let ticket = DelegationTicket { id: QueueId::from_bytes([3; 16]), token: Token::from_bytes([4; 16]) };
    let bench = service(bench(RULES));
    bench.begin();
    bench.rcpt("anybody@elsewhere.example");
    let many = "X: y\r\n".repeat(20_000);
    let message = format!("{}{many}\r\nbody\r\n", ticket.to_field("postq", "scan"));
    assert_eq!(show_message(&bench.message(message.as_bytes())), "refuse 552");
}

#[test]
fn rules_that_cannot_be_are_refused() {
    for (old, new, words) in [
        ("delegate scanner \"scan\"", "delegate \"scanner\" \"scan\"", "delegate 'scan' needs a service"),
        ("postq: [", "preq: [", "cannot stand at the stage 'preq'"),
        ("receiver: \"127.0.0.1:10024\",", "", "needs 'receiver'"),
        ("\"scan\"", &format!("\"{}\"", "x".repeat(201)), "at most 200 octets"),
    ] {
        let error = load(&RULES.replace(old, new), &[]).map(drop).unwrap_err();
        assert!(error.message.contains(words) && error.location.line > 1, "{error}");
    }
}
