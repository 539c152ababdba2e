//! Domains with rules of their own, and the configuration of vSL 1.x, through the whole MTA.

use std::fs;

use vsmtp_tests::{Client, Mta, Settings, Sink, wait_until};

use crate::settings;

fn write(mta: &Mta, name: &str, text: &str) {
    let path = mta.root().join("etc/vsmtp").join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
    fs::write(path, text).expect("write a script");
}

/// The messages of bob, as soon as there are so many. Files of a Maildir have the line ends of the system.
fn mailbox(mta: &Mta, count: usize) -> Vec<String> {
    mta.wait_for_mail("local.test", "bob", count).iter().map(|text| text.replace("\r\n", "\n")).collect()
}

fn marks(part: &str) -> String {
    format!("#{{ preq: [ action \"mark\" || msg::append_header(\"X-Part\", \"{part}\") ] }}")
}

/// An MTA whose domain local.test marks what comes in, goes out and stays inside.
fn with_domain(sink: &Sink) -> Mta {
    let mut mta = Mta::prepare(&settings("#{}", sink, ""));
    for part in ["incoming", "outgoing", "internal"] {
        write(&mta, &format!("domain-available/local.test/{part}.vsl"), &marks(part));
    }
    let enabled = mta.root().join("etc/vsmtp/domain-enabled");
    fs::create_dir_all(&enabled).expect("make a folder");
    std::os::unix::fs::symlink("../domain-available/local.test", enabled.join("local.test"))
        .expect("make a link");
    mta.launch();
    mta
}

#[test]
fn what_goes_out_and_what_stays_inside_are_two_messages_with_the_same_body() {
    let sink = Sink::start();
    let mta = with_domain(&sink);
    // Small enough for a question, for a memory file, and so large that it has a file.
    for (count, size) in [(1, 100), (2, 100_000), (3, 2_500_000)] {
        let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n";
        let body = line.repeat(size / line.len() + 1);
        let message = format!("Subject: {size}\r\n\r\n{body}");
        let to = ["bob@local.test", "x@dst.test"];
        let reply = Client::hello(mta.port()).mail("jane@local.test", &to, &message);
        assert_eq!(reply.code(), 250, "{reply:?}");
        wait_until("both are delivered", || mta.queued() == 0 && sink.count() == count);
        let inside = mailbox(&mta, count);
        let inside =
            inside.iter().find(|text| text.contains(&format!("Subject: {size}\n"))).expect("it is there");
        assert!(
            inside.contains("X-Part: internal\n\n") && inside.contains(&body.replace("\r\n", "\n")),
            "{size}"
        );
        let outside = String::from_utf8_lossy(&sink.messages()[count - 1].octets).into_owned();
        assert!(outside.contains("X-Part: outgoing\r\n\r\n") && outside.contains(&body), "{size}");
        assert_eq!(sink.messages()[count - 1].to, ["x@dst.test"]);
    }
    assert_eq!(mta.logged_often("event=message-split ", 3).matches("event=message-split ").count(), 3);
}

#[test]
fn each_way_meets_its_own_rules_and_a_bounce_comes_in() {
    let sink = Sink::start();
    let mta = with_domain(&sink);
    for (count, (from, to, part)) in [
        ("a@src.test", "bob@local.test", "incoming"),
        ("", "bob@local.test", "incoming"),
        ("jane@local.test", "bob@local.test", "internal"),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = Client::hello(mta.port()).mail(from, &[to], &format!("Subject: {count}\r\n\r\nx"));
        assert_eq!(reply.code(), 250, "{reply:?}");
        let mail = mailbox(&mta, count + 1);
        let text =
            mail.iter().find(|text| text.contains(&format!("Subject: {count}\n"))).expect("it is there");
        assert!(text.contains(&format!("X-Part: {part}\n")), "{text}");
    }
    // A script that does not load changes nothing, and says where it is wrong.
    write(&mta, "domain-available/local.test/incoming.vsl", "#{\n rcpt: [ rule \"broken\" ] }");
    let out = mta.ctl(&["reload"]);
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(!out.status.success() && said.contains("domain-enabled/local.test/incoming.vsl:2:"), "{said}");
    let reply = Client::hello(mta.port()).mail("a@src.test", &["bob@local.test"], "Subject: 3\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
    write(
        &mta,
        "domain-available/local.test/incoming.vsl",
        "#{ rcpt: [ rule \"no\" || state::reject(\"550 5.7.1 no\") ] }",
    );
    let out = mta.ctl(&["reload"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    wait_until("the new rules hold, and the log says whose they are", || {
        Client::hello(mta.port()).mail("a@src.test", &["bob@local.test"], "Subject: 4\r\n\r\nx").code() == 550
            && mta.log().contains("script=domain-enabled/local.test/incoming.vsl directive=no status=reject")
    });
}

#[test]
fn a_configuration_and_rules_of_1x_run_as_they_are() {
    let mut mta = Mta::prepare(&Settings::default());
    let script = fs::read_to_string(mta.root().join("etc/vsmtp/vsmtp.vsl")).expect("read the configuration");
    let address =
        script.split("addr = [\"").nth(1).and_then(|rest| rest.split('"').next()).expect("the address");
    fs::remove_file(mta.root().join("etc/vsmtp/vsmtp.vsl")).expect("remove the new configuration");
    fs::remove_file(mta.root().join("etc/vsmtp/filter.vsl")).expect("remove the new rules");
    let config = format!(
        "[server]\ndomain = \"mx.local.test\"\ndomains = [\"local.test\"]\n\
         [server.interfaces]\naddr = [\"{address}\"]\n\
         [server.logs]\nfilepath = \"/var/log/vsmtp.log\"\n[server.logs.level]\ndefault = \"info\"\n\
         [delivery]\nlocal = \"maildir\"\nmailboxes = [\"*\"]\nmail_root = \"/mail\"\n"
    );
    write(&mta, "vsmtp.toml", &config);
    write(&mta, "blocked.txt", "spammer@src.test\n\nother@src.test\n");
    write(
        &mta,
        "rules/objects.vsl",
        "object local fqdn = \"local.test\";\nobject blocked file:address = \"blocked.txt\";\n\
         object busy code = #{ code: 451, enhanced: \"4.7.1\", text: \"come back later\" };",
    );
    let rules = r##"
        import "objects" as vars;

        #{
            connect: [
                action "log incoming transaction" || {
                    log("info", `new transaction by ${client_ip()}`);
                },
            ],
            mail: [
                rule "blocked" || if mail_from() in vars::blocked { deny() } else { next() },
                rule "later" || if mail_from().local_part is "later" { info(vars::busy) } else { next() },
            ],
            preq: [
                action "mark" || {
                    object tag string = "seen";
                    append_header("X-Tag", `${tag} for ${vars::local}`);
                },
            ],
        }"##;
    write(&mta, "rules/main.vsl", rules);
    mta.launch();
    let mail = |from: &str| Client::hello(mta.port()).mail(from, &["bob@local.test"], "Subject: x\r\n\r\nx");
    assert_eq!(mail("spammer@src.test").code(), 554);
    assert_eq!(mail("later@src.test").code(), 451);
    assert_eq!(mail("a@src.test").code(), 250);
    let got = mailbox(&mta, 1).remove(0);
    assert!(got.contains("X-Tag: seen for local.test\n"), "{got}");
    mta.logged("new transaction by 127.0.0.1");
}
