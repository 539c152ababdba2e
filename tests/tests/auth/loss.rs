//! The auth helper dies.

use std::time::{Duration, Instant};

use vsmtp_tests::{Client, signal, wait_until};

use crate::{PENCIL, WITH_FILE, log_in, plain, stage};

#[test]
fn a_dead_helper_costs_the_exchanges_under_way_and_no_session() {
    let one = format!("{WITH_FILE} config.server.receivers = 1;");
    let stage = stage(&format!("tim:{PENCIL}\n"), &one, "");
    let (mut before, reply) = log_in(stage.submission, "tim", "pencil");
    assert_eq!(reply.code(), 235);
    // It has shown its grant to the filter once.
    assert_eq!(before.mail("tim@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
    let mut between = Client::hello(stage.submission);
    assert_eq!(between.say("AUTH LOGIN").code(), 334);
    // It does not answer any more, and then it dies.
    let mut waiting = Client::hello(stage.submission);
    let helper = stage.mta.pid_of("auth");
    signal(&[helper], "STOP");
    waiting.send(format!("{}\r\n", plain("tim", "wrong")).as_bytes());
    // The one receiver has heard that when it hears this.
    assert_eq!(before.say("NOOP").code(), 250);
    signal(&[helper], "KILL");
    assert_eq!(waiting.reply().code(), 454);
    assert_eq!(between.say("dGlt").code(), 454);
    // Everybody goes on as soon as it is back.
    let deadline = Instant::now() + Duration::from_secs(20);
    for client in [&mut waiting, &mut between] {
        let mut code = client.say(&plain("tim", "pencil")).code();
        while code == 454 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            code = client.say(&plain("tim", "pencil")).code();
        }
        assert_eq!(code, 235);
        assert_eq!(client.mail("tim@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
    }
    assert_eq!(before.mail("tim@src.test", &["b@dst.test"], "Subject: y\r\n\r\ny").code(), 250);
    wait_until("all are sent", || stage.sink.count() == 4);
}

#[test]
fn a_new_filter_asks_the_helper_who_is_there() {
    let filter = "#{ authenticate: [ rule \"all\" || state::accept() ] }";
    let stage = stage(&format!("tim:{PENCIL}\n"), WITH_FILE, filter);
    let (mut client, reply) = log_in(stage.submission, "tim", "pencil");
    assert_eq!(reply.code(), 235);
    let restarts = || {
        stage
            .mta
            .processes()
            .iter()
            .filter(|one| one.name.starts_with("filter-session") && one.restarts > 0 && one.is_ready)
            .count()
    };
    signal(&[stage.mta.pid_of("filter-session")], "KILL");
    wait_until("the filter is back", || restarts() == 1);
    let reply = client.mail("tim@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
    // With the helper gone too, nobody knows any more who that was.
    signal(&[stage.mta.pid_of("auth"), stage.mta.pid_of("filter-session")], "KILL");
    wait_until("both are back", || {
        let all = stage.mta.processes();
        let back =
            |name: &str| all.iter().any(|one| one.name.starts_with(name) && one.restarts > 0 && one.is_ready);
        back("auth")
            && all
                .iter()
                .any(|one| one.name.starts_with("filter-session") && one.restarts > 1 && one.is_ready)
    });
    let reply = client.mail("tim@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.0, "421 4.7.0 Authentication is lost, connect again");
}

#[test]
fn guesses_by_many_at_once_are_answered_and_delay_nobody_for_long() {
    let more = format!(
        "{WITH_FILE} config.server.auth.failures_per_address = -1; config.server.auth.failures_per_account = -1;"
    );
    let stage = stage(&format!("tim:{PENCIL}\n"), &more, "");
    let mut guessers: Vec<Client> = (0..40).map(|_| Client::hello(stage.submission)).collect();
    let guess = format!("{}\r\n", plain("tim", "wrong"));
    guessers.iter_mut().for_each(|client| client.send(guess.as_bytes()));
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 235);
    for mut client in guessers {
        assert_eq!(client.reply().code(), 535);
    }
}
