//! What a captured auth helper would try fails under its table, and ends it.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use vsmtp_auth::sandbox;
use vsmtp_stage::jail;

fn main() {
    match jail::word().as_deref() {
        Some("all") => drop(jail::try_all(sandbox::profile())),
        Some(act) => jail::try_one(act, &sandbox::profile()),
        None => {
            only_services_of_this_host_can_be_asked();
            a_try_is_the_end();
        }
    }
}

fn only_services_of_this_host_can_be_asked() {
    assert_eq!(jail::possible(&jail::inside("all", &[])), ["unix socket", "connect"]);
}

fn a_try_is_the_end() {
    // A file that cannot be opened is something that the C library meets every day, so that alone does not kill.
    for act in ["rename file", "execute", "tcp socket", "udp socket", "bind", "listen", "trace"] {
        assert!(jail::was_killed(&jail::run(act, &[])), "{act}");
    }
}
