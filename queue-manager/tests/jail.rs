//! What a captured queue-manager would try fails under its table, and ends it; the spool it can write.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use std::path::Path;

use vsmtp_queue_manager::sandbox;
use vsmtp_stage::jail;
use vsmtp_sys::sandbox::apply;

const SPOOL: &str = "VSMTP_TEST_SPOOL";
/// Calls of the table. The tries name nothing that exists; Landlock keeps the calls within the spool.
const POSSIBLE: [&str; 4] = ["open beneath", "remove file", "rename file", "accept"];

fn main() {
    let spool = std::env::var(SPOOL).unwrap_or_default();
    let spool = Path::new(&spool);
    match jail::word().as_deref() {
        Some("all") => drop(jail::try_all(sandbox::profile(spool))),
        Some("work") => work(spool),
        Some(act) => jail::try_one(act, &sandbox::profile(spool)),
        None => {
            let folder = tempfile::tempdir().unwrap();
            nothing_but_files_of_the_spool(folder.path());
            a_try_is_the_end(folder.path());
            the_spool_is_at_hand(folder.path());
        }
    }
}

/// All that the store does with a disk, inside.
fn work(spool: &Path) {
    use vsmtp_queue_manager::store::{Options, Unrecovered};
    let unrecovered =
        Unrecovered::open(spool, Options { segment_bytes: 1 << 20, ..Options::default() }).unwrap();
    apply(&sandbox::profile(spool)).unwrap();
    let (store, ..) = unrecovered.recover(Box::new(|| {})).unwrap();
    let mut staging = store.stage(vsmtp_mail::QueueId::from_bytes([1; 16])).unwrap();
    staging.append(b"octets").unwrap();
    assert!(staging.reader().unwrap().file().is_some());
    drop(staging);
    assert!(store.close().is_empty());
    assert!(std::fs::write("/tmp/vsmtp-not-in-the-spool", "x").is_err());
}

fn nothing_but_files_of_the_spool(spool: &Path) {
    assert_eq!(jail::possible(&jail::inside("all", &[(SPOOL, spool.as_os_str())])), POSSIBLE);
}

fn a_try_is_the_end(spool: &Path) {
    for act in ["execute", "tcp socket", "connect", "bind"] {
        assert!(jail::was_killed(&jail::run(act, &[(SPOOL, spool.as_os_str())])), "{act}");
    }
}

fn the_spool_is_at_hand(spool: &Path) {
    jail::inside("work", &[(SPOOL, spool.as_os_str())]);
}
