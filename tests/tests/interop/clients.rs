//! Programs that send us mail.

use vsmtp_tests::{
    Mta, Settings, free_port, is_root, needs_programs, program, python, run, run_with_input, said, wait_until,
};

use crate::{ends_with_message, with_lf};

/// An MTA and the words that most clients begin with.
fn start() -> (Mta, String) {
    let mta = Mta::start(&Settings::default());
    let server = format!("127.0.0.1:{}", mta.port());
    (mta, server)
}

#[test]
fn swaks_sends_with_and_without_pipelining() {
    if !needs_programs("swaks_sends_with_and_without_pipelining", &["swaks"]) {
        return;
    }
    let (mta, server) = start();
    let base = ["--server", &server, "--ehlo", "client.test", "--from", "a@src.test", "--suppress-data"];
    for (at, extra) in [vec![], vec!["--pipeline"], vec!["--protocol", "SMTP"]].iter().enumerate() {
        let subject = format!("Subject: swaks {at}");
        let words = [&base[..], extra, &["--to", "b@local.test,c@local.test", "--header", &subject]].concat();
        let text = said(&run("swaks", &words));
        assert!(text.contains("queued as"), "{text}");
        for user in ["b", "c"] {
            let mail = mta.wait_for_mail("local.test", user, at + 1);
            assert!(mail.iter().any(|mail| mail.contains(&subject)), "{mail:?}");
        }
    }
    wait_until("the queue is empty", || mta.queued() == 0);
}

#[test]
fn swaks_hears_which_recipient_is_refused() {
    if !needs_programs("swaks_hears_which_recipient_is_refused", &["swaks"]) {
        return;
    }
    let config = "config.delivery.mailboxes = [\"b\"];".to_owned();
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let server = format!("127.0.0.1:{}", mta.port());
    let base = ["--server", &server, "--from", "a@src.test", "--to"];
    let both = run("swaks", &[&base[..], &["b@local.test,nobody@local.test"]].concat());
    let text = String::from_utf8_lossy(&both.stdout).into_owned();
    assert!(text.contains("<** 550 5.1.1"), "{text}");
    mta.wait_for_mail("local.test", "b", 1);
    let none = run("swaks", &[&base[..], &["nobody@local.test", "--pipeline"]].concat());
    // Exit status 24: no recipient was accepted.
    assert_eq!(none.status.code(), Some(24), "{}", String::from_utf8_lossy(&none.stdout));
}

#[test]
fn swaks_sends_an_attachment_and_eight_bit_text() {
    if !needs_programs("swaks_sends_an_attachment_and_eight_bit_text", &["swaks"]) {
        return;
    }
    let (mta, server) = start();
    let attachment = mta.root().join("attachment");
    let octets: Vec<u8> = (0u32..300_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&attachment, &octets).expect("write the attachment");
    let at = format!("@{}", attachment.display());
    let words = ["--server", &server, "--from", "a@src.test", "--to", "b@local.test", "--suppress-data"];
    let more = [
        "--body",
        "d\u{e9}j\u{e0} vu \u{2603}",
        "--attach-type",
        "application/octet-stream",
        "--attach",
        &at,
    ];
    said(&run("swaks", &[&words[..], &more].concat()));
    let mail = mta.wait_for_mail("local.test", "b", 1).remove(0);
    let path = mta.root().join("arrived");
    std::fs::write(&path, mail).expect("write what arrived");
    let script = "import email, sys, hashlib\n\
        from email import policy\n\
        m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=policy.default)\n\
        assert m.get_content_type() == 'multipart/mixed', m.get_content_type()\n\
        text, file = list(m.iter_parts())\n\
        assert file.get_content() == open(sys.argv[2], 'rb').read(), 'attachment changed'\n\
        body = text.get_payload(decode=True)\n\
        assert 'd\u{e9}j\u{e0} vu \u{2603}'.encode() in body, body\n";
    let paths = [&path, &attachment].map(|path| path.to_str().expect("a plain path").to_owned());
    said(&python(script, &[&paths[0], &paths[1]]));
}

#[test]
fn smtp_source_sends_over_many_sessions() {
    if !needs_programs("smtp_source_sends_over_many_sessions", &["smtp-source"]) {
        return;
    }
    let (mta, server) = start();
    let base = ["-f", "a@src.test", "-l", "2000"];
    // A session for each message; then the same connections again and again (-d).
    said(&run(
        "smtp-source",
        &[&base[..], &["-s", "30", "-m", "300", "-t", "b@local.test", &server]].concat(),
    ));
    mta.wait_for_mail("local.test", "b", 300);
    said(&run(
        "smtp-source",
        &[&base[..], &["-d", "-s", "20", "-m", "300", "-t", "c@local.test", &server]].concat(),
    ));
    mta.wait_for_mail("local.test", "c", 300);
    // Several recipients each.
    said(&run(
        "smtp-source",
        &[&base[..], &["-s", "5", "-m", "20", "-r", "10", "-t", "d@local.test", &server]].concat(),
    ));
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!(mta.maildir("local.test", "b").len(), 300);
    assert_eq!(mta.maildir("local.test", "c").len(), 300);
    assert!(!mta.log().contains(" error event="), "{}", mta.log());
}

#[test]
fn curl_sends_a_file() {
    if !needs_programs("curl_sends_a_file", &["curl"]) {
        return;
    }
    let (mta, server) = start();
    let message = b"From: a@src.test\r\nSubject: curl\r\n\r\n.dot\r\n..dots\r\n\xff\xfe raw\r\n.\r\nend\r\n";
    let file = mta.root().join("message");
    std::fs::write(&file, message).expect("write the message");
    let url = format!("smtp://{server}/client.test");
    let words = ["-sS", "--url", &url, "--mail-from", "a@src.test", "--mail-rcpt", "b@local.test"];
    let file = file.to_str().expect("a plain path");
    said(&run("curl", &[&words[..], &["--mail-rcpt", "c@local.test", "--upload-file", file]].concat()));
    for user in ["b", "c"] {
        mta.wait_for_mail("local.test", user, 1);
        let arrived = mta.maildir_octets("local.test", user).remove(0);
        assert!(ends_with_message(&arrived, &with_lf(message)), "{}", String::from_utf8_lossy(&arrived));
    }
    // A refusal is the error of curl's exit status.
    let words =
        ["-sS", "--url", &url, "--mail-from", "a@src.test", "--mail-rcpt", "not an address", "-T", file];
    assert_eq!(run("curl", &words).status.code(), Some(55));
}

#[test]
fn mutt_sends_by_smtp() {
    if !needs_programs("mutt_sends_by_smtp", &["mutt"]) {
        return;
    }
    let (mta, server) = start();
    let settings = format!(
        "set smtp_url=\"smtp://{server}/\"\nset from=\"a@src.test\"\nset realname=\"A\"\nset use_from=yes\n\
         set ssl_starttls=no\nset ssl_force_tls=no\nset copy=no\nset hostname=\"client.test\"\n"
    );
    let file = mta.root().join("muttrc");
    std::fs::write(&file, settings).expect("write muttrc");
    let file = file.to_str().expect("a plain path");
    let words = ["-n", "-F", file, "-s", "gr\u{fc}\u{df}e", "-x", "b@local.test"];
    said(&run_with_input("mutt", &words, "text\n.\nafter a dot, \u{2603}\n".as_bytes()));
    let mail = &mta.wait_for_mail("local.test", "b", 1)[0];
    assert!(mail.contains("Message-ID:") && mail.contains("\n.\nafter a dot, \u{2603}"), "{mail}");
}

/// What Python's smtplib does in a day: each function is one thing, and raises if it goes wrong.
const SMTPLIB: &str = r#"
import smtplib, sys
from email.message import EmailMessage
port = int(sys.argv[1])
s = smtplib.SMTP('127.0.0.1', port, local_hostname='client.test', timeout=30)
m = EmailMessage()
m['From'], m['To'], m['Subject'] = 'a@src.test', 'b@local.test', 'send_message'
m.set_content('d\u00e9j\u00e0 vu\n.\nend\n')
assert s.send_message(m) == {}
assert s.has_extn('pipelining') and s.has_extn('8bitmime') and s.has_extn('size') and s.has_extn('enhancedstatuscodes')

many = ['u%d@local.test' % n for n in range(100)]
assert s.sendmail('a@src.test', many, 'Subject: many\r\n\r\nx\r\n') == {}

refused = s.sendmail('a@src.test', ['b@local.test', 'no@elsewhere.test'], 'Subject: some\r\n\r\nx\r\n')
assert list(refused) == ['no@elsewhere.test'] and refused['no@elsewhere.test'][0] == 554, refused

try:
    s.sendmail('a@src.test', ['no@elsewhere.test'], 'x')
    raise SystemExit('all recipients refused, and yet sent')
except smtplib.SMTPRecipientsRefused as e:
    assert e.recipients['no@elsewhere.test'][1].startswith(b'5.7.1'), e.recipients

for line, code in [('DATA', 503), ('RCPT TO:<b@local.test>', 503), ('MAIL FROM:a b', 501), ('BOGUS', 500),
                   ('VRFY b', 252), ('NOOP', 250), ('HELP', 214), ('RSET', 250), ('MAIL FROM:<> XYZ=1', 555)]:
    assert s.docmd(line)[0] == code, (line, code, s.docmd('NOOP'))
assert s.sendmail('', ['b@local.test'], 'Subject: after errors\r\n\r\nx\r\n') == {}
s.rset()
assert s.quit()[0] == 221
"#;

#[test]
fn python_smtplib_sends_refuses_and_recovers() {
    if !needs_programs("python_smtplib_sends_refuses_and_recovers", &["python3"]) {
        return;
    }
    let config = "config.server.relay_from = []; config.server.smtp.error.soft_count = 50; \
                  config.server.smtp.error.hard_count = 100;";
    let mta = Mta::start(&Settings { config: config.to_owned(), ..Settings::default() });
    said(&python(SMTPLIB, &[&mta.port().to_string()]));
    let mail = mta.wait_for_mail("local.test", "b", 3);
    for subject in ["send_message", "some", "after errors"] {
        assert!(mail.iter().any(|mail| mail.contains(&format!("Subject: {subject}"))), "{subject}: {mail:?}");
    }
    for user in 0..100 {
        mta.wait_for_mail("local.test", &format!("u{user}"), 1);
    }
}

#[test]
fn python_smtplib_speaks_over_the_local_socket() {
    if !needs_programs("python_smtplib_speaks_over_the_local_socket", &["python3"]) {
        return;
    }
    let mta = Mta::start(&Settings::default());
    let script = "import smtplib, socket, sys\n\
        class Local(smtplib.SMTP):\n\
        \x20   def _get_socket(self, host, port, timeout):\n\
        \x20       s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(host); return s\n\
        s = Local(sys.argv[1], 25, local_hostname='localhost')\n\
        assert s.sendmail('a@local.test', ['b@local.test'], 'Subject: local\\r\\n\\r\\nx\\r\\n') == {}\n\
        s.quit()\n";
    let socket = mta.root().join("run/vsmtp/submit");
    said(&python(script, &[socket.to_str().expect("a plain path")]));
    let mail = &mta.wait_for_mail("local.test", "b", 1)[0];
    assert!(mail.contains("Subject: local"), "{mail}");
}

#[test]
fn smtp_sink_is_a_next_hop() {
    if !needs_programs("smtp_sink_is_a_next_hop", &["smtp-sink"]) {
        return;
    }
    let port = free_port();
    let mut sink = program("smtp-sink");
    // As root it wants to know who else to be.
    sink.args(is_root().then_some(["-u", "nobody"]).iter().flatten());
    let mut sink = sink
        .args([&format!("127.0.0.1:{port}"), "100"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start smtp-sink");
    wait_until("smtp-sink listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{port}\";");
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let mut client = vsmtp_tests::Client::hello(mta.port());
    for at in 0..20 {
        let to = [format!("b{at}@one.test"), format!("b{at}@two.test")];
        let reply = client.mail("a@src.test", &[&to[0], &to[1]], "Subject: sink\r\n\r\nx");
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    wait_until("the queue is empty", || mta.queued() == 0);
    let log = mta.logged_often("event=delivered", 40);
    assert_eq!(log.matches("event=delivered").count(), 40, "{log}");
    vsmtp_tests::signal(&[sink.id()], "TERM");
    let _ = sink.wait();
}
