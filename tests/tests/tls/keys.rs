//! Private keys on this machine: who may read them, and what the process may do that holds them.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use vsmtp_tests::{needs_programs, needs_root, run};

use crate::{folder, prepare, start};

#[test]
fn a_key_that_others_may_read_stops_the_start() {
    if !needs_programs("a_key_that_others_may_read_stops_the_start", &["openssl"]) {
        return;
    }
    let mut mta = prepare("", "");
    let key = folder(&mta).join("mx.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("open it up");
    let said = mta.try_launch().expect_err("it does not start");
    let last = said.lines().last().unwrap_or_default();
    let expected = format!(
        "vsmtp: {key} holds a private key and may be read or written by others (mode 0644): chmod 600 {key}",
        key = key.display()
    );
    assert_eq!(last, expected);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("close it again");
    mta.launch();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("open it up again");
    let reload = mta.ctl(&["reload"]);
    assert!(!reload.status.success(), "nor is it taken by a reload");
    assert!(String::from_utf8_lossy(&reload.stderr).contains("chmod 600"), "{reload:?}");
}

#[test]
fn a_key_of_another_certificate_stops_the_start() {
    if !needs_programs("a_key_of_another_certificate_stops_the_start", &["openssl"]) {
        return;
    }
    let mut mta = prepare("", "");
    let (key, certificate) = (folder(&mta).join("mx.key"), folder(&mta).join("mx.pem"));
    std::fs::remove_file(&key).expect("remove it");
    let other = ["genpkey", "-algorithm", "ed25519", "-out", &key.display().to_string()].map(str::to_owned);
    assert!(run("openssl", &other).status.success());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("protect it");
    let said = mta.try_launch().expect_err("it does not start");
    let expected =
        format!("{} does not belong to the certificate in {}", key.display(), certificate.display());
    assert!(said.replace(": does", " does").contains(&expected), "{said}");
    assert!(!said.contains("PRIVATE"));
}

#[test]
fn nobody_but_root_and_the_key_holder_reads_a_private_key() {
    const TEST: &str = "nobody_but_root_and_the_key_holder_reads_a_private_key";
    if !(needs_root(TEST) && needs_programs(TEST, &["openssl", "setpriv"])) {
        return;
    }
    let mta = start("config.server.receivers = 2; config.server.delivers = 2;", "");
    let rows = mta.ctl_rows(&["sandbox"]);
    let name = |row: &Value| row["process"].as_str().expect("a name").to_owned();
    let uid = |row: &Value| row["uids"][0].as_u64().expect("a uid");
    let keys = rows.iter().find(|row| name(row) == "keys.0").expect("the key holder");
    assert!(rows.iter().all(|row| name(row) == "keys.0" || uid(row) != uid(keys)), "a user of its own");
    let own =
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata("/proc/self/ns/net").expect("our network"));
    assert_ne!(keys["namespaces"]["net"].as_u64(), Some(own), "a network of its own");
    // Edges to its master, two receivers and the two filters; no file stays open.
    let targets: Vec<&str> = keys["descriptors"]
        .as_array()
        .expect("descriptors")
        .iter()
        .filter_map(|descriptor| descriptor["target"].as_str())
        .collect();
    assert_eq!(targets.iter().filter(|target| target.starts_with("socket:")).count(), 5, "{targets:?}");
    assert!(!targets.iter().any(|target| target.contains("/etc/")), "{targets:?}");
    // And nobody else has ever had it open, or can open it.
    let key = folder(&mta).join("mx.key");
    for row in &rows {
        for descriptor in row["descriptors"].as_array().expect("descriptors") {
            assert!(!descriptor["target"].as_str().is_some_and(|target| target.contains("mx.key")), "{row}");
        }
        let id = uid(row);
        let read = Command::new("setpriv")
            .args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".to_owned()])
            .arg("cat")
            .arg(&key)
            .stderr(Stdio::null())
            .output()
            .expect("run setpriv");
        assert!(!read.status.success() && read.stdout.is_empty(), "{}", name(row));
    }
    // Its table names no way to open, make or reach anything.
    let lines: Vec<&str> =
        keys["declared"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    let has = |call: &str| lines.iter().any(|line| line.split_whitespace().next() == Some(call));
    assert!(has("recvmsg"));
    for never in
        ["open", "openat", "openat2", "socket", "socketpair", "connect", "accept4", "bind", "clone", "execve"]
    {
        assert!(!has(never), "{never}");
    }
}

#[test]
fn without_a_certificate_there_is_no_key_holder() {
    let mta = vsmtp_tests::Mta::start(&vsmtp_tests::Settings::default());
    assert!(!mta.processes().iter().any(|process| process.name.starts_with("keys")));
}
