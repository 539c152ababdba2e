//! How connections end: the last replies reach a client that is still speaking.

use std::io::Write;

use crate::stage::{Client, Filter, Stage, reply};
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Verdict};
use vsmtp_stage::uninterrupted;

/// A client that is refused, with the end of its session, while its message is on its way.
fn refused_while_it_speaks(stage: &Stage, filter: &mut Filter) -> Client {
    let mut client = stage.greeted();
    client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nBDAT 50000000 LAST\r\n");
    let Ask::Recipients { facts, .. } = filter.hear().0 else { panic!() };
    // While the filter thinks, nothing is read.
    client.send([b'x'; 30_000]);
    let decisions = vec![Decision::Close(reply("554 5.7.1 not from you"))];
    filter.say(&Verdict::Recipients { session: facts.session, decisions });
    client
}

/// How many pieces such a client can still send when it has heard why.
fn sent_behind_the_end() -> usize {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = refused_while_it_speaks(&stage, &mut filter);
    assert_eq!(client.hear_to_the_end(), "250 2.1.0 Ok\r\n554 5.7.1 not from you\r\n");
    (0..1000).take_while(|_| client.stream.write_all(&[b'x'; 64 << 10]).is_ok()).count()
}

#[test]
fn a_client_that_is_refused_while_it_speaks_hears_why_and_is_heard_for_a_while() {
    // What was on its way meets no closed door. More than one try: the door is open for a while only, and this thread may
    // be stopped for longer.
    let sent = (0..10).map(|_| sent_behind_the_end()).find(|sent| *sent > 8);
    // And what goes on and on does.
    assert!(sent.is_some_and(|sent| sent < 1000), "{sent:?}");
}

#[test]
fn the_log_tells_who_left_from_who_was_broken_off() {
    let (mut stage, _filter) = Stage::with_filter();
    drop(stage.greeted());
    stage.logged("why=hangup");
    assert!(!stage.log().contains("why=reset"));
    let mut client = stage.greeted();
    client.send("NOOP\r\n");
    // A reply that nobody has read makes the end of a connection a reset.
    uninterrupted(|| client.stream.peek(&mut [0])).unwrap();
    drop(client);
    stage.logged("why=reset");
    assert_eq!(stage.log().matches("why=hangup").count(), 1);
}

#[test]
fn a_client_that_does_not_leave_is_left() {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = refused_while_it_speaks(&stage, &mut filter);
    client.hear_to_the_end();
    filter.expect_reset();
    filter.expect_forget();
}

#[test]
fn what_a_client_says_behind_quit_destroys_no_reply() {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    client.begin(&mut filter);
    client.ask("DATA");
    client.send("x\r\n.\r\nQUIT\r\n");
    let (session, _) = filter.take_message();
    client.say("what else");
    filter.decide(session, Decision::Accept(None));
    let said = client.hear_to_the_end();
    assert!(said.starts_with("250 2.0.0 queued as") && said.contains("\r\n221 "), "{said}");
}
