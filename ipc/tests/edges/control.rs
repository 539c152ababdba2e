//! The master, its children, and vsmtpctl.

use vsmtp_ipc::edge::master_child::{Figure, Listener, ToChild, ToMaster};
use vsmtp_ipc::edge::{ctl_master, ctl_queue};
use vsmtp_ipc::wire::{Braked, BrakesAnswer, BrakesRequest};

use crate::property::edge;
use crate::samples::{configure, id, name};

fn listed() -> BrakesAnswer {
    BrakesAnswer::Listed(Braked {
        window_ms: 1,
        per_client: Some(2),
        per_account: None,
        figures: vec![Figure { name: "denied".into(), value: 1 }],
        clients: vec![([192, 0, 2, 1].into(), 3)],
        accounts: vec![("tim".into(), 4)],
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
    ToMaster::Brakes { ticket: 1, answer: listed() },
    ToChild::Brakes { ticket: 1, request: BrakesRequest::ResetAccount("tim".into()) },
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
