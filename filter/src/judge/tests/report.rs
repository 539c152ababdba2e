//! Reports of our own: what is signed, and for whom.

use vsmtp_config::FilterSlice;
use vsmtp_ipc::edge::client_resolver::SignatureAlgorithm;
use vsmtp_mail::{Demands, Envelope, NextHop, QueueIdMint, Recipient, RecipientClass};

use super::*;
use crate::signer::Signer;

const REPORT: &str = "From: tls-reports@mail.own.test\r\nTo: r@far.test\r\nSubject: Report\r\n\r\nbody\r\n";

/// Signs with what it was asked to sign, if it has a key at all.
#[derive(Debug)]
struct Echo {
    has_key: bool,
}

impl Signer for Echo {
    fn keys(&self, domain: &str) -> Option<Vec<SignatureAlgorithm>> {
        (self.has_key && domain == "own.test").then(|| vec![SignatureAlgorithm::Ed25519Sha256])
    }

    fn sign(&self, domain: &str, number: u32, data: Vec<u8>) -> Option<Vec<u8>> {
        ((domain, number) == ("own.test", 0)).then_some(data)
    }
}

/// What becomes of a message that is said to be a report of ours.
fn judged(sender: &str, text: &str, has_key: bool, with_selector: bool) -> PostJudged {
    let value = |text: &str| Value::Text(text.to_owned());
    let keys = Value::Map(
        [("dkim".to_owned(), Value::Map([("private_key".to_owned(), value("k.pem"))].into()))].into(),
    );
    let mut set = vec![
        ("server.virtual", Value::Map([("own.test".to_owned(), keys)].into())),
        ("delivery.tls.reports.from", value("tls-reports@mail.own.test")),
    ];
    if with_selector {
        set.push(("delivery.tls.reports.selector", value("2026")));
    }
    let dir = tempfile::tempdir().unwrap();
    let config_dir = dir.path().display().to_string();
    let slice =
        FilterSlice { config_dir, filter_path: format!("{}/none", dir.path().display()), ..slice(&set) };
    let surroundings = Surroundings { signer: Arc::new(Echo { has_key }), ..Surroundings::default() };
    let judge = Judge::load(&slice, &surroundings).unwrap();
    let recipient = Recipient {
        address: Address::parse("r@far.test").unwrap(),
        original: None,
        notify: Notify::NEVER,
        class: RecipientClass::Other,
        next_hop: NextHop::parse("smtp:far.test").unwrap(),
        chosen: false,
    };
    judge.post(PostMessage {
        id: QueueIdMint::new(1, 1).next(1),
        stage: None,
        is_report: true,
        reroute: true,
        envelope: Envelope {
            reverse_path: ReversePath::parse(sender).unwrap(),
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            demands: Demands::default(),
            terms: vsmtp_mail::Terms::default(),
            recipients: vec![recipient],
        },
        peer: peer(None),
        helo: String::new(),
        arrived_ms: 1_800_000_000_000,
        resume: None,
        content: Arc::new(Inline(Arc::new(text.as_bytes().to_vec()))),
    })
}

fn pieces(judged: PostJudged) -> Vec<Piece> {
    match judged {
        PostJudged::Edit(edit) => {
            assert_eq!(edit.envelope.recipients[0].next_hop.to_string(), "smtp:far.test");
            edit.pieces
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_report_is_signed_by_the_domain_above_its_sender_that_has_a_key() {
    let pieces = pieces(judged("tls-reports@mail.own.test", REPORT, true, true));
    let [Piece::Text(field), Piece::Original { offset: 0, len }] = pieces.as_slice() else {
        panic!("{pieces:?}")
    };
    assert_eq!(*len, REPORT.len() as u64);
    let field = String::from_utf8(field.clone()).unwrap();
    let plain = field.replace("\r\n\t", " ");
    for tag in ["v=1", "a=ed25519-sha256", "c=relaxed/relaxed", "d=own.test", "s=2026", "t=1800000000"] {
        assert!(plain.contains(&format!("{tag};")), "{tag}: {field}");
    }
    // What was signed is the fields, and then this one.
    let signature = vsmtp_mail::dkim::Signature::parse(field.split_once(':').unwrap().1.trim_end()).unwrap();
    let data = String::from_utf8(signature.signature).unwrap();
    let fields = "from:tls-reports@mail.own.test\r\nto:r@far.test\r\nsubject:Report\r\ndkim-signature:v=1; ";
    assert!(data.starts_with(fields) && data.contains("TLS-Report-Domain"), "{data}");
}

#[test]
fn a_report_waits_for_its_key() {
    assert_eq!(judged("tls-reports@mail.own.test", REPORT, false, true), PostJudged::Unavailable);
}

#[test]
fn nothing_is_signed_but_reports_of_ours() {
    let signed = format!("DKIM-Signature: v=1\r\n{REPORT}");
    let other = REPORT.replace("mail.own.test", "own.test");
    for (sender, text) in [
        ("ceo@mail.own.test", REPORT),
        ("tls-reports@mail.own.test", &other),
        ("tls-reports@mail.own.test", &signed),
    ] {
        assert!(pieces(judged(sender, text, true, true)).is_empty(), "{sender} {text}");
    }
    assert_eq!(
        judged("tls-reports@mail.own.test", REPORT, true, false),
        PostJudged::Keep { is_final: false }
    );
}
