//! The way of a message: taken, judged, stored, judged again, delivered.

use vsmtp_ipc::edge::{filter_queue, queue_deliver, queue_filter, receiver_filter};
use vsmtp_ipc::wire::{Body, Body7, Demands, Expanded, Notify, RcptTo};

use crate::property::edge;
use crate::samples::{envelope, facts, id, mail_from, origin, pieces, reply, tls_sessions};

edge!(
    receiver_filter_edge,
    receiver_filter::Ask::Recipients {
        facts: facts(),
        mail: mail_from(),
        recipients: vec![RcptTo { address: "b@c".into(), original: None, notify: None }],
    },
    receiver_filter::Ask::Message { facts: facts(), id: id(), body: Body::Inline(vec![1; 20]), trace_len: 3 },
    receiver_filter::Verdict::Recipients {
        session: 1,
        decisions: vec![receiver_filter::Decision::Accept(None), receiver_filter::Decision::Close(reply())],
    },
);

edge!(
    filter_queue_edge,
    filter_queue::Submit::Message(filter_queue::NewMessage {
        ticket: 1,
        id: id(),
        arrived_ms: 2,
        envelope: envelope(),
        origin: origin(),
        disposition: filter_queue::Disposition::Quarantine("q".into()),
        judged: false,
        expanded: vec![Expanded { address: "b@c".into(), original: None }],
        notices: Vec::new(),
        pieces: pieces(),
        returned: Some(filter_queue::Returned { id: id(), token: [4; 16], or_new: true }),
        body: Body::Memfd(3),
    }),
    filter_queue::Receipt::Refused { ticket: 1, why: filter_queue::Refusal::Full },
);

edge!(
    queue_filter_edge,
    queue_filter::PostAsk {
        ticket: 1,
        id: id(),
        stage: queue_filter::PostStage::Delivery,
        reroute: true,
        envelope: envelope(),
        origin: origin(),
        arrived_ms: 1,
        resume: Some(queue_filter::Resume { directive: "d".into(), skip: true, hold: None }),
        body: Body::File(9),
    },
    queue_filter::PostVerdict::Edit {
        ticket: 1,
        envelope: envelope(),
        expanded: Vec::new(),
        notices: Vec::new(),
        disposition: filter_queue::Disposition::Delegate(Box::new(filter_queue::Delegate {
            stage: queue_filter::PostStage::Postq,
            directive: "d".into(),
            address: ([127, 0, 0, 1], 10026).into(),
            timeout_ms: 1,
            return_within_s: 2,
            open: true,
            hold: Some("why".into()),
        })),
        pieces: pieces(),
    },
);

edge!(
    queue_deliver_edge,
    queue_deliver::Ask::Withdraw(1),
    queue_deliver::Ask::Attempt(queue_deliver::Attempt {
        lease: 1,
        id: id(),
        next_hop: "maildir".into(),
        reverse_path: "a@b".into(),
        body_type: Body7::SevenBit,
        smtputf8: false,
        ret_full: Some(true),
        envid: None,
        demands: Demands { requiretls: true },
        priority: 9,
        by: Some(vsmtp_ipc::wire::DeliverBy { seconds: -10, returns: false, traced: true }),
        recipients: vec![queue_deliver::AttemptRecipient {
            index: 0,
            address: "b@c".into(),
            original: None,
            notify: Notify { success: false, failure: true, delay: true, stated: false },
        }],
        service_ms: Some(30_000),
        body: Body::Inline(vec![2; 9]),
    }),
    queue_deliver::Said::Outcome(queue_deliver::Outcome {
        lease: 1,
        settled: vec![queue_deliver::Settled {
            index: 0,
            result: queue_deliver::Result3::Deferred,
            enhanced: (4, 4, 1),
            text: "t".into(),
        }],
        reach: queue_deliver::Reach::Unreachable,
        advice: queue_deliver::Advice { retry_after_s: 1, fewer: true, pause_s: 2 },
        remote: "mx".into(),
        tls: String::new(),
        reports: true,
        relayed: true,
        delays_ms: (1, 2, 3),
        sessions: vec![tls_sessions()],
    }),
    queue_deliver::Said::NoMore,
    queue_deliver::Said::Back(1),
);
