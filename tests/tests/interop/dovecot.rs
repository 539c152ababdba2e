//! Dovecot as the mailbox of our users, by LMTP.

use vsmtp_tests::{Client, Dovecot, Mta, Settings, needs_programs, needs_root, wait_until};

#[test]
fn dovecot_takes_one_recipient_and_refuses_the_other() {
    const TEST: &str = "dovecot_takes_one_recipient_and_refuses_the_other";
    if !(needs_programs(TEST, &["dovecot"]) && needs_root(TEST)) {
        return;
    }
    let dovecot = Dovecot::start(&["a@local.test", "b@local.test"]);
    let config = format!("config.delivery.local = \"lmtp:unix:{}\";", dovecot.socket().display());
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let message = "From: a@local.test\r\nSubject: by LMTP\r\n\r\n..stuffed\r\nd\u{e9}j\u{e0} vu\r\n";
    let reply =
        Client::hello(mta.port()).mail("a@local.test", &["b@local.test", "nobody@local.test"], message);
    assert_eq!(reply.code(), 250, "{reply:?}");
    wait_until("dovecot has the message", || dovecot.mail("b@local.test").len() == 1);
    let mail = String::from_utf8_lossy(&dovecot.mail("b@local.test").remove(0)).into_owned();
    assert!(mail.contains("Delivered-To: b@local.test"), "{mail}");
    assert!(mail.contains("\n\n.stuffed\nd\u{e9}j\u{e0} vu\n"), "{mail}");
    // The sender hears of the one who does not exist, and of nobody else.
    wait_until("the sender has the bounce", || dovecot.mail("a@local.test").len() == 1);
    let bounce = String::from_utf8_lossy(&dovecot.mail("a@local.test").remove(0)).into_owned();
    assert!(bounce.contains("Final-Recipient: rfc822; nobody@local.test"), "{bounce}");
    assert!(bounce.contains("Action: failed") && bounce.contains("Status: 5.1.1"), "{bounce}");
    assert!(!bounce.contains("Final-Recipient: rfc822; b@local.test"), "{bounce}");
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!(dovecot.mail("b@local.test").len(), 1);
}
