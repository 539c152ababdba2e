//! What a captured resolver would try fails under its table.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use vsmtp_resolver::sandbox;
use vsmtp_stage::jail;

/// All that is left: questions to name servers. Threads are not among the acts, second processes are.
const POSSIBLE: [&str; 4] = ["tcp socket", "tcp6 socket", "udp socket", "connect"];

fn main() {
    match jail::word() {
        Some(_) => drop(jail::try_all(sandbox::profile())),
        None => assert_eq!(jail::possible(&jail::inside("all", &[])), POSSIBLE),
    }
}
