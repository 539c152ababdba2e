//! What servers need, by policies and what is known of them.

use super::*;

fn policies(level: &str, rows: &[(&str, &str)]) -> Policies {
    let policy = |text| TlsPolicy::parse(text).unwrap();
    Policies::new(&DeliverTls {
        level: policy(level).into(),
        policies: rows
            .iter()
            .map(|(name, text)| (TlsDestination::parse(name).unwrap().into(), policy(text).into()))
            .collect(),
        mta_sts: false,
        reports: false,
        ca_file: None,
    })
}

fn of(policies: &Policies, next_hop: &str) -> String {
    policies.of(&NextHop::parse(next_hop).unwrap()).to_string()
}

#[test]
fn the_nearest_policy_counts() {
    let policies = policies(
        "may",
        &[("a.test", "encrypt"), (".test", "none"), (".b.test", "verify"), ("lmtp:[l.test]:24", "encrypt")],
    );
    for (next_hop, expected) in [
        ("smtp:a.test", "encrypt"),
        ("smtp:a.test:26", "none"),
        ("smtp:x.b.test", "verify match=nexthop:dot-nexthop"),
        ("smtp:b.test", "none"),
        ("smtp:example.org", "may"),
        ("smtp:[192.0.2.1]:25", "may"),
        ("smtp:[mx.example.org]:465", "encrypt wrapper"),
        ("smtp:[mx.c.test]:465", "none"),
        ("lmtp:[l.test]:24", "encrypt"),
        ("lmtp:[m.test]:24", "none"),
        ("lmtp:unix:/run/l", "none"),
    ] {
        assert_eq!(of(&policies, next_hop), expected, "{next_hop}");
    }
}

#[test]
fn a_server_that_is_named_proves_its_name_where_a_policy_of_mta_sts_is_wanted() {
    let policies = policies("sts", &[(".bank.test", "sts"), (".test", "encrypt")]);
    for (next_hop, expected) in [
        ("smtp:a.bank.test", "sts"),
        ("smtp:a.bank.test:26", "sts"),
        ("smtp:[mx.bank.test]:587", "verify match=nexthop"),
        ("smtp:[mx.bank.test]:465", "verify match=nexthop wrapper"),
        ("smtp:bank.example", "sts"),
        ("smtp:[mx.bank.example]:587", "verify match=nexthop"),
        ("smtp:[mx.c.test]:587", "encrypt"),
    ] {
        assert_eq!(of(&policies, next_hop), expected, "{next_hop}");
    }
}

#[test]
fn names_come_from_the_next_hop_and_not_from_the_dns() {
    let policy = TlsPolicy::parse("verify").unwrap();
    let dst = Domain::parse("dst.test").unwrap();
    let found = security(&policy, &dst, "mx.other.test", &Tlsa::None, None).unwrap();
    let Security::Always { proof: Proof::Authority(names), name: sni, .. } = &*found else { panic!() };
    assert_eq!(
        names[..],
        [CertificateName::Exact("dst.test".into()), CertificateName::Below("dst.test".into())]
    );
    assert_eq!(&**sni, "mx.other.test");
}

#[test]
fn a_password_is_only_for_a_server_that_proves_itself() {
    let of = |level: &str, unverified| for_account(TlsPolicy::parse(level).unwrap(), unverified).to_string();
    for weak in ["may", "encrypt", "dane"] {
        assert_eq!(of(weak, false), "verify match=nexthop:dot-nexthop");
        assert_eq!(of(weak, true), "encrypt");
    }
    for strong in ["dane-only", "sts", "verify match=mx.test wrapper"] {
        assert_eq!((of(strong, false).as_str(), of(strong, true).as_str()), (strong, strong));
    }
    let clear = Rc::new(Security::IfOffered { name: "x".into(), test: None });
    assert_eq!(with_account(&clear, &NextHop::parse("smtp:a.test").unwrap()).account(), None);
}

#[test]
fn the_domains_own_policy_names_its_hosts() {
    let mx = vec!["mx.dst.test".into(), "*.example.net".into()];
    let sts = Sts { mx, enforce: true, max_age_s: 1 };
    for (host, listed) in [
        ("mx.dst.test", true),
        ("MX.dst.test", true),
        ("a.example.net", true),
        ("a.b.example.net", false),
        ("example.net", false),
        (".example.net", false),
        ("x.mx.dst.test", false),
    ] {
        assert_eq!(sts.lists(host), listed, "{host}");
    }
    let dst = Domain::parse("dst.test").unwrap();
    let of = |level: &str, host: &str, tlsa: &Tlsa| {
        let policy = TlsPolicy::parse(level).unwrap();
        security(&policy, &dst, host, tlsa, Some(&sts)).map(|found| found.to_string())
    };
    for level in ["may", "dane"] {
        assert_eq!(of(level, "mx.dst.test", &Tlsa::None).as_deref(), Ok("verified"));
        assert!(of(level, "evil.test", &Tlsa::None).is_err());
    }
    // A policy that is only tested changes nothing but what is looked at.
    let tested = Sts { enforce: false, ..sts.clone() };
    let found = |host: &str| {
        let policy = TlsPolicy::parse("may").unwrap();
        security(&policy, &dst, host, &Tlsa::None, Some(&tested)).map(|found| (*found).clone())
    };
    let test = Some(Proof::Authority(vec![CertificateName::Exact("mx.dst.test".into())]));
    assert_eq!(found("mx.dst.test"), Ok(Security::IfOffered { name: "mx.dst.test".into(), test }));
    assert_eq!(found("evil.test"), Ok(Security::IfOffered { name: "evil.test".into(), test: None }));
    // DANE wins (RFC 8461 2), but not by records of which none can be used; and what the operator wrote does.
    let usable = Tlsa::of_records(&[(3, 1, 1, vec![7; 32])]);
    assert_eq!(of("dane", "evil.test", &usable).as_deref(), Ok("dane"));
    assert_eq!(of("dane", "mx.dst.test", &Tlsa::Unusable).as_deref(), Ok("verified"));
    assert!(of("dane", "evil.test", &Tlsa::Unusable).is_err());
    let policy = TlsPolicy::parse("dane").unwrap();
    let found = security(&policy, &dst, "mx.dst.test", &Tlsa::Unusable, Some(&tested)).unwrap();
    assert_eq!((found.to_string().as_str(), found.use_tls()), ("encrypted", UseTls::Always));
    assert_eq!(of("encrypt", "evil.test", &Tlsa::None).as_deref(), Ok("encrypted"));
}

#[test]
fn a_port_that_begins_with_tls_always_gets_it() {
    let next_hop = NextHop::parse("smtp:[mx.test]:465").unwrap();
    for level in ["may", "encrypt", "dane"] {
        let policy = policies(level, &[]).of(&next_hop);
        let dst = Domain::parse("mx.test").unwrap();
        let security = security(&policy, &dst, "mx.test", &Tlsa::None, None).unwrap();
        assert_eq!(security.use_tls(), UseTls::FromStart, "{level}");
    }
}

#[test]
fn tlsa_records_decide_and_their_absence_too() {
    let good = || (3, 1, 1, vec![7; 32]);
    let of = |level: &str, tlsa: &Tlsa| {
        let policy = TlsPolicy::parse(level).unwrap();
        let dst = Domain::parse("dst.test").unwrap();
        security(&policy, &dst, "mx.test", tlsa, None).map(|security| security.to_string())
    };
    let usable = Tlsa::of_records(&[(0, 1, 1, vec![7; 32]), good()]);
    assert!(matches!(&usable, Tlsa::Usable(records, None) if records.len() == 1));
    let unusable = Tlsa::of_records(&[(1, 1, 1, vec![7; 32]), (3, 1, 1, vec![7; 3]), (3, 9, 1, vec![7; 32])]);
    assert_eq!((&unusable, Tlsa::of_records(&[])), (&Tlsa::Unusable, Tlsa::None));
    assert_eq!(of("dane", &usable).as_deref(), Ok("dane"));
    assert_eq!(of("dane-only", &usable).as_deref(), Ok("dane"));
    assert_eq!(of("dane", &unusable).as_deref(), Ok("encrypted"));
    assert!(of("dane-only", &unusable).is_err(), "nothing would be proved");
    assert!(of("dane", &Tlsa::None).is_ok() && of("dane-only", &Tlsa::None).is_err());
    let unclear = Tlsa::Unclear { forged: false };
    assert!(of("dane", &unclear).is_err() && of("dane-only", &unclear).is_err());
    // Other policies do not ask for records, and none of these says anything to them.
    assert_eq!(of("encrypt", &unclear).as_deref(), Ok("encrypted"));
    let many = vec![good(); 2 * MAX_ASSOCIATIONS];
    assert!(
        matches!(Tlsa::of_records(&many), Tlsa::Usable(records, None) if records.len() == MAX_ASSOCIATIONS)
    );
}

#[test]
fn records_where_an_alias_ends_are_asked_for_by_their_name() {
    let dst = Domain::parse("dst.test").unwrap();
    let policy = TlsPolicy::parse("dane").unwrap();
    let found = |tlsa: &Tlsa| {
        let found = security(&policy, &dst, "mx.test", tlsa, None).unwrap();
        let Security::Always { name, proof: Proof::Dane(_, names), .. } = &*found else { panic!() };
        let names = names.iter().map(|name| match name {
            CertificateName::Exact(name) => name.to_string(),
            other => panic!("{other:?}"),
        });
        (name.to_string(), names.collect::<Vec<_>>())
    };
    let own = Tlsa::of_records(&[(2, 1, 1, vec![7; 32])]);
    assert_eq!(found(&own), ("mx.test".to_owned(), vec!["mx.test".to_owned(), "dst.test".to_owned()]));
    let (name, names) = found(&own.belonging_to("end.test"));
    assert_eq!(
        (name.as_str(), names),
        ("end.test", ["end.test", "dst.test", "mx.test"].map(str::to_owned).to_vec())
    );
    assert_eq!(Tlsa::Unusable.belonging_to("end.test"), Tlsa::Unusable);
}

#[test]
fn an_operator_can_ask_for_a_policy_of_the_domain_or_leave_it_out() {
    let dst = Domain::parse("dst.test").unwrap();
    let of = |enforce: Option<bool>, host: &str| {
        let sts = enforce.map(|enforce| Sts { mx: vec!["mx.dst.test".into()], enforce, max_age_s: 1 });
        let policy = TlsPolicy::parse("sts").unwrap();
        security(&policy, &dst, host, &Tlsa::None, sts.as_ref()).map(|found| found.to_string())
    };
    assert_eq!(of(Some(true), "mx.dst.test").as_deref(), Ok("verified"));
    assert!(of(Some(true), "evil.test").is_err(), "the policy does not list it");
    assert!(
        of(Some(false), "mx.dst.test").is_err(),
        "one that is tested stops nothing, so it proves nothing"
    );
    assert!(of(None, "mx.dst.test").is_err());
    let asks = |level: &str| {
        let policy = TlsPolicy::parse(level).unwrap();
        (asks_for_sts(&policy), requires_sts(&policy))
    };
    for level in ["may", "dane"] {
        assert_eq!((asks(level), asks(&format!("{level} no-sts"))), ((true, false), (false, false)));
    }
    assert_eq!((asks("sts"), asks("verify")), ((false, true), (false, false)));
    assert_eq!(
        lenient(TlsPolicy::parse("sts").unwrap()),
        TlsPolicy::parse("sts").unwrap(),
        "no sender waives it"
    );
}
