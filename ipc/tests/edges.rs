//! One property per message type of every edge: whatever bytes come, decoding ends with a message or an error; what
//! decodes encodes to the same bytes again, so that there is one way to say each thing; and every flipped, cut or
//! lengthened valid message is a message or an error too.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use vsmtp_ipc::edge::master_child::{Configure, Figure, Listener, LogTarget, ToChild, ToMaster};
use vsmtp_ipc::edge::{
    client_resolver, ctl_master, ctl_queue, filter_auth, filter_database, filter_keys, filter_limits,
    filter_queue, filter_runner, queue_deliver, queue_filter, receiver_auth, receiver_filter, receiver_keys,
};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{
    Blob, Body, Body7, Class, Demands, Envelope, Expanded, Grant, Id, MailFrom, Notify, Origin, Piece,
    RcptTo, Recipient, Reply, Service,
};
use vsmtp_ipc::{Message, decode, encode};

/// Decodes hostile bytes; what decodes must be canonical.
fn survives<M: Message>(bytes: &[u8]) {
    if let Ok(message) = decode::<M>(bytes) {
        let _ = message.descriptors();
        assert_eq!(encode(&message).expect("what decoded encodes"), bytes);
    }
}

/// A valid message, and what is left of it after damage.
fn survives_damage<M: Message>(message: &M, at: prop::sample::Index, bit: u8, cut: prop::sample::Index) {
    let good = encode(message).expect("a sample encodes");
    assert_eq!(encode(&decode::<M>(&good).expect("a sample decodes")).expect("and encodes"), good);
    let mut flipped = good.clone();
    *flipped.get_mut(at.index(good.len())).expect("an octet") ^= 1 << (bit % 8);
    survives::<M>(&flipped);
    assert!(decode::<M>(&good[..cut.index(good.len())]).is_err(), "a cut message is none");
    assert!(decode::<M>(&[&good[..], &[0]].concat()).is_err(), "nor is a longer one");
}

macro_rules! edge {
    ($module:ident, $($sample:expr),+ $(,)?) => {
        mod $module {
            use super::*;
            proptest! {
                #[test]
                fn random_bytes(bytes in vec(any::<u8>(), 0..400), small in vec(0u8..4, 0..120)) {
                    $( check_type(&$sample, &bytes); check_type(&$sample, &small); )+
                }

                #[test]
                fn damaged_messages(at: prop::sample::Index, bit: u8, cut: prop::sample::Index) {
                    $( survives_damage(&$sample, at, bit, cut); )+
                }
            }
        }
    };
}

fn check_type<M: Message>(_sample: &M, bytes: &[u8]) {
    survives::<M>(bytes);
}

fn id() -> Id {
    Id([7; 16])
}

fn grant() -> Grant {
    Grant([9; 16])
}

fn mail_from() -> MailFrom {
    MailFrom {
        reverse_path: "a@src.test".into(),
        body: Body7::EightBitMime,
        smtputf8: true,
        ret_full: Some(false),
        envid: Some("e".into()),
        size: Some(9),
        demands: Demands { requiretls: true },
        wishes: vsmtp_ipc::wire::Wishes {
            priority: -9,
            release: Some(vsmtp_ipc::wire::Release::After(9)),
            by: Some(vsmtp_ipc::wire::DeliverBy { seconds: 10, returns: true, traced: true }),
        },
    }
}

fn facts() -> receiver_filter::Facts {
    let local: IpAddr = [127, 0, 0, 1].into();
    receiver_filter::Facts {
        session: 1,
        service: vsmtp_ipc::wire::Service::Submission,
        client: Some((local, 1)),
        client_name: Some("localhost".into()),
        server: Some((std::net::Ipv6Addr::LOCALHOST.into(), 25)),
        uid: Some(3),
        connected_ms: 4,
        helo: Some("h".into()),
        tls: Some(vsmtp_ipc::wire::Tls {
            protocol: "TLSv1.3".into(),
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            sni: Some("mx.test".into()),
            client: Some(vsmtp_ipc::wire::ClientCertificate { fingerprint: [3; 32], is_verified: true }),
        }),
        esmtp: true,
        grant: Some(grant()),
    }
}

fn recipient() -> Recipient {
    Recipient {
        chosen: false,
        address: "b@dst.test".into(),
        original: Some(("rfc822".into(), "b".into())),
        notify: Notify { success: true, failure: false, delay: true, stated: true },
        class: Class::Relay,
        next_hop: "smtp:dst.test".into(),
    }
}

fn envelope() -> Envelope {
    Envelope {
        reverse_path: String::new(),
        body: Body7::BinaryMime,
        smtputf8: false,
        ret_full: None,
        envid: None,
        demands: Demands::default(),
        terms: Some(Box::new(vsmtp_ipc::wire::Terms {
            priority: -3,
            lifetime_s: Some(60),
            not_before_s: Some(7),
            release: Some(vsmtp_ipc::wire::Release::At(8)),
            by: Some(vsmtp_ipc::wire::DeliverBy { seconds: 10, returns: true, traced: true }),
            rules: Some(vsmtp_ipc::wire::RulesOf::Incoming("dst.test".into())),
            report_text: Some("sorry".into()),
            report_from: Some("a@b.test".into()),
        })),
        recipients: vec![recipient()],
    }
}

fn tls_sessions() -> queue_deliver::TlsSessions {
    use queue_deliver::{PolicyFound, PolicyKind, SessionFailure, TlsResult};
    queue_deliver::TlsSessions {
        domain: "dst.test".into(),
        rua: vec!["mailto:r@dst.test".into()],
        policy: PolicyFound {
            kind: PolicyKind::Sts,
            domain: "dst.test".into(),
            lines: vec!["mode: testing".into()],
            mx: vec!["*.dst.test".into()],
        },
        failure: Some(SessionFailure {
            result: TlsResult::CertificateExpired,
            local: Some([127, 0, 0, 1].into()),
            host: "mx.dst.test".into(),
            remote: None,
            reason: "old".into(),
        }),
        count: 3,
    }
}

fn origin() -> Origin {
    Origin {
        session: 1,
        client: "c".into(),
        helo: "h".into(),
        protocol: "ESMTP".into(),
        uid: None,
        service: Some(Service::Submission),
    }
}

fn reply() -> Reply {
    Reply { code: 550, enhanced: Some((5, 7, 1)), text: "no".into() }
}

fn pieces() -> Vec<Piece> {
    vec![Piece::Text(b"X: 1\r\n".to_vec()), Piece::Original { offset: 1, len: 2 }]
}

fn name() -> ProcessName {
    ProcessName { role: Role::Receiver, instance: 1 }
}

fn configure() -> ToChild {
    ToChild::Configure(Configure {
        name: name(),
        generation: 1,
        node: 2,
        process: 3,
        log: LogTarget::Syslog,
        log_level: 3,
        log_facility: 2,
        slice: vec![1, 2, 3],
    })
}

edge!(
    master_child,
    configure(),
    ToChild::Listener(Listener::Smtp {
        address: "127.0.0.1:24".into(),
        service: vsmtp_ipc::wire::Service::Lmtp
    }),
    ToChild::File("/etc/vsmtp/users".into()),
    ToMaster::Beat(vec![Figure { name: "sessions".into(), value: 1 }]),
    ToMaster::Evaluated(Err("no".into())),
);
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
    receiver_auth_edge,
    receiver_auth::Ask::Begin(receiver_auth::Begin {
        exchange: 1,
        mechanism: "PLAIN".into(),
        initial: Some(Blob(b"\0tim\0x".to_vec())),
        client: Some([127, 0, 0, 1].into()),
        server: None,
        tls: Some(receiver_auth::Tls {
            exporter: Some([1; 32]),
            certificate: Some([5; 32]),
            names: vec!["dns:a.test".into()]
        }),
    }),
    receiver_auth::Ask::Continue { exchange: 1, response: Blob(vec![2; 9]) },
    receiver_auth::Ask::End { grant: grant() },
    receiver_auth::Answer::Offer(vec!["PLAIN".into()]),
    receiver_auth::Answer::Granted { exchange: 1, grant: grant(), identity: "tim".into() },
    receiver_auth::Answer::Denied { exchange: 1, why: receiver_auth::Denied::Throttled },
);
edge!(
    filter_auth_edge,
    filter_auth::Ask::Confirm { ticket: 1, receiver: name(), grant: grant() },
    filter_auth::Ask::Settle { grant: grant(), accepted: true },
    filter_auth::Answer::Confirmed {
        ticket: 1,
        identity: Some(filter_auth::Identity {
            name: "tim".into(),
            mechanism: "PLAIN".into(),
            vouched: true,
            settled: false,
        }),
    },
    filter_auth::Answer::Verified { ticket: 1, verified: filter_auth::Verified::Wrong },
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
    queue_deliver::Attempt {
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
    },
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
edge!(
    client_resolver_edge,
    client_resolver::Question {
        ticket: 1,
        query: client_resolver::Query::Mx("a.test".into()),
        deadline_ms: 5
    },
    client_resolver::Answer {
        ticket: 1,
        result: Ok(client_resolver::Records::Tlsa(vec![(3, 1, 1, vec![1; 32])])),
        secure: true,
    },
    client_resolver::Question {
        ticket: 2,
        query: client_resolver::Query::Spf(client_resolver::SpfQuestion {
            client: [192, 0, 2, 1].into(),
            helo: "h.test".into(),
            sender: Some(("a".into(), "src.test".into())),
            receiver: "mx.test".into(),
        }),
        deadline_ms: 5
    },
    client_resolver::Question {
        ticket: 3,
        query: client_resolver::Query::Signature(client_resolver::SignatureQuestion {
            domain: "a.test".into(),
            selector: "s".into(),
            algorithm: client_resolver::SignatureAlgorithm::RsaSha256,
            exact: true,
            data: vec![1],
            signature: vec![2],
        }),
        deadline_ms: 5
    },
    client_resolver::Answer {
        ticket: 3,
        result: Ok(client_resolver::Records::Dmarc(client_resolver::DmarcVerdict {
            result: client_resolver::DmarcResult::Fail,
            published: client_resolver::DmarcPolicy::Reject,
            policy: client_resolver::DmarcPolicy::Quarantine,
            found_at: "a.test".into(),
            organisation: "a.test".into(),
            spf_aligned: true,
            dkim_aligned: false,
            report_to: vec!["mailto:a@a.test".into()],
        })),
        secure: true,
    },
    client_resolver::Answer {
        ticket: 2,
        result: Ok(client_resolver::Records::Spf(client_resolver::SpfVerdict {
            result: client_resolver::SpfResult::Fail,
            by: "-all".into(),
            explanation: Some("why".into()),
        })),
        secure: false,
    },
);
edge!(
    filter_keys_edge,
    filter_keys::Ask::Keys { ticket: 1, domain: "a.test".into() },
    filter_keys::Ask::Sign { ticket: 2, domain: "a.test".into(), number: 1, data: vec![1, 2] },
    filter_keys::Answer::Keys {
        ticket: 1,
        algorithms: vec![client_resolver::SignatureAlgorithm::Ed25519Sha256]
    },
    filter_keys::Answer::Signed { ticket: 2, signature: Some(vec![3]) },
);
edge!(
    filter_limits_edge,
    filter_limits::Ask::Take {
        ticket: 1,
        taking: filter_limits::Taking {
            name: "mail".into(),
            key: "192.0.2.1".into(),
            limit: 60,
            period_s: 3_600,
            count: 1,
        },
    },
    filter_limits::Ask::Greylist {
        ticket: 2,
        triple: filter_limits::Triple {
            client: "192.0.2.0".parse().unwrap(),
            sender: "a@src.test".into(),
            recipient: "b@dst.test".into(),
        },
        terms: filter_limits::Terms { delay_s: 300, window_s: 7_200, lifetime_s: 86_400, known_after: 5 },
    },
    filter_limits::Ask::Accepted { ticket: 3, triples: Vec::new() },
    filter_limits::Answer::Greylisted { ticket: 2, wait_s: 300 },
    filter_limits::Answer::Noted { ticket: 3 },
    filter_limits::Answer::Taken { ticket: 1, taken: filter_limits::Taken { granted: true, left: 59 } },
);
edge!(
    filter_runner_edge,
    filter_runner::Ask {
        ticket: 1,
        command: filter_runner::Declared {
            program: "/usr/bin/scan".into(),
            arguments: vec!["-".into()],
            timeout_ms: 1000,
            fixed: false
        },
        arguments: Some(vec!["a".into(), "".into()]),
        input: None,
        left_ms: 5,
    },
    filter_runner::Answer {
        ticket: 1,
        result: Ok(filter_runner::Ended {
            code: None,
            signal: Some(9),
            timed_out: true,
            truncated: false,
            stdout: vec![1],
            stderr: vec![2]
        })
    },
    filter_runner::Answer { ticket: 2, result: Err(filter_runner::Refused::NotDeclared) },
    filter_runner::Answer { ticket: 3, result: Err(filter_runner::Refused::Busy) },
    filter_runner::Answer { ticket: 4, result: Err(filter_runner::Refused::Failed("no".into())) },
);
edge!(
    filter_database_edge,
    filter_database::Ask {
        ticket: 1,
        database: filter_database::Which::Like {
            url: "mysql://a@db:3306/b".into(),
            timeout_ms: 1000,
            connections: 4,
        },
        statement: "select ?, ?, ?".into(),
        parameters: vec![
            filter_database::Parameter::Null,
            filter_database::Parameter::Int(-1),
            filter_database::Parameter::Text("' or ''='".into()),
        ],
        left_ms: 5,
    },
    filter_database::Answer {
        ticket: 1,
        result: Ok(filter_database::Rows {
            columns: vec!["a".into(), "b".into()],
            rows: vec![vec![Some("1".into()), None]],
        })
    },
    filter_database::Answer { ticket: 2, result: Err(filter_database::Refused::NotDeclared) },
    filter_database::Answer { ticket: 3, result: Err(filter_database::Refused::Busy) },
    filter_database::Answer { ticket: 4, result: Err(filter_database::Refused::Late) },
    filter_database::Answer { ticket: 5, result: Err(filter_database::Refused::Failed("no".into())) },
);
edge!(
    receiver_keys_edge,
    receiver_keys::Ask::Sign { ticket: 1, key: 2, scheme: 0x0403, message: vec![1, 2] },
    receiver_keys::Answer::Certificates {
        certificates: vec![receiver_keys::Certificate {
            key: 2,
            chain: vec![vec![0x30, 1]],
            names: vec!["mx.test".into()],
            schemes: vec![0x0403],
            is_default: true,
        }],
        client_authorities: vec![vec![0x30]],
    },
    receiver_keys::Answer::Tickets(vec![receiver_keys::Secret([1; 32])]),
    receiver_keys::Answer::Signed { ticket: 1, signature: Some(vec![3]) },
);
edge!(
    ctl_master_edge,
    ctl_master::Request::Status,
    ctl_master::Answer::Processes(vec![ctl_master::ProcessStatus {
        name: name(),
        pid: 1,
        generation: 2,
        state: "ready".into(),
        restarts: 0,
        age_s: 9,
        figures: vec![],
        declared: "d".into(),
    }]),
);
edge!(
    ctl_queue_edge,
    ctl_queue::Request::List { state: Some(ctl_queue::State::Held), after: Some(id()), limit: 10 },
    ctl_queue::Answer::Shown(ctl_queue::Entry {
        id: id(),
        state: ctl_queue::State::Deferred,
        quarantine: String::new(),
        reason: "why".into(),
        priority: -9,
        expires_ms: 2,
        size: 1,
        arrived_ms: 2,
        next_attempt_ms: 3,
        reverse_path: String::new(),
        recipients: vec![],
        recipients_total: 1,
    }),
);
