//! Those that are asked: names, passwords, keys, limits, commands, databases.

use vsmtp_ipc::edge::{
    client_resolver, filter_auth, filter_database, filter_keys, filter_limits, filter_runner, receiver_auth,
    receiver_keys, receiver_limits,
};
use vsmtp_ipc::wire::Blob;

use crate::property::edge;
use crate::samples::{grant, name, reply};

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
    receiver_auth::Answer::Denied { exchange: 1, why: receiver_auth::Denied::Throttled, wait_ms: 3_000 },
);

edge!(
    receiver_limits_edge,
    receiver_limits::Ask::Connect { ticket: 1, client: [192, 0, 2, 1].into(), screen: true },
    receiver_limits::Ask::Spend {
        ticket: 1,
        client: std::net::Ipv6Addr::LOCALHOST.into(),
        kind: receiver_limits::Kind::Recipients,
        count: 3,
    },
    receiver_limits::Ask::Left { ticket: 1 },
    receiver_limits::Answer::Wanted(receiver_limits::Wanted { connect: true, ..Default::default() }),
    receiver_limits::Answer::Entered { ticket: 1, entry: receiver_limits::Entry::Condemn(reply()) },
    receiver_limits::Answer::Entered { ticket: 2, entry: receiver_limits::Entry::Screen { wait_ms: 6_000 } },
    receiver_limits::Answer::Spent {
        ticket: 1,
        spent: receiver_limits::Spent { granted: 2, delay_ms: 1, refusal: Some(reply()) },
    },
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
