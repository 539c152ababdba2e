//! What the limiter counts for `vsmtpctl status`. Plain numbers.

use vsmtp_daemon::Reactor;

use crate::greylist::Sizes;

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Questions of receivers.
    pub questions: u64,
    /// Wishes that were not granted in full.
    pub refused: u64,
    /// Replies that were delayed.
    pub delayed: u64,
    /// Clients that were tested before their greeting.
    pub screened: u64,
    /// Those that spoke before it.
    pub early: u64,
    /// Those that lists made unwanted.
    pub listed: u64,
    /// Those that were greeted under watch.
    pub watched: u64,
    /// Look-ups in lists.
    pub look_ups: u64,
    /// Those without an answer.
    pub look_ups_failed: u64,
    /// Questions of rules about rates.
    pub takings: u64,
    /// Those that were refused.
    pub takings_refused: u64,
    /// Triples that were told to wait.
    pub greylisted: u64,
}

/// Present values beside the counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Clients that are known.
    pub clients: u64,
    /// Clients that made room for others.
    pub pushed_out: u64,
    /// Sessions that are open.
    pub open: u64,
    /// Clients under test.
    pub testing: u64,
    /// Clients that passed.
    pub passed: u64,
    /// Lists that are left out.
    pub lists_left_out: u64,
    /// What greylisting knows.
    pub greylist: Sizes,
    /// Keys of rates of rules.
    pub rates: u64,
    /// Those that made room for others.
    pub rates_pushed_out: u64,
}

impl Figures {
    /// All of them by name.
    pub fn named(&self, gauges: Gauges) -> [(&'static str, u64); 23] {
        [
            ("questions", self.questions),
            ("refused", self.refused),
            ("delayed", self.delayed),
            ("clients", gauges.clients),
            ("clients_pushed_out", gauges.pushed_out),
            ("sessions_open", gauges.open),
            ("screened", self.screened),
            ("screening", gauges.testing),
            ("early_talkers", self.early),
            ("listed", self.listed),
            ("watched", self.watched),
            ("passed_remembered", gauges.passed),
            ("list_look_ups", self.look_ups),
            ("list_look_ups_failed", self.look_ups_failed),
            ("lists_left_out", gauges.lists_left_out),
            ("greylisted", self.greylisted),
            ("greylist_waiting", gauges.greylist.waiting as u64),
            ("greylist_welcome", gauges.greylist.welcome as u64),
            ("greylist_clients", gauges.greylist.known as u64),
            ("rule_rates", gauges.rates),
            ("rule_rates_pushed_out", gauges.rates_pushed_out),
            ("rule_takings", self.takings),
            ("rule_takings_refused", self.takings_refused),
        ]
    }

    /// Hands them to the loop.
    pub fn publish(&self, reactor: &mut Reactor, gauges: Gauges) {
        for (name, value) in self.named(gauges) {
            reactor.figure(name, value);
        }
    }
}
