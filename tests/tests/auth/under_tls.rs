//! Logins under TLS, by clients that others wrote: each mechanism that is offered, and none that is not.

use std::io::Write;

use vsmtp_tests::{
    Client, Dovecot, Introspection, Mta, make_certificate, needs_programs, needs_root, run, said, wait_until,
};

use crate::{SCRAM, Stage, WITH_FILE, prepare};

const TLS: &str = "config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\";\n\
                   config.server.esmtp.auth.enable_dangerous_mechanism_in_clair = false;";

fn start(users: &str, config: &str) -> Stage {
    let (mut stage, settings) = prepare(&format!("{TLS}\n{config}"), "");
    let folder = stage.mta.root().join("etc/vsmtp");
    stage.mta.write_configuration(&settings);
    std::fs::write(folder.join("users"), users).expect("write users");
    make_certificate(&folder, "mx", &["mx.local.test", "localhost"]);
    stage.mta.launch();
    stage
}

fn authority(mta: &Mta) -> String {
    mta.root().join("etc/vsmtp/mx.pem").display().to_string()
}

#[test]
fn each_mechanism_works_under_tls_and_no_other_is_offered() {
    const TEST: &str = "each_mechanism_works_under_tls_and_no_other_is_offered";
    if !needs_programs(TEST, &["swaks", "gsasl", "openssl"]) {
        return;
    }
    let stage = start(&format!("tim:{SCRAM}\n"), WITH_FILE);
    // What shows no password may go in clear where TLS is not a must, and only there is it offered.
    let in_clear = Client::hello(stage.mta.port()).say("EHLO x").0;
    assert!(in_clear.lines().any(|line| line[4..] == *"AUTH SCRAM-SHA-256"), "{in_clear}");
    let mut client = Client::hello(stage.submission);
    let before_tls = client.say("EHLO x").0;
    assert!(before_tls.contains("STARTTLS") && !before_tls.contains("AUTH"), "{before_tls}");
    assert_eq!(client.say("AUTH SCRAM-SHA-256 biwsbj10aW0scj1h").code(), 530);
    let server = format!("127.0.0.1:{}", stage.submission);
    let swaks = |mechanism: &str, password: &str| {
        let who = ["--auth-user", "tim", "--auth-password", password, "--auth", mechanism, "--tls"];
        let mail =
            ["--server", &server, "--from", "tim@src.test", "--to", "b@dst.test", "--ehlo", "client.test"];
        run("swaks", &[&who[..], &mail].concat())
    };
    for mechanism in ["PLAIN", "LOGIN"] {
        let text = said(&swaks(mechanism, "pencil"));
        assert!(text.contains("<~  235 2.7.0") && text.contains("queued as"), "{text}");
        let offered = text.lines().rfind(|line| line.contains("250") && line.contains("AUTH "));
        let offered = offered.expect("an offer under TLS");
        assert!(offered.ends_with("AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"), "{offered}");
        let failed = swaks(mechanism, "wrong");
        let text = String::from_utf8_lossy(&failed.stdout).into_owned();
        assert!(!failed.status.success() && text.contains("<~* 535 5.7.8"), "{text}");
    }
    // swaks tries no mechanism that is not offered: exit status 28 is for that and a failed login alike.
    for mechanism in ["CRAM-MD5", "DIGEST-MD5", "NTLM"] {
        let refused = swaks(mechanism, "pencil");
        let text = String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
        assert!(!refused.status.success() && !text.contains("235 2.7.0"), "{mechanism}: {text}");
        assert!(!text.contains("~> AUTH"), "{mechanism} was tried: {text}");
    }
    let (connect, ca) = (
        format!("--connect=localhost:{}", stage.submission),
        format!("--x509-ca-file={}", authority(&stage.mta)),
    );
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"] {
        // Where it can bind to the channel, it refuses to go without, unless told so.
        let unbound: &[&str] = if mechanism.ends_with("-PLUS") { &[] } else { &["--no-cb"] };
        let gsasl = |password: &str| {
            let password = format!("--password={password}");
            let who =
                ["--authentication-id=tim", "--authorization-id=tim", &password, "--mechanism", mechanism];
            run("gsasl", &[&["--smtp", "--starttls", &connect, &ca][..], &who, unbound].concat())
        };
        let text = said(&gsasl("pencil"));
        assert!(text.contains("235 2.7.0"), "{mechanism}: {text}");
        let failed = gsasl("wrong");
        let text = String::from_utf8_lossy(&[failed.stdout, failed.stderr].concat()).into_owned();
        assert!(text.contains("535 5.7.8") && !text.contains("235 2.7.0"), "{mechanism}: {text}");
    }
    wait_until("both messages have arrived", || stage.sink.count() == 2);
}

#[test]
fn tokens_are_judged_by_dovecot_and_who_it_says_it_is_counts() {
    const TEST: &str = "tokens_are_judged_by_dovecot_and_who_it_says_it_is_counts";
    if !(needs_root(TEST) && needs_programs(TEST, &["dovecot", "curl", "python3", "openssl"])) {
        return;
    }
    let introspection = Introspection::start();
    let dovecot = Dovecot::with_tokens(introspection.port());
    let config = format!(
        "config.server.auth.backends = [\"dovecot:{}\"];\n\
         config.server.esmtp.auth.mechanisms = [\"XOAUTH2\", \"OAUTHBEARER\"];\n\
         config.server.auth.sender_login = #{{ \"tim@src.test\": \"tim\", \"joe@src.test\": \"joe\" }};",
        dovecot.auth_socket().display()
    );
    let stage = start("", &config);
    let url = format!("smtp://127.0.0.1:{}/client.test", stage.submission);
    let mail = stage.mta.root().join("mail.txt");
    std::fs::File::create(&mail)
        .and_then(|mut file| file.write_all(b"Subject: by token\r\n\r\nx\r\n"))
        .expect("write the message");
    let mail = mail.display().to_string();
    let curl = |mechanism: &str, token: &str, from: &str| {
        let login = format!("AUTH={mechanism}");
        let who =
            ["--user", "tim", "--oauth2-bearer", token, "--login-options", &login, "--ssl-reqd", "-k", "-v"];
        let what = ["--silent", "--url", &url, "--mail-from", from, "--mail-rcpt", "b@dst.test", "-T", &mail];
        run("curl", &[&who[..], &what].concat())
    };
    for (at, mechanism) in ["XOAUTH2", "OAUTHBEARER"].into_iter().enumerate() {
        let text = said(&curl(mechanism, "goodtoken", "tim@src.test"));
        assert!(text.contains("< 235 2.7.0") && text.contains("queued as"), "{mechanism}: {text}");
        wait_until("the message has arrived", || stage.sink.count() == at + 1);
        let refused = curl(mechanism, "bad", "tim@src.test");
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("< 535 5.7.8"), "{mechanism}: {text}");
    }
    // Whose the token is was said by Dovecot, and the map of senders goes by it.
    let refused = curl("XOAUTH2", "goodtoken", "joe@src.test");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("< 553 5.7.1"), "{text}");
    // Nothing of a token is in our log.
    assert!(!stage.mta.log().contains("goodtoken"), "{}", stage.mta.log());
    drop(dovecot);
    let refused = curl("XOAUTH2", "goodtoken", "tim@src.test");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("< 454 4.7.0"), "{refused:?}");
    assert_eq!(stage.sink.count(), 2);
}
