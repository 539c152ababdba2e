//! Files that rules write, as scripts of both dialects do.

use super::*;
use crate::deposit::Deposit;

/// The folder into which all tests write.
pub static DEPOSIT: LazyLock<(tempfile::TempDir, Arc<Deposit>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let deposit = Deposit::at(dir.path(), 0, 64);
    deposit.open();
    (dir, deposit)
});

fn written(file: &str) -> Vec<u8> {
    std::fs::read(DEPOSIT.0.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_message_is_written_as_it_is_now_byte_for_byte() {
    let id = at(Stage::Preq).id.unwrap();
    for (stage, script, folder) in [
        (Stage::Preq, "fs::write(\"plain\")", "plain"),
        (Stage::Postq, "write(\"global\")", "global"),
        (Stage::Delivery, "ctx().write(\"handle\")", "handle"),
        (Stage::Preq, "sys::write(ctx(), \"sys\")", "sys"),
        (Stage::Preq, "fs::write(fqdn(\"example.com\"))", "example.com"),
    ] {
        run_example(&engine(), at(stage), script).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert_eq!(written(&format!("{folder}/{id}.eml")), [HEADER, b"body\xff\r\n"].concat(), "{script}");
    }
    run_example(&engine(), at(Stage::Preq), "msg::set_header(\"Subject\", \"new\"); fs::write(\"changed\")")
        .unwrap();
    let changed = written(&format!("changed/{id}.eml"));
    assert!(
        changed.windows(14).any(|part| part == b"Subject: new\r\n") && changed.ends_with(b"body\xff\r\n")
    );
}

#[test]
fn what_is_known_is_written_as_json() {
    let id = at(Stage::Preq).id.unwrap();
    let mut transaction = at(Stage::Postq);
    transaction.helo = Some("evil\"\\\r\n\u{1}name".into());
    run_example(&engine(), transaction, "fs::dump(\"meta\"); dump(\"old\"); sys::dump(ctx(), \"sys\")")
        .unwrap();
    let text = String::from_utf8(written(&format!("meta/{id}.json"))).unwrap();
    for folder in ["old", "sys"] {
        assert_eq!(written(&format!("{folder}/{id}.json")), text.as_bytes());
    }
    for member in [
        "\"stage\": \"postq\"",
        "\"connection_timestamp\": \"2026-11-22T05:10:49Z\"",
        "\"service\": \"submission\"",
        "\"client_ip\": \"192.168.1.7\"",
        "\"client_port\": 4321",
        "\"client_name\": \"host.example.org\"",
        "\"server_ip\": \"192.0.2.1\"",
        "\"is_secured\": false",
        "\"is_authenticated\": false",
        "\"helo\": \"evil\\\"\\\\\\u000d\\u000a\\u0001name\"",
        "\"mail_from\": \"john@example.com\"",
        "\"rcpt_list\": [\"jane@example.org\", \"joe@example.net\"]",
        "\"authentication_results\": []",
    ] {
        assert!(text.contains(member), "{member} is not in {text}");
    }
    assert!(text.contains(&format!("\"message_id\": \"{id}\"")) && text.ends_with("}\n"));
}

#[test]
fn names_of_strangers_and_early_stages_are_refused() {
    for (stage, script, words) in [
        (Stage::Rcpt, "fs::write(\"x\")", "available from the stage 'preq' on"),
        (Stage::Connect, "fs::dump(\"x\")", "available from the stage 'preq' on"),
        (Stage::Preq, "fs::write(\"../x\")", "cannot be a folder"),
        (Stage::Preq, "fs::dump(\"/etc\")", "cannot be a folder"),
        (Stage::Preq, "fs::write(\"a/b\")", "cannot be a folder"),
        (Stage::Preq, "fs::write(\"\")", "cannot be a folder"),
    ] {
        let error = run_example(&engine(), at(stage), script).unwrap_err();
        assert!(error.contains(words), "{script}: {error}");
    }
}

#[test]
fn what_cannot_be_written_now_is_a_matter_for_later() {
    let dir = tempfile::tempdir().unwrap();
    let full = Deposit::at(dir.path(), u64::MAX, 4);
    full.open();
    let closed = Deposit::at(dir.path(), 0, 4);
    for (deposit, words) in [(full, "storage"), (closed, "was not there")] {
        let mut engine = engine::bare(&Root::none(), &Limits::default());
        install(&mut engine, &Surroundings { deposit, ..surroundings() });
        let (outcome, after) = run(&engine, at(Stage::Preq), "fs::write(\"x\"); state::next()");
        let error = outcome.unwrap_err();
        assert!(error.contains(words), "{error}");
        assert!(after.was_busy);
    }
    let (outcome, after) = run(&engine(), at(Stage::Preq), "fs::write(\"../x\"); state::next()");
    assert!(outcome.is_err() && !after.was_busy, "a mistake of the rule");
}
