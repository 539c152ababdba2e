//! Questions of the queue-manager about messages that it keeps.

use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::edge::queue_filter::{PostAsk, PostStage, PostVerdict, QueueEnd};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::{Body, Body7, Class, Envelope, Notify, Origin, Piece, Recipient, Service};

use crate::stage::{MESSAGE, Stage, id, next};

fn ask(ticket: u64, stage: PostStage) -> PostAsk {
    PostAsk {
        ticket,
        id: id(1),
        stage,
        reroute: false,
        envelope: Envelope {
            reverse_path: "a@client.test".into(),
            body: Body7::SevenBit,
            smtputf8: false,
            ret_full: None,
            envid: None,
            demands: vsmtp_ipc::wire::Demands::default(),
            terms: None,
            recipients: vec![Recipient {
                chosen: false,
                address: "b@mx.test".into(),
                original: None,
                notify: Notify { success: false, failure: true, delay: true, stated: false },
                class: Class::Local,
                next_hop: "maildir".into(),
            }],
        },
        origin: Origin {
            service: Some(vsmtp_ipc::wire::Service::Submission),
            session: 1,
            client: "203.0.113.5".into(),
            helo: "client.test".into(),
            protocol: "ESMTP".into(),
            uid: None,
        },
        arrived_ms: 1,
        resume: None,
        body: Body::Inline(MESSAGE.to_vec()),
    }
}

fn verdict(queue: &mut QueueEnd, question: &PostAsk) -> PostVerdict {
    queue.send(question, Vec::new()).unwrap();
    next(queue).unwrap().message
}

fn start(script: &str, wanted: (bool, bool)) -> (Stage, QueueEnd) {
    let mut stage = Stage::start(Role::FilterPost, script);
    let mut queue = stage.post_queue();
    match next(&mut queue).unwrap().message {
        PostVerdict::Wanted { postq, delivery, .. } => assert_eq!((postq, delivery), wanted),
        other => panic!("{other:?}"),
    }
    (stage, queue)
}

#[test]
fn what_rules_change_becomes_an_edit_and_nothing_else_does() {
    let script = "#{ postq: [ rule \"r\" || { if ctx::client_ip() != \"203.0.113.5\" { deny() } else { next() } } ],
        delivery: [ action \"d\" || { msg::set_header(\"Subject\", \"new\"); transport::forward_all(\"192.0.2.1\"); } ] }";
    let (_stage, mut queue) = start(script, (true, true));
    assert!(matches!(
        verdict(&mut queue, &ask(1, PostStage::Postq)),
        PostVerdict::Keep { ticket: 1, is_final: false }
    ));
    let PostVerdict::Edit { ticket: 2, envelope, disposition: Disposition::Active, pieces, .. } =
        verdict(&mut queue, &ask(2, PostStage::Delivery))
    else {
        panic!()
    };
    assert_eq!(envelope.recipients[0].next_hop, "smtp:[192.0.2.1]:25");
    assert!(envelope.recipients[0].chosen);
    let header = b"Received: x\r\nSubject: new\r\n\r\n".to_vec();
    assert_eq!(pieces, [Piece::Text(header), Piece::Original { offset: 28, len: 6 }]);
}

#[test]
fn a_final_accept_that_changes_nothing_skips_delivery_too() {
    let script =
        "#{ postq: [ rule \"p\" || { if helo() == \"client.test\" { faccept() } else { accept() } } ],
        delivery: [ rule \"d\" || deny() ] }";
    let (_stage, mut queue) = start(script, (true, true));
    let mut question = ask(1, PostStage::Postq);
    assert!(matches!(verdict(&mut queue, &question), PostVerdict::Keep { ticket: 1, is_final: true }));
    (question.ticket, question.origin.helo) = (2, "other.test".into());
    assert!(matches!(verdict(&mut queue, &question), PostVerdict::Keep { ticket: 2, is_final: false }));
}

#[test]
fn an_edit_of_postq_holds_what_delivery_does() {
    let script = "#{ postq: [ rule \"p\" || { msg::set_header(\"Subject\", \"new\"); if helo() == \"final\" { faccept() } else { next() } } ],
        delivery: [ action \"d\" || { msg::append_header(\"X-D\", \"1\"); transport::forward_all(\"192.0.2.1\"); } ] }";
    let (_stage, mut queue) = start(script, (true, true));
    for (helo, header, hop) in [
        ("client.test", "Received: x\r\nSubject: new\r\nX-D: 1\r\n\r\n", "smtp:[192.0.2.1]:25"),
        ("final", "Received: x\r\nSubject: new\r\n\r\n", "maildir"),
    ] {
        let mut question = ask(1, PostStage::Postq);
        question.origin.helo = helo.into();
        let PostVerdict::Edit { envelope, pieces, .. } = verdict(&mut queue, &question) else { panic!() };
        assert_eq!(envelope.recipients[0].next_hop, hop);
        assert_eq!(pieces[0], Piece::Text(header.as_bytes().to_vec()), "{helo}");
    }
}

#[test]
fn next_hops_are_chosen_anew_only_if_that_is_asked_for() {
    let (_stage, mut queue) = start("#{}", (false, false));
    let mut question = ask(1, PostStage::Routing);
    question.envelope.recipients[0].next_hop = "smtp:[192.0.2.77]:25".into();
    question.body = Body::Inline(Vec::new());
    assert!(matches!(verdict(&mut queue, &question), PostVerdict::Keep { .. }));
    question.reroute = true;
    let PostVerdict::Edit { envelope, disposition: Disposition::Active, pieces, .. } =
        verdict(&mut queue, &question)
    else {
        panic!()
    };
    assert_eq!((envelope.recipients[0].next_hop.as_str(), pieces), ("maildir", Vec::new()));
    // What a rule of rcpt or preq has chosen stays: it is not asked again.
    question.envelope.recipients[0].chosen = true;
    assert!(matches!(verdict(&mut queue, &question), PostVerdict::Keep { .. }));
    // Rules come after the tables and have the last word.
    let script = "#{ postq: [ action \"r\" || transport::forward_all(\"192.0.2.1\") ] }";
    let (_stage, mut queue) = start(script, (true, false));
    let mut question = ask(1, PostStage::Postq);
    question.reroute = true;
    let PostVerdict::Edit { envelope, .. } = verdict(&mut queue, &question) else { panic!() };
    assert_eq!(envelope.recipients[0].next_hop, "smtp:[192.0.2.1]:25");
}

#[test]
fn rules_after_the_queue_know_how_the_message_came() {
    for (protocol, service, expected) in [
        ("ESMTPSA", Some(Service::Submission), "submission true true"),
        ("ESMTPS", Some(Service::Smtp), "smtp true false"),
        ("ESMTPA", Some(Service::Lmtp), "lmtp false true"),
        ("local", Some(Service::Local), "local false false"),
    ] {
        let script = "#{ postq: [ action \"r\" || msg::set_header(\"X-Came\",
            `${ctx::service()} ${ctx::is_secured()} ${auth::is_authenticated()}`) ] }";
        let (_stage, mut queue) = start(script, (true, false));
        let mut question = ask(1, PostStage::Postq);
        (question.origin.protocol, question.origin.service) = (protocol.to_owned(), service);
        let PostVerdict::Edit { pieces, .. } = verdict(&mut queue, &question) else { panic!("{protocol}") };
        let header = format!("{pieces:?}");
        let octets = format!("{:?}", format!("X-Came: {expected}").as_bytes());
        assert!(header.contains(octets.trim_matches(['[', ']'])), "{protocol}: {header}");
    }
}

#[test]
fn refusals_quarantine_and_failures() {
    for (body, expected) in [
        ("deny(\"550 no\")", "Refuse"),
        ("quarantine(\"virus\")", "Quarantine"),
        ("throw 1", "Unavailable"),
        ("accept()", "Keep"),
    ] {
        let (_stage, mut queue) =
            start(&format!("#{{ postq: [ rule \"r\" || {{ {body} }} ] }}"), (true, false));
        let found = format!("{:?}", verdict(&mut queue, &ask(1, PostStage::Postq)));
        assert!(found.contains(expected), "{body}: {found}");
    }
}
