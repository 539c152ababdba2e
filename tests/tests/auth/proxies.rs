//! Logins that a proxy states by XCLIENT.

use vsmtp_tests::{Client, needs_programs, run, said, wait_until};

use crate::{PENCIL, WITH_FILE, stage};

const PROXY: &str =
    "config.server.smtp.xclient_from = [\"127.0.0.0/8\"]; config.server.auth.proxies = [\"127.0.0.1/32\"];";
const ATTRIBUTES: &str = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

/// A session of a proxy that has said this of its client, and then what the client says.
fn proxied(port: u16, attributes: &str) -> (Client, String) {
    let mut client = Client::hello(port);
    assert!(client.say("EHLO proxy.test").0.contains(ATTRIBUTES));
    let greeting = client.say(&format!("XCLIENT {attributes}")).0;
    if greeting.starts_with("220") {
        client.say("EHLO client.test");
    }
    (client, greeting)
}

#[test]
fn whoever_has_authenticated_to_a_proxy_may_send_as_himself_though_nobody_here_knows_passwords() {
    let config = format!("{PROXY} config.server.auth.own_sender_only = true;");
    let stage = stage("", &config, "");
    let mut hello = Client::hello(stage.submission);
    assert!(!hello.say("EHLO proxy.test").0.contains("AUTH"), "there is none here");
    for port in [stage.submission, stage.mta.port()] {
        let (mut client, greeting) = proxied(port, "ADDR=192.168.7.7 LOGIN=tim");
        assert!(greeting.starts_with("220 "), "{greeting}");
        assert_eq!(client.say("MAIL FROM:<joe@local.test>").code(), 553);
        assert_eq!(client.mail("tim@local.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
        // The next client of the proxy has not authenticated.
        for nobody in ["ADDR=192.168.7.8", "ADDR=192.168.7.8 LOGIN=[UNAVAILABLE]"] {
            client.say("RSET");
            assert_eq!(client.say(&format!("XCLIENT {nobody}")).code(), 220);
            client.say("EHLO client.test");
            let code = client.mail("joe@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code();
            assert_eq!(code, if port == stage.submission { 530 } else { 554 });
        }
    }
    wait_until("both are sent", || stage.sink.count() == 2);
    assert!(stage.sink.messages()[0].data.contains("with ESMTPA id "));
    stage.mta.logged("event=authenticated user=tim mechanism=XCLIENT client=192.168.7.7");
}

#[test]
fn rules_have_the_last_word_about_a_login_that_a_proxy_states() {
    let filter = r#"#{
        authenticate: [
            rule "who" || switch `${auth::credentials().mechanism} ${auth::credentials().authid}` {
                "XCLIENT tim" => state::accept(),
                "XCLIENT bob" => auth::unix_users(),
                _ => state::deny(),
            },
        ],
    }"#;
    let stage = stage(&format!("tim:{PENCIL}\n"), &format!("{WITH_FILE} {PROXY}"), filter);
    for (user, code) in [("tim", "220"), ("bob", "220"), ("joe", "554 5.7.8")] {
        let (mut client, greeting) = proxied(stage.submission, &format!("LOGIN={user}"));
        assert!(greeting.starts_with(code), "{user}: {greeting}");
        if code == "220" {
            assert_eq!(client.say("AUTH PLAIN =").code(), 503);
            assert_eq!(client.mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
        }
    }
    // Who may only say who the client is cannot, and who is no proxy at all still less.
    let only_named = format!("{WITH_FILE} config.server.smtp.xclient_from = [\"127.0.0.0/8\"];");
    let unproven = crate::stage(&format!("tim:{PENCIL}\n"), &only_named, "");
    let mut client = Client::hello(unproven.submission);
    assert!(client.say("EHLO proxy.test").0.contains("XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT"));
    assert_eq!(client.say("XCLIENT ADDR=192.168.7.7 LOGIN=tim").code(), 501);
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 530);
    let stranger = crate::stage(&format!("tim:{PENCIL}\n"), WITH_FILE, "");
    let mut client = Client::hello(stranger.submission);
    assert_eq!(client.say("XCLIENT LOGIN=tim").code(), 550);
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 530);
}

#[test]
fn swaks_as_a_proxy_states_a_login() {
    const TEST: &str = "swaks_as_a_proxy_states_a_login";
    if !needs_programs(TEST, &["swaks"]) {
        return;
    }
    let stage = stage("", PROXY, "");
    let server = format!("127.0.0.1:{}", stage.submission);
    let words =
        ["--server", &server, "--from", "tim@src.test", "--to", "b@dst.test", "--helo", "client.test"];
    let output = run(
        "swaks",
        &[&words[..], &["--xclient-addr", "192.168.7.7", "--xclient-login", "tim@src.test"]].concat(),
    );
    assert!(output.status.success(), "{}", said(&output));
    wait_until("it is sent", || stage.sink.count() == 1);
}
