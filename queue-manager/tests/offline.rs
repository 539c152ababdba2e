//! `vsmtp-queue --spool DIR`, the built program, on spools that the library wrote.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::channel;

use serde_json::Value;
use vsmtp_mail::{
    Address, BodyType, Domain, Envelope, NextHop, Notify, QueueId, QueueIdMint, Recipient, RecipientClass,
    ReversePath,
};
use vsmtp_queue_manager::store::{
    Change, Chunk, Diagnostic, Disposition, Event, MessageState, NewBody, Options, Origin, RecipientState,
    Store, Transaction, Unrecovered, Urgency,
};

const MESSAGES: u8 = 8;

fn body(n: u8) -> Vec<u8> {
    format!("Subject: number {n}\r\n\r\n{}\r\n", String::from(char::from(b'a' + n)).repeat(3000)).into_bytes()
}

fn state(n: u8) -> MessageState {
    let domain = Domain::parse("dst.test").unwrap();
    let recipient = |name: &str| Recipient {
        chosen: false,
        address: Address::new(name, domain.clone()).unwrap(),
        original: None,
        notify: Notify::default(),
        class: RecipientClass::Other,
        next_hop: NextHop::mx(domain.clone()),
    };
    let envelope = Envelope {
        reverse_path: ReversePath::parse("a@src.test").unwrap(),
        body: BodyType::EightBitMime,
        smtputf8: false,
        ret: None,
        envid: None,
        demands: vsmtp_mail::Demands::default(),
        terms: vsmtp_mail::Terms::default(),
        recipients: ["b", "c"].map(recipient).to_vec(),
    };
    let mut state = MessageState::fresh(1_795_324_249_000, Origin::default(), envelope);
    if n == 1 {
        state.disposition = Disposition::Hold("by a rule".into());
    }
    if n == 2 {
        let status = vsmtp_mail::EnhancedCode(4, 3, 0);
        let last = Diagnostic { status, remote: None, text: "451 later".into() };
        let waiting = RecipientState::Waiting { attempts: 2, until: 1_795_324_999, last: Some(last) };
        state.progress = vec![RecipientState::Delivered(None), waiting];
    }
    state
}

fn fill(dir: &Path) -> Vec<QueueId> {
    let (wake, woken) = channel();
    let wake = Box::new(move || {
        let _ = wake.send(());
    });
    let options = Options { segment_bytes: 64 * 1024, low_water_bytes: 0, ..Options::default() };
    let (mut store, summaries, _): (Store, _, _) =
        Unrecovered::open(dir, options).unwrap().recover(wake).unwrap();
    drop(summaries);
    let mut mint = QueueIdMint::new(1, 1);
    let ids: Vec<QueueId> = (0..MESSAGES).map(|_| mint.next(1_795_324_249_000)).collect();
    for (n, id) in (0..MESSAGES).zip(&ids) {
        let body = NewBody::Inline(vec![Chunk::new(Arc::new(body(n)))]);
        let change = Change::Accept { id: *id, state: Arc::new(state(n)), body };
        store.submit(Transaction::one(change, Urgency::Durable)).unwrap();
    }
    let (mut done, mut events) = (0, Vec::new());
    while done < MESSAGES {
        woken.recv().unwrap();
        store.poll(&mut events);
        for event in events.drain(..) {
            let Event::Completed { result, .. } = event else { panic!("{event:?}") };
            result.unwrap();
            done += 1;
        }
    }
    store.close();
    ids
}

fn run(spool: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vsmtp-queue")).arg("--spool").arg(spool).args(words).output().unwrap()
}

fn good(spool: &Path, words: &[&str]) -> Vec<u8> {
    let output = run(spool, words);
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    output.stdout
}

fn objects(text: &[u8]) -> Vec<Value> {
    std::str::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every file below, with its octets.
fn tree(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(tree(&path))
        } else {
            found.push((path.clone(), std::fs::read(path).unwrap()))
        }
    }
    found.sort();
    found
}

#[test]
fn a_spool_is_listed_printed_exported_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("queue");
    std::fs::create_dir(&spool).unwrap();
    let ids = fill(&spool);
    let before = tree(&spool);

    let text = String::from_utf8(good(&spool, &["list"])).unwrap();
    assert_eq!(text.lines().count(), 1 + ids.len() + 1, "{text}");
    assert!(text.starts_with("ID ") && text.contains("<a@src.test> -> b@dst.test, c@dst.test"), "{text}");
    assert!(text.contains("2026-11-22T05:10:49Z") && text.contains("(451 later)"), "{text}");
    let listed = objects(&good(&spool, &["list", "--json"]));
    let listed_ids: Vec<_> = listed.iter().map(|one| one["queue_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed_ids, ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(
        (listed[1]["queue_name"].as_str(), listed[0]["message_size"].as_u64()),
        (Some("held"), Some(body(0).len() as u64))
    );
    let deferred = objects(&good(&spool, &["list", "--json", "--state", "deferred"]));
    assert_eq!((deferred.len(), deferred[0]["next_attempt"].as_u64()), (1, Some(1_795_324_999)));
    assert_eq!(deferred[0]["recipients"].as_array().unwrap().len(), 1, "{deferred:?}");
    assert_eq!(objects(&good(&spool, &["list", "--json", "--limit", "3"])).len(), 3);

    assert_eq!(good(&spool, &["cat", &ids[4].to_string()]), body(4));
    let unknown = run(&spool, &["cat", &"0".repeat(26)]);
    assert!(unknown.status.code() == Some(1) && unknown.stdout.is_empty(), "{unknown:?}");
    assert_eq!(run(&spool, &["cat"]).status.code(), Some(64));

    let to = dir.path().join("out/here");
    assert_eq!(good(&spool, &["export", to.to_str().unwrap()]), b"exported: 8 messages\n");
    for (n, id) in (0..MESSAGES).zip(&ids) {
        assert_eq!(std::fs::read(to.join(format!("{id}.eml"))).unwrap(), body(n));
        let envelope = objects(&std::fs::read(to.join(format!("{id}.json"))).unwrap()).remove(0);
        assert_eq!(
            (envelope["sender"].as_str(), envelope["recipients"][1]["address"].as_str()),
            (Some("a@src.test"), Some("c@dst.test"))
        );
    }
    let again = run(&spool, &["export", to.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "nothing is overwritten");

    let verified = objects(&good(&spool, &["verify", "--json"])).remove(0);
    assert_eq!((verified["good"].as_u64(), verified["bad"].as_u64()), (Some(8), Some(0)), "{verified}");
    assert!(tree(&spool) == before, "a look changes nothing");
}

#[test]
fn of_a_damaged_spool_the_rest_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let ids = fill(dir.path());
    // One octet within the text of message 5.
    let (path, mut octets) = tree(dir.path())
        .into_iter()
        .find(|(_, octets)| octets.windows(64).any(|window| window == [b'f'; 64]))
        .expect("it is in a segment");
    let at = octets.windows(64).position(|window| window == [b'f'; 64]).unwrap();
    octets[at + 100] ^= 1;
    std::fs::write(&path, &octets).unwrap();
    let before = tree(dir.path());

    let broken = ids[5].to_string();
    let output = run(dir.path(), &["verify"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && text.contains(&broken), "{output:?}");
    let listed = objects(&run(dir.path(), &["list", "--json"]).stdout);
    assert!(listed.len() >= 7, "{listed:?}");
    for (n, id) in (0..MESSAGES).zip(&ids).filter(|(n, _)| *n != 5) {
        assert_eq!(run(dir.path(), &["cat", &id.to_string()]).stdout, body(n));
    }
    let output = run(dir.path(), &["cat", &broken]);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");

    let to = tempfile::tempdir().unwrap();
    let exported = run(dir.path(), &["export", to.path().to_str().unwrap(), "--json"]);
    assert_eq!(objects(&exported.stdout)[0]["exported"], 7, "{exported:?}");
    assert_eq!(tree(to.path()).len(), 14, "no half message is left");
    assert!(tree(dir.path()) == before, "a look changes nothing");
}

#[test]
fn a_folder_that_is_not_there_is_said_so() {
    let output = run(Path::new("/nowhere/at/all"), &["list"]);
    assert!(
        output.status.code() == Some(1)
            && String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all")
    );
}
