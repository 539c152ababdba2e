//! DANE through the whole MTA: a zone signed on the spot, Debian's unbound that validates, a Postfix with a certificate.

use vsmtp_tests::{Client, Mta, PLAIN, Postfix, SIGNED, Settings, Unbound, needs_programs, needs_root};
use vsmtp_tests::{program, said, sign_certificate, wait_until};

use crate::Certificates;

/// What no server has.
const WRONG: &str = "abababababababababababababababababababababababababababababababab";
/// What is signed in the place of something else.
const FORGED: (&str, &str) = (
    "1212121212121212121212121212121212121212121212121212121212121212",
    "3434343434343434343434343434343434343434343434343434343434343434",
);

/// SHA-256 of the public key of a certificate (selector 1).
fn key_hash(certificates: &Certificates, file: &str) -> String {
    let script = "openssl x509 -pubkey -noout -in \"$1\" | openssl pkey -pubin -outform der | sha256sum";
    hash(script, &certificates.path(file))
}

/// SHA-256 of a whole certificate (selector 0).
fn certificate_hash(certificates: &Certificates, file: &str) -> String {
    hash("openssl x509 -outform der -in \"$1\" | sha256sum", &certificates.path(file))
}

fn hash(script: &str, path: &str) -> String {
    let output = program("sh").args(["-c", script, "sh", path]).output();
    let text = said(&output.expect("run openssl"));
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// One domain for each case, all served by the same Postfix: `good`, `bad`, `forged`, `none` and `alias` in the signed zone,
/// and `bad` in the plain one.
fn names(port: u16, good: &str) -> Unbound {
    let host = |domain: &str, zone: &str, hash: &str| {
        let mut text = format!(
            "{domain}.{zone}. 60 IN MX 1 mx.{domain}.{zone}.\nmx.{domain}.{zone}. 60 IN A 127.0.0.1\n"
        );
        if !hash.is_empty() {
            text += &format!("_{port}._tcp.mx.{domain}.{zone}. 60 IN TLSA 3 1 1 {hash}\n");
        }
        text
    };
    let signed = [("good", good), ("bad", WRONG), ("forged", FORGED.0), ("none", "")]
        .map(|(domain, hash)| host(domain, SIGNED, hash))
        .concat();
    // Its servers have another name, and the records are there.
    let alias = format!(
        "alias.{SIGNED}. 60 IN MX 1 mx.alias.{SIGNED}.\nmx.alias.{SIGNED}. 60 IN CNAME mx.good.{SIGNED}.\n"
    );
    let signed = signed + &alias;
    Unbound::start(&signed, &host("bad", PLAIN, WRONG), &[FORGED])
}

/// An MTA with DANE that finds all these domains at that port.
fn mta(dns: &Unbound, port: u16) -> Mta {
    let domains = [
        ("good", SIGNED),
        ("bad", SIGNED),
        ("forged", SIGNED),
        ("none", SIGNED),
        ("bad", PLAIN),
        ("alias", SIGNED),
    ];
    let rows = domains.map(|(name, zone)| format!("\"{name}.{zone}\": \"{name}.{zone}:{port}\"")).join(", ");
    let config = format!(
        "{}config.delivery.tls.level = \"dane\"; config.delivery.transport = #{{ {rows} }};\n",
        dns.config()
    );
    Mta::start(&Settings { config, ..Settings::default() })
}

/// Sends one message and answers what the log says of its first attempt.
fn send(mta: &Mta, to: &str) -> String {
    let mut client = Client::hello(mta.port());
    let rcpt = format!("RCPT TO:<b@{to}>");
    for (line, code) in [("MAIL FROM:<a@src.example>", 250), (rcpt.as_str(), 250), ("DATA", 354)] {
        assert_eq!(client.say(line).code(), code, "{line}");
    }
    client.send(b"From: a@src.example\r\nSubject: secret\r\n\r\nbody\r\n");
    assert_eq!(client.say(".").code(), 250);
    let line = || {
        let log = mta.log();
        let is_it = |line: &&str| {
            line.contains(&format!("@{to}>"))
                && ["delivered", "deferred", "failed"]
                    .iter()
                    .any(|event| line.contains(&format!("event={event} ")))
        };
        log.lines().find(is_it).map(str::to_owned)
    };
    wait_until("the first attempt is over", || line().is_some());
    line().unwrap_or_default()
}

#[test]
fn a_signed_record_decides_and_one_that_is_not_signed_says_nothing() {
    let test = "a_signed_record_decides_and_one_that_is_not_signed_says_nothing";
    let programs = ["postfix", "postcat", "openssl", "unbound", "ldns-keygen", "ldns-signzone"];
    if !needs_programs(test, &programs) || !needs_root(test) {
        return;
    }
    // Names and authority say nothing to usage 3: the certificate is for another name, and nobody knows its authority.
    let certificates = Certificates::for_names("DNS:elsewhere.example");
    let postfix: Postfix = certificates.postfix("smtpd_tls_security_level = may");
    let dns = names(postfix.port(), &key_hash(&certificates, "certificate.pem"));
    let mta = mta(&dns, postfix.port());

    let good = send(&mta, &format!("good.{SIGNED}"));
    assert!(good.contains("event=delivered") && good.contains("tls=\"dane TLSv1.3"), "{good}");
    let alias = send(&mta, &format!("alias.{SIGNED}"));
    assert!(alias.contains("event=delivered") && alias.contains("tls=\"dane TLSv1.3"), "{alias}");
    let bad = send(&mta, &format!("bad.{SIGNED}"));
    assert!(bad.contains("event=deferred") && bad.contains("status=4.7.5"), "{bad}");
    let forged = send(&mta, &format!("forged.{SIGNED}"));
    assert!(forged.contains("event=deferred") && forged.contains("status=4.7.5"), "{forged}");
    assert!(forged.contains("TLSA records") && forged.contains("cannot be looked up"), "{forged}");
    for without in [format!("none.{SIGNED}"), format!("bad.{PLAIN}")] {
        let line = send(&mta, &without);
        assert!(line.contains("event=delivered") && line.contains("tls=\"encrypted TLSv1.3"), "{line}");
    }
    assert_eq!(postfix.wait_for_held(4).len(), 4);
    wait_until("the others are left", || mta.queued() == 2);
}

/// Usage 2: records name an authority of the chain that the server shows; and where records say nothing, or nothing counts.
#[test]
fn an_authority_in_a_record_vouches_for_the_name_and_dane_only_wants_a_record() {
    let test = "an_authority_in_a_record_vouches_for_the_name_and_dane_only_wants_a_record";
    let programs = ["postfix", "postcat", "openssl", "unbound", "ldns-keygen", "ldns-signzone"];
    if !needs_programs(test, &programs) || !needs_root(test) {
        return;
    }
    let certificates = Certificates::for_names("DNS:elsewhere.example");
    // The root vouches for an authority between, and that for the server.
    let folder = std::path::PathBuf::from(certificates.path(""));
    sign_certificate(&folder, "ca", "middle", "DNS:middle.example\nbasicConstraints=critical,CA:TRUE");
    let names = ["root", "middle", "other"].map(|name| format!("DNS:mx.{name}.{SIGNED}")).join(",");
    sign_certificate(&folder, "middle", "leaf", &names);
    let chain = ["leaf.pem", "middle.pem", "ca.pem"]
        .map(|name| std::fs::read_to_string(certificates.path(name)).expect("read a certificate"));
    std::fs::write(certificates.path("certificate.pem"), chain.concat()).expect("write the chain");
    std::fs::copy(certificates.path("leaf.key"), certificates.path("key.pem")).expect("copy the key");
    let postfix: Postfix = certificates.postfix("smtpd_tls_security_level = may");
    let port = postfix.port();

    let (root, middle) = (certificate_hash(&certificates, "ca.pem"), key_hash(&certificates, "middle.pem"));
    let record = |domain: &str, data: &str| {
        format!(
            "{domain}.{SIGNED}. 60 IN MX 1 mx.{domain}.{SIGNED}.\nmx.{domain}.{SIGNED}. 60 IN A 127.0.0.1\n\
             _{port}._tcp.mx.{domain}.{SIGNED}. 60 IN TLSA {data}\n"
        )
    };
    let signed = [
        record("root", &format!("2 0 1 {root}")),
        record("middle", &format!("2 1 1 {middle}")),
        // The same authority, but the server has another name; and one that is not in the chain.
        record("stranger", &format!("2 1 1 {middle}")),
        record("other", &format!("2 1 1 {WRONG}")),
        format!(
            "without.{SIGNED}. 60 IN MX 1 mx.without.{SIGNED}.\nmx.without.{SIGNED}. 60 IN A 127.0.0.1\n"
        ),
    ];
    // Nobody vouches for these MX records, so the host may be anybody's, and its records say nothing.
    let plain = format!("unvouched.{PLAIN}. 60 IN MX 1 mx.other.{SIGNED}.\n");
    let dns = Unbound::start(&signed.concat(), &plain, &[]);
    let zones = [("root", SIGNED), ("middle", SIGNED), ("stranger", SIGNED), ("other", SIGNED)];
    let zones = zones.into_iter().chain([("without", SIGNED), ("unvouched", PLAIN)]);
    let rows: Vec<String> =
        zones.map(|(name, zone)| format!("\"{name}.{zone}\": \"{name}.{zone}:{port}\"")).collect();
    let config = format!(
        "{}config.delivery.tls.level = \"dane\"; config.delivery.transport = #{{ {} }};\n\
         config.delivery.tls.policy = #{{ \"without.{SIGNED}:{port}\": \"dane-only\", \"middle.{SIGNED}:{port}\": \"dane-only\" }};",
        dns.config(),
        rows.join(", ")
    );
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    for (domain, tls) in [
        (format!("root.{SIGNED}"), "dane TLSv1.3"),
        (format!("middle.{SIGNED}"), "dane TLSv1.3"),
        (format!("unvouched.{PLAIN}"), "encrypted TLSv1.3"),
    ] {
        let line = send(&mta, &domain);
        assert!(line.contains("event=delivered") && line.contains(&format!("tls=\"{tls}")), "{line}");
    }
    for domain in ["stranger", "other", "without"] {
        let line = send(&mta, &format!("{domain}.{SIGNED}"));
        assert!(line.contains("event=deferred") && line.contains("status=4.7.5"), "{line}");
    }
    assert_eq!(postfix.wait_for_held(3).len(), 3);
    wait_until("the others are left", || mta.queued() == 3);
}
