//! One next hop: the leases that wait for it, its route while that is fresh, and how many connections work for it.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::lease::Lease;
use crate::smtp::resolution::{Resolution, Unroutable};
use crate::smtp::route::Route;

/// How long a route is used before the resolver, which knows the real lifetimes, is asked again.
const ROUTE_MS: u64 = 60_000;
/// After a further connection was refused while others work: how long no more is tried.
const REDIAL_PAUSE_MS: u64 = 10_000;
/// Most connections that work for one next hop at once. The queue-manager's own limit is usually lower.
const MAX_CONNECTIONS: usize = 64;

/// A lease that no connection has taken yet.
pub struct Waiting {
    /// The lease.
    pub lease: Box<Lease>,
    /// How often an old connection died under it before the server had said a word about it.
    pub retries: u8,
}

/// What is known of the route.
#[derive(Default)]
pub enum RouteState {
    /// Nothing.
    #[default]
    Unknown,
    /// The resolver is being asked.
    Asking(Resolution),
    /// Known.
    Known {
        /// The route.
        route: Rc<Route>,
        /// Until this monotonic time.
        until_ms: u64,
    },
}

/// A next hop with work or a fresh route.
#[derive(Default)]
pub struct Destination {
    /// First come, first served; bounded by the credits of the edge.
    pub waiting: VecDeque<Waiting>,
    /// Its route.
    pub route: RouteState,
    /// Connections being made for it.
    pub dialing: usize,
    /// Connections that carry a message of it.
    pub busy: usize,
    /// It is in the line of those that found no connection free.
    pub starved: bool,
    /// The last connection that was tried got a greeting.
    proven: bool,
    dial_again_ms: u64,
}

impl Destination {
    /// The route, while it is fresh.
    pub fn fresh_route(&self, now_ms: u64) -> Option<Rc<Route>> {
        match &self.route {
            RouteState::Known { route, until_ms } if now_ms < *until_ms => Some(Rc::clone(route)),
            _ => None,
        }
    }

    /// Notes the end of a resolution.
    pub fn resolved(&mut self, result: Result<Route, Unroutable>, now_ms: u64) -> Result<(), Unroutable> {
        self.route = RouteState::Unknown;
        let route = Rc::new(result?);
        self.route = RouteState::Known { route, until_ms: now_ms + ROUTE_MS };
        Ok(())
    }

    /// Whether one more connection is worth trying. A host that has not proved that it is alive gets one at a time.
    pub fn may_dial(&self, now_ms: u64) -> bool {
        let open = self.dialing + self.busy;
        let useful = self.dialing < self.waiting.len();
        useful && (open == 0 || (self.proven && now_ms >= self.dial_again_ms && open < MAX_CONNECTIONS))
    }

    /// True if connections work for it, or are being made.
    pub fn is_served(&self) -> bool {
        self.dialing + self.busy > 0
    }

    /// A connection was greeted.
    pub fn dialed(&mut self) {
        self.dialing = self.dialing.saturating_sub(1);
        self.proven = true;
    }

    /// No host let us in. True if nothing else is under way: then everything that waits has had its attempt.
    pub fn dial_failed(&mut self, now_ms: u64) -> bool {
        self.dialing = self.dialing.saturating_sub(1);
        self.dial_again_ms = now_ms + REDIAL_PAUSE_MS;
        if !self.is_served() {
            self.proven = false;
            // Perhaps the hosts have moved.
            self.route = RouteState::Unknown;
            return true;
        }
        false
    }

    /// True if it can be forgotten without loss of more than a route.
    pub fn is_unused(&self) -> bool {
        self.waiting.is_empty() && !self.is_served() && !matches!(self.route, RouteState::Asking(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::tests::attempt;

    fn destination(leases: usize) -> Destination {
        let mut destination = Destination::default();
        for _ in 0..leases {
            let lease = Lease::parse(attempt("smtp:dst.test", &["a@dst.test"], b""), None, 1, 0).unwrap();
            destination.waiting.push_back(Waiting { lease: Box::new(lease), retries: 0 });
        }
        destination
    }

    #[test]
    fn a_silent_host_gets_one_connection_and_a_good_one_as_many_as_wait() {
        let mut destination = destination(3);
        assert!(destination.may_dial(0));
        destination.dialing = 1;
        assert!(!destination.may_dial(0));
        destination.dialed();
        destination.busy = 1;
        assert!(destination.may_dial(0));
        destination.dialing = 3;
        assert!(!destination.may_dial(0));
    }

    #[test]
    fn a_refused_further_connection_is_not_tried_again_at_once() {
        let mut destination = destination(1);
        destination.dialed();
        (destination.busy, destination.dialing) = (1, 1);
        assert!(!destination.dial_failed(1000));
        assert!(!destination.may_dial(1001));
        assert!(destination.may_dial(1000 + REDIAL_PAUSE_MS));
        (destination.busy, destination.dialing) = (0, 1);
        assert!(destination.dial_failed(2000));
        assert!(destination.may_dial(2000));
    }
}
