//! What a captured key holder would try fails under its table, and ends it.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use vsmtp_keys::sandbox;
use vsmtp_stage::jail;

fn main() {
    match jail::word().as_deref() {
        Some("all") => drop(jail::try_all(sandbox::profile())),
        Some(act) => jail::try_one(act, &sandbox::profile()),
        None => {
            it_can_do_nothing_but_answer();
            a_try_is_the_end();
        }
    }
}

fn it_can_do_nothing_but_answer() {
    assert_eq!(jail::possible(&jail::inside("all", &[])), [""; 0]);
}

fn a_try_is_the_end() {
    // A file that cannot be opened is something that the C library meets every day, so that alone does not kill.
    for act in ["rename file", "execute", "tcp socket", "connect", "bind", "accept"] {
        assert!(jail::was_killed(&jail::run(act, &[])), "{act}");
    }
}
