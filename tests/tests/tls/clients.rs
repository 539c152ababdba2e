//! Programs that speak TLS with us.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use vsmtp_tests::{
    Client, Mta, make_certificate, needs_programs, program, python, run, said, signal, wait_until,
};

use crate::{Door, folder, prepare_doors, start};

/// What openssl says of a handshake at the SMTP port, with these options.
fn handshake(mta: &Mta, options: &[&str]) -> String {
    Door::starttls(mta.port()).handshake(options)
}

fn handshake_at(port: u16, options: &[&str]) -> String {
    Door::starttls(port).handshake(options)
}

#[test]
fn openssl_sees_versions_and_names_at_each_door() {
    if !needs_programs("openssl_sees_versions_and_names_at_each_door", &["openssl"]) {
        return;
    }
    let config =
        "config.server.virtual = #{\"a.test\": #{tls: #{certificate: \"a.pem\", private_key: \"a.key\"}}};";
    let (mut mta, doors) = prepare_doors(config);
    make_certificate(&folder(&mta), "a", &["a.test", "*.a.test"]);
    mta.launch();
    for door in doors {
        for (options, expected) in [
            (&["-tls1_3"][..], "TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256"),
            (&["-tls1_2"], "TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
            (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], "TLS_CHACHA20_POLY1305_SHA256"),
            (&["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"], "TLS_AES_256_GCM_SHA384"),
            (&["-tls1_3", "-servername", "a.test"], "subject=CN = a.test"),
            (&["-tls1_2", "-servername", "a.test"], "subject=CN = a.test"),
            (&["-servername", "x.a.test"], "subject=CN = a.test"),
            (&["-servername", "mx.local.test"], "subject=CN = mx.local.test"),
            (&["-servername", "stranger.test"], "subject=CN = mx.local.test"),
            (&["-tls1_2", "-noservername"], "subject=CN = mx.local.test"),
            (&["-noservername"], "subject=CN = mx.local.test"),
        ] {
            let text = door.handshake(options);
            assert!(text.contains(expected), "{door:?} {options:?}: {text}");
            // It is SMTP that is spoken inside.
            assert!(text.contains("\n221 "), "{door:?} {options:?}: {text}");
        }
        for refused in [
            &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..],
            &["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"],
            &["-tls1_2", "-cipher", "AES128-SHA"],
        ] {
            let text = door.handshake(refused);
            assert!(text.contains("Cipher is (NONE)"), "{door:?} {refused:?}: {text}");
        }
    }
}

/// S7: what a ticket proves was proved to one service under one name.
#[test]
fn a_ticket_opens_the_door_where_it_was_given_and_no_other() {
    if !needs_programs("a_ticket_opens_the_door_where_it_was_given_and_no_other", &["openssl"]) {
        return;
    }
    let config =
        "config.server.virtual = #{\"a.test\": #{tls: #{certificate: \"a.pem\", private_key: \"a.key\"}}};";
    let (mut mta, doors) = prepare_doors(config);
    make_certificate(&folder(&mta), "a", &["a.test"]);
    mta.launch();
    let kept = mta.root().join("session").display().to_string();
    for (from, version) in doors.into_iter().flat_map(|door| ["-tls1_3", "-tls1_2"].map(|it| (door, it))) {
        let text = from.handshake(&[version, "-servername", "mx.local.test", "-sess_out", &kept]);
        assert!(text.contains("New, TLSv1"), "{text}");
        let again = |door: &Door, name| door.handshake(&[version, "-sess_in", &kept, "-servername", name]);
        // Whichever receiver answers: the secrets are shared.
        for _ in 0..2 {
            let text = again(&from, "mx.local.test");
            assert!(text.contains("Reused, TLSv1"), "{from:?} {version}: {text}");
        }
        for to in doors.iter().filter(|door| door.port != from.port) {
            let text = again(to, "mx.local.test");
            assert!(text.contains("New, TLSv1"), "{from:?} to {to:?} {version}: {text}");
        }
        // Neither with a certificate of its own nor with the same.
        for name in ["a.test", "stranger.test"] {
            let text = again(&from, name);
            assert!(text.contains("New, TLSv1"), "{from:?} as {name} {version}: {text}");
        }
        // None of this has spoiled it.
        assert!(again(&from, "mx.local.test").contains("Reused, TLSv1"), "{from:?} {version}");
    }
}

#[test]
fn an_address_may_have_tls_of_its_own() {
    if !needs_programs("an_address_may_have_tls_of_its_own", &["openssl"]) {
        return;
    }
    let own = vsmtp_tests::free_port();
    let listener = format!(
        "config.server.interfaces.addr.push(\"127.0.0.1:{own}\");\n\
         config.server.tls.listeners = #{{ \"127.0.0.1:{own}\": #{{ protocol_version: [\"TLSv1.3\"],\n\
         cipher_suite: [\"TLS_CHACHA20_POLY1305_SHA256\"], security_level: \"encrypt\" }} }};"
    );
    let mta = start(&listener, "");
    for (port, options, expected) in [
        (own, &["-tls1_2"][..], "Cipher is (NONE)"),
        (own, &["-tls1_3"], "TLSv1.3, Cipher is TLS_CHACHA20_POLY1305_SHA256"),
        (mta.port(), &["-tls1_2"], "TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
        (mta.port(), &["-tls1_3"], "TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256"),
    ] {
        let text = handshake_at(port, options);
        assert!(text.contains(expected), "{options:?} at {port}: {text}");
    }
    assert_eq!(Client::hello(own).say("MAIL FROM:<a@src.test>").code(), 530);
    assert_eq!(Client::hello(mta.port()).say("MAIL FROM:<a@src.test>").code(), 250);
}

#[test]
fn swaks_and_smtplib_send_and_rules_and_traces_know() {
    const TEST: &str = "swaks_and_smtplib_send_and_rules_and_traces_know";
    if !needs_programs(TEST, &["openssl", "swaks", "python3"]) {
        return;
    }
    let filter = "#{ mail: [ rule \"secured\" || { if ctx::is_secured() && ctx::tls_protocol() == \"TLSv1.3\"\
                  { state::next() } else { state::deny() } } ] }";
    let mta = start("", filter);
    let (server, ca) =
        (format!("127.0.0.1:{}", mta.port()), folder(&mta).join("mx.pem").display().to_string());
    let common =
        ["--to", "b@local.test", "--from", "a@src.test", "--server", &server, "--ehlo", "client.test"];
    said(&run("swaks", &[&common[..], &["--tls", "--tls-ca-path", &ca]].concat()));
    assert!(!run("swaks", &common).status.success(), "the rule refuses clear text");
    let script = "
import smtplib, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=ca)
# The name that is verified is the host's.
s = smtplib.SMTP('127.0.0.1', port, local_hostname='client.test', timeout=30)
s._host = 'mx.local.test'
s.ehlo()
assert s.has_extn('starttls')
code, _ = s.starttls(context=context)
assert code == 220
s.ehlo()
assert not s.has_extn('starttls')
s.sendmail('a@src.test', ['b@local.test'], 'Subject: python\\r\\n\\r\\n' + 'x' * 70 + '\\r\\n' + ('y' * 70 + '\\r\\n') * 20000)
s.quit()
";
    said(&python(script, &[&mta.port().to_string(), &ca]));
    let mails = mta.wait_for_mail("local.test", "b", 2);
    for mail in &mails {
        let trace = mail.split("\n\n").next().unwrap_or_default().replace("\n\t", " ");
        assert!(trace.contains("with ESMTPS"), "{trace}");
    }
    assert!(mails.iter().any(|mail| mail.len() > 1_400_000), "the large one is whole");
    mta.logged("tls=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256");
}

#[test]
fn what_requires_tls_comes_back_from_a_next_hop_without_it() {
    const TEST: &str = "what_requires_tls_comes_back_from_a_next_hop_without_it";
    if !needs_programs(TEST, &["openssl", "python3"]) {
        return;
    }
    let sink = vsmtp_tests::Sink::start();
    let mta = start(&format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port()), "");
    let in_clear = Client::hello(mta.port()).say("MAIL FROM:<sender@local.test> REQUIRETLS");
    assert_eq!(in_clear.code(), 555, "{in_clear:?}");
    let script = "
import smtplib, ssl, sys
s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), local_hostname='client.test', timeout=30)
s.ehlo()
assert not s.has_extn('requiretls')
s.starttls(context=ssl._create_unverified_context())
s.ehlo()
assert s.has_extn('requiretls')
s.sendmail('sender@local.test', ['b@far.test'], 'Subject: secret\\r\\n\\r\\nwords\\r\\n', mail_options=['REQUIRETLS'])
s.quit()
";
    said(&python(script, &[&mta.port().to_string()]));
    let report = mta.wait_for_mail("local.test", "sender", 1).remove(0);
    assert!(report.contains("Status: 5.7.30") && report.contains("b@far.test"), "{report}");
    assert!(
        report.contains("Subject: secret") && !report.contains("words"),
        "nor is it sent back whole: {report}"
    );
    assert_eq!(sink.count(), 0);
}

#[test]
fn where_tls_is_required_clear_text_hears_530() {
    let mta = start("config.server.tls.security_level = \"encrypt\";", "");
    let mut client = Client::hello(mta.port());
    let reply = client.say("MAIL FROM:<a@src.test>");
    assert!(reply.0.starts_with("530 5.7.0"), "{reply:?}");
}

/// A session of openssl(1) that stays open.
struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn open(mta: &Mta) -> Session {
        let server = format!("127.0.0.1:{}", mta.port());
        let mut child = program("openssl")
            .args(["s_client", "-connect", &server, "-starttls", "smtp", "-quiet", "-ign_eof", "-crlf"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start openssl");
        let (input, output) =
            (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        Session { child, input, output: BufReader::new(output) }
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        while line.as_bytes().get(3) != Some(&b' ') {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).expect("read a reply"), 0, "the session is over");
        }
        line
    }

    fn say(&mut self, line: &str) -> String {
        self.input.write_all(format!("{line}\n").as_bytes()).expect("say something");
        self.reply()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_reload_brings_the_new_certificate_and_drops_no_session() {
    const TEST: &str = "a_reload_brings_the_new_certificate_and_drops_no_session";
    if !needs_programs(TEST, &["openssl"]) {
        return;
    }
    let mta = start("", "");
    let fingerprint = |mta: &Mta| {
        let text = handshake(mta, &[]);
        let begin = text.find("-----BEGIN CERTIFICATE").expect("a certificate");
        let end = text.find("-----END CERTIFICATE").expect("its end");
        text[begin..end].to_owned()
    };
    let before = fingerprint(&mta);
    let mut session = Session::open(&mta);
    assert!(session.say("EHLO client.test").starts_with("250"));
    make_certificate(&folder(&mta), "mx", &["mx.local.test"]);
    said(&mta.ctl(&["reload"]));
    wait_until("the new certificate is shown", || fingerprint(&mta) != before);
    assert!(session.say("NOOP").starts_with("250"), "the session lives");
    // A bad one changes nothing.
    let good = fingerprint(&mta);
    std::fs::write(folder(&mta).join("mx.pem"), "no certificate").expect("spoil it");
    said(&mta.ctl(&["reload"]));
    wait_until("it is refused", || mta.log().contains("event=certificates-refused"));
    assert_eq!(fingerprint(&mta), good);
    assert!(session.say("NOOP").starts_with("250"));
}

#[test]
fn the_death_of_the_key_holder_under_load_costs_handshakes_in_flight_only() {
    const TEST: &str = "the_death_of_the_key_holder_under_load_costs_handshakes_in_flight_only";
    if !needs_programs(TEST, &["openssl", "python3"]) {
        return;
    }
    let mta = start("config.server.receivers = 2;", "");
    let mut session = Session::open(&mta);
    session.say("EHLO client.test");
    // Full handshakes one after the other, on four threads; counts those that fail.
    let script = "
import socket, ssl, sys, threading, time
port, seconds = int(sys.argv[1]), float(sys.argv[2])
context = ssl._create_unverified_context()
failed, done = [0], [0]
def work():
    end = time.time() + seconds
    while time.time() < end:
        try:
            s = socket.create_connection(('127.0.0.1', port), timeout=10)
            f = s.makefile('rb')
            f.readline()
            s.sendall(b'STARTTLS\\r\\n')
            f.readline()
            t = context.wrap_socket(s)
            t.sendall(b'QUIT\\r\\n')
            assert t.recv(100).startswith(b'221')
            done[0] += 1
            t.close()
        except Exception as e:
            failed[0] += 1
            time.sleep(0.02)
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(done[0], failed[0])
";
    let port = mta.port().to_string();
    let mut load = program("python3")
        .args(["-c", script, &port, "6"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start python");
    wait_until("handshakes run", || {
        mta.ctl_rows(&["status"]).iter().any(|row| {
            row["process"].as_str().is_some_and(|name| name.starts_with("keys"))
                && row["figures"]["signatures"].as_u64() > Some(10)
        })
    });
    for _ in 0..3 {
        signal(&[mta.pid_of("keys")], "KILL");
        assert!(session.say("NOOP").starts_with("250"), "a session needs no key");
        wait_until("it is back", || {
            mta.processes().iter().any(|process| process.name.starts_with("keys") && process.is_ready)
        });
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let mut said = String::new();
    load.stdout.take().expect("its output").read_to_string(&mut said).expect("read it");
    assert!(load.wait().expect("wait for python").success());
    let counts: Vec<u32> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let (done, failed) = (counts[0], counts[1]);
    assert!(done > 100, "{said}");
    // Those that were in flight, and those that came in the moments before it was back.
    assert!(failed < done / 2, "{failed} of {done} failed");
    mta.logged("event=keys-lost");
    assert!(session.say("QUIT").starts_with("221"));
}

#[test]
fn submission_begins_with_tls_on_its_own_port_and_wants_a_login() {
    const TEST: &str = "submission_begins_with_tls_on_its_own_port_and_wants_a_login";
    if !needs_programs(TEST, &["openssl", "python3"]) {
        return;
    }
    let port = vsmtp_tests::free_port();
    let config = format!(
        "config.server.interfaces.addr_submissions = [\"127.0.0.1:{port}\"]; config.server.esmtp.auth.mechanisms = [\"PLAIN\"];"
    );
    let mta = start(&config, "#{ authenticate: [ rule \"anybody\" || state::accept() ] }");
    let script = "
import smtplib, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=ca)
context.check_hostname = False
s = smtplib.SMTP_SSL('127.0.0.1', port, local_hostname='client.test', timeout=30, context=context)
s.ehlo()
assert not s.has_extn('starttls')
assert 'PLAIN' in s.esmtp_features['auth'], s.esmtp_features
code, text = s.mail('a@src.test')
assert code == 530, (code, text)
s.login('jane', 'secret')
s.sendmail('a@src.test', ['b@local.test'], 'Subject: x\\r\\n\\r\\nx\\r\\n')
s.quit()
";
    let ca = folder(&mta).join("mx.pem").display().to_string();
    said(&python(script, &[&port.to_string(), &ca]));
    assert!(mta.wait_for_mail("local.test", "b", 1)[0].contains("with ESMTPSA"));
    // Clear text on that port is answered by nothing that a client could take for SMTP.
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.write_all(b"EHLO client.test\r\n").expect("say something");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"2") && !answer.starts_with(b"5"), "{answer:?}");
}
