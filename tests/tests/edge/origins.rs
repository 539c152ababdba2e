//! Where clients come from: behind a load balancer, over IPv6, over the local socket; and what follows from it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vsmtp_tests::{Mta, Settings, free_port, uninterrupted};

const PATIENCE: Duration = Duration::from_secs(20);
/// A whole session; the pipelined commands behind the greeting.
const SESSION: &str = "EHLO client.test\r\nMAIL FROM:<a@src.test>\r\nRCPT TO:<b@far.test>\r\nRSET\r\n\
                       MAIL FROM:<a@src.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\n";

/// Sends all, hears all to an orderly end.
fn talk(mut stream: impl Read + Write, words: &str) -> String {
    stream.write_all(words.as_bytes()).expect("send");
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let heard = uninterrupted(|| stream.read(&mut piece));
        let text = String::from_utf8_lossy(&said).into_owned();
        let count = heard.unwrap_or_else(|error| panic!("read: {error}, behind {text}"));
        if count == 0 {
            return text;
        }
        said.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&said);
        if text.ends_with("354 End data with <CR><LF>.<CR><LF>\r\n") {
            stream.write_all(b"Subject: x\r\n\r\ny\r\n.\r\nQUIT\r\n").expect("send the message");
        }
    }
}

fn connect(address: &str, port: u16) -> TcpStream {
    let stream = TcpStream::connect((address, port)).expect("connect to the MTA");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
    stream
}

#[test]
fn policy_is_for_the_client_behind_the_balancer() {
    let port = free_port();
    let config = format!(
        "config.server.interfaces.addr.push(\"127.0.0.1:{port}\");\n\
         config.server.interfaces.proxied = [\"127.0.0.1:{port}\"];\n\
         config.server.interfaces.proxies = [\"127.0.0.0/8\"];\n\
         config.server.relay_from = [\"192.0.2.0/24\"];"
    );
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    for (client, relays) in [("192.0.2.1", true), ("203.0.113.1", false)] {
        let header = format!("PROXY TCP4 {client} 198.51.100.1 4000 25\r\n");
        let said = talk(connect("127.0.0.1", port), &format!("{header}{SESSION}"));
        assert!(said.starts_with("220 mx.local.test ESMTP\r\n"), "{said}");
        assert_eq!(said.contains("\r\n554 "), !relays, "{said}");
        assert!(said.contains("queued as"), "{said}");
    }
    let mail = mta.wait_for_mail("local.test", "b", 2);
    assert!(mail.iter().any(|mail| mail.contains("Received: from client.test ([203.0.113.1])")), "{mail:?}");
    // A header where none is expected is a command that does not exist; the policy is that for the sender of it.
    let header = "PROXY TCP4 192.0.2.1 198.51.100.1 4000 25\r\n";
    let said = talk(connect("127.0.0.1", mta.port()), &format!("{header}{SESSION}"));
    assert!(said.contains("\r\n500 ") && said.contains("\r\n554 "), "{said}");
}

#[test]
fn ipv6_from_the_door_to_the_mailbox() {
    let port = free_port();
    let config = format!("config.server.interfaces.addr.push(\"[::1]:{port}\");");
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let words = SESSION
        .replace("RCPT TO:<b@local.test>", "RCPT TO:<b@[IPv6:::1]>")
        .replace("client.test", "[IPv6:::1]");
    let said = talk(connect("::1", port), &words);
    assert!(said.contains("queued as"), "{said}");
    // A literal of our own address stands for our own name.
    let mail = mta.wait_for_mail("mx.local.test", "b", 1).remove(0);
    assert!(mail.contains("Received: from [IPv6:::1] (localhost [IPv6:::1])"), "{mail}");
    mta.logged("client=[::1]:");
}

#[test]
fn only_messages_of_our_own_users_are_completed() {
    let mta = Mta::start(&Settings::default());
    let socket =
        UnixStream::connect(mta.root().join("run/vsmtp/submit")).expect("connect to the local socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("set a time-out");
    let said = talk(socket, &SESSION.replace("b@local.test", "local@local.test"));
    assert!(said.contains("queued as"), "{said}");
    let mail = mta.wait_for_mail("local.test", "local", 1).remove(0);
    assert!(mail.contains("\nDate: ") && mail.contains("\nMessage-ID: <"), "{mail}");
    assert!(mail.contains("@mx.local.test>\n\ny\n"), "{mail}");
    talk(connect("127.0.0.1", mta.port()), &SESSION.replace("b@local.test", "other@local.test"));
    let mail = mta.wait_for_mail("local.test", "other", 1).remove(0);
    assert!(!mail.contains("Date: ") && !mail.contains("Message-ID: "), "{mail}");
}
