//! RFC 9989 as a table: who may speak for whom, and what is wanted of the others.

use std::collections::BTreeMap;

use vsmtp_ipc::edge::client_resolver::{DnsError, Records};

use super::*;
use crate::finding::Key;
use crate::zone::Found;

/// Names with a text, and names that exist.
struct Names(BTreeMap<&'static str, &'static str>, usize);

impl Zone for Names {
    fn find(&mut self, key: Key) -> Judged<Found> {
        self.1 += 1;
        let name = key.name.to_ascii();
        let text = self.0.get(name.trim_end_matches('.'));
        Ok(match (text, key.kind) {
            (Some(&"timeout"), _) => Err(DnsError::Temporary),
            (Some(text), Kind::Txt) => {
                Ok(Records::Text(text.split('|').map(|t| t.as_bytes().to_vec()).collect()))
            }
            (Some(&"exists"), Kind::A) => Ok(Records::Addresses(vec![[192, 0, 2, 1].into()])),
            _ => Err(DnsError::NoSuchName),
        })
    }
}

fn zone() -> Names {
    Names(
        [
            ("_dmarc.example.com", "v=DMARC1; p=reject; sp=quarantine; np=none"),
            ("_dmarc.strict.test", "v=DMARC1; p=quarantine; adkim=s; aspf=s"),
            ("_dmarc.bank", "v=DMARC1; p=reject; psd=y"),
            ("_dmarc.a.bank", "v=DMARC1; p=none"),
            ("_dmarc.unit.corp.test", "v=DMARC1; p=none; psd=n"),
            ("_dmarc.corp.test", "v=DMARC1; p=reject"),
            ("_dmarc.testing.test", "v=DMARC1; p=reject; t=y"),
            ("_dmarc.twice.test", "v=DMARC1; p=reject|v=DMARC1; p=none"),
            ("_dmarc.slow.test", "timeout"),
            ("_dmarc.slips.test", "v=DMARC1; p=reject|v=DMARC1; p=x"),
            // Nobody can tell whether the unit wants to be one of its own.
            ("_dmarc.part.test", "v=DMARC1; p=reject"),
            ("_dmarc.unit.part.test", "timeout"),
            ("_dmarc.own.unit.part.test", "v=DMARC1; p=quarantine"),
            ("_dmarc.strict.unit.part.test", "v=DMARC1; p=none; aspf=s; adkim=s"),
            ("_dmarc.odd.test", "v=spf1 -all|v=DMARC1; p=quarantine"),
            ("there.example.com", "exists"),
        ]
        .into(),
        0,
    )
}

fn verdict(author: &str, spf: Option<&str>, dkim: &[&str]) -> DmarcVerdict {
    let question = DmarcQuestion {
        author: author.to_owned(),
        spf: spf.map(str::to_owned),
        dkim: dkim.iter().map(|domain| (*domain).to_owned()).collect(),
    };
    check(&question, &mut zone()).unwrap()
}

#[test]
fn who_may_speak_for_whom() {
    use DmarcResult::{Fail, None as Nothing, Pass, TempError};
    for (author, spf, dkim, expected) in [
        ("example.com", Some("example.com"), &[][..], Pass),
        ("Example.COM.", None, &["EXAMPLE.com"], Pass),
        ("example.com", Some("mail.example.com"), &[], Pass),
        ("a.example.com", Some("b.example.com"), &[], Pass),
        ("example.com", Some("example.org"), &["badexample.com", "com"], Fail),
        ("example.com", None, &[], Fail),
        ("strict.test", Some("mail.strict.test"), &["mail.strict.test"], Fail),
        ("strict.test", Some("strict.test"), &[], Pass),
        // Neighbours below a public suffix are strangers, whether or not they have a record.
        ("a.bank", None, &["b.bank"], Fail),
        ("x.b.bank", None, &["y.b.bank"], Pass),
        ("x.b.bank", None, &["c.bank"], Fail),
        // A unit that says that it is an organisation of its own is one.
        ("unit.corp.test", None, &["corp.test"], Fail),
        ("x.unit.corp.test", None, &["y.unit.corp.test"], Pass),
        ("other.corp.test", None, &["corp.test"], Pass),
        // No record, several records, and nobody who can tell.
        ("nothing.test", Some("nothing.test"), &[], Nothing),
        ("twice.test", None, &[], Nothing),
        ("slow.test", Some("slow.test"), &[], TempError),
        ("odd.test", None, &["odd.test"], Pass),
        ("slips.test", None, &[], Nothing),
        // The author's own name cannot be asked: its record may say anything, but the author is the author.
        ("unit.part.test", None, &[], TempError),
        ("unit.part.test", Some("part.test"), &["x.part.test"], TempError),
        ("unit.part.test", Some("unit.part.test"), &[], Pass),
        ("x.unit.part.test", None, &["part.test"], TempError),
        ("x.unit.part.test", None, &["x.unit.part.test"], Pass),
        // Its own record decides, and only who may speak for it is open.
        ("own.unit.part.test", None, &["part.test"], TempError),
        ("own.unit.part.test", None, &["other.test", "test"], Fail),
        ("own.unit.part.test", None, &[], Fail),
        ("strict.unit.part.test", Some("part.test"), &["unit.part.test"], Fail),
        // The other's organisation is open.
        ("part.test", None, &["unit.part.test"], TempError),
        ("other.test", None, &["unit.part.test"], Nothing),
        ("example.com", None, &["unit.part.test"], Fail),
    ] {
        assert_eq!(verdict(author, spf, dkim).result, expected, "{author} {spf:?} {dkim:?}");
    }
}

#[test]
fn what_is_wanted_of_the_others() {
    use DmarcPolicy::{None as Nothing, Quarantine, Reject};
    for (author, policy, at, organisation) in [
        ("example.com", Reject, "example.com", "example.com"),
        ("there.example.com", Quarantine, "example.com", "example.com"),
        ("absent.example.com", Nothing, "example.com", "example.com"),
        ("a.bank", Nothing, "a.bank", "a.bank"),
        ("x.b.bank", Reject, "bank", "b.bank"),
        ("bank", Reject, "bank", "bank"),
        ("testing.test", Quarantine, "testing.test", "testing.test"),
        ("deep.unit.corp.test", Nothing, "unit.corp.test", "unit.corp.test"),
        ("nothing.test", Nothing, "", "nothing.test"),
    ] {
        let verdict = verdict(author, None, &[]);
        assert_eq!((verdict.policy, verdict.found_at.as_str()), (policy, at), "{author}");
        assert_eq!(verdict.organisation, organisation, "{author}");
    }
    assert_eq!(verdict("testing.test", None, &[]).published, Reject);
    // A record of the author's own decides, whatever cannot be asked above it; without one nothing is said.
    let found = |author: &str| verdict(author, None, &["part.test"]).found_at;
    assert_eq!(found("own.unit.part.test"), "own.unit.part.test");
    assert_eq!(found("unit.part.test"), "");
}

#[test]
fn a_walk_asks_at_most_eight_names() {
    let mut zone = zone();
    let deep = (0..40).map(|n| format!("l{n}")).collect::<Vec<_>>().join(".") + ".test";
    let walk = walk(&deep, &mut zone).unwrap();
    assert_eq!(walk.organisation(), deep);
    // Each is asked for twice: once to have it looked up.
    assert_eq!(zone.1, 16);
}
