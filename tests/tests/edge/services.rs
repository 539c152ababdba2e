//! One address, one service: what is behind each door.

use vsmtp_tests::{Client, Mta, Settings, free_port, needs_programs, python, said, wait_until};

/// An MTA with an LMTP port beside the SMTP port.
fn with_lmtp(more: &str) -> (Mta, u16) {
    let port = free_port();
    let config = format!("config.server.interfaces.addr_lmtp = [\"127.0.0.1:{port}\"];\n{more}");
    (Mta::start(&Settings { config, ..Settings::default() }), port)
}

#[test]
fn lmtp_answers_for_each_recipient() {
    let (mta, port) = with_lmtp("config.delivery.mailboxes = [\"b\", \"c\"];");
    let mut client = Client::connect(port);
    assert_eq!(client.reply().0, "220 mx.local.test LMTP");
    assert_eq!(client.say("EHLO client.test").code(), 500);
    let hello = client.say("LHLO client.test").0;
    assert!(hello.starts_with("250-mx.local.test\n250-PIPELINING\n"), "{hello}");
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<nobody@local.test>").code(), 550);
    assert_eq!(client.say("DATA").0, "503 5.5.1 Send RCPT first");
    assert_eq!(client.say("RCPT TO:<b@local.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<c@local.test>").code(), 250);
    assert_eq!(client.say("DATA").code(), 354);
    let first = client.say("Subject: by lmtp\r\n\r\nx\r\n.");
    let second = client.reply();
    assert!(first.0.starts_with("250 2.0.0 queued as") && first == second, "{first:?} {second:?}");
    assert_eq!(client.say("QUIT").code(), 221);
    for user in ["b", "c"] {
        let mail = mta.wait_for_mail("local.test", user, 1).remove(0);
        assert!(mail.contains(" with LMTP id ") && mail.contains("Subject: by lmtp"), "{mail}");
    }
    assert_eq!(Client::hello(mta.port()).say("LHLO client.test").code(), 500);
}

#[test]
fn what_policy_refuses_is_refused_for_all() {
    let port = free_port();
    let config = format!("config.server.interfaces.addr_lmtp = [\"127.0.0.1:{port}\"];");
    let filter =
        "#{ preq: [ rule \"no\" || state::deny(code(550, \"5.7.1\", `not by ${ctx::service()}`)) ] }";
    let mta = Mta::start(&Settings { config, filter: filter.to_owned() });
    let mut client = Client::connect(port);
    client.reply();
    assert_eq!(client.say("LHLO client.test").code(), 250);
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<b@local.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<c@local.test>").code(), 250);
    assert_eq!(client.say("DATA").code(), 354);
    assert_eq!(client.say("x\r\n.").0, "550 5.7.1 not by lmtp");
    assert_eq!(client.reply().0, "550 5.7.1 not by lmtp");
    assert_eq!(mta.queued(), 0);
}

#[test]
fn python_delivers_by_lmtp() {
    if !needs_programs("python_delivers_by_lmtp", &["python3"]) {
        return;
    }
    let (mta, port) = with_lmtp("config.delivery.mailboxes = [\"b\", \"c\"];");
    let script = "import smtplib, sys\n\
        client = smtplib.LMTP('127.0.0.1', int(sys.argv[1]))\n\
        refused = client.sendmail('a@src.test', ['b@local.test', 'nobody@local.test', 'c@local.test'],\n\
        \x20   'Subject: from python\\r\\n\\r\\nx\\r\\n')\n\
        assert list(refused) == ['nobody@local.test'], refused\n\
        client.quit()\n";
    said(&python(script, &[&port.to_string()]));
    for user in ["b", "c"] {
        assert!(mta.wait_for_mail("local.test", user, 1)[0].contains("from python"));
    }
    wait_until("the queue is empty", || mta.queued() == 0);
}

#[test]
fn a_reload_changes_what_an_address_is_for() {
    let port = free_port();
    let door = |key: &str| format!("config.server.interfaces.{key}.push(\"127.0.0.1:{port}\");");
    let settings = |config: String| Settings { config, ..Settings::default() };
    let mta = Mta::start(&settings(door("addr")));
    assert_eq!(Client::connect(port).reply().0, "220 mx.local.test ESMTP");
    mta.write_configuration(&settings(door("addr_lmtp")));
    mta.hang_up();
    wait_until("LMTP is spoken there", || Client::connect(port).reply().0 == "220 mx.local.test LMTP");
    // A door with two purposes changes nothing.
    mta.write_configuration(&settings(format!("{}{}", door("addr"), door("addr_lmtp"))));
    mta.hang_up();
    wait_until("the reload is refused", || mta.log().contains("is listened on twice"));
    assert_eq!(Client::connect(port).reply().0, "220 mx.local.test LMTP");
}

#[test]
fn a_service_under_tls_is_not_opened_without_a_certificate() {
    let config = format!("config.server.interfaces.addr_submissions = [\"127.0.0.1:{}\"];", free_port());
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    let said = mta.try_launch().expect_err("it must not start");
    assert!(said.contains("addr_submissions") && said.contains("needs server.tls.certificate"), "{said}");
}

#[test]
fn a_submission_service_at_which_nobody_can_log_in_takes_no_mail() {
    let port = free_port();
    // As configurations of 2.x have it, rules that would take everything among them.
    let config = format!(
        "config.server.interfaces = #{{ addr: config.server.interfaces.addr, addr_submission: [\"127.0.0.1:{port}\"] }};"
    );
    let filter = "#{ rcpt: [ rule \"all\" || state::accept() ] }".to_owned();
    let mta = Mta::start(&Settings { config, filter });
    assert!(mta.log().contains("key=server.interfaces.addr_submission"), "{}", mta.log());
    let mut client = Client::connect(port);
    assert_eq!(client.reply().code(), 220);
    assert!(!client.say("EHLO client.test").0.contains("AUTH"));
    assert_eq!(client.say("AUTH PLAIN AHRpbQBwZW5jaWw=").code(), 502);
    assert_eq!(client.say("MAIL FROM:<a@src.test>").0, "530 5.7.0 Authentication required");
    assert_eq!(client.say("RCPT TO:<b@local.test>").code(), 503);
    assert_eq!(Client::hello(mta.port()).say("MAIL FROM:<a@src.test>").code(), 250);
}

#[test]
fn a_server_without_ehlo_answers_helo() {
    let config = "config.server.smtp.disable_ehlo = true;".to_owned();
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let mut client = Client::connect(mta.port());
    assert_eq!(client.reply().code(), 220);
    assert_eq!(client.say("EHLO client.test").0, "502 5.5.1 Command not implemented");
    assert_eq!(client.say("HELO client.test").0, "250 mx.local.test");
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
}
