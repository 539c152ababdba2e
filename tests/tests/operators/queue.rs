//! The queue, looked at and changed.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use vsmtp_tests::{Client, Mta, Settings, Sink, binary, wait_until};

use crate::{ctl, refused};

/// Everything is held.
const HOLD: &str = "#{ rcpt: [ action \"hold\" || queue::hold() ] }";
/// Messages of the long queue: more than three pages.
const MANY: usize = 3_000;

/// An MTA that holds what it gets and relays to the sink what is released.
fn holding(sink: &Sink) -> Mta {
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    Mta::start(&Settings { config, filter: HOLD.to_owned() })
}

/// Hands in so many messages over one connection.
fn fill(mta: &Mta, count: usize) {
    let mut client = Client::hello(mta.port());
    let mut left = count;
    // As many at once as a pipelining client may send without reading a reply.
    while left > 0 {
        client.send(b"MAIL FROM:<a@src.test>\r\nRCPT TO:<b@dst.test>\r\nDATA\r\n");
        for code in [250, 250, 354] {
            assert_eq!(client.reply().code(), code);
        }
        assert_eq!(client.say(&format!("Subject: {left}\r\n\r\nx\r\n.")).code(), 250);
        left -= 1;
    }
}

fn ids(mta: &Mta, words: &[&str]) -> Vec<String> {
    let rows = mta.ctl_rows(&[&["queue", "list"], words].concat());
    rows.iter().map(|row| row["queue_id"].as_str().expect("a queue id").to_owned()).collect()
}

#[test]
fn a_long_queue_streams_and_is_changed_by_state() {
    let sink = Sink::start();
    let mta = holding(&sink);
    fill(&mta, MANY);
    let all = ids(&mta, &[]);
    assert_eq!(all.len(), MANY);
    let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), MANY, "no message twice");
    assert_eq!(ids(&mta, &["--limit", "7"]), all[..7]);
    assert_eq!(ids(&mta, &["--state", "held"]).len(), MANY);
    assert_eq!(ids(&mta, &["--state", "deferred"]).len(), 0);
    let table = ctl(&mta, &["queue", "list", "--limit", "2"]);
    assert_eq!(
        table.lines().filter(|line| line.contains("<a@src.test> -> b@dst.test")).count(),
        2,
        "{table}"
    );
    // The reader of a pipe may leave at any time.
    assert!(first_lines(&mta, 3).iter().all(|line| line.contains("queue_id")));

    assert_eq!(mta.ctl_json(&["queue", "delete", &all[0], &all[1]])["changed"], 2);
    assert_eq!(
        with_input(&mta, &["queue", "delete", "-"], &all[2..1000].join("\n")),
        "deleted: 998 messages\n"
    );
    assert_eq!(mta.queued(), MANY as u64 - 1000);
    assert_eq!(ids(&mta, &[]), all[1000..], "and no others");
    assert_eq!(mta.ctl_json(&["queue", "release", &all[1000]])["changed"], 1);
    wait_until("the released one is delivered", || sink.count() == 1);
    assert_eq!(mta.ctl_json(&["queue", "delete", "--all", "--state", "deferred"])["changed"], 0);
    assert_eq!(mta.ctl_json(&["queue", "delete", "--all", "--state", "held"])["changed"], MANY as u64 - 1001);
    assert_eq!(mta.queued(), 0);
    assert_eq!(sink.count(), 1);
}

/// The first lines of the list; then the pipe is closed.
fn first_lines(mta: &Mta, count: usize) -> Vec<String> {
    let mut command = Command::new(binary("vsmtpctl"));
    command.arg("--root").arg(mta.root()).args(["queue", "list", "--json"]).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("run vsmtpctl");
    let stdout = BufReader::new(child.stdout.take().expect("its output"));
    let lines = stdout.lines().take(count).map(|line| line.expect("a line")).collect();
    let mut said = String::new();
    child.stderr.take().expect("its errors").read_to_string(&mut said).expect("read its errors");
    assert_eq!((child.wait().expect("wait").code(), said.as_str()), (Some(0), ""));
    lines
}

fn with_input(mta: &Mta, words: &[&str], input: &str) -> String {
    let mut command = Command::new(binary("vsmtpctl"));
    command.arg("--root").arg(mta.root()).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("run vsmtpctl");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("write the ids");
    let output = child.wait_with_output().expect("wait for vsmtpctl");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn one_message_is_shown_and_printed_as_it_goes_out() {
    let sink = Sink::start();
    let mta = holding(&sink);
    let mut client = Client::hello(mta.port());
    let message = "From: a@src.test\r\nSubject: \u{1b}[31mred\r\n\r\n..dot\r\nend";
    assert_eq!(client.mail("a@src.test", &["b@dst.test", "c@dst.test"], message).code(), 250);
    let id = ids(&mta, &[]).remove(0);
    let row = mta.ctl_json(&["queue", "show", &id]);
    assert_eq!((row["sender"].as_str(), row["queue_name"].as_str()), (Some("a@src.test"), Some("held")));
    assert_eq!(row["recipients"].as_array().map(Vec::len), Some(2), "{row}");
    let table = ctl(&mta, &["queue", "show", &id]);
    assert!(table.contains("c@dst.test") && table.contains(&id), "{table}");
    let printed = mta.ctl(&["queue", "cat", &id]).stdout;
    assert_eq!(printed.len() as u64, row["message_size"].as_u64().expect("a size"));
    ctl(&mta, &["queue", "release", &id]);
    wait_until("it is delivered", || sink.count() == 1);
    assert_eq!(sink.messages()[0].octets, printed);
    for words in [
        &["queue", "show", &id][..],
        &["queue", "cat", &id],
        &["queue", "release", &id],
        &["queue", "delete", &id],
    ] {
        let (code, said) = refused(&mta, words);
        assert_eq!(code, 1, "{words:?}: {said}");
        assert!(said.contains("message"), "{words:?}: {said}");
    }
    assert_eq!(refused(&mta, &["queue", "show", "nonsense"]).0, 2);
}

#[test]
fn large_messages_are_printed_whole() {
    let sink = Sink::start();
    let mta = holding(&sink);
    let body = "0123456789abcdef".repeat(4).to_owned() + "\r\n";
    let message = format!("Subject: large\r\n\r\n{}", body.repeat(50_000));
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], &message);
    assert_eq!(reply.code(), 250, "{reply:?}");
    let printed = mta.ctl(&["queue", "cat", &ids(&mta, &[])[0]]).stdout;
    assert!(printed.ends_with(format!("{message}\r\n").as_bytes()), "{} octets", printed.len());
}

#[test]
fn messages_are_held_flushed_and_requeued() {
    let deaf = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let closed = std::sync::Arc::clone(&deaf);
    let sink = Sink::scripted(move |line| {
        let no = line.starts_with("RCPT") && closed.load(std::sync::atomic::Ordering::SeqCst);
        no.then(|| "451 4.7.1 come back later".to_owned())
    });
    let mta = crate::relaying_to(&sink, "");
    let mut client = Client::hello(mta.port());
    for _ in 0..3 {
        assert_eq!(client.mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
    }
    wait_until("all were tried", || ids(&mta, &["--state", "deferred"]).len() == 3);
    let all = ids(&mta, &[]);
    let row = mta.ctl_json(&["queue", "show", &all[0]]);
    assert!(
        row["recipients"][0]["delay_reason"].as_str().is_some_and(|why| why.contains("come back later")),
        "{row}"
    );
    assert!(ctl(&mta, &["queue", "list"]).contains("(451 4.7.1 come back later"), "the list says why");
    // Flush tries at once what would wait for minutes, and it is deferred again.
    assert_eq!(mta.ctl_json(&["queue", "flush", &all[0]])["changed"], 1);
    wait_until("it was tried again", || {
        mta.ctl_json(&["queue", "show", &all[0]])["recipients"][0]["attempts"] == 2
    });
    assert_eq!(mta.ctl_json(&["queue", "hold", &all[1]])["changed"], 1);
    assert_eq!(ids(&mta, &["--state", "held"]), all[1..2]);
    deaf.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(mta.ctl_json(&["queue", "flush", "--all"])["changed"], 2);
    wait_until("two are delivered", || sink.count() == 2);
    wait_until("one is left", || mta.queued() == 1);
    assert_eq!(mta.ctl_json(&["queue", "requeue", &all[1]])["changed"], 1);
    ctl(&mta, &["queue", "release", "--all"]);
    wait_until("all are delivered", || sink.count() == 3);
    wait_until("the queue is empty", || mta.queued() == 0);
    let table = ctl(&mta, &["queue", "stats"]);
    assert!(table.starts_with("FIGURE") && table.contains("messages"), "{table}");
}

#[test]
fn what_is_requeued_goes_where_the_tables_send_it_now() {
    let (deaf, sink) = (
        Sink::scripted(|line| line.starts_with("RCPT").then(|| "451 4.7.1 later".to_owned())),
        Sink::start(),
    );
    let mta = crate::relaying_to(&deaf, "");
    let reply =
        Client::hello(mta.port()).mail("a@src.test", &["b@dst.test", "c@dst.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250);
    wait_until("it was tried", || ids(&mta, &["--state", "deferred"]).len() == 1);
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    mta.write_configuration(&vsmtp_tests::Settings { config, ..vsmtp_tests::Settings::default() });
    ctl(&mta, &["reload"]);
    // What was decided stays decided, until an operator wants otherwise.
    assert_eq!(mta.ctl_json(&["queue", "flush", "--all"])["changed"], 1);
    let tried = |count: u64| {
        wait_until("it was tried again", || {
            let row = mta.ctl_json(&["queue", "show", &ids(&mta, &[])[0]]);
            row["recipients"][0]["attempts"].as_u64() == Some(count)
        });
    };
    tried(2);
    assert_eq!(sink.count(), 0);
    wait_until("the new filter is there", || {
        mta.queued() == 0 || {
            mta.ctl_json(&["queue", "requeue", "--all"]);
            std::thread::sleep(std::time::Duration::from_millis(500));
            mta.queued() == 0
        }
    });
    assert_eq!((sink.count(), sink.messages()[0].to.len()), (1, 2));
}

#[test]
fn a_requeue_keeps_the_next_hop_that_a_rule_has_chosen() {
    let closed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let deaf = std::sync::Arc::clone(&closed);
    let chosen = Sink::scripted(move |line| {
        let no = line.starts_with("RCPT") && deaf.load(std::sync::atomic::Ordering::SeqCst);
        no.then(|| "451 4.7.1 later".to_owned())
    });
    let usual = Sink::start();
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", usual.port());
    let filter = format!(
        "#{{ rcpt: [ action \"there\" || transport::forward_all(\"[127.0.0.1]:{}\") ] }}",
        chosen.port()
    );
    let mta = vsmtp_tests::Mta::start(&vsmtp_tests::Settings { config, filter });
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250);
    wait_until("it was tried", || ids(&mta, &["--state", "deferred"]).len() == 1);
    closed.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(mta.ctl_json(&["queue", "requeue", "--all"])["changed"], 1);
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!((chosen.count(), usual.count()), (1, 0));
}

#[test]
fn a_rate_is_held_towards_its_next_hop_and_shown() {
    let sink = Sink::start();
    let rate =
        format!("config.delivery.destinations = #{{ \"[127.0.0.1]:{}\": \"rate=1/2s\" }};", sink.port());
    let mta = crate::relaying_to(&sink, &rate);
    let mut client = Client::hello(mta.port());
    for _ in 0..3 {
        assert_eq!(client.mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
    }
    wait_until("the first has been sent, and the others wait", || {
        let rows = mta.ctl_rows(&["queue", "destinations"]);
        rows.len() == 1 && rows[0]["state"] == "limited" && rows[0]["messages"] != 0
    });
    wait_until("all have arrived", || sink.count() == 3);
    let arrived: Vec<_> = sink.messages().into_iter().map(|message| message.arrived).collect();
    for pair in arrived.windows(2) {
        let gap = pair[1].duration_since(pair[0]).expect("one after the other");
        assert!((1.5..6.0).contains(&gap.as_secs_f64()), "{gap:?}");
    }
    let table = ctl(&mta, &["queue", "destinations"]);
    assert!(table.starts_with("STATE"), "{table}");
}

#[test]
fn a_spool_is_read_while_nothing_runs() {
    let sink = Sink::start();
    let mut mta = holding(&sink);
    fill(&mta, 20);
    let large = format!("Subject: large\r\n\r\n{}", "0123456789\r\n".repeat(200_000));
    assert_eq!(Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], &large).code(), 250);
    let online = ids(&mta, &[]);
    let octets: Vec<Vec<u8>> = online.iter().map(|id| mta.ctl(&["queue", "cat", id]).stdout).collect();
    mta.stop();
    let spool = mta.root().join("var/spool/vsmtp/queue").display().to_string();
    let mut offline = ids(&mta, &["--spool", &spool]);
    offline.sort();
    let mut sorted = online.clone();
    sorted.sort();
    assert_eq!(offline, sorted);
    for (id, octets) in online.iter().zip(&octets) {
        assert_eq!(mta.ctl(&["queue", "cat", id, "--spool", &spool]).stdout, *octets, "{id}");
    }
    // The folder may be named in front of the command too.
    assert!(ctl(&mta, &["queue", "--spool", &spool, "verify"]).contains("21"));
    assert_eq!(refused(&mta, &["queue", "--spool", &spool, "hold", "--all"]).0, 64);
    let to = mta.root().join("exported");
    ctl(&mta, &["queue", "export", "--spool", &spool, to.to_str().expect("a plain path")]);
    let mut exported: Vec<u64> = std::fs::read_dir(&to)
        .expect("list what was exported")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("its size").len())
        .collect();
    exported.sort_unstable();
    assert!(exported.len() >= 21, "{exported:?}");
    // Looking changes nothing.
    mta.launch();
    wait_until("the queue is there", || mta.ctl(&["queue", "list"]).status.success());
    assert_eq!(ids(&mta, &[]), online);
}

#[test]
fn what_rules_ask_of_the_queue_is_shown() {
    let sink = Sink::start();
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    let filter = "#{ preq: [ action \"ask\" || { queue::priority(7); queue::expire_after(\"2h\"); \
                  queue::hold(`for ${ctx::rcpt_list()[0]}`) } ] }";
    let mta = Mta::start(&Settings { config, filter: filter.to_owned() });
    assert_eq!(
        Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(),
        250
    );
    let row = mta.ctl_rows(&["queue", "list"]).remove(0);
    assert_eq!(
        (row["priority"].as_i64(), row["reason"].as_str()),
        (Some(7), Some("for b@dst.test")),
        "{row}"
    );
    let lifetime = row["expires"].as_u64().zip(row["arrival_time"].as_u64()).map(|(end, begin)| end - begin);
    assert_eq!(lifetime, Some(7200), "{row}");
    let id = row["queue_id"].as_str().expect("an id");
    let table = ctl(&mta, &["queue", "show", id]);
    assert!(table.contains("held (for b@dst.test)") && table.contains("priority        7\n"), "{table}");
    let list = ctl(&mta, &["queue", "list"]);
    assert!(list.contains("    (held (for b@dst.test), priority 7, expires 2"), "{list}");
    mta.logged("disposition=hold priority=7");
    ctl(&mta, &["queue", "release", id]);
    wait_until("it is delivered", || sink.count() == 1);
}
