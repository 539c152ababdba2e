//! Under the tables, what a captured process would try fails, and what a daemon needs works.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use vsmtp_sys::sandbox::probe;

use crate::support::{Launch, Said, root, skipped};

const ALLOWED: &str = "0";

fn errno(value: i32) -> String {
    value.to_string()
}

/// Every act's answer, checked: EPERM, or ENOSYS for what no table can name.
fn assert_all_denied(said: &Said) {
    assert!(said.exit.success(), "{said:?}");
    for act in probe::acts() {
        let unknown = probe::UNKNOWN.contains(&act.name());
        let expected = if unknown { libc::ENOSYS } else { libc::EPERM };
        assert_eq!(said.get(act.name()), errno(expected), "{}", act.name());
    }
}

#[test]
fn every_act_fails_under_the_table_and_most_succeed_without() {
    let free = Launch::new(&["acts"]).run();
    assert!(free.exit.success());
    // Acts that need no privilege: here nothing but the table can be what denies them.
    let possible = [
        "open file",
        "open directory",
        "create file",
        "create directory",
        "remove file",
        "rename file",
        "link file",
        "symlink",
        "execute",
        "execute descriptor",
        "executable mapping",
        "make memory executable",
        "trace",
        "read other memory",
        "namespaces",
        "change user",
        "raise limit",
        "become dumpable",
        "unix socket",
        "tcp socket",
        "tcp6 socket",
        "udp socket",
        "netlink socket",
        "socket pair",
        "connect",
        "bind",
        "listen",
        "accept",
        "io_uring",
        "io_uring enter",
        "fork",
    ];
    let denials = [errno(libc::EPERM), errno(libc::EACCES), errno(libc::ENOSYS)];
    for act in possible {
        assert!(!denials.iter().any(|denial| denial == free.get(act)), "{act}: {}", free.get(act));
    }
    // Another run of this test may be faster.
    let _ = fs::remove_file(probe::CREATED_FILE);
    let _ = fs::remove_dir(probe::CREATED_DIRECTORY);

    assert_all_denied(&Launch::new(&["acts", "base"]).run());
    if root() {
        let launch = Launch { uid_gid: Some((64_001, 64_001)), ..Launch::new(&["acts", "base"]) };
        assert_all_denied(&launch.run());
    }
    // A thread that was there before the table is bound by it as well.
    let said = Launch::new(&["early-thread"]).run();
    assert_eq!(said.get("threads"), "2");
    assert_all_denied(&said);
}

#[test]
fn what_daemons_need_works_under_the_table() {
    let (one, other) = vsmtp_sys::seqpacket::pair().unwrap();
    let said = Launch { fds: vec![one, other], ..Launch::new(&["work"]) }.run();
    assert!(said.exit.success(), "{said:?}");
    assert_eq!((said.get("map"), said.get("read")), ("100000", "100000"));
    assert_eq!(said.get("sum"), (8 * 1000 * (199 * 200 / 2)).to_string());
    assert_eq!((said.get("clock"), said.get("unwinding")), ("true", "true"));
}

#[test]
fn a_panic_prints_and_unwinds_and_an_abort_aborts() {
    let said = Launch { env: "RUST_BACKTRACE=1", ..Launch::new(&["panic"]) }.run();
    assert_eq!(said.get("panicked"), "true");
    assert!(said.exit.success());
    let said = Launch::new(&["abort"]).run();
    assert_eq!(said.exit.signal(), Some(libc::SIGABRT), "{said:?}");
    assert!(!said.exit.core_dumped());
}

#[test]
fn a_killing_table_kills_but_for_what_libraries_try() {
    for act in ["tcp socket", "execute", "fork", "signal process", "executable mapping"] {
        let said = Launch::new(&["kill", act]).run();
        assert_eq!(said.exit.signal(), Some(libc::SIGSYS), "{act}");
    }
    let said = Launch::new(&["kill", "open file"]).run();
    assert_eq!(said.get("open file"), errno(libc::EPERM));
    for act in probe::UNKNOWN {
        assert_eq!(Launch::new(&["kill", act]).run().get(act), errno(libc::ENOSYS));
    }
}

#[test]
fn limits_hold() {
    let said = Launch::new(&["limits"]).run();
    assert!(said.exit.success(), "{said:?}");
    assert_eq!(said.get("nofile"), errno(libc::EMFILE));
    assert_eq!(said.get("fsize"), errno(libc::EFBIG));
    assert_eq!(said.get("as"), "refused");
}

#[test]
fn landlock_grants_what_was_granted_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    for place in ["managed", "deposited", "readable", "writable", "other"] {
        fs::create_dir(directory.path().join(place)).unwrap();
        fs::write(directory.path().join(place).join("present"), "x").unwrap();
    }
    fs::write(directory.path().join("file"), "x").unwrap();
    let said = Launch::new(&["landlock", directory.path().to_str().unwrap()]).run();
    if said.get("landlock") == "None" {
        std::io::Write::write_all(&mut std::io::stderr(), b"skipped without Landlock in the kernel\n")
            .unwrap();
        return;
    }
    let rights = [
        ("managed", "read list write create mkdir remove"),
        ("deposited", "list write create mkdir remove"),
        ("readable", "read list"),
        ("writable", "read list write"),
        ("other", ""),
    ];
    let denied = errno(libc::EACCES);
    for (place, allowed) in rights {
        for act in ["read", "list", "write", "create", "mkdir", "remove"] {
            let answer = said.get(&format!("{place} {act}"));
            if allowed.split(' ').any(|known| known == act) {
                assert_eq!(answer, ALLOWED, "{place} {act}");
            } else if act != "remove" {
                assert_eq!(answer, denied, "{place} {act}");
            } else {
                assert_ne!(answer, ALLOWED, "{place} {act}");
            }
        }
    }
    assert_eq!(said.get("file read"), ALLOWED);
    if said.get("landlock") == "Full" {
        assert_eq!(said.get("tcp bind"), denied);
        assert_eq!(said.get("signal process"), errno(libc::EPERM));
    }
}

#[test]
fn the_32_bit_way_in_is_shut() {
    let said = Launch::new(&["old-calls"]).run();
    assert!(said.exit.signal().is_some(), "{said:?}");
    assert!(said.keys("int").is_empty());
}

#[test]
fn a_thread_that_holds_capabilities_stops_the_process() {
    if !root() {
        return skipped("a_thread_that_holds_capabilities_stops_the_process");
    }
    // Not through our launcher, which leaves no capability to hold.
    let output = Command::new(env!("CARGO_BIN_EXE_vsmtp-sys-probe")).arg("early-thread").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("another thread holds capabilities"), "{said}");
}
