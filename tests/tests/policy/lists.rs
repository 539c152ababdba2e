//! Rules that look into files of the configuration and into the parts of a message, through the whole MTA: the filter runs in
//! its jail, and what it changes arrives octet for octet.

use std::fs;

use vsmtp_tests::{Client, Mta, Sink, wait_until};

use crate::{settings, start};

#[test]
fn lists_are_read_again_when_they_change_and_bad_ones_change_nothing() {
    let rules = r##"
        const blocked = netset::file("lists/blocked.txt");
        const access = table("hash:lists/access");
        #{
            mail: [ rule "access" || if access.domain(ctx::mail_from().domain) is "REJECT" {
                state::reject("550 5.7.1 listed")
            } else { state::next() } ],
            rcpt: [ rule "blocked" || if ctx::client_ip() in blocked {
                state::reject("550 5.7.1 blocked")
            } else { state::next() } ],
        }"##;
    let sink = Sink::start();
    let mut mta = Mta::prepare(&settings(rules, &sink, ""));
    let lists = mta.root().join("etc/vsmtp/lists");
    fs::create_dir(&lists).unwrap();
    let write = |name: &str, text: &str| fs::write(lists.join(name), text).unwrap();
    write("blocked.txt", "203.0.113.0/24\n");
    write("access", "bad.test REJECT\n");
    mta.launch();
    let code =
        |from: &str| Client::hello(mta.port()).mail(from, &["b@dst.test"], "Subject: x\r\n\r\nx").code();
    assert_eq!((code("a@sub.bad.test"), code("a@src.test")), (550, 250));
    write("access", "src.test REJECT\n# no longer: bad.test\n");
    wait_until("the changed table counts", || code("a@src.test") == 550);
    assert_eq!(code("a@bad.test"), 250);
    write("blocked.txt", "127.0.0.0/8\n");
    wait_until("the changed set counts", || code("a@bad.test") == 550);
    write("blocked.txt", "not a network\n");
    wait_until("the bad file is reported", || {
        // Somebody must ask, so that the file is looked at.
        let _ = code("a@bad.test");
        mta.log().contains("event=file-not-reloaded file=\"lists/blocked.txt\"")
    });
    assert_eq!(code("a@bad.test"), 550, "what was read before stays in force");
    assert!(!mta.log().contains("event=script-failed"), "{}", mta.log());
}

#[test]
fn addresses_in_the_header_are_changed_and_every_other_octet_stays() {
    let rules = r##"#{
        preq: [ action "addresses" || {
            msg::rw_mail_from("anonymous@src.test");
            msg::rw_rcpt("joe@dst.test", "team@dst.test");
            msg::rm_rcpt("gone@dst.test");
            msg::add_rcpt("new@dst.test");
        } ],
    }"##;
    let sink = Sink::start();
    let mta = start(rules, &sink);
    let header = "From : \"Jane, D\" <a@src.test>\r\nTo:  Joe (x, y) <joe@dst.test>,\r\n\tGone <gone@dst.test>,\r\n\t\
                  \"joe@dst.test\" <other@dst.test>\r\nCC: team: joe@dst.test;\r\n";
    let reply = Client::hello(mta.port()).mail(
        "a@src.test",
        &["b@dst.test"],
        &format!("{header}\r\nTo: joe@dst.test"),
    );
    assert_eq!(reply.code(), 250, "{reply:?}");
    wait_until("the next hop has it", || sink.count() > 0);
    let got = String::from_utf8_lossy(&sink.messages()[0].octets).into_owned();
    let expected = "From : anonymous@src.test\r\nTo:  Joe (x, y) <team@dst.test>,\r\n\t\
                    \"joe@dst.test\" <other@dst.test>, new@dst.test\r\nCC: team: team@dst.test;\r\n\
                    \r\nTo: joe@dst.test\r\n";
    assert!(got.ends_with(expected), "{got}\n-- and not\n{expected}");
}

#[test]
fn attachments_are_known_by_their_names_and_types() {
    let rules = r##"#{
        preq: [ rule "attachments" || {
            for part in mime::attachments() { log("info", `part ${part.type} ${part.name} ${part.size}`); }
            if mime::has_extension("exe") { return state::reject("550 5.7.1 no programs") }
            if mime::has_type("application/zip") { return state::quarantine("archives") }
            state::next()
        } ],
    }"##;
    let sink = Sink::start();
    let mta = start(rules, &sink);
    let with = |part: &str| {
        format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n\
             --b\r\n{part}\r\n\r\nUEsDBA==\r\n--b--\r\n"
        )
    };
    for (part, code) in [
        ("Content-Type: application/octet-stream; name=\"report.pdf\"", 250),
        ("Content-Disposition: attachment; filename*=utf-8''r%C3%A9port.EXE", 550),
        ("Content-Type: text/plain; name=\"=?utf-8?B?eC5leGU=?=\"", 550),
        ("Content-Type: application/zip\r\nContent-Transfer-Encoding: base64", 250),
    ] {
        let reply = Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], &with(part));
        assert_eq!(reply.code(), code, "{part}: {reply:?}\n{}", mta.log());
    }
    wait_until("the first is delivered", || sink.count() == 1);
    wait_until("only the archive is left, kept aside", || mta.queued() == 1);
    mta.logged("part application/zip  4");
    assert!(!mta.log().contains("event=script-failed"), "{}", mta.log());
}
