//! What the filter reads of a message for its rules: its parts (MIME), its authors, its signatures and its ARC chain, and
//! the results that others claim to have found. Names and words of strangers stay within their place, and no field that
//! speaks in our name is left.
#![no_main]

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vsmtp_filter::arc::{Chain, chain, instance};
use vsmtp_filter::dkim::{Candidate, Checked, MAX_SIGNATURES, candidates};
use vsmtp_filter::stage::Stage;
use vsmtp_filter::transaction::{Content, Peer, Transaction};
use vsmtp_filter::{author, mime};
use vsmtp_mail::{Domain, HeaderBlock, header_end};

const NOW_S: u64 = 1_800_000_000;
const OWN: &str = "mx.test";
/// What the receiver puts in front: the filter sees no message without it.
const RECEIVED: &[u8] = b"Received: from c.test by mx.test\r\n";
const RESULTS: &str = "Authentication-Results";

#[derive(Debug)]
struct Message(Vec<u8>);

impl Content for Message {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        Ok(rest[..rest.len().min(max)].to_vec())
    }
}

fuzz_target!(|sent: &[u8]| {
    let message = [RECEIVED, sent].concat();
    let message = message.as_slice();
    let end = header_end(message);
    let header = HeaderBlock::parse(&message[..end]);
    parts(message);
    if let Ok(domain) = author::domain(&header) {
        let read = Domain::parse(&domain).expect("an author's domain is a domain");
        assert!(read.as_literal().is_none() && read.to_string() == domain);
    }
    sealed(&header);
    let content = Arc::new(Message(message.to_vec()));
    let found = candidates(&header, &*content, end as u64, NOW_S).expect("memory can be read");
    assert!(found.len() <= MAX_SIGNATURES);
    results(&header, content, found);
});

/// Words that scripts see are bounded, and end no line.
fn parts(message: &[u8]) {
    let Ok(tree) = mime::read(message) else { return };
    for part in &tree.parts {
        for word in [&part.kind, &part.name, &part.disposition, &part.charset, &part.id] {
            assert!(word.len() <= 1024 && !word.contains(char::is_control), "{word:?}");
        }
        assert!(!part.extension().contains('.'));
    }
}

fn sealed(header: &HeaderBlock<'_>) {
    for field in header.fields().take(64) {
        assert!(instance(field).is_none_or(|number| (1..=50).contains(&number)));
    }
    if let Chain::Ask(asked) = chain(header, NOW_S) {
        assert_eq!(asked.questions.len(), asked.sets + 1, "each seal, and the youngest signature");
    }
}

/// Removes what is forged, and shows what was found.
fn results(header: &HeaderBlock<'_>, content: Arc<Message>, found: Vec<Candidate>) {
    let mut transaction = Transaction::new(Arc::new(peer()), 100);
    transaction.stage = Stage::Preq;
    transaction.header = header.clone().into_owned();
    transaction.content = Some(content);
    transaction.remove_forged_results();
    let plain = |value: &[u8]| value.trim_ascii_start().starts_with(b"mx.test;");
    assert!(!transaction.header.named(RESULTS).any(|field| plain(field.value())));
    let kept = transaction.header.fields().count();

    let checked = |candidate| match candidate {
        Candidate::Known(checked) => checked,
        Candidate::Ask(checked, question) => Checked { word: "pass", domain: question.domain, ..checked },
    };
    let signatures: Vec<Checked> = found.into_iter().map(checked).collect();
    let shown = signatures.len().max(1);
    transaction.authentication.dkim = Some(signatures);
    transaction.want_results(true, false).expect("they can be shown");
    let block = transaction.header.to_bytes();
    let read = HeaderBlock::parse(&block);
    let top = read.fields().next().expect("the field is there");
    assert!(top.is(RESULTS) && plain(top.value()), "our own word stands first");
    // A header of the most fields there can be has lost its last by that.
    assert!(read.fields().count() == kept + 1 || !read.is_complete());
    assert_eq!(top.value().split(|octet| *octet == b';').count(), shown + 1, "one part for each signature");
}

fn peer() -> Peer {
    Peer {
        service: Some(vsmtp_mail::Service::Smtp),
        client: Some((IpAddr::from([192, 0, 2, 1]), 4000)),
        client_name: None,
        server: None,
        uid: None,
        connected_ms: NOW_S * 1000,
        server_name: Domain::parse(OWN).expect("a domain"),
        identity: None,
        was_authenticated: false,
        was_secured: false,
    }
}
