//! Sessions, connections, messages, recipients and errors of one client, over all receivers and their deaths.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vsmtp_tests::{Client, Mta, Settings, make_certificate, needs_programs, signal, wait_until};

use crate::{settings, start};

/// What the limiter knows of 127.0.0.1.
fn known(mta: &Mta) -> Value {
    let rows = mta.ctl_rows(&["limits"]);
    rows.into_iter().find(|row| row["client"] == "127.0.0.1").unwrap_or_default()
}

/// The reply in place of the greeting, or the greeting.
fn greeting(mta: &Mta) -> (u16, Client) {
    let mut client = Client::connect(mta.port());
    (client.reply().code(), client)
}

/// Kills a process and waits until its successor works.
fn kill(mta: &Mta, role: &str) {
    let victim = mta.pid_of(role);
    signal(&[victim], "KILL");
    wait_until("it is started again", || {
        let processes = mta.processes();
        processes.iter().all(|process| process.is_ready && process.pid != victim)
    });
}

#[test]
fn a_client_has_so_many_sessions_in_all_receivers_together() {
    let mta = start("config.server.limits.connections = 4;");
    let open: Vec<(u16, Client)> = (0..4).map(|_| greeting(&mta)).collect();
    assert!(open.iter().all(|(code, _)| *code == 220));
    for _ in 0..6 {
        // Wherever the kernel takes it.
        assert_eq!(greeting(&mta).0, 421);
    }
    assert_eq!((&known(&mta)["open"], &known(&mta)["refused"]), (&4.into(), &6.into()));
    assert_eq!(mta.logged("event=limited").matches("event=limited").count(), 1, "the log hears of it once");
    drop(open);
    wait_until("they are forgotten", || known(&mta)["open"] == 0);
    assert_eq!(greeting(&mta).0, 220);
}

#[test]
fn sessions_of_a_receiver_that_died_are_given_back_and_those_of_others_stay() {
    let mta = start("config.server.limits.connections = 6;");
    let mut open: Vec<(u16, Client)> = (0..6).map(|_| greeting(&mta)).collect();
    assert_eq!(greeting(&mta).0, 421);
    let before = mta.processes();
    let victim = before.iter().find(|process| process.name.starts_with("receiver")).expect("a receiver");
    signal(&[victim.pid], "KILL");
    let mut alive = 0;
    for (_, client) in &mut open {
        alive += i32::from(client.try_say("NOOP").code() == 250);
    }
    wait_until("the dead one's sessions are given back", || known(&mta)["open"] == alive);
    wait_until("it is started again", || mta.processes().iter().all(|process| process.is_ready));
    let codes: Vec<u16> = (0..8)
        .map(|_| greeting(&mta))
        .map(|(code, client)| {
            std::mem::forget(client);
            code
        })
        .collect();
    assert_eq!(codes.iter().filter(|code| **code == 220).count() as i32, 6 - alive, "{codes:?}");
}

#[test]
fn rates_outlive_receivers_and_reloads() {
    let limits = "config.server.limits.connections = -1; config.server.limits.message_rate = 5; \
                  config.server.limits.recipient_rate = 8; config.server.limits.window = \"1h\";";
    let mta = start(limits);
    let mut client = Client::hello(mta.port());
    for _ in 0..3 {
        assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    }
    kill(&mta, "receiver.0");
    kill(&mta, "receiver.1");
    mta.write_configuration(&settings(&format!("{limits} config.server.smtp.rcpt_count_max = 50;")));
    assert!(mta.ctl(&["reload"]).status.success());
    let mut client = Client::hello(mta.port());
    assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    // Eight are allowed, and four were used up.
    let burst: String = (0..6).map(|n| format!("RCPT TO:<r{n}@local.test>\r\n")).collect();
    client.send(burst.as_bytes());
    let codes: Vec<u16> = (0..6).map(|_| client.reply().code()).collect();
    assert_eq!(codes, [250, 250, 250, 250, 452, 452]);
    assert_eq!(client.say("RSET").code(), 250);
    let refusal = client.say("MAIL FROM:<a@src.test>");
    assert_eq!(refusal.0, "450 4.7.1 Too many messages from your address, try again later");
    let row = known(&mta);
    assert_eq!((&row["messages"], &row["recipients"]), (&5.into(), &8.into()), "{row}");

    assert!(mta.ctl(&["limits", "reset", "127.0.0.1"]).status.success());
    assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    let table = String::from_utf8(mta.ctl(&["limits"]).stdout).expect("UTF-8");
    assert!(table.contains("127.0.0.1") && table.contains("1/5"), "{table}");
}

#[test]
fn connections_and_errors_have_rates_and_room_comes_back() {
    let mta = start("config.server.limits.connection_rate = 3; config.server.limits.window = \"3s\";");
    for _ in 0..3 {
        assert_eq!(greeting(&mta).0, 220);
    }
    let began = Instant::now();
    assert_eq!(greeting(&mta).0, 421);
    wait_until("the window is over", || greeting(&mta).0 == 220);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());

    let mta = start("config.server.limits.error_rate = 4;");
    let mut client = Client::hello(mta.port());
    for _ in 0..4 {
        assert_eq!(client.say("BOGUS").code(), 500);
    }
    let refusal = client.say("MAIL FROM:<a@src.test>");
    assert_eq!(refusal.0, "421 4.7.0 Too many errors from your address, try again later");
    assert_eq!(greeting(&mta).0, 421);
}

#[test]
fn near_a_rate_replies_come_late() {
    let mta = start(
        "config.server.limits.message_rate = 4; config.server.limits.soft_percent = 50; \
         config.server.limits.delay = \"700ms\";",
    );
    let mut client = Client::hello(mta.port());
    let mut took = || {
        let began = Instant::now();
        assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
        assert_eq!(client.say("RSET").code(), 250);
        began.elapsed() >= Duration::from_millis(700)
    };
    let delayed = || mta.ctl_rows(&["limits"])[0]["figures"]["delayed"].as_u64();
    let (_, _) = (took(), took());
    assert_eq!(delayed(), Some(0));
    assert!(took() && took());
    assert_eq!(delayed(), Some(2));
}

#[test]
fn without_the_limiter_mail_flows() {
    let mta = start("config.server.limits.connections = 20; config.server.limits.message_rate = 1000;");
    let mut client = Client::hello(mta.port());
    let limiter = mta.pid_of("limits");
    signal(&[limiter], "STOP");
    // Asked, it does not answer: a second, and the client goes on.
    let began = Instant::now();
    assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    assert!(began.elapsed() >= Duration::from_millis(900));
    for _ in 0..5 {
        assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    }
    signal(&[limiter], "KILL");
    for _ in 0..5 {
        let mut other = Client::hello(mta.port());
        assert_eq!(other.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
        assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    }
    mta.wait_for_mail("local.test", "b", 16);
    mta.logged("event=limits-silent");
    mta.logged("event=limits-lost");
    wait_until("a new one counts the open session", || known(&mta)["open"] == 1);
}

#[test]
fn exempt_clients_have_no_limits() {
    let mta = Mta::start(&Settings {
        config: "config.server.limits.connections = 1; config.server.limits.message_rate = 1;".to_owned(),
        ..Settings::default()
    });
    // By default this host is.
    let open: Vec<(u16, Client)> = (0..5).map(|_| greeting(&mta)).collect();
    assert!(open.iter().all(|(code, _)| *code == 220));
    assert_eq!(mta.ctl_rows(&["limits"]).len(), 1, "nobody is known");
    mta.write_configuration(&settings("config.server.limits.connections = 1;"));
    assert!(mta.ctl(&["reload"]).status.success());
    wait_until("a reload takes exemption away", || {
        let _one = greeting(&mta);
        greeting(&mta).0 == 421
    });
}

#[test]
fn the_old_name_of_the_key_still_counts() {
    let mta = start("config.server.smtp.connections_per_client = 2;");
    let _open = [greeting(&mta), greeting(&mta)];
    assert_eq!(greeting(&mta).0, 421);
}

#[test]
fn refused_logins_shut_the_door() {
    let submission = vsmtp_tests::free_port();
    let mut mta = Mta::prepare(&settings(&format!(
        "config.server.interfaces.addr_submission = [\"127.0.0.1:{submission}\"]; \
         config.server.auth.backends = [\"file:users\"]; \
         config.server.esmtp.auth.enable_dangerous_mechanism_in_clair = true; \
         config.server.limits.auth_failure_rate = 2;"
    )));
    // Nobody knows the password of this one.
    let users = "tim:$5$rounds=1000$saltstring$IDMRVjjzM7pxdq5saV3T0Syncing1KAt3iS2GewFZH1\n";
    std::fs::write(mta.root().join("etc/vsmtp/users"), users).expect("write users");
    mta.launch();
    let mut client = Client::hello(submission);
    // NUL, tim, NUL, wrong.
    for _ in 0..2 {
        assert_eq!(client.say("AUTH PLAIN AHRpbQB3cm9uZw==").code(), 535);
    }
    assert_eq!(client.say("NOOP").code(), 250);
    wait_until("the limiter has heard of it", || known(&mta)["auth-failures"] == 2);
    let mut refused = Client::connect(mta.port());
    assert_eq!(refused.reply().0, "421 4.7.0 Too many failed logins from your address, try again later");
}

#[test]
fn a_client_begins_so_many_handshakes_by_starttls_and_from_the_first_octet_together() {
    const TEST: &str = "a_client_begins_so_many_handshakes_by_starttls_and_from_the_first_octet_together";
    if !needs_programs(TEST, &["openssl"]) {
        return;
    }
    let implicit = vsmtp_tests::free_port();
    let mut mta = Mta::prepare(&settings(&format!(
        "config.server.interfaces.addr_submissions = [\"127.0.0.1:{implicit}\"]; \
         config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\"; \
         config.server.limits.tls_rate = 2; config.server.limits.window = \"1h\";"
    )));
    make_certificate(&mta.root().join("etc/vsmtp"), "mx", &["mx.local.test"]);
    mta.launch();
    let hello = |port: u16| {
        let address = format!("127.0.0.1:{port}");
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-brief"])
            .stdin(Stdio::null())
            .output()
            .expect("run openssl");
        String::from_utf8_lossy(&output.stderr).contains("CONNECTION ESTABLISHED")
    };
    // One of each is let in.
    assert!(hello(implicit), "the first, from the first octet");
    assert_eq!(Client::hello(mta.port()).say("STARTTLS").code(), 220);
    assert_eq!(known(&mta)["handshakes"], 2);
    // The third is not, whichever way it comes.
    let mut third = Client::hello(mta.port());
    let refusal = third.say("STARTTLS");
    assert_eq!(refusal.0, "421 4.7.0 Too many TLS handshakes from your address, try again later");
    assert!(!hello(implicit), "closed instead of a handshake");
    assert_eq!(known(&mta)["handshakes"], 2);
    // Mail in clear is another matter.
    assert_eq!(
        Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(),
        250
    );
    assert!(mta.ctl(&["limits", "reset", "127.0.0.1"]).status.success());
    assert!(hello(implicit), "an operator has forgiven it");
}
