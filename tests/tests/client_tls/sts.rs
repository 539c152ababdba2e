//! MTA-STS through the whole MTA: what a policy asks of a real Postfix, and that one that was fetched once holds over a
//! restart, whatever is blocked then.

use vsmtp_tests::{
    Client, Mta, NameServer, PLAIN, Settings, Sink, Unbound, needs_programs, needs_root, wait_until,
};

use crate::Certificates;
use crate::https::Https;
use crate::reports;

const POLICY: &str = "version: STSv1\nmode: enforce\nmx: elsewhere.test\nmax_age: 86400\n";

/// Sends one message, and answers what the log says of its first attempt.
fn send(mta: &Mta, to: &str) -> String {
    let code = Client::hello(mta.port()).mail("a@src.test", &[to], "Subject: x\r\n\r\nx").code();
    assert_eq!(code, 250);
    let line = || {
        let is_it = |line: &&str| {
            line.contains(to)
                && ["event=delivered ", "event=deferred "].iter().any(|event| line.contains(event))
        };
        mta.log().lines().find(is_it).map(str::to_owned)
    };
    wait_until("the first attempt is over", || line().is_some());
    line().unwrap_or_default()
}

#[test]
fn a_restart_while_the_policy_is_out_of_reach_sends_no_mail_past_it() {
    let test = "a_restart_while_the_policy_is_out_of_reach_sends_no_mail_past_it";
    if !needs_programs(test, &["openssl", "python3"]) || !needs_root(test) {
        return;
    }
    let certificates = Certificates::for_names("DNS:mta-sts.dst.test");
    let https = Https::start(1, &certificates, &[("dst.test", POLICY)]);
    let names = [("dst.test", [127, 0, 0, 1]), ("mta-sts.dst.test", https.host())];
    let dns = NameServer::serve_both(&names, &[("_mta-sts.dst.test", "v=STSv1; id=1;")]);
    let sink = Sink::start();
    let settings = |dns: &NameServer| {
        let config = format!(
            "{}config.delivery.transport = #{{ \"dst.test\": \"dst.test:{}\" }};\n\
             config.delivery.tls.ca_file = \"ca.pem\";\n",
            dns.config(),
            sink.port()
        );
        Settings { config, ..Settings::default() }
    };
    let mut mta = Mta::prepare(&settings(&dns));
    std::fs::copy(certificates.path("ca.pem"), mta.root().join("etc/vsmtp/ca.pem")).expect("copy the CA");
    mta.launch();
    let held_back = |line: &str| line.contains("event=deferred") && line.contains("does not list");
    let line = send(&mta, "first@dst.test");
    assert!(held_back(&line), "{line}");
    mta.stop();

    // Neither the record nor the policy can be had any more.
    drop(https);
    let dns = NameServer::serve_both(&names, &[]);
    mta.write_configuration(&settings(&dns));
    mta.launch();
    let line = send(&mta, "second@dst.test");
    assert!(held_back(&line) && sink.count() == 0, "{line}");
    mta.stop();

    // It is the memory that held the mail back.
    std::fs::remove_dir_all(mta.root().join("var/lib/vsmtp/resolver")).expect("forget");
    mta.launch();
    let line = send(&mta, "third@dst.test");
    assert!(line.contains("event=delivered"), "{line}");
}

#[test]
fn a_postfix_is_held_to_the_policy_of_its_domain() {
    let test = "a_postfix_is_held_to_the_policy_of_its_domain";
    let programs = ["postfix", "postcat", "openssl", "python3", "unbound", "ldns-keygen", "ldns-signzone"];
    if !needs_programs(test, &programs) || !needs_root(test) {
        return;
    }
    let [good, other, trial, open] = ["good", "other", "trial", "open"].map(|name| format!("{name}.{PLAIN}"));
    // One certificate for all: as a server of mail it is for the first domain only.
    let names = [&good, &other, &trial].map(|domain| format!("DNS:mta-sts.{domain}")).join(",");
    let certificates = Certificates::for_names(&format!("DNS:mx.{good},{names}"));
    let untrusted = Certificates::for_names(&format!("DNS:mta-sts.{open}"));
    let policy =
        |mode: &str, domain: &str| format!("version: STSv1\nmode: {mode}\nmx: mx.{domain}\nmax_age: 86400\n");
    let policies = [("enforce", &good), ("enforce", &other), ("testing", &trial)]
        .map(|(mode, domain)| (domain.as_str(), policy(mode, domain)));
    let policies: Vec<(&str, &str)> =
        policies.iter().map(|(domain, text)| (*domain, text.as_str())).collect();
    let https = Https::start(2, &certificates, &policies);
    // Whoever has no certificate that counts could ask for anything, such as servers that do not exist.
    let forged = policy("enforce", "elsewhere");
    let impostor = Https::start(3, &untrusted, &[(&open, &forged)]);

    let postfix = certificates.postfix("smtpd_tls_security_level = may");
    let records = |domain: &String| {
        let host =
            if *domain == open { impostor.host() } else { https.host() }.map(|octet| octet.to_string());
        format!(
            "{domain}. 60 IN MX 1 mx.{domain}.\nmx.{domain}. 60 IN A 127.0.0.1\n\
             mta-sts.{domain}. 60 IN A {}\n_mta-sts.{domain}. 60 IN TXT \"v=STSv1; id=1;\"\n\
             _smtp._tls.{domain}. 60 IN TXT \"v=TLSRPTv1; rua=mailto:reports@local.test\"\n",
            host.join(".")
        )
    };
    let domains = [&good, &other, &trial, &open];
    let dns = Unbound::start("", &domains.map(records).concat(), &[]);
    let rows = domains.map(|domain| format!("\"{domain}\": \"{domain}:{}\"", postfix.port())).join(", ");
    let config = format!(
        "{}config.delivery.transport = #{{ {rows} }}; config.delivery.tls.ca_file = \"ca.pem\";\n\
         config.delivery.tls.reports.from = \"tls-reports@local.test\";\n",
        dns.config()
    );
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    std::fs::copy(certificates.path("ca.pem"), mta.root().join("etc/vsmtp/ca.pem")).expect("copy the CA");
    mta.launch();

    let line = send(&mta, &format!("b@{good}"));
    assert!(line.contains("event=delivered") && line.contains("tls=\"verified TLSv1.3"), "{line}");
    let line = send(&mta, &format!("b@{other}"));
    assert!(line.contains("event=deferred") && line.contains("status=4.7.5"), "{line}");
    for unheld in [&trial, &open] {
        let line = send(&mta, &format!("b@{unheld}"));
        assert!(line.contains("event=delivered") && line.contains("tls=\"encrypted TLSv1.3"), "{line}");
    }
    assert_eq!(postfix.wait_for_held(3).len(), 3);
    assert!(!postfix.log().contains(&format!("to=<b@{other}>")), "{}", postfix.log());
    wait_until("the other one waits", || mta.queued() == 1);

    // Each domain hears what its policy has done, and the one on trial what it would have done.
    let told = reports::told_the_day_after(&mut mta, 4);
    let row = |domain: &String, kind: &str, good, bad, why: &str| {
        (domain.clone(), kind.to_owned(), good, bad, why.to_owned())
    };
    let expected = [
        row(&good, "sts", 1, 0, ""),
        // It was delivered to as if it had none, and hears that there was one.
        row(&open, "no-policy-found", 1, 0, ""),
        row(&open, "sts", 0, 1, "sts-policy-fetch-error"),
        row(&other, "sts", 0, 1, "certificate-host-mismatch"),
        row(&trial, "sts", 0, 1, "certificate-host-mismatch"),
    ];
    assert_eq!(told, expected);
}
