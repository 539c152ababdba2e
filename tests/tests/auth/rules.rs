//! The stage `authenticate`.

use vsmtp_tests::Client;

use crate::{PENCIL, WITH_FILE, log_in, prepare, stage};

const ALONE: &str = "config.server.esmtp.auth.mechanisms = [\"PLAIN\", \"LOGIN\"];";

#[test]
fn only_an_explicit_accept_lets_a_client_in() {
    let filter = r#"#{
        authenticate: [
            rule "who" || switch auth::credentials().authid {
                "tim" => state::accept(),
                "joe" => state::next(),
                "ann" => throw "no",
                "bob" => state::faccept(),
                _ => state::deny(),
            },
        ],
        mail: [ rule "known" || if auth::is_authenticated() { state::next() } else { state::deny() } ],
    }"#;
    for config in [ALONE, WITH_FILE] {
        let users: String =
            ["tim", "joe", "ann", "bob", "eve"].map(|user| format!("{user}:{PENCIL}\n")).concat();
        let stage = stage(&users, config, filter);
        for (user, code) in [("joe", 535), ("ann", 535), ("eve", 535), ("bob", 235), ("tim", 235)] {
            let (mut client, reply) = log_in(stage.submission, user, "pencil");
            assert_eq!(reply.code(), code, "{user}: {reply:?}");
            let sent = client.mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code();
            assert_eq!(sent, if code == 235 { 250 } else { 530 }, "{user}");
        }
        // A back-end's no is final.
        let wrong = log_in(stage.submission, "tim", "wrong").1.code();
        assert_eq!(wrong, if config == ALONE { 235 } else { 535 });
        assert_eq!(Client::hello(stage.mta.port()).mail("a@src.test", &["b@local.test"], "x").code(), 554);
    }
}

#[test]
fn somebody_must_be_able_to_tell_whether_a_password_is_right() {
    let (mut stage, settings) = prepare(ALONE, "#{}");
    stage.mta.write_configuration(&settings);
    let said = stage.mta.try_launch().expect_err("nobody can tell");
    assert!(said.contains("the stage authenticate has no rules"), "{said}");
}
