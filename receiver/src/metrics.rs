//! What this process counts for `vsmtpctl`. Plain numbers on the way; handed to the skeleton twice a second at most.

use vsmtp_daemon::Reactor;

/// The figures of one receiver.
#[derive(Debug, Default)]
pub struct Figures {
    /// Sessions begun.
    pub sessions: u64,
    /// Clients turned away because there were too many.
    pub turned_away: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Octets of accepted messages.
    pub octets: u64,
    /// Commands and messages that policy refused.
    pub refused: u64,
    /// Commands that limits refused, in whole or in part.
    pub limited: u64,
    /// Questions answered with "not now" because filter, queue or memory were not available.
    pub unavailable: u64,
    /// Clients that have said who they are.
    pub authenticated: u64,
    /// Attempts to do so that failed.
    pub auth_failed: u64,
    /// Watched clients that broke the protocol.
    pub protocol_faults: u64,
    /// Replies that were held back from clients with many errors.
    pub error_delays: u64,
    /// Sessions that ended because of too many.
    pub error_ends: u64,
    /// Sessions cut off for silence, or for not reading.
    pub timed_out: u64,
    /// Handshakes that were done.
    pub handshakes: u64,
    /// Of these, with a ticket of an earlier session.
    pub handshakes_resumed: u64,
    /// Handshakes that failed, or took too long.
    pub handshakes_failed: u64,
    /// Handshakes for whose signature there was no room.
    pub handshakes_refused: u64,
    /// Times that one waited for the next turn of the loop.
    pub handshakes_waited: u64,
}

/// Present values beside the counters.
#[derive(Debug, Clone, Copy)]
pub struct Gauges {
    /// Sessions open now.
    pub open: u64,
    /// Questions without an answer.
    pub in_flight: u64,
    /// Sessions that wait for a credit or for a filter.
    pub waiting: u64,
    /// Octets of messages in memory.
    pub held: u64,
    /// Questions that the limiter did not answer in time.
    pub limits_missed: u64,
}

impl Figures {
    /// Hands the numbers to the loop if it is time.
    pub fn publish(&mut self, reactor: &mut Reactor, gauges: Gauges) {
        if !reactor.reports_now() {
            return;
        }
        for (name, value) in [
            ("sessions", self.sessions),
            ("sessions_open", gauges.open),
            ("turned_away", self.turned_away),
            ("accepted", self.accepted),
            ("accepted_octets", self.octets),
            ("refused", self.refused),
            ("limited", self.limited),
            ("limits_missed", gauges.limits_missed),
            ("unavailable", self.unavailable),
            ("timed_out", self.timed_out),
            ("protocol_faults", self.protocol_faults),
            ("error_delays", self.error_delays),
            ("error_ends", self.error_ends),
            ("authenticated", self.authenticated),
            ("auth_failed", self.auth_failed),
            ("handshakes", self.handshakes),
            ("handshakes_resumed", self.handshakes_resumed),
            ("handshakes_failed", self.handshakes_failed),
            ("handshakes_refused", self.handshakes_refused),
            ("handshakes_waited", self.handshakes_waited),
            ("asks_in_flight", gauges.in_flight),
            ("asks_waiting", gauges.waiting),
            ("body_octets_held", gauges.held),
        ] {
            reactor.figure(name, value);
        }
    }
}
