//! Rules that change messages, envelopes and ways.

use vsmtp_tests::{Client, Mta, Sink, wait_until};

use crate::{start, start_with};

/// What stands behind our own Received field, which ends at the first line that is not folded.
fn behind_received(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets).into_owned();
    let mut lines = text.split_inclusive("\r\n").skip_while(|line| !line.starts_with("Received: ")).skip(1);
    let rest: String = lines.by_ref().skip_while(|line| line.starts_with(['\t', ' '])).collect();
    rest
}

fn first_at(sink: &Sink) -> String {
    wait_until("the next hop has it", || sink.count() > 0);
    String::from_utf8_lossy(&sink.messages()[0].octets).into_owned()
}

#[test]
fn headers_are_changed_and_every_other_octet_stays() {
    let rules = r##"#{
        preq: [
            action "header" || {
                msg::prepend_header("X-First", "1");
                msg::append_header("X-Last", `seen by ${ctx::server_name()}`);
                msg::set_header("Subject", "[list] " + msg::get_header("Subject"));
                msg::rename_header("X-Old", "X-New");
                while msg::rm_header("X-Secret") { }
                msg::append_header("X-Count", msg::count_header("X-Twice").to_string());
            },
        ],
    }"##;
    let sink = Sink::start();
    let mta = start(rules, &sink);
    let header = "From:   odd  spacing <a@src.test>\r\nX-Twice: 1\r\nSubject: hello\r\nX-Secret: no\r\n\
                  X-Old: folded\r\n\tvalue\r\nx-secret: no\r\nX-Twice: 2\r\n";
    let body = "\r\n..dot\r\nX-Secret: in the body\r\n";
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], &format!("{header}{body}"));
    assert_eq!(reply.code(), 250, "{reply:?}");
    let got = first_at(&sink);
    assert!(got.starts_with("X-First: 1\r\nReceived: "), "{got}");
    let expected = "From:   odd  spacing <a@src.test>\r\nX-Twice: 1\r\nSubject: [list] hello\r\n\
                    X-New: folded\r\n\tvalue\r\nX-Twice: 2\r\nX-Last: seen by mx.local.test\r\nX-Count: 2\r\n\
                    \r\n.dot\r\nX-Secret: in the body\r\n\r\n";
    assert!(got.ends_with(expected), "{got}\n-- and not\n{expected}");
}

#[test]
fn envelopes_are_rewritten() {
    let rules = r##"#{
        mail: [
            action "sender" || if ctx::mail_from() is "a@src.test" { envelop::rw_mail_from("bounces@src.test") },
        ],
        rcpt: [
            action "recipients" || if ctx::rcpt() is "b@dst.test" { envelop::rw_rcpt("b@dst.test", "c@dst.test") },
        ],
        preq: [
            action "more and fewer" || {
                envelop::add_rcpt("added@dst.test");
                envelop::bcc("hidden@dst.test");
                envelop::rm_rcpt("gone@dst.test");
            },
        ],
    }"##;
    let sink = Sink::start();
    let mta = start(rules, &sink);
    let mut client = Client::hello(mta.port());
    let reply = client.mail("a@src.test", &["b@dst.test", "gone@dst.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
    wait_until("the queue is empty", || mta.queued() == 0);
    let messages = sink.messages();
    let mut to: Vec<&String> = messages.iter().flat_map(|message| &message.to).collect();
    to.sort();
    assert_eq!(to, ["added@dst.test", "c@dst.test", "hidden@dst.test"]);
    assert!(messages.iter().all(|message| message.from == "bounces@src.test"), "{messages:?}");
    assert!(!messages[0].data.contains("hidden@dst.test"), "{messages:?}");
}

#[test]
fn each_recipient_goes_its_own_way() {
    let (relay, other, lmtp) = (Sink::start(), Sink::start(), Sink::start());
    let rules = format!(
        r##"#{{
        rcpt: [
            action "ways" || {{
                switch ctx::rcpt().local_part {{
                    "relay" => transport::forward(ctx::rcpt(), "127.0.0.1:{}"),
                    "lmtp" => transport::lmtp(ctx::rcpt(), "127.0.0.1:{}"),
                    "mbox" => transport::mbox(ctx::rcpt()),
                    "maildir" => transport::maildir(ctx::rcpt()),
                    _ => (),
                }}
            }},
        ],
    }}"##,
        other.port(),
        lmtp.port()
    );
    let mta = start(&rules, &relay);
    let to = ["relay@dst.test", "lmtp@dst.test", "mbox@dst.test", "maildir@dst.test", "usual@dst.test"];
    let reply = Client::hello(mta.port()).mail("a@src.test", &to, "Subject: ways\r\n\r\nFrom here\r\n");
    assert_eq!(reply.code(), 250, "{reply:?}");
    wait_until("the queue is empty", || mta.queued() == 0);
    let recipients =
        |sink: &Sink| sink.messages().into_iter().flat_map(|message| message.to).collect::<Vec<_>>();
    assert_eq!(recipients(&relay), ["usual@dst.test"]);
    assert_eq!(recipients(&other), ["relay@dst.test"]);
    assert_eq!(recipients(&lmtp), ["lmtp@dst.test"]);
    assert!(mta.maildir("dst.test", "maildir")[0].contains("Subject: ways"));
    let mbox = std::fs::read_to_string(mta.root().join("mail/dst.test/mbox.mbox")).expect("read the mbox");
    assert!(mbox.starts_with("From a@src.test ") && mbox.contains("\n>From here\n"), "{mbox}");
}

#[test]
fn rules_after_acceptance_change_a_message_once() {
    let rules = r##"#{
        postq: [
            action "stamp" || msg::append_header("X-Postq", "1"),
            rule "late quarantine" || {
                if msg::get_header("Subject") == "late" { state::quarantine("late") } else { state::next() }
            },
        ],
        delivery: [
            action "stamp again" || msg::append_header("X-Delivery", "1"),
        ],
    }"##;
    // Its first answer is no: what the rules added must not be added again.
    let asked = std::sync::atomic::AtomicU32::new(0);
    let sink = Sink::scripted(move |line| {
        let first = line.starts_with("MAIL") && asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        first.then(|| "451 4.3.0 later".to_owned())
    });
    let mta =
        start_with(rules, &sink, "config.queue.backoff.min = \"1s\"; config.queue.backoff.max = \"1s\";");
    let mut client = Client::hello(mta.port());
    assert_eq!(client.mail("a@src.test", &["b@dst.test"], "Subject: once\r\n\r\nx").code(), 250);
    let got = first_at(&sink);
    assert_eq!(got.matches("X-Postq: 1\r\n").count(), 1, "{got}");
    assert_eq!(got.matches("X-Delivery: 1\r\n").count(), 1, "{got}");
    mta.logged("event=deferred");
    assert_eq!(client.mail("a@src.test", &["b@dst.test"], "Subject: late\r\n\r\nx").code(), 250);
    wait_until("it is put aside", || quarantined(&mta) == 1);
    assert_eq!(sink.count(), 1);
}

fn quarantined(mta: &Mta) -> usize {
    mta.ctl_rows(&["queue", "list", "--state", "quarantined"]).len()
}

#[test]
fn a_message_without_rules_keeps_its_octets() {
    let sink = Sink::start();
    let mta = start("#{}", &sink);
    let message = "from :not a field\r\nX: \u{e9}\r\n\r\n\r\n body\r\n";
    assert_eq!(Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], message).code(), 250);
    wait_until("the next hop has it", || sink.count() > 0);
    assert_eq!(behind_received(&sink.messages()[0].octets), format!("{message}\r\n"));
}
