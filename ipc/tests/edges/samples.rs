//! Valid values that messages of several edges hold.

use std::net::IpAddr;

use vsmtp_ipc::edge::master_child::{Configure, LogTarget, ToChild};
use vsmtp_ipc::edge::{queue_deliver, receiver_filter};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{
    Body7, Class, Demands, Envelope, Grant, Id, MailFrom, Notify, Origin, Piece, Recipient, Reply, Service,
};

pub fn id() -> Id {
    Id([7; 16])
}

pub fn grant() -> Grant {
    Grant([9; 16])
}

pub fn mail_from() -> MailFrom {
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

pub fn facts() -> receiver_filter::Facts {
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

pub fn recipient() -> Recipient {
    Recipient {
        chosen: false,
        address: "b@dst.test".into(),
        original: Some(("rfc822".into(), "b".into())),
        notify: Notify { success: true, failure: false, delay: true, stated: true },
        class: Class::Relay,
        next_hop: "smtp:dst.test".into(),
    }
}

pub fn envelope() -> Envelope {
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

pub fn tls_sessions() -> queue_deliver::TlsSessions {
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

pub fn origin() -> Origin {
    Origin {
        session: 1,
        client: "c".into(),
        helo: "h".into(),
        protocol: "ESMTP".into(),
        uid: None,
        service: Some(Service::Submission),
    }
}

pub fn reply() -> Reply {
    Reply { code: 550, enhanced: Some((5, 7, 1)), text: "no".into() }
}

pub fn pieces() -> Vec<Piece> {
    vec![Piece::Text(b"X: 1\r\n".to_vec()), Piece::Original { offset: 1, len: 2 }]
}

pub fn name() -> ProcessName {
    ProcessName { role: Role::Receiver, instance: 1 }
}

pub fn configure() -> ToChild {
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
