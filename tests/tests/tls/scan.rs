//! What a scanner finds.

use std::process::{Command, Stdio};

use vsmtp_tests::needs_programs;

use crate::start;

/// Longest scan, in seconds; it takes one or two minutes.
const BOUND: &str = "600";

#[test]
fn testssl_finds_no_old_protocol_no_weak_cipher_and_no_known_hole() {
    const TEST: &str = "testssl_finds_no_old_protocol_no_weak_cipher_and_no_known_hole";
    if !needs_programs(TEST, &["openssl", "testssl"]) {
        return;
    }
    // It opens many connections, and breaks many of them on purpose.
    let mta = start("", "");
    let report = mta.root().join("report.json");
    let output = Command::new("timeout")
        .args([BOUND, "testssl"])
        .stdin(Stdio::null())
        .args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "min", "--ip", "127.0.0.1"])
        .args(["-t", "smtp", "-p", "-s", "-U", "--jsonfile"])
        .arg(&report)
        .arg(format!("127.0.0.1:{}", mta.port()))
        .output()
        .expect("run testssl");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = std::fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {said}"));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a report");
    let finding = |id: &str| {
        let row = rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id}: {said}"));
        (row["severity"].as_str().unwrap_or_default(), row["finding"].as_str().unwrap_or_default())
    };
    for old in ["SSLv2", "SSLv3", "TLS1", "TLS1_1"] {
        assert!(finding(old).1.contains("not offered"), "{old}: {said}");
    }
    for new in ["TLS1_2", "TLS1_3"] {
        assert!(finding(new).1.contains("offered") && !finding(new).1.contains("not"), "{new}: {said}");
    }
    let bad: Vec<&serde_json::Value> = rows
        .iter()
        .filter(|row| ["LOW", "MEDIUM", "HIGH", "CRITICAL"].iter().any(|bad| row["severity"] == *bad))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}\n{said}");
    for hole in [
        "heartbleed",
        "CCS",
        "ROBOT",
        "secure_renego",
        "CRIME_TLS",
        "POODLE_SSL",
        "SWEET32",
        "FREAK",
        "DROWN",
        "LOGJAM",
        "BEAST",
        "RC4",
    ] {
        assert!(["OK", "INFO"].contains(&finding(hole).0), "{hole}: {:?}", finding(hole));
    }
    assert!(mta.processes().iter().all(|process| process.restarts == 0), "nothing has died");
}
