//! P1: a policy belongs to the next hop, not to the server. Domains with bad ones share their servers with domains without any,
//! which must not notice.

use vsmtp_tests::{
    Client, Mta, PLAIN, Postfix, SIGNED, Settings, Unbound, needs_programs, needs_root, wait_until,
};

use crate::Certificates;
use crate::https::Https;

/// What no server has, and what is signed in the place of something else.
const WRONG: &str = "abababababababababababababababababababababababababababababababab";
const FORGED: (&str, &str) = (
    "1212121212121212121212121212121212121212121212121212121212121212",
    "3434343434343434343434343434343434343434343434343434343434343434",
);
/// Messages to each domain with a bad policy: more than the failures after which a host is left alone.
const MESSAGES: usize = 5;

fn send(mta: &Mta, to: &str) {
    let reply = Client::hello(mta.port()).mail("a@src.example", &[to], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
}

/// The lines of the log with this event about mail for this domain.
fn lines(mta: &Mta, event: &str, domain: &str) -> Vec<String> {
    let (event, domain) = (format!("event={event} "), format!("@{domain}> "));
    let log = mta.log();
    log.lines().filter(|line| line.contains(&event) && line.contains(&domain)).map(str::to_owned).collect()
}

#[test]
fn the_bad_policy_of_one_domain_delays_no_other_at_the_same_servers() {
    let test = "the_bad_policy_of_one_domain_delays_no_other_at_the_same_servers";
    let programs = ["postfix", "postcat", "openssl", "python3", "unbound", "ldns-keygen", "ldns-signzone"];
    if !needs_programs(test, &programs) || !needs_root(test) {
        return;
    }
    let sts = format!("sts.{PLAIN}");
    let certificates = Certificates::for_names(&format!("DNS:mta-sts.{sts}"));
    let policy = format!("version: STSv1\nmode: enforce\nmx: elsewhere.{PLAIN}\nmax_age: 86400\n");
    let https = Https::start(1, &certificates, &[(&sts, &policy)]);
    let postfix: Postfix = certificates.postfix("smtpd_tls_security_level = may");
    let port = postfix.port();
    let [wrong, forged, first, second] =
        ["wrong", "forged", "first", "second"].map(|name| format!("{name}.{SIGNED}"));
    // Two servers at one address: what is forged of the one must not be read of the other.
    let signed = format!(
        "mx.a.{SIGNED}. 60 IN A 127.0.0.1\n_{port}._tcp.mx.a.{SIGNED}. 60 IN TLSA 3 1 1 {WRONG}\n\
         mx.b.{SIGNED}. 60 IN A 127.0.0.1\n_{port}._tcp.mx.b.{SIGNED}. 60 IN TLSA 3 1 1 {}\n\
         {wrong}. 60 IN MX 1 mx.a.{SIGNED}.\n{first}. 60 IN MX 1 mx.a.{SIGNED}.\n\
         {forged}. 60 IN MX 1 mx.b.{SIGNED}.\n{second}. 60 IN MX 1 mx.b.{SIGNED}.\n",
        FORGED.0
    );
    let plain = format!(
        "{sts}. 60 IN MX 1 mx.a.{SIGNED}.\n_mta-sts.{sts}. 60 IN TXT \"v=STSv1; id=1;\"\n\
         mta-sts.{sts}. 60 IN A {}\n",
        https.host().map(|octet| octet.to_string()).join(".")
    );
    let dns = Unbound::start(&signed, &plain, &[FORGED]);
    let domains = [&sts, &wrong, &forged, &first, &second];
    let rows = domains.map(|domain| format!("\"{domain}\": \"{domain}:{port}\"")).join(", ");
    let config = format!(
        "{}config.delivery.transport = #{{ {rows} }}; config.delivery.tls.ca_file = \"ca.pem\";\n\
         config.delivery.tls.policy = #{{ \"{wrong}:{port}\": \"dane\", \"{forged}:{port}\": \"dane\" }};\n\
         config.server.delivers = 1; config.queue.backoff.min = \"1s\"; config.queue.backoff.max = \"1s\";",
        dns.config()
    );
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    std::fs::copy(certificates.path("ca.pem"), mta.root().join("etc/vsmtp/ca.pem")).expect("copy the CA");
    mta.launch();
    for bad in [&sts, &wrong, &forged] {
        for _ in 0..MESSAGES {
            send(&mta, &format!("b@{bad}"));
        }
    }
    for bad in [&sts, &wrong, &forged] {
        wait_until("its mail was tried often enough", || lines(&mta, "deferred", bad).len() >= MESSAGES);
        let lines = lines(&mta, "deferred", bad);
        assert!(lines.iter().all(|line| line.contains("status=4.7.5")), "{lines:#?}");
    }
    assert_eq!((postfix.held().len(), mta.queued()), (0, 3 * MESSAGES as u64));
    for (at, good) in [&first, &second].into_iter().enumerate() {
        send(&mta, &format!("b@{good}"));
        wait_until("the other domain's mail was tried", || {
            !(lines(&mta, "delivered", good).is_empty() && lines(&mta, "deferred", good).is_empty())
        });
        let deferred = lines(&mta, "deferred", good);
        assert!(deferred.is_empty(), "{deferred:#?}");
        let delivered = lines(&mta, "delivered", good).remove(0);
        assert!(
            delivered.contains(" attempt=1 ") && delivered.contains("tls=\"encrypted TLSv1.3"),
            "{delivered}"
        );
        assert_eq!(postfix.wait_for_held(at + 1).len(), at + 1);
    }
    assert!(!mta.log().contains("event=host-left-alone"), "{}", mta.log());
    assert_eq!(mta.queued(), 3 * MESSAGES as u64);
}
