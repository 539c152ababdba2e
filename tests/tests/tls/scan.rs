//! What a scanner finds.

use std::process::{Command, Stdio};

use vsmtp_tests::{Mta, free_port, make_rsa_certificate, needs_programs};

use crate::{folder, prepare, start};

/// Longest scan, in seconds; it takes one or two minutes.
const BOUND: &str = "600";

/// Known holes that it looks for.
const HOLES: [&str; 15] = [
    "heartbleed",
    "CCS",
    "ROBOT",
    "secure_renego",
    "secure_client_renego",
    "CRIME_TLS",
    "POODLE_SSL",
    "fallback_SCSV",
    "SWEET32",
    "FREAK",
    "DROWN",
    "LOGJAM",
    "BEAST",
    "LUCKY13",
    "RC4",
];

/// What a scan with a key of RSA looks for.
const RSA_SCAN: [&str; 9] = ["-t", "smtp", "-p", "-s", "-f", "--robot", "--freak", "--drown", "--lucky13"];
const RSA_HOLES: [&str; 4] = ["ROBOT", "FREAK", "DROWN", "LUCKY13"];

/// What a scan found, row by row.
struct Report {
    rows: Vec<serde_json::Value>,
    said: String,
}

impl Report {
    /// Scans a port of this host.
    fn of(mta: &Mta, port: u16, words: &[&str]) -> Report {
        let file = mta.root().join(format!("report-{port}.json"));
        let output = Command::new("timeout")
            .args([BOUND, "testssl"])
            .stdin(Stdio::null())
            .args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "min", "--ip", "127.0.0.1"])
            .args(words)
            .arg("--jsonfile")
            .arg(&file)
            .arg(format!("127.0.0.1:{port}"))
            .output()
            .expect("run testssl");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {said}"));
        Report { rows: serde_json::from_str(&text).expect("a report"), said }
    }

    fn finding(&self, id: &str) -> (&str, &str) {
        let row = self.rows.iter().find(|row| row["id"] == id);
        let row = row.unwrap_or_else(|| panic!("no {id}: {}", self.said));
        (row["severity"].as_str().unwrap_or_default(), row["finding"].as_str().unwrap_or_default())
    }

    /// Only TLS 1.2 and 1.3, only ciphers with forward secrecy and authentication, and nothing that the scanner minds.
    fn is_clean(&self) {
        for old in ["SSLv2", "SSLv3", "TLS1", "TLS1_1"] {
            assert!(self.finding(old).1.contains("not offered"), "{old}: {}", self.said);
        }
        for new in ["TLS1_2", "TLS1_3"] {
            let finding = self.finding(new).1;
            assert!(finding.contains("offered") && !finding.contains("not"), "{new}: {}", self.said);
        }
        for weak in ["NULL", "aNULL", "EXPORT", "LOW", "3DES_IDEA"] {
            let finding = self.finding(&format!("cipherlist_{weak}")).1;
            assert!(finding.contains("not offered"), "{weak}: {finding}: {}", self.said);
        }
        let finding = self.finding("cipherlist_AVERAGE").1;
        assert!(finding.contains("not offered"), "{finding}: {}", self.said);
        assert_eq!(self.finding("PFS").0, "OK", "{}", self.said);
        let bad = ["LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"];
        // What it lacks itself is nothing that it has found.
        let about_us = self.rows.iter().filter(|row| row["id"] != "engine_problem");
        let bad: Vec<_> = about_us.filter(|row| bad.iter().any(|bad| row["severity"] == *bad)).collect();
        assert!(bad.is_empty(), "{bad:#?}\n{}", self.said);
    }
}

#[test]
fn testssl_finds_no_old_protocol_no_weak_cipher_and_no_known_hole() {
    const TEST: &str = "testssl_finds_no_old_protocol_no_weak_cipher_and_no_known_hole";
    if !needs_programs(TEST, &["openssl", "testssl"]) {
        return;
    }
    // It opens many connections, and breaks many of them on purpose.
    let submissions = free_port();
    let config = format!(
        "config.server.interfaces.addr_submissions = [\"127.0.0.1:{submissions}\"];\n\
         config.server.esmtp.auth.mechanisms = [\"PLAIN\"];"
    );
    let mta = start(&config, "#{ authenticate: [ rule \"anybody\" || state::accept() ] }");
    // A key of RSA has holes of its own.
    let mut with_rsa = prepare("", "");
    make_rsa_certificate(&folder(&with_rsa), "mx", "mx.local.test");
    with_rsa.launch();
    let (by_starttls, from_the_start, rsa) = std::thread::scope(|scope| {
        let other = scope.spawn(|| Report::of(&mta, submissions, &["-p", "-s", "-f", "-U"]));
        let rsa = scope.spawn(|| Report::of(&with_rsa, with_rsa.port(), &RSA_SCAN));
        let report = Report::of(&mta, mta.port(), &["-t", "smtp", "-p", "-s", "-f", "-U"]);
        (report, other.join().expect("the other scan"), rsa.join().expect("the scan with RSA"))
    });
    let places = [(&by_starttls, "STARTTLS", &HOLES[..]), (&from_the_start, "implicit TLS", &HOLES[..])];
    for (report, place, holes) in places.into_iter().chain([(&rsa, "RSA", &RSA_HOLES[..])]) {
        report.is_clean();
        for hole in holes {
            let finding = report.finding(hole);
            assert!(["OK", "INFO"].contains(&finding.0), "{hole} with {place}: {finding:?}");
        }
    }
    for mta in [&mta, &with_rsa] {
        assert!(mta.processes().iter().all(|process| process.restarts == 0), "nothing has died");
    }
}
