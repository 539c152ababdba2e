//! The figures of this process: for the master's table and for `vsmtpctl queue stats`.

use vsmtp_daemon::Reactor;
use vsmtp_ipc::edge::master_child::Figure;

use crate::ledger::Ledger;

/// What the queue is made of now.
fn present(ledger: &Ledger) -> [(&'static str, u64); 14] {
    let totals = ledger.schedule.totals();
    let space = ledger.store.space();
    [
        ("messages", space.messages as u64),
        ("active", totals.active),
        ("judging", totals.judging),
        ("held", totals.held),
        ("quarantined", totals.quarantined),
        ("dead", totals.dead),
        ("delegated", totals.delegated),
        ("recipients", totals.recipients),
        ("leases", ledger.schedule.leases() as u64),
        ("destinations", ledger.schedule.destinations() as u64),
        ("store_live_octets", space.live_bytes),
        ("store_log_octets", space.log_bytes),
        ("store_free_segments", space.free_segments as u64),
        ("commits_open", ledger.open_commits() as u64),
    ]
}

/// For vsmtpctl.
pub fn figures(ledger: &Ledger) -> Vec<Figure> {
    present(ledger).iter().map(|(name, value)| Figure { name: (*name).to_owned(), value: *value }).collect()
}

/// For the master, every second.
pub fn report(ledger: &Ledger, reactor: &mut Reactor) {
    if !reactor.reports_now() {
        return;
    }
    for (name, value) in present(ledger) {
        reactor.figure(name, value);
    }
}
