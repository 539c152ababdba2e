//! Writes the seeds of the targets whose input no text editor can write, from samples of each message and record. To be
//! run in `fuzz/` by whoever changes the wire or the disk format: `cargo run --example binary_seeds`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use bincode::Encode;
use vsmtp_config::{Config, Context, Value, default_tree};
use vsmtp_fuzz::disk::MemoryDisk;
use vsmtp_fuzz::spool::{accept, commit, id, open, state};
use vsmtp_ipc::edge::filter_queue::{Disposition, NewMessage, Receipt, Returned, Submit};
use vsmtp_ipc::edge::master_child::{
    Configure, Evaluate, Figure, LimitsRequest, Listener, LogTarget, ToChild, ToMaster,
};
use vsmtp_ipc::edge::queue_deliver::{self, Advice, Attempt, AttemptRecipient, Outcome, Reach, Result3, Said, Settled};
use vsmtp_ipc::edge::queue_filter::{PostAsk, PostStage, PostVerdict, Resume};
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Facts, Verdict};
use vsmtp_ipc::edge::{client_resolver, ctl_master, ctl_queue, receiver_limits};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, Body7, Envelope, Id, MailFrom, Notify, Origin, Piece, RcptTo, Reply, Reports, Service};
use vsmtp_mail::{Domain, EnhancedCode};
use vsmtp_queue_manager::store::layout::{ALIGN, RECORD_MAGIC, SEGMENT_BLOCK, Span, align_up, record};
use vsmtp_queue_manager::store::{
    Area, Change, Diagnostic, Disposition as Stored, RecipientState, RemoveReason, StateChange,
};

fn main() {
    ipc_message();
    ipc_channel();
    config_wire();
    store_segment();
    store_recovery();
}

fn put(target: &str, name: &str, octets: &[u8]) {
    let directory = Path::new("seeds").join(target);
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join(name), octets).expect("a file");
}

fn encoded<T: Encode>(message: &T) -> Vec<u8> {
    vsmtp_ipc::encode(message).expect("a sample encodes")
}

fn seed<T: Encode>(kind: u8, name: &str, message: &T) {
    put("ipc_message", name, &[&[kind], &encoded(message)[..]].concat());
}

fn facts() -> Facts {
    Facts {
        session: 1,
        service: Service::Smtp,
        client: Some(([192, 0, 2, 1].into(), 4000)),
        client_name: Some("host.test".into()),
        server: Some((std::net::Ipv6Addr::LOCALHOST.into(), 25)),
        uid: Some(3),
        connected_ms: 4,
        helo: Some("c.test".into()),
        tls: None,
        esmtp: true,
        grant: None,
    }
}

fn mail_from() -> MailFrom {
    MailFrom {
        reverse_path: "s@a.test".into(),
        body: Body7::EightBitMime,
        smtputf8: true,
        ret_full: Some(false),
        envid: Some("envid".into()),
        size: Some(9),
        demands: vsmtp_ipc::wire::Demands { requiretls: true },
        wishes: vsmtp_ipc::wire::Wishes { priority: 3, release: Some(vsmtp_ipc::wire::Release::After(60)), by: None },
    }
}

fn envelope() -> Envelope {
    Envelope::from(&state(1).envelope)
}

fn origin() -> Origin {
    Origin {
        service: Some(Service::Smtp),
        session: 1,
        client: "192.0.2.1".into(),
        helo: "c.test".into(),
        protocol: "ESMTP".into(),
        uid: None,
    }
}

fn reply() -> Reply {
    Reply { code: 550, enhanced: Some((5, 7, 1)), text: "no\nnever".into() }
}

fn pieces() -> Vec<Piece> {
    vec![Piece::Text(b"X: 1\r\n".to_vec()), Piece::Original { offset: 1, len: 2 }]
}

fn submit(body: Body) -> Submit {
    Submit::Message(NewMessage {
        ticket: 1,
        id: Id([7; 16]),
        arrived_ms: 2,
        envelope: envelope(),
        origin: origin(),
        disposition: Disposition::Quarantine("spam".into()),
        judged: false,
        expanded: Vec::new(),
        notices: Vec::new(),
        pieces: pieces(),
        returned: Some(Returned { id: Id([8; 16]), token: [9; 16], or_new: true }),
        body,
    })
}

fn attempt(body: Body) -> Attempt {
    Attempt {
        lease: 1,
        id: Id([7; 16]),
        next_hop: "smtp:b.test".into(),
        reverse_path: "s@a.test".into(),
        body_type: Body7::SevenBit,
        smtputf8: false,
        ret_full: None,
        envid: None,
        demands: vsmtp_ipc::wire::Demands::default(),
        priority: 0,
        by: Some(vsmtp_ipc::wire::DeliverBy { seconds: 60, returns: false, traced: true }),
        recipients: vec![AttemptRecipient {
            index: 0,
            address: "r@b.test".into(),
            original: Some(("rfc822".into(), "o@b.test".into())),
            notify: Notify { success: false, failure: true, delay: true, stated: false },
        }],
        service_ms: None,
        body,
    }
}

fn configure() -> ToChild {
    ToChild::Configure(Configure {
        name: ProcessName { role: Role::Receiver, instance: 1 },
        generation: 1,
        node: 2,
        process: 3,
        log: LogTarget::Syslog,
        log_level: 3,
        log_facility: 2,
        slice: vec![1, 2, 3],
    })
}

fn limits_messages() {
    let refusal = Reply { code: 452, enhanced: Some((4, 7, 1)), text: "Too many".into() };
    let client = [192, 0, 2, 1].into();
    seed(18, "limits_connect", &receiver_limits::Ask::Connect { ticket: 1, client, screen: true });
    let kind = receiver_limits::Kind::Recipients;
    seed(18, "limits_spend", &receiver_limits::Ask::Spend { ticket: 1, client, kind, count: 3 });
    let entry = receiver_limits::Entry::Refuse(refusal.clone());
    seed(19, "limits_entered", &receiver_limits::Answer::Entered { ticket: 1, entry });
    let spent = receiver_limits::Spent { granted: 2, delay_ms: 5, refusal: Some(refusal) };
    seed(19, "limits_spent", &receiver_limits::Answer::Spent { ticket: 1, spent });
    let request = LimitsRequest::Page(Some(client));
    seed(0, "limits_request", &ToChild::Limits { ticket: 1, request });
}

fn helpers_messages() {
    use vsmtp_ipc::edge::{filter_auth, filter_keys, filter_limits, filter_runner, receiver_auth, receiver_keys};
    use vsmtp_ipc::wire::{Blob, Grant};
    let grant = Grant([9; 16]);
    let receiver = ProcessName { role: Role::Receiver, instance: 1 };
    seed(30, "auth_confirm", &filter_auth::Ask::Confirm { ticket: 1, receiver, grant });
    let name = "tim".to_owned();
    let identity = filter_auth::Identity { name, mechanism: "PLAIN".into(), vouched: true, settled: false };
    seed(31, "auth_confirmed", &filter_auth::Answer::Confirmed { ticket: 1, identity: Some(identity) });
    let domain = "a.test".to_owned();
    seed(32, "mail_sign", &filter_keys::Ask::Sign { ticket: 1, domain, number: 1, data: vec![1, 2] });
    seed(33, "mail_signed", &filter_keys::Answer::Signed { ticket: 1, signature: Some(vec![3]) });
    let key = "192.0.2.1".to_owned();
    let taking = filter_limits::Taking { name: "mail".into(), key, limit: 60, period_s: 3_600, count: 1 };
    seed(34, "rate_take", &filter_limits::Ask::Take { ticket: 1, taking });
    let taken = filter_limits::Taken { granted: true, left: 59 };
    seed(35, "rate_taken", &filter_limits::Answer::Taken { ticket: 1, taken });
    let ask = filter_runner::Ask {
        ticket: 1,
        command: filter_runner::Declared {
            program: "/usr/bin/scan".into(),
            arguments: vec!["-".into()],
            timeout_ms: 1000,
            fixed: false,
        },
        arguments: Some(vec!["a".into()]),
        input: None,
        left_ms: 5,
    };
    seed(36, "command", &ask);
    let result = Err(filter_runner::Refused::Failed("no".into()));
    seed(37, "command_failed", &filter_runner::Answer { ticket: 1, result });
    let begin = receiver_auth::Begin {
        exchange: 1,
        mechanism: "PLAIN".into(),
        initial: Some(Blob(b"\0tim\0x".to_vec())),
        client: Some([192, 0, 2, 1].into()),
        server: None,
        tls: None,
    };
    seed(38, "auth_begin", &receiver_auth::Ask::Begin(begin));
    seed(39, "auth_offer", &receiver_auth::Answer::Offer(vec!["PLAIN".into()]));
    let message = vec![1, 2];
    seed(40, "tls_sign", &receiver_keys::Ask::Sign { ticket: 1, key: 2, scheme: 0x0403, message });
    seed(41, "tls_signed", &receiver_keys::Answer::Signed { ticket: 1, signature: Some(vec![3]) });
}

fn ipc_message() {
    limits_messages();
    helpers_messages();
    let rcpt =
        RcptTo { address: "r@b.test".into(), original: Some(("rfc822".into(), "o".into())), notify: None };
    seed(0, "configure", &configure());
    seed(
        0,
        "listener",
        &ToChild::Listener(Listener::Smtp { address: "127.0.0.1:25".into(), service: Service::Smtp }),
    );
    seed(1, "beat", &ToMaster::Beat(vec![Figure { name: "sessions".into(), value: 1 }]));
    seed(1, "evaluated", &ToMaster::Evaluated(Err("no".into())));
    seed(2, "mail", &Ask::Mail(facts(), mail_from()));
    seed(2, "recipients", &Ask::Recipients { facts: facts(), mail: mail_from(), recipients: vec![rcpt] });
    seed(2, "message", &Ask::Message { facts: facts(), id: Id([7; 16]), body: Body::Memfd(5), trace_len: 3 });
    let decisions = vec![Decision::Accept(None), Decision::Refuse(reply()), Decision::Close(reply())];
    seed(3, "verdicts", &Verdict::Recipients { session: 1, decisions });
    seed(4, "submit", &submit(Body::Inline(b"Subject: x\r\n\r\nbody\r\n".to_vec())));
    seed(4, "chunk", &Submit::Chunk { ticket: 1, id: Id([7; 16]), offset: 0, len: 9 });
    seed(5, "receipt", &Receipt::Stored { ticket: 1 });
    let body = Body::File(9);
    let stage = PostStage::Postq;
    let (envelope_of, origin_of) = (envelope(), origin());
    seed(
        6,
        "post_ask",
        &PostAsk {
            ticket: 1,
            id: Id([7; 16]),
            stage,
            reroute: false,
            envelope: envelope_of,
            origin: origin_of,
            arrived_ms: 2,
            resume: Some(Resume { directive: "scan".into(), skip: false, hold: Some("look".into()) }),
            body,
        },
    );
    let disposition = Disposition::Hold("why".into());
    seed(
        7,
        "edit",
        &PostVerdict::Edit {
            ticket: 1,
            envelope: envelope(),
            expanded: Vec::new(),
            notices: Vec::new(),
            disposition,
            pieces: pieces(),
        },
    );
    seed(7, "refuse", &PostVerdict::Refuse { ticket: 1, reply: reply(), reports: Reports::default() });
    seed(8, "attempt", &queue_deliver::Ask::Attempt(attempt(Body::Memfd(9))));
    seed(8, "withdraw", &queue_deliver::Ask::Withdraw(1));
    let settled = Settled { index: 0, result: Result3::Deferred, enhanced: (4, 4, 1), text: "later".into() };
    seed(
        9,
        "outcome",
        &Said::Outcome(Outcome {
            lease: 1,
            settled: vec![settled],
            reach: Reach::Reached,
            advice: Advice { retry_after_s: 300, fewer: true, pause_s: 0 },
            remote: "mx".into(),
            tls: "none".to_owned(),
            reports: true,
            relayed: true,
            delays_ms: (1, 2, 3),
            sessions: Vec::new(),
        }),
    );
    seed(9, "no_more", &Said::NoMore);
    seed(9, "back", &Said::Back(1));
    let query = client_resolver::Query::Mx("b.test".into());
    seed(10, "question", &client_resolver::Question { ticket: 1, query, deadline_ms: 1000 });
    let result = Ok(client_resolver::Records::Tlsa(vec![(3, 1, 1, vec![1; 32])]));
    seed(11, "answer", &client_resolver::Answer { ticket: 1, result, secure: true });
    seed(12, "status", &ctl_master::Request::Status);
    seed(13, "config", &ctl_master::Answer::Config(vec![1, 2]));
    seed(
        14,
        "list",
        &ctl_queue::Request::List { state: Some(ctl_queue::State::Held), after: None, limit: 5 },
    );
    seed(15, "stats", &ctl_queue::Answer::Stats(vec![Figure { name: "messages".into(), value: 1 }]));
    let evaluate =
        Evaluate { config_path: "/etc/x".into(), hostname: "h".into(), cores: 2, root: String::new() };
    seed(16, "evaluate", &evaluate);
    seed(17, "envelope", &envelope());
}

/// A packet as the target reads it: its shape, its length, its octets.
fn packet(shape: u8, payload: &[u8]) -> Vec<u8> {
    [&[shape], &(payload.len() as u16).to_le_bytes()[..], payload].concat()
}

fn ipc_channel() {
    let inline = encoded(&submit(Body::Inline(b"x".to_vec())));
    let with_file = encoded(&submit(Body::Memfd(9)));
    let peer = encoded(&ToChild::Peer(ProcessName { role: Role::Receiver, instance: 1 }));
    let chunk = encoded(&Ask::Chunk { session: 1, id: Id([7; 16]), offset: 0, len: 9 });
    let (framed, spilled) = (8, 24);
    put("ipc_channel", "configure", &[&[0, 0][..], &packet(framed, &encoded(&configure()))].concat());
    put("ipc_channel", "peer", &[&[0, 0][..], &packet(framed | 1, &peer), &packet(framed, &peer)].concat());
    put(
        "ipc_channel",
        "chunk",
        &[&[1, 0][..], &packet(framed | 1, &chunk), &packet(framed | 4, &chunk)].concat(),
    );
    put(
        "ipc_channel",
        "submit",
        &[&[2, 0][..], &packet(framed, &inline), &packet(spilled | 1, &inline)].concat(),
    );
    put(
        "ipc_channel",
        "memfd",
        &[&[2, 0][..], &packet(framed | 1, &with_file), &packet(spilled | 2, &with_file)].concat(),
    );
    put(
        "ipc_channel",
        "attempt",
        &[&[3, 0][..], &packet(framed | 1, &encoded(&queue_deliver::Ask::Attempt(attempt(Body::Memfd(9)))))].concat(),
    );
    put(
        "ipc_channel",
        "no_hello",
        &[&[2, 1][..], &packet(0, b"vSMT\x03\0\x03\0"), &packet(framed, &inline)].concat(),
    );
    put("ipc_channel", "raw", &[&[2, 0][..], &packet(0, b"\x01\0\0\0\0\0\0\0x\xff\0\0\0\0\0\0\0")].concat());
}

fn config_wire() {
    let context = Context {
        hostname: Domain::parse("mx.test").expect("a domain"),
        cores: 2,
        config_dir: "/etc/vsmtp".into(),
        root: String::new(),
    };
    let mut tree = Value::map();
    tree.set("server.domains", Value::List(vec![Value::Text("b.test".into())]));
    tree.set("queue.lifetime", Value::Text("2d".into()));
    tree.set("filter.workers", Value::Int(8));
    put("config_wire", "tree", &[&[0], &tree.to_bytes().expect("a small tree")[..]].concat());
    put(
        "config_wire",
        "defaults",
        &[&[0], &default_tree(&context).to_bytes().expect("a small tree")[..]].concat(),
    );
    let config = Config::build(&context, &tree).expect("a configuration");
    slice(1, "receiver", &config.receiver());
    slice(2, "filter", &config.filter());
    slice(3, "queue", &config.queue());
    slice(4, "deliver", &config.deliver());
    slice(5, "mailbox", &config.mailbox());
    slice(6, "master", &config.master());
    slice(7, "resolver", &config.resolver());
}

fn slice<T: Encode>(kind: u8, name: &str, slice: &T) {
    put("config_wire", name, &[&[kind], &vsmtp_config::encode(slice).expect("a slice fits")[..]].concat());
}

/// Every kind of record, as the store writes it.
fn store_segment() {
    let disk = MemoryDisk::default();
    let (mut store, _) = open(&disk);
    let said =
        Diagnostic { status: EnhancedCode(4, 4, 1), remote: Some("mx.b.test".into()), text: "no".into() };
    let results = vec![
        (0, RecipientState::Delivered(None)),
        (1, RecipientState::Failed(said.clone())),
        (2, RecipientState::Waiting { attempts: 3, until: 99, last: Some(said) }),
    ];
    let hold = StateChange::Disposition(Stored::Hold("why".into()));
    for change in [
        accept(0, 64),
        accept(1, 64),
        Change::Outcome { id: id(0), results },
        Change::State { id: id(1), change: hold },
        Change::State { id: id(1), change: StateChange::Requeue },
        Change::Revise { id: id(1), state: Box::new(state(2)) },
        Change::Remove { id: id(0), reason: RemoveReason::Settled },
    ] {
        commit(&mut store, change);
    }
    store.close();
    let segments = disk.names().into_iter().filter(|(area, _)| *area == Area::Segments);
    let mut all = Vec::new();
    for (_, name) in segments {
        for (at, one) in records(&disk.octets(Area::Segments, &name)).into_iter().enumerate() {
            put("store_segment", &format!("record{at}"), &one);
            all.extend(one);
        }
    }
    put("store_segment", "all", &all);
    all.extend([&[1 | 128, 0][..], &all.clone()[1..]].concat());
    put("store_segment", "two_segments", &all);
}

/// The records of a segment as the target reads them: shape, kind, message, structured part.
fn records(segment: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut found) = (SEGMENT_BLOCK as usize, Vec::new());
    while let Some(header) = segment.get(at..at + ALIGN as usize) {
        let number = |span: &Span| {
            header[span.at..][..span.len].iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b))
        };
        if number(&record::MAGIC) != u64::from(RECORD_MAGIC) {
            break;
        }
        let meta_len = number(&record::META_LEN) as usize;
        let meta = &segment[at + header.len()..][..meta_len];
        let shape = if number(&record::BODY_LEN) > 0 { 128 } else { 0 };
        let who = header[record::ID.at];
        found.push(
            [&[shape, header[record::KIND.at], who][..], &(meta_len as u16).to_le_bytes(), meta].concat(),
        );
        at = align_up((at + header.len() + meta_len) as u64 + number(&record::BODY_LEN)) as usize;
    }
    found
}

/// Damages: file, kind, place, and what the kind needs.
fn store_recovery() {
    put("store_recovery", "bit", &[3, 0, 0x40, 0x10]);
    put("store_recovery", "bits", &[0, 8, 0, 0x20, 1, 17, 0, 0x30, 2, 0, 0, 0, 3, 1, 0, 0x11, 4, 0, 0, 0]);
    put("store_recovery", "octets", &[3, 2, 0, 0x10, 4, 0, 1, 2, 3, 4]);
    put("store_recovery", "zeros", &[3, 3, 0, 0x10, 0, 0x10, 0, 3, 0, 0, 0, 0x10]);
    put("store_recovery", "cut", &[3, 4, 0, 0x80]);
    put("store_recovery", "gone", &[0, 5, 0, 0, 1, 5, 0, 0, 4, 5, 0, 0]);
    put("store_recovery", "swapped", &[3, 6, 4, 0, 4, 7, 1, 0]);
}
