//! What domains publish for SPF, DKIM and DMARC: a judgement ends in bounded steps with words that fit a field, whatever all
//! the names that it asks for say. The first octet says which judgement; the rest are texts with a zero octet between them,
//! handed out by turns.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use vsmtp_ipc::edge::client_resolver::{
    DmarcQuestion, DnsError, Query, Records, SignatureAlgorithm, SignatureQuestion, SpfQuestion,
};
use vsmtp_resolver::finding::{Key, Kind};
use vsmtp_resolver::judge::Task;
use vsmtp_resolver::zone::{Found, Judged, Missing, Zone};

/// More turns than any judgement needs: each finds at least one name.
const MAX_TURNS: usize = 300;

struct World<'a> {
    texts: Vec<&'a [u8]>,
    known: HashMap<Key, Found>,
    asked: Vec<Key>,
}

impl Zone for World<'_> {
    fn find(&mut self, key: Key) -> Judged<Found> {
        if let Some(found) = self.known.get(&key) {
            return Ok(found.clone());
        }
        self.asked.push(key);
        Err(Missing)
    }
}

impl World<'_> {
    fn look_up(&mut self) {
        for key in std::mem::take(&mut self.asked) {
            let text = self.texts.get(self.known.len() % self.texts.len().max(1)).copied().unwrap_or_default();
            let found = match (key.kind, text.first()) {
                (_, Some(b'!')) => Err(DnsError::Temporary),
                (_, Some(b'?')) => Err(DnsError::NoSuchName),
                (Kind::A, _) => Ok(Records::Addresses(vec![[192, 0, 2, text.len() as u8].into()])),
                (Kind::Aaaa, _) => Err(DnsError::NoRecords),
                (Kind::Mx, _) => Ok(Records::Mx((0..text.len() as u16 % 12).map(|n| (n, format!("m{n}.test"))).collect())),
                (Kind::Ptr, _) => Ok(Records::Names((0..text.len() % 12).map(|n| format!("p{n}.test")).collect())),
                _ => Ok(Records::Text(text.split(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect())),
            };
            self.known.insert(key, found);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let domain = "a.b.example".to_owned();
    let query = match which % 3 {
        0 => Query::Spf(SpfQuestion {
            client: if which & 4 == 0 { [192, 0, 2, 7].into() } else { std::net::Ipv6Addr::LOCALHOST.into() },
            helo: "helo.example".to_owned(),
            sender: Some(("local-part+x".to_owned(), domain)),
            receiver: "mx.example".to_owned(),
        }),
        1 => Query::Dmarc(DmarcQuestion {
            author: domain,
            spf: Some("b.example".to_owned()),
            dkim: vec!["c.b.example".to_owned(), "d.example".to_owned()],
        }),
        _ => Query::Signature(SignatureQuestion {
            domain,
            selector: "s".to_owned(),
            algorithm: if which & 4 == 0 { SignatureAlgorithm::RsaSha256 } else { SignatureAlgorithm::Ed25519Sha256 },
            exact: which & 8 == 0,
            data: b"data".to_vec(),
            signature: vec![7; 256],
        }),
    };
    let task = Task::of(&query, 1_800_000_000).expect("it is a judgement");
    let mut world =
        World { texts: rest.split(|octet| *octet == 0).collect(), known: HashMap::new(), asked: Vec::new() };
    let mut turns = 0;
    let records = loop {
        match task.judge(&mut world) {
            Ok(records) => break records,
            Err(Missing) => {
                assert!(!world.asked.is_empty(), "something is missing, and nothing is asked");
                world.look_up();
            }
        }
        turns += 1;
        assert!(turns < MAX_TURNS, "it does not end");
    };
    if let Records::Spf(verdict) = records
        && let Some(words) = verdict.explanation
    {
        assert!(words.len() <= 500 && words.bytes().all(|octet| matches!(octet, b' '..=b'~')));
    }
});
