//! What a captured limiter would try fails under its table, and ends it.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use vsmtp_limits::sandbox;
use vsmtp_stage::jail;

fn main() {
    match jail::word().as_deref() {
        Some("all") => drop(jail::try_all(sandbox::profile())),
        Some(act) => jail::try_one(act, &sandbox::profile()),
        None => {
            nothing_is_left();
            a_try_is_the_end();
        }
    }
}

fn nothing_is_left() {
    assert_eq!(jail::possible(&jail::inside("all", &[])), [""; 0]);
}

fn a_try_is_the_end() {
    for act in ["rename file", "execute", "tcp socket", "connect", "bind"] {
        assert!(jail::was_killed(&jail::run(act, &[])), "{act}");
    }
}
