//! Files that rules write: what is in them, who may read them, and what becomes of mail when they cannot be written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use vsmtp_tests::{Client, Mta, ReplyText, Sink, Tmpfs, needs_root, wait_until};

use crate::settings;

const RULES: &str = r#"
#{
    preq: [
        action "keep" || {
            if msg::get_header("Subject") != "kept" { return; }
            msg::set_header("X-Kept", "yes");
            fs::write("archive");
            fs::dump(ctx::mail_from().domain);
        },
        rule "strange name" || { if msg::get_header("Subject") == "strange" { write(ctx::mail_from().local_part); } next() },
    ],
    postq: [
        action "later" || {
            if msg::get_header("Subject") != "kept" { return; }
            write("queued"); dump("queued");
        },
    ],
}"#;

fn send(mta: &Mta, from: &str, subject: &str) -> ReplyText {
    let message = format!("Subject: {subject}\r\n\r\ntext\r\n..dots");
    Client::hello(mta.port()).mail(from, &["b@dst.test"], &message)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("look at a file").permissions().mode() & 0o7777
}

#[test]
fn rules_before_and_after_the_queue_write_messages_and_what_is_known_of_them() {
    let sink = Sink::start();
    let mta = Mta::start(&settings(RULES, &sink, ""));
    assert_eq!(send(&mta, "a@src.test", "kept").code(), 250, "{}", mta.log());
    assert_eq!(send(&mta, "a@src.test", "other").code(), 250, "{}", mta.log());
    wait_until("both arrive", || sink.count() == 2);
    let app = mta.root().join("var/spool/vsmtp/app");
    let [archive, source, queued] = ["archive", "src.test", "queued"].map(|name| files(&app.join(name)));
    assert_eq!((archive.len(), source.len(), queued.len()), (1, 1, 2), "{}", mta.log());
    let id = archive[0].file_stem().and_then(|name| name.to_str()).expect("an id").to_owned();
    wait_until("the log knows it by that name", || mta.log().contains(&format!("event=accepted id={id}")));
    let text = fs::read_to_string(&archive[0]).expect("read the message");
    assert!(text.contains("\r\nX-Kept: yes\r\n") && text.starts_with("Received: "), "{text}");
    assert!(text.ends_with("\r\n\r\ntext\r\n.dots\r\n"), "{text}");
    let delivered = sink.messages().into_iter().find(|message| message.data.contains("X-Kept"));
    assert_eq!(delivered.map(|message| message.data).as_deref(), Some(text.as_str()));
    assert_eq!(queued, [app.join(format!("queued/{id}.eml")), app.join(format!("queued/{id}.json"))]);
    assert_eq!(fs::read_to_string(&queued[0]).expect("read the message"), text);
    for (file, stage) in [(&source[0], "preq"), (&queued[1], "postq")] {
        let known: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(file).expect("read the context")).expect("JSON");
        assert_eq!(known["stage"], stage);
        assert_eq!(known["mail_from"], "a@src.test");
        assert_eq!(known["rcpt_list"][0], "b@dst.test");
        assert_eq!(known["message_id"], id.as_str());
        assert_eq!(known["client_ip"], "127.0.0.1");
    }
    for (path, expected) in [
        (app.clone(), 0o750),
        (app.join("archive"), 0o750),
        (archive[0].clone(), 0o640),
        (queued[1].clone(), 0o640),
    ] {
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
    // A sender cannot choose another place, and nobody else pays.
    assert_eq!(send(&mta, "a/b@src.test", "strange").code(), 451, "{}", mta.log());
    wait_until("the log says why", || mta.log().contains("cannot be a folder of files"));
    assert_eq!(files(&app).len(), 3);
    assert_eq!(send(&mta, "a@src.test", "other").code(), 250, "{}", mta.log());
}

#[test]
fn what_cannot_be_written_costs_its_own_message_a_delay_and_nothing_else() {
    let sink = Sink::start();
    let mut mta = Mta::prepare(&settings(RULES, &sink, "config.filter.on_error = \"deny\";"));
    let app = mta.root().join("var/spool/vsmtp/app");
    fs::create_dir_all(app.parent().expect("a parent")).expect("make the spool");
    fs::write(&app, "no folder").expect("stand in the way");
    mta.launch();
    let refused = |mta: &Mta| send(mta, "a@src.test", "kept");
    assert_eq!(refused(&mta).code(), 451, "{}", mta.log());
    wait_until("the log says why", || mta.log().contains("event=state-unavailable"));
    assert_eq!(send(&mta, "a@src.test", "other").code(), 250, "{}", mta.log());
    fs::remove_file(&app).expect("make way");
    assert!(mta.ctl(&["reload"]).status.success(), "{}", mta.log());
    // Sessions of before are served by the filter of before, new ones by the next.
    wait_until("the folder is there and written to", || refused(&mta).code() == 250);
    assert!(!files(&app.join("archive")).is_empty());
}

/// The disk has less free than is to be left.
#[test]
fn a_disk_that_runs_full_of_what_rules_write_is_left_to_others() {
    if !needs_root("a_disk_that_runs_full_of_what_rules_write_is_left_to_others") {
        return;
    }
    let sink = Sink::start();
    let mut mta = Mta::prepare(&settings(RULES, &sink, ""));
    let app = mta.root().join("var/spool/vsmtp/app");
    let _disk = Tmpfs::mount(&app, "size=8m");
    mta.launch();
    assert_eq!(send(&mta, "a@src.test", "kept").code(), 451, "{}", mta.log());
    wait_until("the log says why", || mta.log().contains("event=script-failed"));
    assert_eq!(send(&mta, "a@src.test", "other").code(), 250, "{}", mta.log());
    assert!(files(&app.join("archive")).is_empty(), "nothing is left behind");
}
