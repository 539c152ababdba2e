//! What a captured receiver would try fails under its table, and ends it.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use vsmtp_receiver::sandbox;
use vsmtp_stage::jail;

fn main() {
    match jail::word().as_deref() {
        Some("all") => drop(jail::try_all(sandbox::profile(1000))),
        Some(act) => jail::try_one(act, &sandbox::profile(1000)),
        None => {
            only_clients_can_be_let_in();
            a_try_is_the_end();
        }
    }
}

fn only_clients_can_be_let_in() {
    assert_eq!(jail::possible(&jail::inside("all", &[])), ["accept"]);
}

fn a_try_is_the_end() {
    // A file that cannot be opened is something that the C library meets every day, so that alone does not kill.
    for act in ["rename file", "execute", "tcp socket", "connect", "bind"] {
        assert!(jail::was_killed(&jail::run(act, &[])), "{act}");
    }
}
