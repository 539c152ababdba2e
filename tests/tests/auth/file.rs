//! A file of passwords.

use vsmtp_tests::{Client, needs_programs, python, run, run_with_input, said, wait_until};

use crate::{PENCIL, SCRAM, WITH_FILE, gsasl, log_in, stage};

#[test]
fn whoever_has_authenticated_may_relay_and_nobody_else() {
    let stage = stage(&format!("tim:{PENCIL}\n"), WITH_FILE, "");
    let mut stranger = Client::hello(stage.mta.port());
    assert_eq!(stranger.mail("a@src.test", &["b@dst.test"], "x").code(), 554);
    let mut stranger = Client::hello(stage.submission);
    assert_eq!(stranger.say("MAIL FROM:<a@src.test>").0, "530 5.7.0 Authentication required");
    for port in [stage.mta.port(), stage.submission] {
        let (mut client, reply) = log_in(port, "tim", "pencil");
        assert_eq!(reply.0, "235 2.7.0 Authentication succeeded");
        assert_eq!(client.say("AUTH PLAIN =").code(), 503);
        assert!(!client.say("EHLO again.test").0.contains("AUTH"));
        let reply = client.mail("tim@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx");
        assert_eq!(reply.code(), 250, "{reply:?}");
        // And the next one over the same connection.
        assert_eq!(client.mail("tim@src.test", &["c@dst.test"], "Subject: y\r\n\r\ny").code(), 250);
    }
    wait_until("all are sent", || stage.sink.count() == 4);
    let text = stage.sink.messages()[0].data.clone();
    assert!(text.contains(" with ESMTPA id "), "{text}");
    let log = stage.mta.logged("event=authenticated user=tim mechanism=PLAIN client=127.0.0.1");
    assert!(log.lines().any(|line| line.contains("event=accepted") && line.contains("user=tim")), "{log}");
    assert!(!log.contains("pencil") && !log.contains(PENCIL), "no password in the log");
}

#[test]
fn what_is_wrong_is_refused_and_the_session_may_try_again() {
    let stage = stage(&format!("tim:{PENCIL}\n"), WITH_FILE, "");
    let (mut client, reply) = log_in(stage.submission, "tim", "Pencil");
    assert_eq!(reply.0, "535 5.7.8 Authentication credentials invalid");
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 530);
    assert_eq!(client.say(&crate::plain("joe", "pencil")).code(), 535);
    assert_eq!(client.say("AUTH PLAIN dGlt").code(), 501);
    assert_eq!(client.say("AUTH CRAM-MD5").code(), 504);
    assert_eq!(client.say("AUTH LOGIN").0, "334 VXNlcm5hbWU6");
    assert_eq!(client.say("*").code(), 501);
    assert_eq!(client.say(&crate::plain("tim", "pencil")).code(), 235);
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    stage.mta.logged("event=auth-failed why=credentials user=joe mechanism=PLAIN client=127.0.0.1");
}

#[test]
fn swaks_and_gsasl_speak_each_mechanism() {
    const TEST: &str = "swaks_and_gsasl_speak_each_mechanism";
    if !needs_programs(TEST, &["swaks", "gsasl"]) {
        return;
    }
    let stage = stage(&format!("tim:{SCRAM}\n"), WITH_FILE, "");
    let hello = Client::hello(stage.submission).say("EHLO x.test").0;
    assert!(hello.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN"), "{hello}");
    let server = format!("127.0.0.1:{}", stage.submission);
    for mechanism in ["PLAIN", "LOGIN"] {
        let swaks = |password| {
            run(
                "swaks",
                &[
                    "--server",
                    &server,
                    "--from",
                    "tim@src.test",
                    "--to",
                    "b@dst.test",
                    "--auth",
                    mechanism,
                    "--auth-user",
                    "tim",
                    "--auth-password",
                    password,
                ],
            )
        };
        said(&swaks("pencil"));
        assert!(!swaks("wrong").status.success(), "{mechanism}");
    }
    wait_until("both are sent", || stage.sink.count() == 2);
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256"] {
        let gsasl = |password: &str| gsasl(stage.submission, mechanism, password);
        let text = said(&gsasl("pencil"));
        assert!(text.contains("235 2.7.0"), "{mechanism}: {text}");
        let failed = gsasl("wrong");
        let text = String::from_utf8_lossy(&[failed.stdout, failed.stderr].concat()).into_owned();
        assert!(text.contains("535 5.7.8") && !text.contains("235 2.7.0"), "{mechanism}: {text}");
    }
}

#[test]
fn the_proof_of_the_server_is_right_too() {
    if !needs_programs("the_proof_of_the_server_is_right_too", &["python3"]) {
        return;
    }
    let stage = stage(&format!("tim:{SCRAM}\n"), WITH_FILE, "");
    // Checks the server's signature, and that a user who does not exist looks like another.
    let script = r#"
import base64, hashlib, hmac, smtplib, sys
H = lambda k, t: hmac.new(k, t, "sha256").digest()
def begin(user):
    s = smtplib.SMTP("127.0.0.1", int(sys.argv[1])); s.ehlo()
    code, said = s.docmd("AUTH SCRAM-SHA-256", base64.b64encode(b"n,,n=%s,r=abc" % user).decode())
    assert code == 334, said
    return s, base64.b64decode(said)
s, first = begin(b"tim")
got = dict(p.split(b"=", 1) for p in first.split(b","))
salted = hashlib.pbkdf2_hmac("sha256", b"pencil", base64.b64decode(got[b"s"]), int(got[b"i"]))
bare = b"c=biws,r=" + got[b"r"]
signed = b"n=tim,r=abc," + first + b"," + bare
key = H(salted, b"Client Key")
proof = bytes(a ^ b for a, b in zip(key, H(hashlib.sha256(key).digest(), signed)))
code, said = s.docmd(base64.b64encode(bare + b",p=" + base64.b64encode(proof)).decode())
assert code == 334, said
assert base64.b64decode(said) == b"v=" + base64.b64encode(H(H(salted, b"Server Key"), signed)), said
assert s.docmd("")[0] == 235
_, one = begin(b"nobody"); _, two = begin(b"nobody")
cut = lambda t: t.split(b",", 1)[1]
assert cut(one) == cut(two) and len(one) == len(first), (one, first)
print("right")
"#;
    let output = python(script, &[&stage.submission.to_string()]);
    assert_eq!(said(&output).trim(), "right");
}

#[test]
fn a_new_password_counts_within_seconds_and_without_a_reload() {
    let stage = stage("ann:!\n", WITH_FILE, "");
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 535);
    let path = stage.mta.root().join("etc/vsmtp/users");
    std::fs::write(path.with_extension("new"), format!("tim:{PENCIL}\n")).expect("write users");
    std::fs::rename(path.with_extension("new"), &path).expect("replace users");
    wait_until("the file is read again", || stage.mta.log().matches("event=passwords-read").count() >= 2);
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 235);
    std::fs::write(&path, "").expect("empty users");
    wait_until("the file is read again", || stage.mta.log().matches("event=passwords-read").count() >= 3);
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 535);
}

#[test]
fn vsmtpctl_makes_lines_that_count() {
    let program = vsmtp_tests::binary("vsmtpctl");
    let program = program.to_str().expect("a path");
    let line =
        |words: &[&str]| said(&run_with_input(program, &[&["auth", "hash"], words].concat(), b"pencil\n"));
    let users = line(&["--user", "tim"]) + &line(&["--user", "joe", "--scheme", "argon2id"]);
    let stage = stage(&users, WITH_FILE, "");
    for user in ["tim", "joe"] {
        assert_eq!(log_in(stage.submission, user, "pencil").1.code(), 235, "{users}");
        assert_eq!(log_in(stage.submission, user, "Pencil").1.code(), 535);
    }
}

#[test]
fn in_clear_no_password_is_asked_for_unless_the_operator_says_so() {
    let more = format!("{WITH_FILE} config.server.esmtp.auth.enable_dangerous_mechanism_in_clair = false;");
    let stage = stage(&format!("tim:{SCRAM}\n"), &more, "");
    let mut client = Client::hello(stage.submission);
    let hello = client.say("EHLO x.test").0;
    assert!(hello.contains("AUTH SCRAM-SHA-256") && !hello.contains("PLAIN"), "{hello}");
    let reply = client.say(&crate::plain("tim", "pencil"));
    assert!(reply.0.starts_with("538 5.7.11"), "{reply:?}");
}

#[test]
fn a_file_that_is_not_there_refuses_the_configuration() {
    let (mut stage, settings) = crate::prepare(WITH_FILE, "");
    stage.mta.write_configuration(&settings);
    let said = stage.mta.try_launch().expect_err("no start without the file");
    assert!(said.contains("etc/vsmtp/users"), "{said}");
}

#[test]
fn whoever_has_authenticated_says_what_is_urgent_and_a_next_hop_that_understands_hears_it() {
    let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = std::sync::Arc::clone(&said);
    let next_hop = vsmtp_tests::Sink::scripted(move |line| {
        if line.starts_with("MAIL ") {
            heard.lock().expect("nobody panics").push(line.to_owned());
        }
        line.starts_with("EHLO ").then(|| "250-sink.test\r\n250 MT-PRIORITY MIXER".to_owned())
    });
    let config = format!(
        "{WITH_FILE}\nconfig.delivery.relayhost = \"[127.0.0.1]:{}\";\nconfig.server.esmtp.priority_raise = true;",
        next_hop.port()
    );
    let stage = stage(&format!("tim:{PENCIL}\n"), &config, "");
    assert!(!Client::hello(stage.mta.port()).say("EHLO x.test").0.contains("PRIORITY"), "not to everybody");
    // Most clients say EHLO once: what they may use after AUTH is listed before it, and taken after it only.
    let mut stranger = Client::hello(stage.submission);
    assert!(stranger.say("EHLO x.test").0.contains("PRIORITY"));
    assert_eq!(stranger.say("MAIL FROM:<a@src.test> MT-PRIORITY=1").code(), 530);
    assert_eq!(Client::hello(stage.mta.port()).say("MAIL FROM:<a@src.test> MT-PRIORITY=1").code(), 555);
    let (mut client, _) = log_in(stage.submission, "tim", "pencil");
    assert_eq!(client.say("MAIL FROM:<tim@src.test> MT-PRIORITY=-10").code(), 501);
    assert_eq!(client.say("MAIL FROM:<tim@src.test> MT-PRIORITY=7").code(), 250);
    assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
    assert_eq!(client.say("DATA").code(), 354);
    assert_eq!(client.say("Subject: x\r\n\r\nx\r\n.").code(), 250);
    assert_eq!(client.mail("tim@src.test", &["b@dst.test"], "Subject: y\r\n\r\ny").code(), 250);
    wait_until("both are sent", || next_hop.count() == 2);
    let mut said = said.lock().expect("nobody panics").clone();
    said.sort();
    assert!(said[0].contains(" MT-PRIORITY=7") != said[1].contains(" MT-PRIORITY=7"), "{said:?}");
    stage.mta.logged(" priority=7");
}

#[test]
fn nobody_calls_a_message_more_urgent_than_others_unless_the_operator_lets_clients() {
    let stage = stage(&format!("tim:{PENCIL}\n"), WITH_FILE, "");
    let (mut client, _) = log_in(stage.submission, "tim", "pencil");
    client.say("EHLO x.test");
    for (asked, reply) in [(7, "250 2.3.6 0 "), (-3, "250 2.1.0 ")] {
        let said = client.say(&format!("MAIL FROM:<tim@src.test> MT-PRIORITY={asked}")).0;
        assert!(said.starts_with(reply), "{said}");
        assert_eq!(client.say("RCPT TO:<jane@local.test>").code(), 250);
        assert_eq!(client.say("DATA").code(), 354);
        assert_eq!(client.say("Subject: x\r\n\r\nx\r\n.").code(), 250);
    }
    wait_until("the second is logged", || stage.mta.log().contains(" priority=-3"));
    assert!(!stage.mta.log().contains(" priority=7"), "{}", stage.mta.log());
}

#[test]
fn a_message_is_kept_back_until_its_time_has_come() {
    let mut stage = stage(&format!("tim:{PENCIL}\n"), WITH_FILE, "");
    assert!(!Client::hello(stage.mta.port()).say("EHLO x.test").0.contains("FUTURERELEASE"));
    let (mut client, _) = log_in(stage.submission, "tim", "pencil");
    assert!(client.say("EHLO x.test").0.contains("FUTURERELEASE 2592000 2"));
    assert_eq!(client.say("MAIL FROM:<tim@src.test> HOLDFOR=2592001").code(), 501);
    let mut send = |parameters: &str| {
        assert_eq!(client.say(&format!("MAIL FROM:<tim@src.test> {parameters}")).code(), 250);
        assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
        assert_eq!(client.say("DATA").code(), 354);
        assert_eq!(client.say("Subject: x\r\n\r\nx\r\n.").code(), 250);
    };
    send("HOLDUNTIL=2020-01-01T00:00:00Z");
    wait_until("what was due long ago is sent", || stage.sink.count() == 1);
    send("HOLDFOR=3600");
    // Still after a restart.
    for is_first in [true, false] {
        wait_until("nothing else is queued", || stage.mta.queued() == 1);
        let is_deferred = |row: &serde_json::Value| row["queue_name"] == "deferred";
        wait_until("it waits", || stage.mta.ctl_rows(&["queue", "list"]).iter().any(is_deferred));
        let row = stage.mta.ctl_rows(&["queue", "list"]).remove(0);
        let (next, arrived) = (row["next_attempt"].as_u64(), row["arrival_time"].as_u64());
        let wait = next.zip(arrived).map_or(0, |(next, arrived)| next.saturating_sub(arrived));
        assert!((3590..3700).contains(&wait), "{row}");
        assert_eq!(stage.sink.count(), 1);
        if is_first {
            stage.mta.stop();
            stage.mta.launch();
        }
    }
    stage.mta.logged(" not_before=2020-01-01T00:00:00Z");
    let id = stage.mta.ctl_rows(&["queue", "list"]).remove(0)["queue_id"].as_str().map(str::to_owned);
    stage.mta.ctl(&["queue", "flush", &id.expect("an id")]);
    wait_until("an operator does not wait", || stage.sink.count() == 2);
}

#[test]
fn what_is_to_be_delivered_by_a_time_goes_only_where_that_is_heeded_or_its_sender_hears() {
    let stage = stage(&format!("tim:{PENCIL}\n"), WITH_FILE, "");
    let (mut client, _) = log_in(stage.submission, "tim", "pencil");
    let mut send = |parameters: &str| {
        assert_eq!(client.say(&format!("MAIL FROM:<tim@src.test> {parameters}")).code(), 250);
        assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
        assert_eq!(client.say("DATA").code(), 354);
        assert_eq!(client.say("Subject: x\r\n\r\nx\r\n.").code(), 250);
    };
    let has = |texts: &[&str]| {
        let messages = stage.sink.messages();
        messages.iter().any(|message| texts.iter().all(|text| message.data.contains(text)))
    };
    send("BY=600;R");
    wait_until("it comes back", || has(&["Action: failed", "Status: 5.4.7", "Deliver-By-Date: "]));
    assert_eq!(stage.sink.count(), 1, "it went out");
    send("BY=600;N");
    wait_until("it is sent, and its sender hears that nobody heeds the time", || {
        stage.sink.count() == 3 && has(&["Action: relayed"])
    });
}

#[test]
fn a_next_hop_that_heeds_it_hears_how_much_time_is_left() {
    let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = std::sync::Arc::clone(&said);
    let next_hop = vsmtp_tests::Sink::scripted(move |line| {
        if line.starts_with("MAIL ") {
            heard.lock().expect("nobody panics").push(line.to_owned());
        }
        line.starts_with("EHLO ").then(|| "250-sink.test\r\n250 DELIVERBY 30".to_owned())
    });
    let config = format!("{WITH_FILE}\nconfig.delivery.relayhost = \"[127.0.0.1]:{}\";", next_hop.port());
    let stage = stage(&format!("tim:{PENCIL}\n"), &config, "");
    assert!(!Client::hello(stage.mta.port()).say("EHLO x.test").0.contains("DELIVERBY"));
    let (mut client, _) = log_in(stage.submission, "tim", "pencil");
    assert!(client.say("EHLO x.test").0.contains("DELIVERBY 60"));
    assert_eq!(client.say("MAIL FROM:<tim@src.test> BY=900000;RT").code(), 250);
    assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
    assert_eq!(client.say("DATA").code(), 354);
    assert_eq!(client.say("Subject: x\r\n\r\nx\r\n.").code(), 250);
    wait_until("it is sent, and traced", || next_hop.count() == 2);
    let said = said.lock().expect("nobody panics").join("\n");
    let left =
        said.split(" BY=").nth(1).and_then(|rest| rest.split(';').next()).and_then(|s| s.parse::<u32>().ok());
    assert!(left.is_some_and(|left| (890_000..=900_000).contains(&left)) && said.contains(";RT"), "{said}");
    assert!(next_hop.messages().iter().any(|message| message.data.contains("Action: relayed")), "{said}");
}
