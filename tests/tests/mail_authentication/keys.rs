//! Keys that vsmtpctl makes: others find right what is signed with them and read the records that it prints, and a check tells
//! what the DNS has instead.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use vsmtp_tests::{
    Client, Mta, NameServer, PLAIN, Settings, Sink, Unbound, free_port, needs_programs, run, said, wait_until,
};

use crate::{checked_by_dkimpy, checked_by_opendkim, message};

/// Signs with all keys of the domain.
const SIGN: &str = r##"#{ preq: [
    action "sign" || {
        let keys = dkim::get_private_keys("DOMAIN");
        dkim::sign(#{ selector: "rsa", private_key: keys[0], sdid: "DOMAIN", canonicalization: "relaxed/relaxed" });
        dkim::sign(#{ selector: "ed", private_key: keys[1], sdid: "DOMAIN", canonicalization: "relaxed/relaxed" });
    },
] }"##;

/// An MTA that does not run, with a folder for keys.
fn site() -> Mta {
    let mta = Mta::prepare(&Settings::default());
    fs::create_dir_all(mta.root().join("etc/vsmtp/dkim")).expect("make a folder");
    mta
}

fn path(mta: &Mta, kind: &str) -> String {
    mta.root().join(format!("etc/vsmtp/dkim/{kind}.pem")).display().to_string()
}

/// What vsmtpctl prints, with its exit status.
fn ctl(mta: &Mta, words: &[&str]) -> (i32, String) {
    let output = mta.ctl(words);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Makes a key; the record as a zone file has it.
fn made(mta: &Mta, kind: &str, domain: &str) -> String {
    let file = path(mta, kind);
    let words = ["dkim", "keygen", "--type", if kind == "ed" { "ed25519" } else { "rsa" }];
    let (code, text) =
        ctl(mta, &[&words[..], &["--selector", kind, "--domain", domain, file.as_str()]].concat());
    assert_eq!(code, 0, "{text}");
    text
}

/// The text of a record.
fn text(mta: &Mta, kind: &str, domain: &str) -> String {
    let words = ["dkim", "record", "--selector", kind, "--domain", domain, &path(mta, kind)];
    mta.ctl_json(&words)["value"].as_str().expect("a text").to_owned()
}

fn configure(mta: &Mta, domain: &str, dns: &str, more: &str) {
    let config = format!(
        "{dns}\n{more}\nconfig.server.virtual = #{{ \"{domain}\": #{{ dkim: #{{ private_key: [\"dkim/rsa.pem\", \"dkim/ed.pem\"] }} }} }};"
    );
    mta.write_configuration(&Settings { config, filter: SIGN.replace("DOMAIN", domain) });
}

/// OpenDKIM's own test of a domain's key, asking that name server.
fn tested_by_opendkim(folder: &Path, dns: &Unbound, domain: &str, key: &str) {
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).expect("write a file");
        path.display().to_string()
    };
    let forward = format!(
        "server:\n do-not-query-localhost: no\nforward-zone:\n name: \".\"\n forward-addr: 127.0.0.1@{}\n",
        dns.port()
    );
    let resolver = file("testkey.unbound", forward);
    let config = file("testkey.conf", format!("ResolverConfiguration {resolver}\n"));
    let output = run("opendkim-testkey", &["-d", domain, "-s", "rsa", "-k", key, "-x", &config, "-vvv"]);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("key OK"), "{text}");
}

#[test]
fn what_is_signed_with_keys_of_vsmtpctl_others_find_right() {
    let test = "what_is_signed_with_keys_of_vsmtpctl_others_find_right";
    if !needs_programs(
        test,
        &["dkimsign", "opendkim", "opendkim-testkey", "openssl", "python3", "unbound", "ldns-keygen"],
    ) {
        return;
    }
    let mut mta = site();
    let zone = [made(&mta, "rsa", PLAIN), made(&mta, "ed", PLAIN)].concat();
    for kind in ["rsa", "ed"] {
        let file = path(&mta, kind);
        assert_eq!(fs::metadata(&file).expect("a key").permissions().mode() & 0o7777, 0o600);
        said(&run("openssl", &["pkey", "-in", &file, "-noout", "-check"]));
        let again = ctl(&mta, &["dkim", "record", "--selector", kind, "--domain", PLAIN, &file]).1;
        assert!(zone.contains(&again), "{again} is not in {zone}");
    }
    let dns = Unbound::start("", &zone, &[]);
    let sink = Sink::start();
    let relay = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    configure(&mta, PLAIN, &dns.config(), &relay);
    // Nothing need run for a check.
    let (code, told) = ctl(&mta, &["dkim", "check", "--selector", "rsa", "--selector", "ed"]);
    assert_eq!((code, told.matches("  ok  ").count()), (0, 2), "{told}");
    let rows = mta.ctl_rows(&["dkim", "check", "--selector", "rsa", "--selector", "ed", PLAIN]);
    assert!(rows.len() == 2 && rows.iter().all(|row| row["ok"] == Value::Bool(true)), "{rows:?}");
    tested_by_opendkim(mta.root(), &dns, PLAIN, &path(&mta, "rsa"));
    mta.launch();
    let reply = Client::hello(mta.port()).mail(
        &format!("a@{PLAIN}"),
        &["b@dst.test"],
        &message("made", "one\r\n").replace("src.test", PLAIN),
    );
    assert_eq!(reply.code(), 250, "{reply:?}");
    wait_until("the next hop has it", || sink.count() == 1);
    let sent = sink.messages().remove(0).octets;
    let keys = [text(&mta, "rsa", PLAIN), text(&mta, "ed", PLAIN)];
    checked_by_opendkim(&sent, PLAIN, &keys[0], mta.root());
    assert_eq!(checked_by_dkimpy(mta.root(), &[sent], PLAIN, &keys), ["True True"]);
}

#[test]
fn a_key_that_is_there_is_not_written_over() {
    let mta = site();
    made(&mta, "ed", "src.test");
    let file = path(&mta, "ed");
    let before = fs::read(&file).expect("a key");
    let words =
        ["dkim", "keygen", "--type", "ed25519", "--selector", "ed", "--domain", "src.test", file.as_str()];
    let (code, told) = ctl(&mta, &words);
    assert!(code == 1 && told.contains("exists; --force"), "{code} {told}");
    assert_eq!(fs::read(&file).expect("a key"), before);
    assert_eq!(ctl(&mta, &[&words[..], &["--force"]].concat()).0, 0);
    assert_ne!(fs::read(&file).expect("a key"), before);
    fs::write(&file, "nonsense").expect("write nonsense");
    let (code, told) =
        ctl(&mta, &["dkim", "record", "--selector", "ed", "--domain", "src.test", file.as_str()]);
    assert!(code == 2 && told.contains("holds no private key in PEM"), "{code} {told}");
}

#[test]
fn a_check_tells_what_the_dns_has_instead() {
    let mta = site();
    made(&mta, "rsa", "src.test");
    made(&mta, "ed", "src.test");
    let (rsa, ed) = (text(&mta, "rsa", "src.test"), text(&mta, "ed", "src.test"));
    let other = format!("{}AAAA", &rsa[..rsa.len() - 8]);
    let dns = NameServer::serve_texts(&[
        ("rsa._domainkey.src.test", &other),
        ("ed._domainkey.src.test", &ed),
        ("old._domainkey.src.test", "v=DKIM1; p="),
    ]);
    configure(&mta, "src.test", &dns.config(), "");
    let words =
        ["dkim", "check", "--selector", "rsa", "--selector", "ed", "--selector", "old", "--selector", "no"];
    let (code, told) = ctl(&mta, &words);
    assert_eq!(code, 1, "{told}");
    let [rsa, ed] = ["rsa", "ed"].map(|kind| path(&mta, kind));
    let rows: Vec<String> =
        told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        rows,
        [
            "NAME RESULT KEY".to_owned(),
            "rsa._domainkey.src.test another key -".to_owned(),
            format!("ed._domainkey.src.test ok {ed}"),
            "old._domainkey.src.test revoked -".to_owned(),
            "no._domainkey.src.test no record -".to_owned(),
            format!("- not published under any of these selectors {rsa}"),
            "vsmtpctl: 4 problems".to_owned(),
        ]
    );
    let (code, told) = ctl(&mta, &["dkim", "check", "--selector", "rsa", "else.test"]);
    assert!(code == 1 && told.contains("no key is configured for else.test"), "{told}");
    // Nobody answers: that is no verdict.
    let nobody = format!(
        "config.server.dns.type = \"custom\"; config.server.dns.config.name_servers = [\"127.0.0.1:{}\"];",
        free_port()
    );
    configure(&mta, "src.test", &nobody, "");
    let (code, told) = ctl(&mta, &["dkim", "check", "--selector", "ed"]);
    assert!(code == 2 && told.contains("cannot be looked up now"), "{code} {told}");
}
