//! Accounts at smart hosts: Debian's Postfix that asks Debian's Dovecot who we are, whatever mechanism it offers; and whom
//! we never tell.

use std::os::unix::fs::{PermissionsExt, chown};

use vsmtp_tests::wait_until;
use vsmtp_tests::{
    Client, Dovecot, Introspection, Mta, Postfix, Settings, needs_programs, needs_root, run, said,
};

use crate::{Certificates, delivered};

/// "pencil" (RFC 7677 3), as Dovecot writes it.
const SECRET: &str = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
                      wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
/// Group of those who deliver where the package's users do not exist.
const STAND_IN: u32 = 64_713;
/// What must stand nowhere: passwords, and the words of PLAIN, LOGIN and XOAUTH2 with them.
const SECRETS: [&str; 10] = [
    "pencil",
    "stylus",
    "cGVuY2ls",
    "c3R5bHVz",
    "AHRpbQBwZW5jaWw=",
    "AHRpbQBzdHlsdXM=",
    "Bearer",
    "dXNlcj10aW0BYXV0aD1CZWFyZXIg",
    "goodtoken",
    "eviltoken",
];

fn can_run(test: &str) -> bool {
    needs_root(test) && needs_programs(test, &["postfix", "postcat", "openssl", "dovecot", "python3"])
}

/// A Postfix that takes mail of those whom Dovecot knows, by this mechanism only, and holds it.
fn smart_host(certificates: &Certificates, dovecot: &Dovecot, mechanism: &str, level: &str) -> Postfix {
    Postfix::start(&format!(
        "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\n\
         smtpd_sasl_mechanism_filter = {mechanism}\nsmtpd_relay_restrictions =\nsmtpd_error_sleep_time = 0\n\
         smtpd_recipient_restrictions = check_client_access static:HOLD, permit_sasl_authenticated, reject\n\
         smtpd_tls_security_level = {level}\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}",
        dovecot.auth_socket().display(),
        certificates.path("certificate.pem"),
        certificates.path("key.pem"),
    ))
}

/// Gives those who deliver, and nobody else, this account there.
fn write_account(mta: &Mta, postfix: &Postfix, account: &str) {
    let path = mta.root().join("etc/vsmtp/credentials");
    std::fs::write(&path, format!("[127.0.0.1]:{} {account}\n", postfix.port())).expect("write the account");
    let group = run("id", &["-g", "vsmtp-deliver"]);
    let group = String::from_utf8_lossy(&group.stdout).trim().parse().unwrap_or(STAND_IN);
    chown(&path, None, Some(group)).expect("give it to those who deliver");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("close the file");
}

/// An MTA with this account at that smart host, which it believes these authorities.
fn mta(postfix: &Postfix, authorities: &Certificates, policy: &str, account: &str) -> Mta {
    let hop = format!("[127.0.0.1]:{}", postfix.port());
    let config = format!(
        "config.delivery.relayhost = \"{hop}\"; config.delivery.tls.ca_file = \"ca.pem\";\n\
         config.delivery.tls.policy = #{{ \"{hop}\": \"{policy}\" }};\n\
         config.delivery.credentials_file = \"credentials\"; config.queue.delay_warning = \"1s\";\n\
         config.queue.backoff.min = \"1s\"; config.queue.backoff.max = \"1s\";"
    );
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    let ca = mta.root().join("etc/vsmtp/ca.pem");
    std::fs::copy(authorities.path("ca.pem"), ca).expect("copy the authority");
    write_account(&mta, postfix, account);
    mta.launch();
    mta
}

fn send(mta: &Mta) {
    let reply = Client::hello(mta.port()).mail("a@local.test", &["b@dst.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
}

/// Waits until a message has been deferred with this status and its sender was told; what the log says of it.
fn deferred(mta: &Mta, status: &str) -> String {
    let log = mta.logged(&format!("status={status}"));
    let line = log.lines().find(|line| line.contains("event=deferred")).unwrap_or_default().to_owned();
    assert!(line.contains(&format!("status={status}")), "{line}");
    let report = mta.wait_for_mail("local.test", "a", 1).remove(0);
    assert!(report.contains("Action: delayed") && report.contains(&format!("Status: {status}")), "{report}");
    wait_until("the report is done with", || mta.queued() == 1);
    says_no_secret(mta);
    line
}

fn says_no_secret(mta: &Mta) {
    let mut said_so_far = vec![("the log", mta.log())];
    said_so_far.extend(mta.maildir("local.test", "a").into_iter().map(|report| ("a report", report)));
    for row in mta.ctl_rows(&["queue", "list"]) {
        let id = row["queue_id"].as_str().expect("an id").to_owned();
        for words in [&["queue", "show", &id][..], &["queue", "show", &id, "--json"]] {
            said_so_far.push(("queue show", said(&mta.ctl(words))));
        }
        said_so_far.push(("queue list", row.to_string()));
    }
    for (place, text) in said_so_far {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
}

/// What Postfix counts of each session that has said EHLO.
fn sessions(postfix: &Postfix) -> Vec<String> {
    let log = postfix.log();
    let lines = log.lines().filter(|line| line.contains("disconnect from ") && line.contains(" ehlo="));
    lines.map(str::to_owned).collect()
}

/// Changes the account, and has those who deliver replaced.
fn change_account(mta: &Mta, postfix: &Postfix, account: &str) {
    write_account(mta, postfix, account);
    let processes = mta.processes().into_iter();
    let before: Vec<u32> =
        processes.filter(|it| it.name.starts_with("deliver-smtp")).map(|process| process.pid).collect();
    said(&mta.ctl(&["reload"]));
    wait_until("those who deliver have been replaced", || {
        mta.processes().iter().all(|process| process.is_ready && !before.contains(&process.pid))
    });
}

#[test]
fn a_smart_host_that_proves_itself_hears_who_we_are_by_each_mechanism() {
    const TEST: &str = "a_smart_host_that_proves_itself_hears_who_we_are_by_each_mechanism";
    if !can_run(TEST) {
        return;
    }
    let certificates = Certificates::for_names("IP:127.0.0.1");
    let introspection = Introspection::start();
    let by_password = Dovecot::with_auth(&[("tim", SECRET)]);
    let by_token = Dovecot::with_tokens(introspection.port());
    for (mechanism, dovecot, right, wrong) in [
        ("PLAIN", &by_password, "tim:pencil", "tim:stylus"),
        ("LOGIN", &by_password, "tim:pencil", "tim:stylus"),
        ("SCRAM-SHA-256", &by_password, "tim:pencil", "tim:stylus"),
        ("XOAUTH2", &by_token, "xoauth2 tim:goodtoken", "xoauth2 tim:eviltoken"),
    ] {
        let postfix = smart_host(&certificates, dovecot, mechanism, "may");
        let mta = mta(&postfix, &certificates, "verify", right);
        send(&mta);
        assert_eq!(postfix.wait_for_held(1).len(), 1);
        let line = delivered(&mta);
        assert!(line.contains("tls=\"verified TLSv1.3"), "{line}");
        let log = postfix.log();
        assert!(log.contains(&format!("sasl_method={mechanism}, sasl_username=tim")), "{log}");
        wait_until("nothing is left", || mta.queued() == 0);
        says_no_secret(&mta);

        change_account(&mta, &postfix, wrong);
        send(&mta);
        deferred(&mta, "4.7.8");
        let log = postfix.log();
        assert!(log.contains(&format!("SASL {mechanism} authentication failed")), "{log}");
        assert_eq!(postfix.held().len(), 1);
    }
}

#[test]
fn whoever_does_not_prove_himself_hears_of_no_account() {
    if !can_run("whoever_does_not_prove_himself_hears_of_no_account") {
        return;
    }
    let [certificates, others] = [(); 2].map(|()| Certificates::for_names("IP:127.0.0.1"));
    let dovecot = Dovecot::with_auth(&[("tim", SECRET)]);
    for (authorities, level, policy, account, status) in [
        // Unknown is who vouches for the server; what is stripped is the offer of TLS.
        (&others, "may", "verify", "tim:pencil", "4.7.5"),
        (&others, "may", "may", "tim:pencil", "4.7.5"),
        (&certificates, "none", "may", "tim:pencil", "4.7.4"),
        (&certificates, "none", "may", "unverified tim:pencil", "4.7.4"),
    ] {
        let postfix = smart_host(&certificates, &dovecot, "plain, login, scram-sha-256", level);
        let mta = mta(&postfix, authorities, policy, account);
        send(&mta);
        deferred(&mta, status);
        wait_until("postfix has seen the end of a session", || !sessions(&postfix).is_empty());
        let log = postfix.log();
        assert!(!log.contains("auth=") && !log.contains("sasl_"), "{log}");
        assert!(postfix.held().is_empty());
    }
    // Where that was said, whoever answers is told, under TLS.
    let postfix = smart_host(&certificates, &dovecot, "plain", "may");
    let mta = mta(&postfix, &others, "may", "unverified tim:pencil");
    send(&mta);
    assert_eq!(postfix.wait_for_held(1).len(), 1);
    let line = delivered(&mta);
    assert!(line.contains("tls=\"encrypted TLSv1.3"), "{line}");
    assert!(postfix.log().contains("sasl_method=PLAIN, sasl_username=tim"), "{}", postfix.log());
}
