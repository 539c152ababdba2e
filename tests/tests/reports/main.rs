//! What travels with a message to the next hop, or comes back to its sender: DSN, SMTPUTF8. Reports are read by Python's
//! own parser.

mod dsn;
mod internationalized;

use std::sync::{Arc, Mutex};

use serde_json::Value;
use vsmtp_tests::{Client, Mta, Settings, Sink, python, said};

/// Holds a report against RFC 3462, 3464 and 6533, and prints what it says as JSON: its types, the fields about the message,
/// those about each recipient, and what is returned.
const READ: &str = r#"
import email, json, sys
from email import policy
raw = open(sys.argv[1], 'rb').read().replace(b'\r\n', b'\n')
m = email.message_from_bytes(raw, policy=policy.default)
assert not m.defects, m.defects
assert m.get_content_type() == 'multipart/report' and m.get_param('report-type') == 'delivery-status', m['Content-Type']
assert m['Return-Path'] == '<>' and m['Auto-Submitted'] == 'auto-replied', m.items()
assert m['From'] and m['Date'] and m['Message-ID'] and m['Subject'] and m['MIME-Version'] == '1.0', m.items()
text, report, returned = m.iter_parts()
assert text.get_content_type() == 'text/plain' and text.get_content().strip()
boundary = b'\n--' + m.get_boundary().encode()
parts = [part.split(b'\n\n', 1)[1].decode() for part in raw.split(boundary)[1:4]]
def fields(block):
    found = {}
    for line in block.replace('\n ', ' ').replace('\n\t', ' ').split('\n'):
        name, value = line.split(': ', 1)
        assert name not in found, name
        found[name] = ' '.join(value.split())
    return found
head, *blocks = [fields(block) for block in parts[1].strip().split('\n\n')]
if report.get_content_type() == 'message/delivery-status':
    assert parts[1].isascii()
    theirs = [{name: ' '.join(value.split()) for name, value in group.items()} for group in report.get_payload()]
    assert theirs == [head, *blocks], (theirs, head, blocks)
assert blocks and head['Reporting-MTA'] == 'dns; mx.local.test' and head['Arrival-Date'], head
for block in blocks:
    assert block['Final-Recipient'] and block['Action'] and block['Status'], block
types = [part.get_content_type() for part in (text, report, returned)]
print(json.dumps({'types': types, 'message': head, 'recipients': blocks, 'text': parts[0], 'returned': parts[2]}))
"#;

/// An MTA that relays to this port, with more lines of `on_config`.
fn relaying_to(port: u16, config: &str) -> Mta {
    let relay = format!("config.delivery.relayhost = \"[127.0.0.1]:{port}\";");
    Mta::start(&Settings { config: format!("{relay}\n{config}"), ..Settings::default() })
}

/// A next hop that offers these extensions and remembers the commands that it gets.
fn offering(extensions: &'static str) -> (Sink, Arc<Mutex<Vec<String>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let sink = Sink::scripted(move |line| {
        heard.lock().expect("the commands").push(line.to_owned());
        line.starts_with("EHLO")
            .then(|| format!("250-sink.test\r\n250-8BITMIME\r\n{extensions}250 PIPELINING"))
    });
    (sink, said)
}

/// The commands that begin with this verb.
fn commands(said: &Mutex<Vec<String>>, verb: &str) -> Vec<String> {
    said.lock().expect("the commands").iter().filter(|line| line.starts_with(verb)).cloned().collect()
}

/// Sends a message with parameters behind the addresses.
fn send(mta: &Mta, mail: &str, recipients: &[&str], message: &str) {
    let mut client = Client::hello(mta.port());
    let mut lines = vec![format!("MAIL FROM:{mail}")];
    lines.extend(recipients.iter().map(|to| format!("RCPT TO:{to}")));
    for line in lines {
        let reply = client.say(&line);
        assert_eq!(reply.code(), 250, "{line}: {reply:?}");
    }
    assert_eq!(client.say("DATA").code(), 354);
    client.send(message.as_bytes());
    let reply = client.say("\r\n.");
    assert_eq!(reply.code(), 250, "{reply:?}");
}

/// The report at this place of a Maildir, as [`READ`] sees it.
fn report(mta: &Mta, user: &str, at: usize) -> Value {
    mta.wait_for_mail("local.test", user, at + 1);
    let path = mta.root().join("report");
    std::fs::write(&path, mta.maildir_octets("local.test", user).remove(at)).expect("write the report");
    let text = said(&python(READ, &[path.to_str().expect("a plain path")]));
    serde_json::from_str(&text).expect("JSON of the reader")
}
