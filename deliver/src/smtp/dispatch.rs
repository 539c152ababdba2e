//! Which lease goes where: resolving next hops, taking free connections, making new ones. On failure the leases that
//! wait are deferred, or fail if every answer said "never".

use std::io;
use std::rc::Rc;
use std::time::Duration;

use vsmtp_config::{TlsLevel, TlsPolicy};
use vsmtp_daemon::{Reactor, Record};
use vsmtp_ipc::edge::client_resolver::{DnsError, Query, Records};
use vsmtp_ipc::edge::queue_deliver::{Reach, Result3};
use vsmtp_mail::{EnhancedCode, NextHop};
use vsmtp_smtp::{ClientSettings, Dialogue};

use crate::lease::{Ended, Lease, LeaseKey, Verdict};
use crate::smtp::accounts::Account;
use crate::smtp::breaker::{Line, is_of_host};
use crate::smtp::connection::Connection;
use crate::smtp::destination::RouteState;
use crate::smtp::dial::Dial;
use crate::smtp::lookup::Answered;
use crate::smtp::resolution::{BY_POLICY, Besides, Resolution, Step, Unroutable};
use crate::smtp::route::{Endpoint, Route, RouteTarget, Site, limit};
use crate::smtp::security::{for_account, lenient, with_account};
use crate::smtp::socket::Socket;
use crate::smtp::way::Way;
use crate::smtp::{Asker, Heard, MAX_REMEMBERED, Smtp};

impl Smtp {
    /// Gives work to connections, as far as there is both.
    pub(super) fn pump(&mut self, reactor: &mut Reactor, way: &Rc<Way>) {
        loop {
            let Some(destination) = self.destinations.get_mut(way) else { return };
            if destination.waiting.is_empty() {
                return self.forget(way);
            }
            let Some(route) = destination.fresh_route(reactor.now_ms()) else {
                if matches!(destination.route, RouteState::Asking(_)) {
                    return;
                }
                self.resolve(reactor, way);
                continue;
            };
            if let Some(token) = self.idle.take(&route.places()) {
                self.use_again(reactor, token, way);
            } else if !destination.may_dial(reactor.now_ms())
                || (destination.is_served() && !self.starved.is_empty())
            {
                return;
            } else if self.connections.len() >= self.slice.connections as usize && !self.make_room(reactor) {
                return self.starve(way);
            } else {
                self.dial(reactor, way, &route);
            }
        }
    }

    /// Puts a next hop in line for the next connection that ends or becomes free, unless it has some of its own.
    fn starve(&mut self, way: &Rc<Way>) {
        if let Some(destination) = self.destinations.get_mut(way)
            && !destination.is_served()
            && !std::mem::replace(&mut destination.starved, true)
        {
            self.starved.push_back(Rc::clone(way));
        }
    }

    /// A connection ended or became free: the first in line that still needs one gets its chance. What waited for the others
    /// was sent over another connection, was given back, or has waited too long.
    pub(super) fn feed_starved(&mut self) {
        while let Some(way) = self.starved.pop_front() {
            let destination = self.destinations.get_mut(&way);
            let needs_one = destination.is_some_and(|destination| {
                destination.starved = false;
                !destination.waiting.is_empty()
            });
            self.mark(way);
            if needs_one {
                return;
            }
        }
    }

    fn forget(&mut self, way: &Rc<Way>) {
        if self.destinations.len() > MAX_REMEMBERED
            && self.destinations.get(way).is_some_and(|destination| destination.is_unused())
        {
            self.destinations.remove(way);
        }
    }

    fn make_room(&mut self, reactor: &mut Reactor) -> bool {
        let idle = self.idle.take_any();
        if let Some(token) = idle {
            self.say_goodbye(reactor, token);
        }
        idle.is_some()
    }

    fn resolve(&mut self, reactor: &mut Reactor, way: &Rc<Way>) {
        let mut policy = match way.service {
            Some(_) => TlsPolicy { level: TlsLevel::None, wrapper: false, no_sts: false },
            None => self.policies.of(&way.next_hop),
        };
        if way.lenient {
            policy = lenient(policy);
        }
        if let Some(account) = self.account(way) {
            policy = for_account(policy, account.unverified);
        }
        let record = self.tally.question(way);
        let besides = Besides { mta_sts: self.slice.tls.mta_sts && !way.lenient, counted: record.is_some() };
        let (resolution, step) = Resolution::begin(&way.next_hop, policy, besides, chance());
        if let Some(destination) = self.destinations.get_mut(way) {
            destination.route = RouteState::Asking(resolution);
        }
        // Mail does not wait for the answer.
        let known =
            record.and_then(|name| self.lookup.ask(reactor, Asker::Mail(Rc::clone(way)), Query::Text(name)));
        self.on_answers(reactor, known.into_iter().collect());
        self.on_step(reactor, way, step);
    }

    /// As whom we are known there; a service knows nobody.
    fn account(&self, way: &Way) -> Option<&Rc<Account>> {
        self.accounts.of(&way.next_hop).filter(|_| way.service.is_none())
    }

    fn on_step(&mut self, reactor: &mut Reactor, way: &Rc<Way>, step: Step) {
        match step {
            Step::Wait => {}
            Step::Ask(queries) => {
                let asked = queries.into_iter();
                let known = asked
                    .filter_map(|query| self.lookup.ask(reactor, Asker::Mail(Rc::clone(way)), query))
                    .collect();
                self.on_answers(reactor, known);
            }
            Step::Done(result) => self.on_route(reactor, way, result),
        }
    }

    pub(super) fn on_answers(&mut self, reactor: &mut Reactor, mut answers: Vec<Answered<Asker>>) {
        while let Some(Answered { asker, query, heard }) = answers.pop() {
            let asker = match asker {
                Asker::Post(key) => {
                    answers.extend(self.posted(reactor, key, &heard.result));
                    continue;
                }
                Asker::Mail(way) => way,
            };
            if let Query::Text(name) = &query {
                self.tally.on_record(name, &heard.result);
                continue;
            }
            let Some(destination) = self.destinations.get_mut(&asker) else { continue };
            let RouteState::Asking(resolution) = &mut destination.route else { continue };
            match resolution.on_answer(&query, heard, &self.us) {
                Ok(step) => {
                    if matches!(step, Step::Done(_)) {
                        for (policy, failure) in resolution.take_faults() {
                            self.tally.note(&asker, &policy, Some(failure));
                        }
                    }
                    self.on_step(reactor, &asker, step);
                }
                Err(what) => {
                    destination.route = RouteState::Unknown;
                    self.mark(asker);
                    answers.extend(self.lookup.misbehaved(reactor, what));
                }
            }
        }
    }

    /// The resolver has posted a report, or has not. Answers what is left open if it said what is no answer.
    fn posted(
        &mut self,
        reactor: &mut Reactor,
        key: LeaseKey,
        result: &Result<Records, DnsError>,
    ) -> Vec<Answered<Asker>> {
        let (verdict, left) = match result {
            Ok(Records::Posted) => (Verdict::delivered(EnhancedCode(2, 0, 0), "posted"), Vec::new()),
            Err(DnsError::BadName) => {
                (Verdict::failed(EnhancedCode(5, 7, 1), "not wanted there"), Vec::new())
            }
            Err(_) => (Verdict::deferred(EnhancedCode(4, 4, 1), "cannot be posted now"), Vec::new()),
            Ok(_) => {
                let left = self.lookup.misbehaved(reactor, "answer does not fit its question");
                (Verdict::deferred(EnhancedCode(4, 4, 1), "cannot be posted now"), left)
            }
        };
        self.queue.settle(reactor, Ended::of_post(key, &verdict));
        left
    }

    fn on_route(&mut self, reactor: &mut Reactor, way: &Rc<Way>, result: Result<Route, Unroutable>) {
        let has_account = self.account(way).is_some();
        let Some(destination) = self.destinations.get_mut(way) else { return };
        let mut result = result;
        if has_account && let Ok(Route { target: RouteTarget::Hosts(hosts, _), .. }) = &mut result {
            for host in hosts {
                host.security = with_account(&host.security, &way.next_hop);
            }
        }
        if let Ok(route) = &mut result {
            route.source = self.sources.of(&way.next_hop);
            route.incomplete |= !route.is_whole(self.slice.family);
        }
        if !way.left_out.is_empty() {
            result = result.and_then(|route| {
                let nobody = "the mail servers that are known now lack what the message needs";
                let nobody = Unroutable(Verdict::deferred(EnhancedCode(4, 3, 3), nobody));
                route.without(&way.left_out, self.slice.family).ok_or(nobody)
            });
        }
        match destination.resolved(result, reactor.now_ms()) {
            Ok(()) => self.mark(Rc::clone(way)),
            Err(Unroutable(verdict)) => {
                // A policy that stops this mail says nothing of what is held to less; and whom it left out has answered.
                let by_policy = verdict.enhanced == BY_POLICY;
                let answered = by_policy || !way.left_out.is_empty();
                let reach = if answered { Reach::Reached } else { Reach::Unreachable };
                for waiting in std::mem::take(&mut destination.waiting) {
                    let verdict = for_lease(&verdict, &waiting.lease);
                    self.refuse(reactor, &waiting.lease, &verdict, reach, String::new());
                }
                self.mark(Rc::clone(way));
            }
        }
    }

    fn dial(&mut self, reactor: &mut Reactor, way: &Rc<Way>, route: &Route) {
        if let Some(destination) = self.destinations.get_mut(way) {
            destination.dialing += 1;
        }
        let now_ms = reactor.now_ms();
        let (mut usable, mut alone) = (Vec::new(), Vec::new());
        for site in route.sites(self.slice.family, chance()) {
            match self.breakers.left_alone(&Line::of(&site), now_ms) {
                None => usable.push(site),
                Some(open) => alone.push((site, open)),
            }
        }
        let (places, more) = limit(usable);
        let mut dial = Dial::new(places, more || route.incomplete, now_ms);
        for (site, open) in alone {
            dial.leave_alone(site, &open);
        }
        self.dial_next(reactor, way, dial);
    }

    /// Tries the next place, or gives up.
    pub(super) fn dial_next(&mut self, reactor: &mut Reactor, way: &Rc<Way>, mut dial: Dial) {
        while let Some(site) = dial.next(reactor.now_ms()) {
            if let Err(open) = self.breakers.ask(&Line::of(&site), reactor.now_ms()) {
                dial.leave_alone(site, &open);
                continue;
            }
            match Socket::connect(&site.endpoint, site.source) {
                Ok(socket) => return self.open(reactor, way, site, socket, dial),
                Err(error) => {
                    let why = format!("connect: {error}");
                    self.not_reached(&site, &io::Error::new(error.kind(), why.as_str()), reactor.now_ms());
                    dial.note(site, Verdict::deferred(EnhancedCode(4, 4, 1), why));
                }
            }
        }
        self.give_up(reactor, way, dial);
    }

    fn open(&mut self, reactor: &mut Reactor, way: &Rc<Way>, site: Site, socket: Socket, dial: Dial) {
        let settings = ClientSettings {
            not_ourselves: self.may_be_us(way, &site.endpoint),
            protocol: site.protocol,
            helo: self.slice.server_name.as_str().into(),
            pipelining: true,
            tls: site.security.use_tls(),
            authenticate: site.security.account().is_some(),
        };
        let account = site.security.account().and_then(|next_hop| self.accounts.of(next_hop)).map(Rc::clone);
        let token = self.next_token;
        self.next_token += 1;
        let (tls, dialogue) = (Rc::clone(&self.tls), Dialogue::new(settings));
        let connection = Connection::new(socket, (tls, account), site, dialogue, Rc::clone(way), dial);
        if let Err(error) = connection.register(reactor, token) {
            return self.not_connected(reactor, connection, &error);
        }
        self.connections.insert(token, connection);
        self.watch(reactor, token);
    }

    /// True if a server there that has our name must be us. A host that an operator named may well be, on purpose.
    fn may_be_us(&self, way: &Way, endpoint: &Endpoint) -> bool {
        let by_mx = way.service.is_none() && matches!(way.next_hop, NextHop::Smtp { mx: true, .. });
        by_mx && matches!(endpoint, Endpoint::Tcp(address) if self.us.may_answer_at(address.port()))
    }

    /// No place of the next hop let us in.
    fn give_up(&mut self, reactor: &mut Reactor, way: &Rc<Way>, dial: Dial) {
        let Some(destination) = self.destinations.get_mut(way) else { return };
        let advice = dial.advice;
        if !destination.dial_failed(reactor.now_ms()) {
            // Others are at work there, and will be heard.
            destination.advice = destination.advice.and(advice);
            return;
        }
        let waiting = std::mem::take(&mut destination.waiting);
        // Whom the mail left out has just answered.
        let answered = dial.insecure || !way.left_out.is_empty();
        let reach = if answered { Reach::Reached } else { Reach::Unreachable };
        let (remote, verdict) = dial.verdict();
        for waiting in waiting {
            let verdict = for_lease(&verdict, &waiting.lease);
            let (remote, verdict) = match waiting.lack {
                Some(lack) if verdict.result == Result3::Failed => lack,
                _ => (remote.clone(), verdict),
            };
            let tls = String::new();
            let heard = Heard { reach, advice, remote, tls, reports: false, relayed: false };
            self.refuse_as(reactor, &waiting.lease, &verdict, heard);
        }
    }

    /// A connection there never stood. What is our own doing is not held against the host.
    pub(super) fn not_reached(&mut self, site: &Site, error: &io::Error, now_ms: u64) {
        if is_of_host(error) {
            self.host_failed(site, &error.to_string(), now_ms);
        } else {
            self.breakers.let_go(&Line::of(site));
        }
    }

    /// Nobody could be reached there.
    pub(super) fn host_failed(&mut self, site: &Site, why: &str, now_ms: u64) {
        if let Some(wait_ms) = self.breakers.failed(&Line::of(site), why, now_ms) {
            Record::at(log::Level::Warn, "host-left-alone")
                .field("remote", site)
                .field("seconds", wait_ms / 1000)
                .field("reason", why)
                .emit();
        }
    }

    /// Somebody answered there, whatever was said.
    pub(super) fn host_answered(&mut self, site: &Site) {
        if self.breakers.reached(&Line::of(site)) {
            Record::new("host-back").field("remote", site).emit();
        }
    }

    /// How long an idle connection is kept.
    pub(super) fn idle_time(&self) -> Duration {
        self.slice.reuse_idle.unwrap_or_default()
    }
}

/// Without it the order is the same every time, which is unfair and not wrong.
fn chance() -> u64 {
    vsmtp_sys::random::random_u64().unwrap_or(0)
}

/// A domain that does not exist or wants no mail is the sender's mistake, unless it is an operator who sends the mail there.
fn for_lease(verdict: &Verdict, lease: &Lease) -> Verdict {
    let chosen = match &lease.next_hop {
        NextHop::Smtp { host, mx, .. } if *mx || host.as_literal().is_some() => {
            lease.recipients.iter().any(|recipient| recipient.address.domain() != host)
        }
        _ => true,
    };
    let verdict = verdict.clone();
    if chosen { verdict.softened() } else { verdict }
}
