//! Who may send as whom.

use crate::{PENCIL, WITH_FILE, log_in, stage};

#[test]
fn senders_belong_to_their_logins() {
    let more = format!(
        "{WITH_FILE} config.server.auth.sender_login = #{{ \"sales@local.test\": [\"tim\"], \"*@joe.test\": \"joe\" }};"
    );
    let stage = stage(&format!("tim:{PENCIL}\njoe:{PENCIL}\n"), &more, "");
    for (user, sender, code) in [
        ("tim", "sales@local.test", 250),
        ("joe", "Sales@local.test", 553),
        ("joe", "x@joe.test", 250),
        ("tim", "x@joe.test", 553),
        ("tim", "anybody@else.test", 250),
        ("tim", "", 250),
    ] {
        let (mut client, reply) = log_in(stage.submission, user, "pencil");
        assert_eq!(reply.code(), 235);
        let reply = client.say(&format!("MAIL FROM:<{sender}>"));
        assert_eq!(reply.code(), code, "{user} {sender}: {reply:?}");
    }
}

#[test]
fn everybody_is_only_itself_if_the_operator_wants_it() {
    let more = format!("{WITH_FILE} config.server.auth.own_sender_only = true;");
    let stage = stage(&format!("tim:{PENCIL}\n"), &more, "");
    for (sender, code) in
        [("tim@local.test", 250), ("tim@else.test", 553), ("joe@local.test", 553), ("", 250)]
    {
        let mut client = log_in(stage.submission, "tim", "pencil").0;
        let reply = client.say(&format!("MAIL FROM:<{sender}>"));
        assert_eq!(reply.code(), code, "{sender}: {reply:?}");
    }
    // Strangers on the other port are not concerned.
    let mut stranger = vsmtp_tests::Client::hello(stage.mta.port());
    assert_eq!(stranger.say("MAIL FROM:<joe@local.test>").code(), 250);
}

#[test]
fn strangers_must_log_in_for_what_belongs_to_somebody_if_the_operator_wants_it() {
    let more = format!(
        "{WITH_FILE} config.server.auth.sender_login = #{{ \"sales@local.test\": [\"tim\"] }};\n\
         config.server.auth.senders_need_login = true;"
    );
    let stage = stage(&format!("tim:{PENCIL}\n"), &more, "");
    for (sender, code) in [("Sales@local.test", 553), ("joe@local.test", 250), ("", 250)] {
        let mut stranger = vsmtp_tests::Client::hello(stage.mta.port());
        let reply = stranger.say(&format!("MAIL FROM:<{sender}>"));
        assert_eq!(reply.code(), code, "{sender}: {reply:?}");
    }
    let mut client = log_in(stage.mta.port(), "tim", "pencil").0;
    assert_eq!(client.say("MAIL FROM:<sales@local.test>").code(), 250);
}
