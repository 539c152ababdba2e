//! One next hop: the leases that wait for it, its route while that is fresh, and how many connections work for it.

use std::collections::VecDeque;
use std::rc::Rc;

use vsmtp_ipc::edge::queue_deliver::Advice;

use crate::lease::{Lease, Verdict};
use crate::smtp::resolution::{Resolution, Unroutable};
use crate::smtp::route::{Route, Site};

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
    /// What the last server lacked for it, and which one that was: if no other takes it, this is why.
    pub lack: Option<(String, Verdict)>,
}

/// What a free connection may carry.
pub enum Next {
    /// This.
    Lease(Waiting),
    /// Nothing waits.
    Nothing,
    /// What waits must go another way, or nobody knows now which way it must go.
    NotThere,
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
    /// What a host has asked for that let none of our connections in; the next outcome says it.
    pub advice: Advice,
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

    /// Takes out what arrived before that time. The line is not in the order of arrival: what one server lacked something for
    /// comes late to the others.
    pub fn take_arrived_before(&mut self, at_ms: u64) -> VecDeque<Waiting> {
        let (taken, left) =
            std::mem::take(&mut self.waiting).into_iter().partition(|w| w.lease.arrived_ms < at_ms);
        self.waiting = left;
        taken
    }

    /// The next lease for a connection that is free.
    pub fn next_for(&mut self, site: &Site, just_dialed: bool, now_ms: u64) -> Next {
        if self.waiting.is_empty() {
            return Next::Nothing;
        }
        if !self.allows(site, just_dialed, now_ms) {
            return Next::NotThere;
        }
        self.waiting.pop_front().map_or(Next::Nothing, Next::Lease)
    }

    /// True if the route that is known now leads there, under the needs for which the connection was made. Without a
    /// fresh route nobody knows, but one that was `just_dialed` gets its first message all the same, or a slow server
    /// would never get any.
    fn allows(&self, site: &Site, just_dialed: bool, now_ms: u64) -> bool {
        match &self.route {
            RouteState::Known { route, until_ms } if now_ms < *until_ms => route.allows(site),
            RouteState::Known { route, .. } => just_dialed && route.allows(site),
            RouteState::Unknown | RouteState::Asking(_) => just_dialed,
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
    use vsmtp_config::Family;
    use vsmtp_smtp::Protocol;

    use super::*;
    use crate::lease::tests::attempt;
    use crate::smtp::route::{MailHost, RouteTarget};
    use crate::smtp::security::Security;

    fn destination(leases: usize) -> Destination {
        let mut destination = Destination::default();
        for _ in 0..leases {
            let lease = Lease::parse(attempt("smtp:dst.test", &["a@dst.test"], b""), None, 1, 0).unwrap();
            destination.waiting.push_back(Waiting { lease: Box::new(lease), retries: 0, lack: None });
        }
        destination
    }

    fn route(security: Security) -> Route {
        let (addresses, security) = (vec!["192.0.2.1".parse().unwrap()], Rc::new(security));
        let host = MailHost { preference: 0, name: "mx.test".into(), addresses, security, counted: None };
        Route::new(Protocol::Smtp, RouteTarget::Hosts(vec![host], 25))
    }

    #[test]
    fn an_open_connection_gets_no_more_mail_when_its_next_hop_needs_more() {
        let may = || Security::IfOffered { name: "mx.test".into(), test: None };
        let proof = vsmtp_tls::client::Proof::Nothing;
        let always = Security::Always { name: "mx.test".into(), proof, wrapper: false, account: None };
        let made_for = |security: Security| route(security).sites(Family::Any, 0).remove(0);
        let mut destination = destination(9);
        let mut takes = |to: Option<Security>, site: &Site, just_dialed: bool, now_ms: u64| {
            if let Some(security) = to {
                destination.resolved(Ok(route(security)), now_ms).unwrap();
            }
            matches!(destination.next_for(site, just_dialed, now_ms), Next::Lease(_))
        };
        assert!(takes(Some(may()), &made_for(may()), false, 0));
        assert!(takes(None, &made_for(may()), false, ROUTE_MS - 1));
        assert!(!takes(None, &made_for(may()), false, ROUTE_MS), "nobody knows whether that is still right");
        assert!(takes(None, &made_for(may()), true, ROUTE_MS), "a slow server");
        assert!(!takes(Some(always.clone()), &made_for(may()), true, ROUTE_MS));
        assert!(!takes(Some(always), &made_for(may()), false, 0));
        // A clear connection after a failed handshake serves the policy that let it be made, and only that.
        let fallen = made_for(may()).in_clear().unwrap();
        assert!(takes(Some(may()), &fallen, false, 0) && !takes(None, &made_for(Security::Clear), false, 0));
        assert!(!takes(Some(Security::Clear), &fallen, false, 0));
    }

    #[test]
    fn an_old_lease_behind_younger_ones_is_found() {
        let mut destination = destination(3);
        for (waiting, arrived_ms) in destination.waiting.iter_mut().zip([2000, 1000, 3000]) {
            waiting.lease.arrived_ms = arrived_ms;
        }
        let taken = destination.take_arrived_before(2000);
        assert!(taken.iter().map(|waiting| waiting.lease.arrived_ms).eq([1000]));
        assert!(destination.waiting.iter().map(|waiting| waiting.lease.arrived_ms).eq([2000, 3000]));
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
