//! Edges between vsmtpctl and what it starts itself.

use vsmtp_ipc::edge::master_child::Evaluate;
use vsmtp_ipc::edge::{client_resolver, ctl_filter, ctl_keys, ctl_repl, ctl_resolver};

use crate::property::edge;

fn evaluate() -> Evaluate {
    Evaluate {
        config_path: "/etc/vsmtp/vsmtp.vsl".into(),
        hostname: "mx.test".into(),
        cores: 2,
        root: String::new(),
    }
}

fn problem() -> ctl_filter::Problem {
    ctl_filter::Problem {
        file: "filter.vsl".into(),
        line: 1,
        column: 2,
        message: "no".into(),
        hint: Some("yes".into()),
    }
}

edge!(
    ctl_filter_edge,
    ctl_filter::Request {
        of: evaluate(),
        task: ctl_filter::Task::Try(ctl_filter::Trial {
            client: Some([192, 0, 2, 1].into()),
            user: Some("tim".into()),
            helo: "h.test".into(),
            from: String::new(),
            recipients: vec!["b@dst.test".into()],
            message: b"Subject: x\r\n\r\nx\r\n".to_vec(),
            until: Some("preq".into()),
            dns: "a.test A 192.0.2.1".into(),
        }),
    },
    ctl_filter::Request { of: evaluate(), task: ctl_filter::Task::Test(vec!["a.test.vsl".into()]) },
    ctl_filter::Answer::Problems(vec![problem()]),
    ctl_filter::Answer::Tried(ctl_filter::Tried {
        steps: vec![ctl_filter::Step {
            stage: "mail".into(),
            script: "filter.vsl".into(),
            kind: "rule".into(),
            directive: "d".into(),
            line: 3,
            verdict: "deny".into(),
            reply: Some("550 no".into()),
            changes: vec!["added".into()],
            log: Vec::new(),
        }],
        heard: vec![ctl_filter::Heard { command: "QUIT".into(), reply: String::new(), is_accepted: true }],
        kept: vec![ctl_filter::Kept {
            from: "a@src.test".into(),
            recipients: vec![("b@dst.test".into(), "maildir".into())],
            fate: "deliver".into(),
            diff: vec!["+X: y".into()],
        }],
    }),
    ctl_filter::Answer::Tested(vec![ctl_filter::Tested {
        file: "a.test.vsl".into(),
        name: "t".into(),
        failure: Some(problem())
    }]),
    ctl_filter::Answer::MailKeys(ctl_filter::MailKeys {
        keys: vec![("src.test".into(), "/etc/vsmtp/key".into())],
        servers: vec![([192, 0, 2, 53], 53).into()],
    }),
);
edge!(
    ctl_keys_edge,
    ctl_keys::Request::Make(ctl_keys::KeyKind::Ed25519),
    ctl_keys::Request::Publish(vec![1; 40]),
    ctl_keys::Answer::Made(
        vec![2; 40],
        ctl_keys::Published { algorithm: "ed25519".into(), key: vec![3; 32] }
    ),
    ctl_keys::Answer::Failed("no".into()),
);
edge!(
    ctl_repl_edge,
    ctl_repl::Request::Begin(evaluate()),
    ctl_repl::Request::Line("1 + 1".into()),
    ctl_repl::Request::Message(vec![b'x'; 9]),
    ctl_repl::Answer::Value(ctl_repl::Value {
        kind: "int".into(),
        text: "2".into(),
        changes: vec!["added".into()],
        log: vec!["said".into()],
    }),
    ctl_repl::Answer::Failed { problem: problem(), changes: Vec::new(), log: vec!["said".into()] },
);
edge!(
    ctl_resolver_edge,
    ctl_resolver::Request {
        servers: vec![([192, 0, 2, 53], 53).into()],
        names: vec!["s._domainkey.src.test".into()]
    },
    ctl_resolver::Answer(vec![Ok(vec![b"v=DKIM1".to_vec()]), Err(client_resolver::DnsError::NoSuchName)]),
);
