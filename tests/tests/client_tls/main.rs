//! TLS towards a real next hop: Postfix with OpenSSL, under each kind of policy.

mod dane;
mod https;
mod relay;
mod reports;
mod shared;
mod sts;

use std::path::{Path, PathBuf};

use vsmtp_tests::{Client, Mta, Postfix, Settings, needs_programs, needs_root, run, said, wait_until};

fn can_run(test: &str) -> bool {
    needs_programs(test, &["postfix", "postcat", "openssl"]) && needs_root(test)
}

/// An authority, and a certificate of it for these names, as files.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn for_names(names: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("vsmtp-tls.").tempdir().expect("make a folder");
        let made = Certificates(folder);
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let (ca, ca_key) = (made.path("ca.pem"), made.path("ca.key"));
        let root = ["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", &ca_key, "-out", &ca];
        said(&run("openssl", &[&root[..], &key].concat()));
        std::fs::write(made.path("names"), format!("subjectAltName={names}\n")).expect("write the names");
        let (csr, own) = (made.path("csr"), made.path("key.pem"));
        let request = ["req", "-subj", "/CN=server", "-keyout", &own, "-out", &csr];
        said(&run("openssl", &[&request[..], &key].concat()));
        let (certificate, extensions) = (made.path("certificate.pem"), made.path("names"));
        said(&run(
            "openssl",
            &[
                "x509",
                "-req",
                "-days",
                "2",
                "-in",
                &csr,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-extfile",
                &extensions,
                "-out",
                &certificate,
            ],
        ));
        // Each process reads them as its own user.
        for path in [made.0.path().to_owned(), PathBuf::from(&ca)] {
            said(&run("chmod", &["a+rX", path.to_str().expect("a plain path")]));
        }
        made
    }

    fn path(&self, name: &str) -> String {
        let path: &Path = self.0.path();
        path.join(name).to_str().expect("a plain path").to_owned()
    }

    /// A Postfix that holds what it is sent, with this certificate.
    fn postfix(&self, settings: &str) -> Postfix {
        Postfix::start(&format!(
            "smtpd_recipient_restrictions = check_client_access static:HOLD, permit_mynetworks, reject\n\
             smtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\nsmtpd_tls_received_header = yes\n{settings}",
            self.path("certificate.pem"),
            self.path("key.pem"),
        ))
    }
}

/// An MTA that relays to that Postfix, under this policy for it.
fn mta(postfix: &Postfix, policy: &str, ca_file: Option<&str>) -> Mta {
    let hop = format!("[127.0.0.1]:{}", postfix.port());
    let mut config = format!("config.delivery.relayhost = \"{hop}\";\n");
    if !policy.is_empty() {
        config += &format!("config.delivery.tls.policy = #{{ \"{hop}\": \"{policy}\" }};\n");
    }
    // The test's MTA has a root of its own, in which the path of the configuration begins.
    let mta = Mta::prepare(&Settings::default());
    if let Some(ca_file) = ca_file {
        std::fs::copy(ca_file, mta.root().join("etc/vsmtp/ca.pem")).expect("copy the authority");
        config += "config.delivery.tls.ca_file = \"ca.pem\";\n";
    }
    mta.write_configuration(&Settings { config, ..Settings::default() });
    let mut mta = mta;
    mta.launch();
    mta
}

fn send(mta: &Mta) {
    let mut client = Client::hello(mta.port());
    for (line, code) in [("MAIL FROM:<a@src.test>", 250), ("RCPT TO:<b@dst.test>", 250), ("DATA", 354)] {
        assert_eq!(client.say(line).code(), code);
    }
    client.send(b"From: a@src.test\r\nSubject: secret\r\n\r\nbody\r\n");
    assert_eq!(client.say(".").code(), 250);
}

fn held(postfix: &Postfix) -> String {
    String::from_utf8_lossy(&postfix.wait_for_held(1).concat()).into_owned()
}

fn delivered(mta: &Mta) -> String {
    let log = mta.logged("event=delivered");
    log.lines().find(|line| line.contains("event=delivered")).unwrap_or_default().to_owned()
}

#[test]
fn without_any_setting_mail_to_a_postfix_with_tls_is_encrypted() {
    if !can_run("without_any_setting_mail_to_a_postfix_with_tls_is_encrypted") {
        return;
    }
    let certificates = Certificates::for_names("DNS:elsewhere.test");
    let postfix = certificates.postfix("smtpd_tls_security_level = may");
    let mta = mta(&postfix, "", None);
    send(&mta);
    let message = held(&postfix);
    assert!(message.contains("using TLSv1.3 with cipher"), "{message}");
    let line = delivered(&mta);
    assert!(line.contains("tls=\"encrypted TLSv1.3 TLS_"), "{line}");
}

#[test]
fn a_postfix_that_proves_itself_gets_the_mail_also_with_tls_from_the_start() {
    if !can_run("a_postfix_that_proves_itself_gets_the_mail_also_with_tls_from_the_start") {
        return;
    }
    let certificates = Certificates::for_names("IP:127.0.0.1,DNS:mx.dst.test");
    let ca = certificates.path("ca.pem");
    for (settings, policy) in [
        ("smtpd_tls_security_level = encrypt", "verify"),
        ("smtpd_tls_security_level = encrypt\nsmtpd_tls_protocols = TLSv1.2", "verify match=.dst.test"),
        ("smtpd_tls_security_level = encrypt\nsmtpd_tls_wrappermode = yes", "verify wrapper"),
    ] {
        let postfix = certificates.postfix(settings);
        let mta = mta(&postfix, policy, Some(&ca));
        send(&mta);
        let message = held(&postfix);
        assert!(message.contains("using TLSv1."), "{message}");
        let line = delivered(&mta);
        assert!(line.contains("tls=\"verified TLSv1."), "{policy}: {line}");
    }
}

#[test]
fn a_changed_file_of_authorities_counts_from_the_next_reload() {
    if !can_run("a_changed_file_of_authorities_counts_from_the_next_reload") {
        return;
    }
    let [right, wrong] = [(); 2].map(|()| Certificates::for_names("IP:127.0.0.1"));
    let postfix = right.postfix("smtpd_tls_security_level = may");
    let mta = mta(&postfix, "verify", Some(&wrong.path("ca.pem")));
    send(&mta);
    wait_until("the mail is deferred", || mta.log().contains("event=deferred"));
    mta.logged("status=4.7.5");
    std::fs::copy(right.path("ca.pem"), mta.root().join("etc/vsmtp/ca.pem")).expect("change the authority");
    let processes = mta.processes().into_iter();
    let before: Vec<u32> = processes
        .filter(|process| process.name.starts_with("deliver-smtp"))
        .map(|process| process.pid)
        .collect();
    said(&mta.ctl(&["reload"]));
    wait_until("those who deliver have been replaced, and the reload is over", || {
        mta.processes().iter().all(|process| process.is_ready && !before.contains(&process.pid))
    });
    send(&mta);
    let line = delivered(&mta);
    assert!(line.contains("tls=\"verified TLSv1.3"), "{line}");
}

#[test]
fn a_postfix_that_does_not_prove_itself_gets_nothing() {
    if !can_run("a_postfix_that_does_not_prove_itself_gets_nothing") {
        return;
    }
    let certificates = Certificates::for_names("IP:127.0.0.1");
    let ca = certificates.path("ca.pem");
    for (settings, policy, status) in [
        ("smtpd_tls_security_level = may", "verify match=other.test", "4.7.5"),
        ("smtpd_tls_security_level = none", "encrypt", "4.7.4"),
    ] {
        let postfix = certificates.postfix(settings);
        let mta = mta(&postfix, policy, Some(&ca));
        send(&mta);
        let log = mta.logged("event=deferred");
        let line = log.lines().find(|line| line.contains("event=deferred")).unwrap_or_default();
        assert!(line.contains(&format!("status={status}")), "{line}");
        assert!(postfix.held().is_empty() && mta.queued() == 1);
    }
}
