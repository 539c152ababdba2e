//! Where mail goes, from where, and how much of it at once, as the configuration says.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vsmtp_tests::{Client, Mta, Settings, Sink, wait_until};

use super::relaying_to;

/// How long a server that holds a message waits for the test.
const HOLD: Duration = Duration::from_secs(30);

fn mail(mta: &Mta, from: &str, to: &str) {
    let mut client = Client::hello(mta.port());
    assert_eq!(client.mail(from, &[to], "Subject: x\r\n\r\nx").code(), 250, "{from} {to}");
}

/// The line of `on_config` that sends what this sender's domain writes to the sink.
fn sent_to(domain: &str, sink: &Sink) -> String {
    format!("config.delivery.sender_relay = #{{\"*@{domain}\": \"[127.0.0.1]:{}\"}};", sink.port())
}

fn senders(sink: &Sink) -> Vec<String> {
    sink.messages().into_iter().map(|message| message.from).collect()
}

#[test]
fn the_sender_decides_where_its_mail_goes_unless_the_recipient_has_a_way() {
    let (usual, own, fixed) = (Sink::start(), Sink::start(), Sink::start());
    let config = format!(
        "{} config.delivery.transport = #{{\"fixed.test\": \"[127.0.0.1]:{}\"}};",
        sent_to("own.test", &own),
        fixed.port()
    );
    let mta = relaying_to(&usual, &config);
    for (from, to) in
        [("a@own.test", "b@far.test"), ("a@other.test", "b@far.test"), ("c@own.test", "b@fixed.test")]
    {
        mail(&mta, from, to);
    }
    wait_until("all are delivered", || mta.queued() == 0);
    assert_eq!(senders(&own), ["a@own.test"]);
    assert_eq!(senders(&usual), ["a@other.test"]);
    assert_eq!(senders(&fixed), ["c@own.test"]);
}

#[test]
fn connections_come_from_the_address_of_the_configuration() {
    let next = TcpListener::bind("127.0.0.1:0").expect("bind the next hop");
    let port = next.local_addr().expect("its address").port();
    let mta = Mta::start(&Settings {
        config: format!(
            "config.delivery.relayhost = \"[127.0.0.1]:{port}\"; config.delivery.source_address = [\"127.0.0.77\"];"
        ),
        ..Settings::default()
    });
    mail(&mta, "a@src.test", "b@far.test");
    next.set_nonblocking(true).expect("look without waiting");
    let mut client = None;
    wait_until("somebody connects", || {
        client = next.accept().ok();
        client.is_some()
    });
    assert_eq!(client.map(|(_, client)| client.ip().to_string()).as_deref(), Some("127.0.0.77"));
}

#[test]
fn a_family_that_is_not_to_be_used_is_not() {
    let sink = Sink::start();
    let mta = relaying_to(&sink, "config.delivery.address_family = \"ipv6\";");
    mail(&mta, "a@src.test", "b@far.test");
    let log = mta.logged("no address of this family");
    assert!(log.contains("event=deferred"), "{log}");
    assert_eq!((sink.count(), mta.queued()), (0, 1));
}

#[test]
fn there_are_no_more_connections_at_once_than_the_configuration_lets() {
    let (at_dot, is_at_dot) = channel();
    let (release, released) = channel();
    let (at_dot, released) = (Mutex::new(at_dot), Mutex::new(released));
    let busy = Sink::scripted(move |line| {
        if line == "." {
            let _ = at_dot.lock().expect("the test's end").send(());
            let _ = released.lock().expect("the sink's end").recv_timeout(HOLD);
        }
        None
    });
    let connected = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connected);
    let other = Sink::scripted(move |line| {
        if line == "connect" {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        None
    });
    let config = format!(
        "{} config.server.delivers = 1; config.delivery.connections = 1;",
        sent_to("own.test", &other)
    );
    let mta = relaying_to(&busy, &config);
    mail(&mta, "a@src.test", "b@far.test");
    is_at_dot.recv_timeout(HOLD).expect("the first message is at its dot");
    mail(&mta, "a@own.test", "b@far.test");
    // What needs no connection goes on meanwhile.
    mail(&mta, "a@own.test", "b@local.test");
    mta.wait_for_mail("local.test", "b", 1);
    wait_until("only that is out of the queue", || mta.queued() == 2);
    assert_eq!(connected.load(Ordering::SeqCst), 0);
    release.send(()).expect("the sink waits");
    wait_until("both are delivered", || mta.queued() == 0);
    assert_eq!((busy.count(), other.count()), (1, 1));
}

#[test]
fn no_more_mail_goes_to_a_destination_in_a_time_than_the_configuration_lets() {
    let (sink, other) = (Sink::start(), Sink::start());
    let config = format!("{} config.delivery.rate = [\"2/h\"];", sent_to("own.test", &other));
    let mta = relaying_to(&sink, &config);
    for _ in 0..3 {
        mail(&mta, "a@src.test", "b@far.test");
    }
    wait_until("as many as may have arrived", || sink.count() == 2);
    // Another destination has a rate of its own.
    mail(&mta, "a@own.test", "b@far.test");
    wait_until("it has arrived", || other.count() == 1 && mta.queued() == 1);
    assert_eq!(sink.count(), 2);
}
