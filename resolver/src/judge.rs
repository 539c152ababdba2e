//! Which judgement a question asks for, and what is said if its time is over first. Each judgement is a pure function of
//! what is known; see [`crate::zone`].

use std::net::IpAddr;

use vsmtp_ipc::edge::client_resolver::{
    ClientName, DmarcQuestion, DmarcResult, DmarcVerdict, Query, Records, SignatureQuestion, SignatureResult,
    SignatureVerdict, SpfResult, SpfVerdict,
};

use crate::zone::{Judged, Zone};
use crate::{client_name, dmarc, key_record, spf};

/// What is to be judged.
#[derive(Debug)]
pub enum Task {
    /// What the client at this address is called.
    ClientName(IpAddr),
    /// Whether a host may send for a domain.
    Spf(spf::Subject),
    /// Whether a signature is right.
    Signature(SignatureQuestion),
    /// Whether a message is of its author's domain.
    Dmarc(DmarcQuestion),
    /// A mistake of ours.
    #[cfg(test)]
    Panics,
}

impl Task {
    /// The judgement that a query asks for; `None` if it asks for records only. `now_s` is the time of day.
    pub fn of(query: &Query, now_s: u64) -> Option<Self> {
        match query {
            Query::ClientName(address) => Some(Task::ClientName(*address)),
            Query::Spf(question) => Some(Task::Spf(spf::Subject::of(question, now_s))),
            Query::Signature(question) => Some(Task::Signature(question.clone())),
            Query::Dmarc(question) => Some(Task::Dmarc(question.clone())),
            _ => None,
        }
    }

    /// Judges with what is known.
    ///
    /// # Errors
    /// Something must be looked up first.
    pub fn judge(&self, zone: &mut dyn Zone) -> Judged<Records> {
        match self {
            Task::ClientName(address) => client_name::find(*address, zone).map(Records::ClientName),
            Task::Spf(subject) => spf::check(subject, zone).map(Records::Spf),
            Task::Signature(question) => key_record::check(question, zone).map(Records::Signature),
            Task::Dmarc(question) => dmarc::check(question, zone).map(Records::Dmarc),
            #[cfg(test)]
            Task::Panics => panic!("on purpose"),
        }
    }

    /// The verdict, where all that is missing is what it would be decorated with.
    pub fn reached(&self, zone: &mut dyn Zone) -> Option<Records> {
        match self {
            Task::Spf(subject) => spf::check_unexplained(subject, zone).ok().map(Records::Spf),
            _ => None,
        }
    }

    /// What is said when there is no time left, or when nothing can be made of what was found.
    pub fn too_late(&self) -> Records {
        let by = "no answer in time".to_owned();
        match self {
            Task::ClientName(_) => Records::ClientName(ClientName::Unknown),
            Task::Spf(_) => Records::Spf(SpfVerdict { result: SpfResult::TempError, by, explanation: None }),
            Task::Signature(_) => Records::Signature(SignatureVerdict {
                result: SignatureResult::TempError,
                reason: by,
                testing: false,
            }),
            Task::Dmarc(_) => Records::Dmarc(DmarcVerdict::without_policy(DmarcResult::TempError)),
            #[cfg(test)]
            Task::Panics => Records::ClientName(ClientName::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use vsmtp_ipc::edge::client_resolver::{DnsError, SignatureAlgorithm, SpfQuestion};

    use super::*;
    use crate::finding::{Key, Kind};
    use crate::zone::{Found, Missing};

    /// More turns than any judgement needs.
    const MAX_TURNS: usize = 300;

    /// Whatever is asked, these texts by turns.
    struct World {
        texts: Vec<String>,
        known: HashMap<Key, Found>,
        asked: Vec<Key>,
    }

    impl Zone for World {
        fn find(&mut self, key: Key) -> Judged<Found> {
            if let Some(found) = self.known.get(&key) {
                return Ok(found.clone());
            }
            self.asked.push(key);
            Err(Missing)
        }
    }

    impl World {
        fn look_up(&mut self) {
            for key in std::mem::take(&mut self.asked) {
                let text = self.texts[self.known.len() % self.texts.len()].clone();
                let many = text.len() % 13;
                let found = match (key.kind, text.as_bytes().first()) {
                    (_, Some(b'!')) => Err(DnsError::Temporary),
                    (_, Some(b'?')) => Err(DnsError::NoSuchName),
                    (Kind::A, _) => Ok(Records::Addresses(vec![[192, 0, 2, text.len() as u8].into()])),
                    (Kind::Mx, _) => Ok(Records::Mx((0..many).map(|n| (1, format!("m{n}.test"))).collect())),
                    (Kind::Ptr, _) => Ok(Records::Names((0..many).map(|n| format!("p{n}.test")).collect())),
                    (Kind::Txt, _) => Ok(Records::Text(vec![text.into_bytes()])),
                    _ => Err(DnsError::NoRecords),
                };
                self.known.insert(key, found);
            }
        }
    }

    fn ends(query: &Query, texts: Vec<String>) -> Records {
        let task = Task::of(query, 1_800_000_000).expect("a judgement");
        let mut world = World { texts, known: HashMap::new(), asked: Vec::new() };
        for _ in 0..MAX_TURNS {
            match task.judge(&mut world) {
                Ok(records) => return records,
                Err(Missing) => {
                    assert!(!world.asked.is_empty(), "something is missing, and nothing is asked");
                    world.look_up();
                }
            }
        }
        panic!("it does not end");
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        let word = prop::sample::select(vec![
            "v=spf1",
            " a",
            " mx",
            " ptr",
            " include:%{d2}",
            " exists:%{ir}.x.test",
            "/24",
            "//64",
            " -all",
            " ?all",
            " redirect=r.test",
            " exp=e.test",
            ":",
            "%{",
            "%{p}",
            "v=DMARC1;",
            "p=reject;",
            "np=none;",
            "psd=y;",
            "rua=mailto:a@b;",
            "v=DKIM1;",
            "k=ed25519;",
            "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            "t=y:s;",
            "ä",
            "!",
            "?",
            "=",
            " ",
        ]);
        prop::collection::vec(prop::collection::vec(word, 0..8).prop_map(|words| words.concat()), 1..12)
    }

    proptest! {
        /// Whatever domains publish, a judgement ends, and what it shows of them fits a reply.
        #[test]
        fn whatever_is_published_a_judgement_ends(texts in texts(), six: bool) {
            let domain = "a.b.example".to_owned();
            let client = if six { std::net::Ipv6Addr::LOCALHOST.into() } else { [192, 0, 2, 7].into() };
            let spf = Query::Spf(SpfQuestion {
                client,
                helo: "helo.example".to_owned(),
                sender: Some(("l-p+x".to_owned(), domain.clone())),
                receiver: "mx.example".to_owned(),
            });
            if let Records::Spf(verdict) = ends(&spf, texts.clone()) {
                let words = verdict.explanation.unwrap_or_default();
                prop_assert!(words.len() <= 500 && words.bytes().all(|octet| matches!(octet, b' '..=b'~')));
            }
            let dmarc = DmarcQuestion {
                author: domain.clone(),
                spf: Some("b.example".to_owned()),
                dkim: vec!["c.b.example".to_owned()],
            };
            ends(&Query::Dmarc(dmarc), texts.clone());
            ends(&Query::Signature(SignatureQuestion {
                domain,
                selector: "s".to_owned(),
                algorithm: SignatureAlgorithm::Ed25519Sha256,
                exact: false,
                data: b"data".to_vec(),
                signature: vec![7; 64],
            }), texts);
        }
    }
}
