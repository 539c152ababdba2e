//! Postfix as our client in all the ways that it has: under TLS of each version with our name verified, with an account, by
//! LMTP, and as a proxy that tells whom it speaks for.

use vsmtp_tests::{
    Client, Mta, Postfix, Settings, free_port, make_certificate, needs_programs, needs_root, wait_until,
};

use crate::ends_with_message;

/// "pencil" (RFC 7677 3).
const USERS: &str = "tim:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                     wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";
/// With these fields Postfix, and our submission, have nothing to add behind the header.
const MESSAGE: &[u8] =
    b"From: tim@src.test\nDate: Sun, 22 Nov 2026 07:00:00 +0000\nMessage-ID: <1@src.test>\n\
    Subject: from postfix\n\n.dot\n..dots\n\xff\xfe raw\n\nend\n";

fn can_run(test: &str) -> bool {
    needs_programs(test, &["postfix", "postcat", "openssl"]) && needs_root(test)
}

/// An MTA with a certificate for its name, and a port for submission under TLS.
fn start() -> (Mta, u16) {
    let submissions = free_port();
    let config = format!(
        "config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\";\n\
         config.server.interfaces.addr_submissions = [\"127.0.0.1:{submissions}\"];\n\
         config.server.auth.backends = [\"file:users\"];"
    );
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    let etc = mta.root().join("etc/vsmtp");
    make_certificate(&etc, "mx", &["mx.local.test"]);
    std::fs::write(etc.join("users"), USERS).expect("write users");
    mta.launch();
    (mta, submissions)
}

/// A Postfix that sends all to that port, and only if whoever answers proves to be us.
fn verifying(mta: &Mta, port: u16, protocol: &str, more: &str) -> Postfix {
    let ca = mta.root().join("etc/vsmtp/mx.pem");
    Postfix::start(&format!(
        "relayhost = [127.0.0.1]:{port}\nsmtp_tls_security_level = secure\nsmtp_tls_CAfile = {}\n\
         smtp_tls_secure_cert_match = mx.local.test\nsmtp_tls_mandatory_protocols = {protocol}\n\
         smtp_tls_loglevel = 1\nsmtp_tls_connection_reuse = yes\n\
         smtp_connection_cache_destinations = static:all\nsmtp_connection_cache_time_limit = 60s\n{more}",
        ca.display()
    ))
}

/// Has it send two messages, one behind the other, to a user of ours; what both sides say of it must be this.
fn send_two(mta: &Mta, postfix: &Postfix, user: &str, version: &str, trace: &str) {
    let to = format!("{user}@local.test");
    for count in 1..=2 {
        postfix.sendmail("tim@src.test", &[&to], MESSAGE);
        mta.wait_for_mail("local.test", user, count);
        wait_until("postfix has sent it", || postfix.queued() == 0);
    }
    for octets in mta.maildir_octets("local.test", user) {
        let text = String::from_utf8_lossy(&octets).replace("\n\t", " ");
        assert!(ends_with_message(&octets, MESSAGE), "{text}");
        assert!(text.contains("from postfix.test") && text.contains(&format!(" with {trace} id ")), "{text}");
    }
    let log = postfix.log();
    for how in ["established", "reused"] {
        let line = format!("Verified TLS connection {how} to 127.0.0.1[127.0.0.1]:");
        let is_it = |said: &str| {
            said.contains(" postfix/smtp[")
                && said.contains(&line)
                && said.contains(&format!(": {version} with cipher "))
        };
        assert_eq!(log.lines().filter(|said| is_it(said)).count(), 1, "{how}: {log}");
    }
}

#[test]
fn postfix_verifies_us_and_keeps_its_connection() {
    if !can_run("postfix_verifies_us_and_keeps_its_connection") {
        return;
    }
    let (mta, submissions) = start();
    for (user, protocol, version) in [("b", "TLSv1.2", "TLSv1.2"), ("c", ">=TLSv1.3", "TLSv1.3")] {
        let postfix = verifying(&mta, mta.port(), protocol, "");
        send_two(&mta, &postfix, user, version, "ESMTPS");
    }
    for (user, protocol, version, mechanism) in
        [("d", "TLSv1.2", "TLSv1.2", "plain"), ("e", ">=TLSv1.3", "TLSv1.3", "scram-sha-256")]
    {
        let account = format!(
            "smtp_tls_wrappermode = yes\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:tim:pencil\n\
             smtp_sasl_security_options = noanonymous\nsmtp_sasl_mechanism_filter = {mechanism}"
        );
        let postfix = verifying(&mta, submissions, protocol, &account);
        send_two(&mta, &postfix, user, version, "ESMTPSA");
        let mechanism = mechanism.to_uppercase();
        mta.logged(&format!("event=authenticated user=tim mechanism={mechanism} client=127.0.0.1"));
    }
}

#[test]
fn postfix_sends_nothing_to_whoever_is_not_us() {
    if !can_run("postfix_sends_nothing_to_whoever_is_not_us") {
        return;
    }
    let (mta, _) = start();
    let other = "smtp_tls_secure_cert_match = mx.other.test";
    let postfix = verifying(&mta, mta.port(), ">=TLSv1.2", other);
    postfix.sendmail("tim@src.test", &["b@local.test"], MESSAGE);
    wait_until("postfix has given up", || postfix.log().contains("status=deferred"));
    assert!(postfix.log().contains("Server certificate not verified"), "{}", postfix.log());
    assert_eq!(mta.mail_count("local.test", "b"), 0);
}

#[test]
fn postfix_by_lmtp_returns_what_was_for_the_refused_one_only() {
    if !can_run("postfix_by_lmtp_returns_what_was_for_the_refused_one_only") {
        return;
    }
    let port = free_port();
    let config = format!(
        "config.server.interfaces.addr_lmtp = [\"127.0.0.1:{port}\"]; config.delivery.mailboxes = [\"a\", \"b\", \"c\"];"
    );
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let postfix = Postfix::start(&format!("default_transport = lmtp:inet:127.0.0.1:{port}"));
    postfix.sendmail("a@local.test", &["b@local.test", "nobody@local.test", "c@local.test"], MESSAGE);
    for user in ["b", "c"] {
        let mail = mta.wait_for_mail("local.test", user, 1).remove(0).replace("\n\t", " ");
        assert!(mail.contains("from postfix.test") && mail.contains(" with LMTP id "), "{mail}");
        assert!(ends_with_message(&mta.maildir_octets("local.test", user).remove(0), MESSAGE), "{mail}");
    }
    let bounce = mta.wait_for_mail("local.test", "a", 1).remove(0);
    assert!(bounce.contains("Final-Recipient: rfc822; nobody@local.test"), "{bounce}");
    assert_eq!(bounce.matches("Final-Recipient:").count(), 1, "{bounce}");
    assert!(bounce.contains("Status: 5.1.1") && bounce.contains("Action: failed"), "{bounce}");
    wait_until("postfix has sent all", || postfix.queued() == 0);
    assert_eq!((mta.mail_count("local.test", "b"), mta.mail_count("local.test", "a")), (1, 1));
}

#[test]
fn postfix_tells_whom_it_speaks_for_and_the_log_has_it() {
    if !can_run("postfix_tells_whom_it_speaks_for_and_the_log_has_it") {
        return;
    }
    for (trusted, told) in [("127.0.0.0/8", true), ("192.0.2.0/24", false)] {
        let config = format!("config.server.smtp.xforward_from = [\"{trusted}\"];");
        let mta = Mta::start(&Settings { config, ..Settings::default() });
        let more = format!("relayhost = [127.0.0.1]:{}\nsmtp_send_xforward_command = yes", mta.port());
        let postfix = Postfix::start(&more);
        let mut client = Client::hello(postfix.port());
        assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
        mta.wait_for_mail("local.test", "b", 1);
        let log = mta.logged(" helo=postfix.test ");
        let line = log.lines().find(|line| line.contains(" helo=postfix.test ")).unwrap_or_default();
        assert!(line.contains("event=accepted") && line.contains(" client=127.0.0.1:"), "{line}");
        for part in ["forwarded=\"", "addr=127.0.0.1", "proto=ESMTP", " helo=client.test"] {
            assert_eq!(line.contains(part), told, "{part}: {line}");
        }
    }
}
