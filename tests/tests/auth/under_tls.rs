//! Logins under TLS, by clients that others wrote: each mechanism that is offered, and none that is not.

use std::io::Write;

use vsmtp_tests::{
    Client, Dovecot, Introspection, Mta, free_port, make_certificate, needs_programs, needs_root, python,
    run, said, wait_until,
};

use crate::{SCRAM, Stage, WITH_FILE, prepare};

const TLS: &str = "config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\";\n\
                   config.server.esmtp.auth.enable_dangerous_mechanism_in_clair = false;\n\
                   config.server.auth.failures_per_address = 100; config.server.auth.failures_per_account = 100;";
const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// A way to TLS.
#[derive(Debug, Clone, Copy)]
struct Door {
    port: u16,
    /// TLS is there from the first octet.
    implicit: bool,
}

fn start(users: &str, config: &str) -> (Stage, [Door; 3]) {
    let submissions = free_port();
    let listener = format!("config.server.interfaces.addr_submissions = [\"127.0.0.1:{submissions}\"];");
    let (mut stage, settings) = prepare(&format!("{TLS}\n{listener}\n{config}"), "");
    let folder = stage.mta.root().join("etc/vsmtp");
    stage.mta.write_configuration(&settings);
    std::fs::write(folder.join("users"), users).expect("write users");
    make_certificate(&folder, "mx", &["mx.local.test", "localhost"]);
    stage.mta.launch();
    let by_command = |port| Door { port, implicit: false };
    let doors = [
        by_command(stage.mta.port()),
        by_command(stage.submission),
        Door { port: submissions, implicit: true },
    ];
    (stage, doors)
}

fn authority(mta: &Mta) -> String {
    mta.root().join("etc/vsmtp/mx.pem").display().to_string()
}

/// All that a program said, whatever it thinks of it.
fn heard(output: std::process::Output) -> String {
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn swaks(door: Door, version: &str, mechanism: &str, password: &str) -> std::process::Output {
    let (server, version) =
        (format!("127.0.0.1:{}", door.port), format!("tlsv{}", version.replace('.', "_")));
    let how = ["--tls-protocol", &version, if door.implicit { "--tls-on-connect" } else { "--tls" }];
    let who = ["--auth-user", "tim", "--auth-password", password, "--auth", mechanism];
    let mail = ["--server", &server, "--from", "tim@src.test", "--to", "b@dst.test", "--ehlo", "client.test"];
    run("swaks", &[&how[..], &who, &mail].concat())
}

#[test]
fn each_mechanism_works_under_tls_and_no_other_is_offered() {
    const TEST: &str = "each_mechanism_works_under_tls_and_no_other_is_offered";
    if !needs_programs(TEST, &["swaks", "gsasl", "openssl"]) {
        return;
    }
    let (stage, doors) = start(&format!("tim:{SCRAM}\n"), WITH_FILE);
    // What shows no password may go in clear where TLS is not a must, and only there is it offered.
    let in_clear = Client::hello(stage.mta.port()).say("EHLO x").0;
    assert!(in_clear.lines().any(|line| line[4..] == *"AUTH SCRAM-SHA-256"), "{in_clear}");
    let mut client = Client::hello(stage.submission);
    let before_tls = client.say("EHLO x").0;
    assert!(before_tls.contains("STARTTLS") && !before_tls.contains("AUTH"), "{before_tls}");
    assert_eq!(client.say("AUTH SCRAM-SHA-256 biwsbj10aW0scj1h").code(), 530);
    let mut sent = 0;
    for (door, version) in doors.into_iter().flat_map(|door| VERSIONS.map(|version| (door, version))) {
        // Before TLS 1.3 there is nothing that -PLUS could be bound to.
        let bound = if version == "1.3" { "SCRAM-SHA-256-PLUS " } else { "" };
        let expected = format!(" AUTH {bound}SCRAM-SHA-256 PLAIN LOGIN");
        for mechanism in ["PLAIN", "LOGIN"] {
            let text = said(&swaks(door, version, mechanism, "pencil"));
            assert!(text.contains("<~  235 2.7.0") && text.contains("queued as"), "{door:?}: {text}");
            assert!(text.contains(&format!("TLSv{version}:")), "{door:?}: {text}");
            let offered = text.lines().rfind(|line| line.contains("250") && line.contains("AUTH "));
            let offered = offered.expect("an offer under TLS").replacen("250-", "250 ", 1);
            assert!(offered.ends_with(&expected), "{door:?} {version}: {offered}");
            sent += 1;
        }
        let failed = swaks(door, version, "PLAIN", "wrong");
        assert!(!failed.status.success());
        let text = heard(failed);
        assert!(text.contains("<~* 535 5.7.8"), "{door:?}: {text}");
    }
    // swaks tries no mechanism that is not offered: exit status 28 is for that and a failed login alike.
    for (door, mechanism) in
        doors.into_iter().flat_map(|door| ["CRAM-MD5", "DIGEST-MD5", "NTLM"].map(|it| (door, it)))
    {
        let refused = swaks(door, "1.3", mechanism, "pencil");
        assert!(!refused.status.success(), "{mechanism}");
        let text = heard(refused);
        assert!(!text.contains("235 2.7.0") && !text.contains("~> AUTH"), "{mechanism} was tried: {text}");
    }
    wait_until("all messages have arrived", || stage.sink.count() == sent);
}

#[test]
fn gsasl_logs_in_by_each_mechanism_behind_starttls() {
    const TEST: &str = "gsasl_logs_in_by_each_mechanism_behind_starttls";
    if !needs_programs(TEST, &["gsasl", "openssl"]) {
        return;
    }
    let (stage, doors) = start(&format!("tim:{SCRAM}\n"), WITH_FILE);
    let ca = format!("--x509-ca-file={}", authority(&stage.mta));
    let gsasl = |door: Door, version: &str, mechanism: &str, password: &str| {
        let (connect, password) =
            (format!("--connect=localhost:{}", door.port), format!("--password={password}"));
        let priority = format!("--priority=NORMAL:-VERS-ALL:+VERS-TLS{version}");
        // Where it can bind to the channel, it refuses to go without, unless told so.
        let unbound: &[&str] = if mechanism.ends_with("-PLUS") { &[] } else { &["--no-cb"] };
        let who = ["--authentication-id=tim", "--authorization-id=tim", &password, "--mechanism", mechanism];
        run("gsasl", &[&["--smtp", "--starttls", &connect, &ca, &priority][..], &who, unbound].concat())
    };
    for door in doors.into_iter().filter(|door| !door.implicit) {
        for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"] {
            for version in VERSIONS {
                let text = heard(gsasl(door, version, mechanism, "pencil"));
                let works = version == "1.3" || mechanism != "SCRAM-SHA-256-PLUS";
                assert_eq!(text.contains("235 2.7.0"), works, "{mechanism} {version}: {text}");
            }
            let text = heard(gsasl(door, "1.3", mechanism, "wrong"));
            assert!(text.contains("535 5.7.8") && !text.contains("235 2.7.0"), "{mechanism}: {text}");
        }
    }
}

/// Logs in by SCRAM over a session of openssl(1) with TLS from the start, bound to what openssl says of it if the mechanism
/// is -PLUS; prints the last code. The binding can be spoiled.
const BOUND: &str = r#"
import base64, hashlib, hmac, re, subprocess, sys
port, ca, mechanism, password, spoil = sys.argv[1:6]
words = ['openssl', 's_client', '-connect', '127.0.0.1:' + port, '-tls1_3', '-CAfile', ca, '-verify_return_error',
         '-verify_hostname', 'mx.local.test', '-keymatexport', 'EXPORTER-Channel-Binding', '-keymatexportlen', '32',
         '-crlf', '-ign_eof']
peer = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
def until(pattern):
    for line in peer.stdout:
        found = re.match(pattern, line)
        if found:
            return found
    sys.exit('the session is over')
def reply():
    found = until(r'(\d{3})(?: (.*))?$')
    return found[1], found[2] or ''
def say(text):
    peer.stdin.write(text + '\n')
    peer.stdin.flush()
    return reply()
def encode(octets): return base64.b64encode(octets).decode()
def sign(key, text): return hmac.digest(key, text, 'sha256')
binding = bytearray.fromhex(until(r'\s*Keying material: ([0-9A-F]{64})$')[1])
if spoil:
    binding[0] ^= 1
assert reply()[0] == '220'
assert say('EHLO client.test')[0] == '250'
plus = mechanism.endswith('-PLUS')
gs2 = b'p=tls-exporter,,' if plus else b'n,,'
bare = b'n=tim,r=fyko+d2lbbFgONRv9qkxdawL'
code, challenge = say(f'AUTH {mechanism} {encode(gs2 + bare)}')
assert code == '334', code
first = base64.b64decode(challenge)
nonce, salt, rounds = (part[2:] for part in first.split(b','))
final = b'c=' + encode(gs2 + (bytes(binding) if plus else b'')).encode() + b',r=' + nonce
salted = hashlib.pbkdf2_hmac('sha256', password.encode(), base64.b64decode(salt), int(rounds))
signed = b','.join((bare, first, final))
key = sign(salted, b'Client Key')
proof = bytes(a ^ b for a, b in zip(key, sign(hashlib.sha256(key).digest(), signed)))
code, text = say(encode(final + b',p=' + encode(proof).encode()))
if code == '334':
    assert base64.b64decode(text) == b'v=' + encode(sign(sign(salted, b'Server Key'), signed)).encode()
    code, text = say('')
print(code)
say('QUIT')
"#;

#[test]
fn a_login_is_bound_to_implicit_tls_as_openssl_knows_it() {
    if !needs_programs("a_login_is_bound_to_implicit_tls_as_openssl_knows_it", &["openssl", "python3"]) {
        return;
    }
    let (stage, doors) = start(&format!("tim:{SCRAM}\n"), WITH_FILE);
    let [port, ca] = [doors[2].port.to_string(), authority(&stage.mta)];
    for (mechanism, password, spoil, code) in [
        ("SCRAM-SHA-256", "pencil", "", "235"),
        ("SCRAM-SHA-256", "wrong", "", "535"),
        ("SCRAM-SHA-256-PLUS", "pencil", "", "235"),
        ("SCRAM-SHA-256-PLUS", "wrong", "", "535"),
        // Whoever stands in between has another session.
        ("SCRAM-SHA-256-PLUS", "pencil", "spoil", "535"),
    ] {
        let got = said(&python(BOUND, &[&port, &ca, mechanism, password, spoil]));
        assert_eq!(got.trim(), code, "{mechanism} {password} {spoil}");
    }
}

#[test]
fn tokens_are_judged_by_dovecot_and_who_it_says_it_is_counts() {
    const TEST: &str = "tokens_are_judged_by_dovecot_and_who_it_says_it_is_counts";
    if !(needs_root(TEST) && needs_programs(TEST, &["dovecot", "curl", "python3", "openssl"])) {
        return;
    }
    let introspection = Introspection::start();
    let dovecot = Dovecot::with_tokens(introspection.port());
    let config = format!(
        "config.server.auth.backends = [\"dovecot:{}\"];\n\
         config.server.esmtp.auth.mechanisms = [\"XOAUTH2\", \"OAUTHBEARER\"];\n\
         config.server.auth.sender_login = #{{ \"tim@src.test\": \"tim\", \"joe@src.test\": \"joe\" }};",
        dovecot.auth_socket().display()
    );
    let (stage, doors) = start("", &config);
    let mail = stage.mta.root().join("mail.txt");
    std::fs::File::create(&mail)
        .and_then(|mut file| file.write_all(b"Subject: by token\r\n\r\nx\r\n"))
        .expect("write the message");
    let mail = mail.display().to_string();
    let curl_at = |door: Door, version: &str, mechanism: &str, token: &str, from: &str| {
        let (login, least) = (format!("AUTH={mechanism}"), format!("--tlsv{version}"));
        let scheme = if door.implicit { "smtps" } else { "smtp" };
        let url = format!("{scheme}://127.0.0.1:{}/client.test", door.port);
        let tls = ["--ssl-reqd", "-k", &least, "--tls-max", version];
        let who = ["--user", "tim", "--oauth2-bearer", token, "--login-options", &login, "-v", "--silent"];
        let what = ["--url", &url, "--mail-from", from, "--mail-rcpt", "b@dst.test", "-T", &mail];
        run("curl", &[&tls[..], &who, &what].concat())
    };
    let curl = |mechanism: &str, token: &str, from: &str| curl_at(doors[1], "1.3", mechanism, token, from);
    let mut sent = 0;
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        for (door, version) in doors.into_iter().flat_map(|door| VERSIONS.map(|version| (door, version))) {
            let text = said(&curl_at(door, version, mechanism, "goodtoken", "tim@src.test"));
            assert!(text.contains("< 235 2.7.0") && text.contains("queued as"), "{door:?} {version}: {text}");
            assert!(text.contains(&format!("SSL connection using TLSv{version}")), "{text}");
            sent += 1;
        }
        wait_until("the messages have arrived", || stage.sink.count() == sent);
        let refused = curl_at(doors[2], "1.3", mechanism, "bad", "tim@src.test");
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("< 535 5.7.8"), "{mechanism}: {text}");
    }
    // Whose the token is was said by Dovecot, and the map of senders goes by it.
    let refused = curl("XOAUTH2", "goodtoken", "joe@src.test");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("< 553 5.7.1"), "{text}");
    // Nothing of a token is in our log.
    assert!(!stage.mta.log().contains("goodtoken"), "{}", stage.mta.log());
    drop(dovecot);
    let refused = curl("XOAUTH2", "goodtoken", "tim@src.test");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("< 454 4.7.0"), "{refused:?}");
    assert_eq!(stage.sink.count(), sent);
}
