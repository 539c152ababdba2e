//! The names of clients, from the DNS to rules, Received and the log.

use std::time::{Duration, Instant};

use vsmtp_tests::{Client, Mta, NameServer, Settings, free_port};

const FILTER: &str = r#"
#{
    rcpt: [
        rule "clients have names" || {
            if ctx::client_name() == "unknown" {
                state::deny(code(550, "5.7.25", "Client has no name"))
            } else {
                state::next()
            }
        },
    ],
}
"#;

/// A server whose clients come through a balancer, so that they can have any address.
fn start(port: u16, dns: &NameServer, more: &str) -> Mta {
    let config = format!(
        "{} config.server.interfaces.addr.push(\"127.0.0.1:{port}\"); \
         config.server.interfaces.proxied = [\"127.0.0.1:{port}\"]; \
         config.server.interfaces.proxies = [\"127.0.0.0/8\"]; \
         config.server.dns.options.timeout = \"500ms\"; {more}",
        dns.config()
    );
    Mta::start(&Settings { config, filter: FILTER.to_owned() })
}

/// What a client with this address hears about its recipient.
fn recipient_from(port: u16, address: &str) -> String {
    let mut client = Client::connect(port);
    client.send(format!("PROXY TCP4 {address} 198.51.100.1 4000 25\r\n").as_bytes());
    client.reply();
    assert_eq!(client.say("EHLO client.test").code(), 250);
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    let heard = client.say("RCPT TO:<b@local.test>").0;
    if heard.starts_with("250") {
        assert_eq!(client.say("DATA").code(), 354);
        client.send(b"Subject: x\r\n\r\ny\r\n.\r\n");
        assert_eq!(client.reply().code(), 250);
    }
    heard
}

#[test]
fn a_client_has_a_name_if_its_address_and_the_name_agree() {
    let dns = NameServer::serve_with(
        &[
            ("right.client.test", [192, 0, 2, 1]),
            ("liar.client.test", [192, 0, 2, 9]),
            ("silent.test", [0; 4]),
        ],
        &[
            ([192, 0, 2, 1], "right.client.test"),
            ([192, 0, 2, 2], "liar.client.test"),
            ([192, 0, 2, 3], "silent.test"),
        ],
    );
    let port = free_port();
    let mta = start(port, &dns, "");
    assert!(recipient_from(port, "192.0.2.1").starts_with("250"));
    let mail = mta.wait_for_mail("local.test", "b", 1).remove(0);
    assert!(mail.contains("Received: from client.test (right.client.test [192.0.2.1])"), "{mail}");
    mta.logged("client_name=right.client.test");
    for address in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        let began = Instant::now();
        assert!(recipient_from(port, address).starts_with("550 5.7.25"), "{address}");
        assert!(began.elapsed() < Duration::from_secs(30), "{address}");
    }
}

#[test]
fn where_names_are_not_wanted_no_client_has_one() {
    let dns = NameServer::serve_with(
        &[("right.client.test", [192, 0, 2, 1])],
        &[([192, 0, 2, 1], "right.client.test")],
    );
    let port = free_port();
    let _mta = start(port, &dns, "config.server.client_names = false;");
    assert!(recipient_from(port, "192.0.2.1").starts_with("550 5.7.25"));
}
