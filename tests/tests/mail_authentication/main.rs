//! Who sends, from outside: what other programs sign we find right, what we sign they find right, and what a domain says in
//! the DNS has its consequence.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vsmtp_tests::{
    Client, Mta, NameServer, Settings, Sink, needs_programs, python, run, run_with_input, said, wait_until,
};

mod arc;
mod keys;

/// Bodies whose end is what signatures are made wrong by.
const BODIES: [&str; 7] = [
    "one line\r\n",
    "",
    "\r\n\r\n",
    "white space last\r\n \t \r\n\r\n",
    "a  b \r\n \r\nc\t\r\n",
    " \r\n",
    "..dots\r\n",
];

/// Signs what nobody has signed, and checks the rest.
const RULES: &str = r##"#{ preq: [
    action "sign or check" || {
        if msg::has_header("DKIM-Signature") { dkim::verify(); return; }
        let keys = dkim::get_private_keys("src.test");
        let canon = if msg::get_header("Subject") == "simple" { "simple/simple" } else { "relaxed/relaxed" };
        dkim::sign(#{ selector: "rsa", private_key: keys[0], sdid: "src.test", canonicalization: canon });
        dkim::sign(#{ selector: "ed", private_key: keys[1], sdid: "src.test", canonicalization: canon });
    },
] }"##;

fn message(subject: &str, body: &str) -> String {
    format!(
        "From: Jane <a@src.test>\r\nTo: b@dst.test\r\nSubject: {subject}\r\nDate: Fri, 27 Nov 2026 03:00:00 +0000\r\n\
         X-Folded: one\r\n\t two  \r\n\r\n{body}"
    )
}

/// Makes both keys, and answers what stands in the DNS of them.
fn keys(folder: &Path) -> [String; 2] {
    fs::create_dir_all(folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    said(&run("openssl", &["genrsa", "-traditional", "-out", &path("rsa.pem"), "2048"]));
    said(&run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", &path("ed.pem")]));
    let public = |name: &str| {
        let private = path(name);
        let der = run("openssl", &["pkey", "-in", private.as_str(), "-pubout", "-outform", "DER"]).stdout;
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
        der
    };
    let base64 = |octets: &[u8]| said(&run_with_input("base64", &["-w0"], octets));
    let (rsa, ed) = (public("rsa.pem"), public("ed.pem"));
    [
        format!("v=DKIM1; k=rsa; p={}", base64(&rsa)),
        format!("v=DKIM1; k=ed25519; p={}", base64(&ed[ed.len() - 32..])),
    ]
}

/// Writes messages to files; their paths.
fn files(folder: &Path, messages: &[Vec<u8>]) -> Vec<String> {
    let file = |(at, octets): (usize, &Vec<u8>)| {
        let path = folder.join(format!("message-{at}.eml"));
        fs::write(&path, octets).unwrap();
        path.display().to_string()
    };
    messages.iter().enumerate().map(file).collect()
}

/// What dkimpy says of the signatures of each message: two words, one line.
fn checked_by_dkimpy(folder: &Path, messages: &[Vec<u8>], domain: &str, keys: &[String; 2]) -> Vec<String> {
    let script = "
import sys, dkim
known = {f'{name}._domainkey.{sys.argv[1]}.'.encode(): key.encode() for name, key in zip(['rsa', 'ed'], sys.argv[2:4])}
names = lambda name, timeout=5: known.get(name)
for path in sys.argv[4:]:
    message = open(path, 'rb').read()
    print(*[dkim.DKIM(message).verify(idx=at, dnsfunc=names) for at in range(2)])
";
    let files = files(folder, messages);
    let words = keys.iter().chain(&files).map(String::as_str);
    let arguments: Vec<&str> = std::iter::once(domain).chain(words).collect();
    said(&python(script, &arguments)).lines().map(str::to_owned).collect()
}

/// The messages, each signed by dkimpy as its subject says.
fn signed_by_dkimpy(folder: &Path, messages: &[Vec<u8>], key: &str) -> Vec<String> {
    let script = "
import sys, dkim
key = open(sys.argv[1], 'rb').read()
for path in sys.argv[2:]:
    message = open(path, 'rb').read()
    way = b'simple' if b'Subject: simple' in message else b'relaxed'
    field = dkim.sign(message, b'rsa', b'src.test', key, canonicalize=(way, way))
    open(path, 'wb').write(field + message)
";
    let files = files(folder, messages);
    let arguments: Vec<&str> = std::iter::once(key).chain(files.iter().map(String::as_str)).collect();
    said(&python(script, &arguments));
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Fails unless OpenDKIM finds our RSA signature right; it does not know Ed25519.
fn checked_by_opendkim(octets: &[u8], domain: &str, key: &str, folder: &Path) {
    let file = |name: &str, octets: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, octets).unwrap();
        path.display().to_string()
    };
    let names = file("opendkim.names", format!("rsa._domainkey.{domain} {key}\n").as_bytes());
    let config = format!("Mode v\nTestDNSData {names}\nSyslog no\n");
    let (config, message) = (file("opendkim.conf", config.as_bytes()), file("opendkim.eml", octets));
    let output = run("opendkim", &["-x", &config, "-t", &message, "-vvv"]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("header.a=rsa-sha256") && said.contains("dkim=pass"), "{said}");
}

fn start(
    folder_of_keys: impl Fn(&Path) -> [String; 2],
    rules: &str,
    more: &str,
) -> (Mta, Sink, NameServer, [String; 2]) {
    let sink = Sink::start();
    let relay = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    let mut settings = Settings { config: relay.clone(), filter: rules.to_owned() };
    let mut mta = Mta::prepare(&settings);
    let keys = folder_of_keys(&mta.root().join("etc/vsmtp/dkim"));
    let dns = NameServer::serve_texts(&[
        ("rsa._domainkey.src.test", &keys[0]),
        ("ed._domainkey.src.test", &keys[1]),
        arc::SIGNER,
        ("pass.test", "v=spf1 ip4:127.0.0.0/8 -all"),
        ("fail.test", "v=spf1 exp=why.fail.test -all"),
        ("why.fail.test", "%{i} is not one of us"),
        ("_dmarc.src.test", "v=DMARC1; p=reject; rua=mailto:d@src.test"),
    ]);
    settings.config = format!(
        "{relay}\n{}\nconfig.server.virtual = #{{ \"src.test\": #{{ dkim: #{{ private_key: [\"dkim/rsa.pem\", \"dkim/ed.pem\"] }} }} }};\n{more}",
        dns.config()
    );
    mta.write_configuration(&settings);
    mta.launch();
    (mta, sink, dns, keys)
}

#[test]
fn what_we_sign_others_find_right_however_the_body_ends() {
    let test = "what_we_sign_others_find_right_however_the_body_ends";
    if !needs_programs(test, &["dkimsign", "opendkim", "openssl", "python3"]) {
        return;
    }
    let (mta, sink, _dns, keys) = start(keys, RULES, "");
    let mut client = Client::hello(mta.port());
    for subject in ["simple", "relaxed"] {
        for body in BODIES {
            let reply = client.mail("a@src.test", &["b@dst.test"], &message(subject, body));
            assert_eq!(reply.code(), 250, "{reply:?}");
        }
    }
    wait_until("the next hop has all", || sink.count() == 2 * BODIES.len());
    let sent: Vec<Vec<u8>> = sink.messages().into_iter().map(|message| message.octets).collect();
    for octets in &sent {
        let text = String::from_utf8_lossy(octets);
        assert!(text.contains("a=rsa-sha256") && text.contains("a=ed25519-sha256"), "{text}");
        checked_by_opendkim(octets, "src.test", &keys[0], mta.root());
    }
    assert_eq!(checked_by_dkimpy(mta.root(), &sent, "src.test", &keys), vec!["True True"; sent.len()]);
    let changed = |octets: &Vec<u8>| {
        String::from_utf8_lossy(octets).replacen("Subject: ", "Subject: not ", 1).into_bytes()
    };
    let changed: Vec<Vec<u8>> = sent.iter().map(changed).collect();
    assert_eq!(checked_by_dkimpy(mta.root(), &changed, "src.test", &keys), vec!["False False"; sent.len()]);
}

#[test]
fn what_others_sign_we_find_right_however_the_body_ends() {
    let test = "what_others_sign_we_find_right_however_the_body_ends";
    if !needs_programs(test, &["dkimsign", "openssl", "python3"]) {
        return;
    }
    let (mta, sink, _dns, _) = start(keys, RULES, "");
    let key = mta.root().join("etc/vsmtp/dkim/rsa.pem").display().to_string();
    let plain: Vec<Vec<u8>> = ["simple", "relaxed"]
        .iter()
        .flat_map(|subject| BODIES.map(|body| message(subject, body).into_bytes()))
        .collect();
    let mut client = Client::hello(mta.port());
    for signed in signed_by_dkimpy(mta.root(), &plain, &key) {
        assert!(signed.starts_with("DKIM-Signature: "), "{signed}");
        // A dot at the start of a line is doubled on its way.
        let reply = client.mail("a@src.test", &["b@dst.test"], &signed.replace("\r\n.", "\r\n.."));
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    wait_until("the next hop has all", || sink.count() == plain.len());
    for got in sink.messages() {
        let text = String::from_utf8_lossy(&got.octets);
        let field = "Authentication-Results: mx.local.test;\r\n\tdkim=pass header.d=src.test header.i=@src.test header.s=rsa";
        assert!(text.starts_with(field), "{text:?}");
    }
}

#[test]
fn what_a_domain_says_in_the_dns_has_its_consequence() {
    if !needs_programs("what_a_domain_says_in_the_dns_has_its_consequence", &["openssl"]) {
        return;
    }
    let rules = r##"#{
        mail: [ rule "spf" || spf::check() ],
        preq: [ rule "dmarc" || dmarc::check() ],
    }"##;
    let (mta, sink, _dns, _) = start(keys, rules, "");
    let from = |sender: &str, author: &str| {
        let text =
            format!("From: {author}\r\nAuthentication-Results: mx.local.test; dmarc=pass\r\n\r\nhello\r\n");
        let mut client = Client::hello(mta.port());
        let reply = client.say(&format!("MAIL FROM:<{sender}>"));
        if reply.code() != 250 {
            return reply;
        }
        assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
        assert_eq!(client.say("DATA").code(), 354);
        client.send(format!("{text}.\r\n").as_bytes());
        client.reply()
    };
    let refused = from("a@fail.test", "a@fail.test");
    assert_eq!(refused.code(), 550, "{refused:?}");
    assert!(format!("{refused:?}").contains("fail.test says: 127.0.0.1 is not one of us"), "{refused:?}");
    assert_eq!(from("a@none.test", "a@none.test").code(), 550);
    assert_eq!(from("a@pass.test", "a@pass.test").code(), 250);
    let forged = from("a@pass.test", "a@src.test");
    assert_eq!(forged.code(), 550, "{forged:?}");
    wait_until("the next hop has the good one", || sink.count() == 1);
    let got = String::from_utf8_lossy(&sink.messages()[0].octets).into_owned();
    assert!(
        got.contains(
            "spf=pass smtp.mailfrom=a@pass.test;\r\n\tdkim=none;\r\n\tdmarc=none header.from=pass.test\r\n"
        ),
        "{got}"
    );
    assert!(!got.contains("dmarc=pass"), "{got}");
    let line = "author=src.test result=fail published=reject policy=reject domain=src.test spf_aligned=false \
                dkim_aligned=false report_to=mailto:d@src.test";
    wait_until("the log has the judgement", || mta.log().contains(line));
}

#[test]
fn a_report_about_tls_is_signed_before_it_leaves() {
    let test = "a_report_about_tls_is_signed_before_it_leaves";
    if !needs_programs(test, &["dkimsign", "openssl", "python3"]) {
        return;
    }
    // A rule that must not see it.
    let rules = r#"#{ postq: [ rule "all" || deny() ] }"#;
    let reports = "config.delivery.tls.reports.from = \"tls-reports@mail.src.test\";\n\
                   config.delivery.tls.reports.selector = \"rsa\";";
    let (mut mta, _sink, _dns, keys) = start(keys, rules, reports);
    mta.stop();
    let day =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400 - 3;
    let policy = r#"{"policy":{"policy-type":"no-policy-found","policy-domain":"dst.test"},
        "summary":{"total-successful-session-count":3,"total-failure-session-count":0}}"#;
    let counts = format!(
        r#"{{"version":1,"sheets":[{{"day":{day},"domain":"dst.test","rua":["mailto:reports@local.test"],"policies":[{policy}]}}]}}"#
    );
    fs::write(mta.root().join("var/spool/vsmtp/queue/tls-reports.json"), counts).unwrap();
    mta.launch();
    let mail = mta.wait_for_mail("local.test", "reports", 1).remove(0);
    // As it was sent: without what the delivery to a mailbox has put in front.
    let report = &mail[mail.find("DKIM-Signature:").unwrap_or_else(|| panic!("{mail}"))..];
    let octets = report.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
    let script = "
import sys, dkim
known = {b'rsa._domainkey.src.test.': sys.argv[1].encode()}
print(dkim.verify(open(sys.argv[2], 'rb').read(), dnsfunc=lambda name, timeout=5: known.get(name)))
";
    let file = files(mta.root(), &[octets]).remove(0);
    assert_eq!(said(&python(script, &[&keys[0], &file])).trim(), "True", "{report}");
    assert!(report.contains("From: tls-reports@mail.src.test"), "{report}");
}
