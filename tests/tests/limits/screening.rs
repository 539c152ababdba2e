//! Tests before the greeting: quiet, lists in the DNS, and the protocol.

use std::time::{Duration, Instant};

use vsmtp_tests::{Client, Mta, NameServer, needs_programs, python, said, wait_until};

use crate::{settings, start};

const MESSAGE: &str = "Subject: x\r\n\r\nx";

/// Connects, and hears the first reply after how long.
fn first_reply(mta: &Mta) -> (String, Duration, Client) {
    let began = Instant::now();
    let mut client = Client::connect(mta.port());
    (client.reply().0, began.elapsed(), client)
}

#[test]
fn who_keeps_quiet_waits_once() {
    let mta = start("config.server.screen.greet_wait = \"500ms\";");
    let (greeting, wait, mut client) = first_reply(&mta);
    assert!(greeting.starts_with("220") && wait >= Duration::from_millis(500), "{greeting} {wait:?}");
    assert_eq!(client.say("EHLO client.test").code(), 250);
    assert_eq!(client.mail("a@src.test", &["b@local.test"], MESSAGE).code(), 250);
    // Whoever is remembered does not wait, and be it for long.
    let reload = |wait: &str| {
        mta.write_configuration(&settings(&format!("config.server.screen.greet_wait = \"{wait}\";")));
        assert!(mta.ctl(&["reload"]).status.success());
    };
    reload("30s");
    let (greeting, wait, _) = first_reply(&mta);
    assert!(greeting.starts_with("220") && wait < Duration::from_secs(30), "{greeting} {wait:?}");
    reload("500ms");
    let row = &mta.ctl_rows(&["limits"])[0];
    assert_eq!((&row["figures"]["screened"], &row["figures"]["passed_remembered"]), (&1.into(), &1.into()));
    assert!(mta.ctl(&["limits", "reset", "127.0.0.1"]).status.success());
    assert!(first_reply(&mta).1 >= Duration::from_millis(500), "it is tested again");
}

#[test]
fn who_speaks_first_is_noted_or_gets_nothing_through_or_is_not_greeted() {
    for (action, greeting, rcpt) in
        [("ignore", "220", 250), ("enforce", "220", 550), ("drop", "554 5.5.1 Protocol error", 0)]
    {
        let mta = start(&format!(
            "config.server.screen.greet_wait = \"20s\"; config.server.screen.greet_action = \"{action}\";"
        ));
        let began = Instant::now();
        let mut client = Client::connect(mta.port());
        client.send(b"EHLO bot.test\r\n");
        let heard = client.reply().0;
        assert!(heard.starts_with(greeting), "{action}: {heard}");
        assert!(began.elapsed() < Duration::from_secs(10), "nobody waits for the end of the wait");
        mta.logged("event=screened");
        mta.logged("early=true");
        if rcpt == 0 {
            assert_eq!(client.reply().0, "", "closed");
            continue;
        }
        assert_eq!(client.reply().code(), 250, "its EHLO");
        assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
        assert_eq!(client.say("RCPT TO:<b@local.test>").code(), rcpt, "{action}");
    }
}

/// What a client hears that comes from this address and tries to send: the greeting, then codes up to RCPT.
fn dialogue_from(mta: &Mta, source: &str) -> Vec<String> {
    let script = "
import smtplib, sys
try:
    client = smtplib.SMTP('127.0.0.1', int(sys.argv[2]), 'client.test', 30, (sys.argv[1], 0))
except smtplib.SMTPConnectError as error:
    print(error.smtp_code, error.smtp_error.decode())
    sys.exit()
print(220)
client.ehlo('client.test')
print(client.mail('a@src.test')[0])
print(*[part.decode() if isinstance(part, bytes) else part for part in client.rcpt('b@local.test')])
client.quit()
";
    let output = python(script, &[source, &mta.port().to_string()]);
    said(&output).lines().map(str::to_owned).collect()
}

#[test]
fn lists_decide_by_their_weights() {
    if !needs_programs("lists_decide_by_their_weights", &["python3"]) {
        return;
    }
    let dns = NameServer::serve(&[
        // Lists everybody.
        ("*.parked.test", [127, 0, 0, 2]),
        // Says something else than a list would.
        ("2.0.0.127.strange.test", [192, 0, 2, 1]),
        ("*.0.0.127.silent.test", [0, 0, 0, 0]),
        ("2.0.0.127.black.test", [127, 0, 0, 4]),
        ("3.0.0.127.black.test", [127, 0, 0, 10]),
        ("4.0.0.127.black.test", [127, 0, 0, 4]),
        ("4.0.0.127.white.test", [127, 0, 5, 2]),
        ("5.0.0.127.grey.test", [127, 0, 0, 2]),
    ]);
    let screen = |action: &str| {
        format!(
            "{} config.server.dns.options.timeout = \"500ms\"; config.server.dns.options.attempts = 1; \
             config.server.screen.dnsbl_sites = [\"parked.test*9\", \"strange.test*9\", \"silent.test*9\", \
             \"black.test=127.0.0.[2..9]*3\", \"grey.test\", \"white.test=127.0.[0..255].[1..3]*-2\"]; \
             config.server.screen.dnsbl_threshold = 3; config.server.screen.dnsbl_action = \"{action}\";",
            dns.config()
        )
    };
    let mta = start(&screen("enforce"));
    let refusal = "550 5.7.1 Client [127.0.0.2] is listed in black.test";
    assert_eq!(dialogue_from(&mta, "127.0.0.2"), ["220", "250", refusal]);
    for (source, why) in [
        ("127.0.0.3", "an answer that the pattern does not know"),
        ("127.0.0.4", "a good host"),
        ("127.0.0.5", "too little"),
        ("127.0.0.6", "in no list but the one of everybody"),
    ] {
        assert_eq!(dialogue_from(&mta, source)[..2], ["220", "250"], "{why}");
        assert!(dialogue_from(&mta, source)[2].starts_with("250"), "{why}");
    }
    mta.logged("list=parked.test why=\"it lists everybody\"");
    mta.logged("list=silent.test why=\"no answer\"");
    mta.logged("event=screened client=127.0.0.2 fate=condemned early=false score=3 lists=black.test");
    let figures = &mta.ctl_rows(&["limits"])[0]["figures"];
    assert_eq!(figures["lists_left_out"], 2, "{figures}");

    mta.write_configuration(&settings(&screen("drop")));
    assert!(mta.ctl(&["reload"]).status.success());
    let refusal = "554 5.7.1 Client [127.0.0.2] is listed in black.test";
    wait_until("the limiter drops it", || dialogue_from(&mta, "127.0.0.2") == [refusal]);
    mta.write_configuration(&settings(&screen("ignore")));
    assert!(mta.ctl(&["reload"]).status.success());
    wait_until("the limiter only notes it", || {
        dialogue_from(&mta, "127.0.0.2").get(2).is_some_and(|reply| reply.starts_with("250"))
    });
    mta.logged("client=127.0.0.2 fate=noted");
}

#[test]
fn without_name_servers_and_with_a_dead_resolver_lists_list_nobody() {
    let mta = start(
        "config.server.dns.type = \"custom\"; config.server.dns.config.name_servers = [\"127.0.0.1:9\"]; \
         config.server.dns.options.timeout = \"500ms\"; config.server.screen.dnsbl_sites = [\"black.test\"];",
    );
    let (greeting, _, mut client) = first_reply(&mta);
    assert!(greeting.starts_with("220"), "{greeting}");
    assert_eq!(client.say("EHLO client.test").code(), 250);
    assert_eq!(client.mail("a@src.test", &["b@local.test"], MESSAGE).code(), 250);
    vsmtp_tests::signal(&[mta.pid_of("resolver")], "STOP");
    let (greeting, wait, _) = first_reply(&mta);
    assert!(greeting.starts_with("220") && wait < Duration::from_secs(15), "{greeting} {wait:?}");
    vsmtp_tests::signal(&[mta.pid_of("resolver")], "KILL");
    let (greeting, ..) = first_reply(&mta);
    assert!(greeting.starts_with("220"), "{greeting}");
}

#[test]
fn a_new_client_is_watched_once_and_then_welcome() {
    let mta = start("config.server.screen.deep = true;");
    let (greeting, _, mut client) = first_reply(&mta);
    assert!(greeting.starts_with("220"), "{greeting}");
    let hello = client.say("EHLO client.test");
    assert!(!hello.0.contains("PIPELINING"), "{hello:?}");
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<b@local.test>").code(), 450);
    drop(client);
    let mut client = Client::connect(mta.port());
    assert_eq!(client.reply().code(), 220);
    assert!(client.say("EHLO client.test").0.contains("PIPELINING"));
    assert_eq!(client.mail("a@src.test", &["b@local.test"], MESSAGE).code(), 250);
    mta.wait_for_mail("local.test", "b", 1);

    let mta = start("config.server.screen.deep = true;");
    let mut client = Client::connect(mta.port());
    assert_eq!(client.reply().code(), 220);
    client.send(b"EHLO bot.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n");
    assert_eq!(client.reply().code(), 554);
    assert_eq!(client.reply().0, "");
    mta.logged("event=protocol-fault");
    mta.logged("fault=pipelining");
}

#[test]
fn clients_that_wait_do_not_hold_up_others() {
    let mta = start("config.server.limits.connections = -1; config.server.screen.greet_wait = \"1m\";");
    let waiting: Vec<Client> = (0..300).map(|_| Client::connect(mta.port())).collect();
    wait_until("they wait", || mta.ctl_rows(&["limits"])[0]["figures"]["screening"].as_u64() >= Some(300));
    mta.write_configuration(&settings("config.server.limits.connections = -1;"));
    assert!(mta.ctl(&["reload"]).status.success());
    // New clients are served at once while the old ones wait.
    let (greeting, wait, _) = first_reply(&mta);
    assert!(greeting.starts_with("220") && wait < Duration::from_secs(30), "{greeting} {wait:?}");
    drop(waiting);
}
