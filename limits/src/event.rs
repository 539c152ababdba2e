//! The daemon: what receivers, the resolver and operators say, and what is answered. Decides nothing by itself.

mod asked;
mod kept;

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use vsmtp_config::LimitsSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Edges, Event, Flow, Reactor, Record};
use vsmtp_ipc::edge::filter_limits;
use vsmtp_ipc::edge::master_child::{LimitsAnswer, LimitsRequest, ToMaster};
use vsmtp_ipc::edge::receiver_limits::{Answer, Ask, Entry, Spent, Wanted};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_keeper::{FILES, Files, Keeper};
use vsmtp_sys::sandbox::Profile;

use crate::counters::{Counters, Excess, Grant};
use crate::greylist::Greylist;
use crate::lists::Tested;
use crate::lookups::{LookUps, RESOLVER_TOKEN};
use crate::metrics::{Figures, Gauges};
use crate::rates::Rates;
use crate::receivers::{EdgeKey, Receivers};
use crate::screen::{Act, Door, Fate, Finding, Screen};
use crate::{operator, replies, sandbox, settings, snapshot};

use kept::KEEP_TIMER;

/// Most edges to filters at once; more are refused.
const MAX_FILTERS: usize = 256;
/// Tokens from here on are those of filters.
const FIRST_FILTER: EdgeKey = usize::MAX / 2;
/// The loop's timer for what has become old.
const SWEEP_TIMER: u64 = 1;
/// How often that is looked for, in milliseconds.
const SWEEP_MS: u64 = 5_000;

/// The daemon.
pub struct Limiter {
    counters: Counters,
    screen: Screen,
    receivers: Receivers,
    filters: Edges<filter_limits::Answer, filter_limits::Ask>,
    /// Filters that there were: their tokens are never used twice.
    filters_met: usize,
    rates: Rates,
    greylist: Greylist,
    /// Until the jail is entered.
    files: Option<Files>,
    /// From the jail on.
    keeper: Option<Keeper<Vec<u8>>>,
    look_ups: LookUps,
    wanted: Wanted,
    figures: Figures,
    draining: bool,
}

impl Daemon for Limiter {
    const NAME: &'static str = "vsmtp-limits";
    type Slice = LimitsSlice;

    fn before_jail(boot: Boot<LimitsSlice>) -> Result<Self, BootError> {
        let (rules, policy) = (settings::rules(&boot.slice), settings::policy(&boot.slice));
        Ok(Limiter {
            wanted: settings::wanted(&rules, &policy),
            counters: Counters::new(rules),
            screen: Screen::new(policy),
            receivers: Receivers::default(),
            filters: Edges::new(EdgeId::FilterLimits, MAX_FILTERS),
            filters_met: 0,
            rates: Rates::default(),
            greylist: Greylist::default(),
            files: Some(Files::new(snapshot::FORMAT)),
            keeper: None,
            look_ups: LookUps::default(),
            figures: Figures::default(),
            draining: false,
        })
    }

    fn profile(&self) -> Profile {
        sandbox::profile()
    }

    fn files(&self) -> usize {
        FILES
    }

    fn take_file(&mut self, file: OwnedFd) {
        if let Some(files) = &mut self.files {
            files.take(file);
        }
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        self.begin_to_keep(reactor)?;
        reactor.set_timer(reactor.now_ms() + SWEEP_MS, SWEEP_TIMER);
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) => self.meet(reactor, name, socket),
            Event::Ready { token: RESOLVER_TOKEN, readable: true, .. } => self.hear_resolver(reactor),
            Event::Ready { token, readable: true, .. } if token >= FIRST_FILTER => {
                self.hear_filter(reactor, token);
            }
            Event::Ready { token, readable: true, .. } => self.hear(reactor, token),
            Event::Timer(SWEEP_TIMER) => self.sweep(reactor),
            Event::Timer(KEEP_TIMER) => self.keep(reactor),
            Event::Reconfigure(slice) => self.reconfigure(reactor, &slice),
            Event::Limits { ticket, request } => self.answer_operator(reactor, ticket, request),
            Event::Drain { .. } => self.draining = true,
            Event::TurnEnd => return self.end_turn(reactor),
            _ => {}
        }
        Flow::Continue
    }
}

impl Limiter {
    fn meet(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        let met = match name.role {
            Role::FilterSession | Role::FilterPost => return self.meet_filter(reactor, name, socket),
            Role::Receiver => self.receivers.introduce(reactor, name, socket, self.wanted).map(|replaced| {
                // Whether or not anybody is limited: it is at work, so that it comes back at once if it dies.
                reactor.served();
                if let Some(key) = replaced {
                    self.close(reactor, key, &ChannelError::Closed);
                }
            }),
            Role::Resolver => {
                self.look_ups.introduce(reactor, name, socket).map_err(ChannelError::Io).map(|lost| {
                    for (purpose, answer) in lost {
                        self.found(reactor, purpose, answer);
                    }
                    let acts = self.screen.tests_due(reactor.now_ms());
                    self.perform(reactor, acts);
                })
            }
            _ => return,
        };
        if let Err(error) = met {
            Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit();
        }
    }

    fn hear(&mut self, reactor: &mut Reactor, key: EdgeKey) {
        loop {
            let heard = match self.receivers.hear(key) {
                Ok(Some(ask)) => self.take(reactor, key, ask),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return self.close(reactor, key, &error);
            }
        }
    }

    fn take(&mut self, reactor: &mut Reactor, key: EdgeKey, ask: Ask) -> Result<(), ChannelError> {
        let now_ms = reactor.now_ms();
        match ask {
            Ask::Connect { ticket, client, screen } => self.connect(reactor, (key, ticket), client, screen),
            // Tested by a limiter that is gone: each question has its answer, or the edge runs out of credits.
            Ask::Waited { ticket, .. } if !self.screen.knows((key, ticket)) => {
                self.receivers.answer(key, &Answer::Entered { ticket, entry: Entry::Go { delay_ms: 0 } })
            }
            Ask::Waited { ticket, early } => {
                let acts = self.screen.waited(now_ms, (key, ticket), early);
                self.perform(reactor, acts);
                Ok(())
            }
            Ask::Spend { ticket, client, kind, count } => {
                self.figures.questions += 1;
                let grant = self.counters.spend(now_ms, client, kind, count);
                self.report(client, &grant);
                let refusal = grant.excess.map(|excess| replies::in_session(kind, excess));
                let spent = Spent { granted: grant.granted, delay_ms: grant.delay_ms, refusal };
                self.receivers.answer(key, &Answer::Spent { ticket, spent })
            }
            Ask::Note { client, kind, count } => {
                self.counters.note(now_ms, client, kind, count);
                Ok(())
            }
            Ask::Present { ticket, client } => {
                if self.receivers.open(key, ticket, client)? {
                    self.counters.present(now_ms, client);
                }
                Ok(())
            }
            Ask::Passed { ticket } => {
                if let Some(client) = self.receivers.client(key, ticket) {
                    self.screen.passed(now_ms, client);
                }
                Ok(())
            }
            Ask::Left { ticket } => {
                if let Some(client) = self.receivers.left(key, ticket) {
                    self.counters.leave(client);
                }
                if !self.screen.forget((key, ticket)) {
                    return Ok(());
                }
                self.receivers.answer(key, &Answer::Entered { ticket, entry: Entry::Go { delay_ms: 0 } })
            }
        }
    }

    /// A client is at the door.
    fn connect(
        &mut self,
        reactor: &mut Reactor,
        (key, ticket): Door,
        client: IpAddr,
        screen: bool,
    ) -> Result<(), ChannelError> {
        self.figures.questions += 1;
        reactor.served();
        // Told of as present while its handshake went on, and asked about now: it is one session all the same.
        if let Some(before) = self.receivers.left(key, ticket) {
            self.counters.leave(before);
        }
        let grant = self.counters.enter(reactor.now_ms(), client);
        self.report(client, &grant);
        let entry = match grant.excess {
            Some(excess) => Entry::Refuse(replies::at_the_door(excess)),
            None => {
                self.receivers.open(key, ticket, client)?;
                self.let_in(reactor, (key, ticket), client, screen, grant.delay_ms)
            }
        };
        self.receivers.answer(key, &Answer::Entered { ticket, entry })
    }

    /// A client that may come in as far as its counts go.
    fn let_in(
        &mut self,
        reactor: &mut Reactor,
        door: Door,
        client: IpAddr,
        screen: bool,
        delay_ms: u32,
    ) -> Entry {
        let begun = if screen { self.screen.begin(reactor.now_ms(), door, client) } else { None };
        let Some((wait_ms, acts)) = begun else { return Entry::Go { delay_ms } };
        self.figures.screened += 1;
        self.perform(reactor, acts);
        Entry::Screen { wait_ms: wait_ms.max(delay_ms) }
    }

    fn report(&mut self, client: IpAddr, grant: &Grant) {
        self.figures.delayed += u64::from(grant.delay_ms > 0);
        let Some(excess) = grant.excess else { return };
        self.figures.refused += 1;
        if grant.is_news {
            let (network, prefix) = self.counters.rules().network(client);
            let limit = match excess {
                Excess::Open => self.counters.rules().open,
                Excess::Rate(kind) => self.counters.rules().rate(kind),
            };
            let kind = match excess {
                Excess::Open => "open",
                Excess::Rate(kind) => kind.name(),
            };
            Record::new("limited")
                .field("client", client.to_canonical())
                .field("network", format_args!("{network}/{prefix}"))
                .field("kind", kind)
                .maybe("limit", limit)
                .emit();
        }
    }

    fn perform(&mut self, reactor: &mut Reactor, acts: Vec<Act>) {
        let mut unanswered = Vec::new();
        for act in acts {
            match act {
                Act::LookUp(purpose, name) => {
                    self.figures.look_ups += 1;
                    match self.look_ups.begin(purpose, name) {
                        Ok(true) => {}
                        Ok(false) => unanswered.push(purpose),
                        Err(error) => self.lose_resolver(reactor, &error),
                    }
                }
                Act::Decide(door, finding) => self.decide(reactor, door, &finding),
                Act::Tested(name, tested) => report_test(&name, tested),
            }
        }
        for purpose in unanswered {
            self.found(reactor, purpose, None);
        }
    }

    fn decide(&mut self, reactor: &mut Reactor, (key, ticket): Door, finding: &Finding) {
        self.figures.early += u64::from(finding.early);
        self.figures.listed += u64::from(!finding.score.lists.is_empty());
        self.figures.watched += u64::from(finding.fate == Fate::Watch);
        let (entry, fate) = match finding.fate {
            Fate::Pass => (Entry::Go { delay_ms: 0 }, "pass"),
            Fate::Note => (Entry::Go { delay_ms: 0 }, "noted"),
            Fate::Watch => (Entry::Test, "watched"),
            Fate::Condemn => (Entry::Condemn(replies::unwanted(finding)), "condemned"),
            Fate::Drop => (Entry::Refuse(replies::unwanted(finding)), "dropped"),
        };
        let is_plain = matches!(finding.fate, Fate::Pass | Fate::Watch);
        let lists = finding.score.lists.join(",");
        Record::at(if is_plain { log::Level::Debug } else { log::Level::Info }, "screened")
            .field("client", finding.client.to_canonical())
            .field("fate", fate)
            .field("early", finding.early)
            .field("score", finding.score.total)
            .maybe("lists", (!lists.is_empty()).then_some(lists))
            .emit();
        if finding.fate == Fate::Drop
            && let Some(client) = self.receivers.left(key, ticket)
        {
            self.counters.leave(client);
        }
        if let Err(error) = self.receivers.answer(key, &Answer::Entered { ticket, entry }) {
            self.close(reactor, key, &error);
        }
    }

    fn hear_resolver(&mut self, reactor: &mut Reactor) {
        loop {
            match self.look_ups.hear() {
                Ok(Some((purpose, answer))) => self.found(reactor, purpose, answer),
                Ok(None) => return,
                Err(error) => return self.lose_resolver(reactor, &error),
            }
        }
    }

    fn lose_resolver(&mut self, reactor: &mut Reactor, error: &ChannelError) {
        for (purpose, answer) in self.look_ups.close(reactor, error) {
            self.found(reactor, purpose, answer);
        }
    }

    fn found(&mut self, reactor: &mut Reactor, purpose: crate::screen::Purpose, answer: Option<Vec<IpAddr>>) {
        self.figures.look_ups_failed += u64::from(answer.is_none());
        let acts = self.screen.found(reactor.now_ms(), purpose, answer);
        self.perform(reactor, acts);
    }

    /// An edge is gone: its receiver's sessions are over.
    fn close(&mut self, reactor: &mut Reactor, key: EdgeKey, error: &ChannelError) {
        self.screen.forget_edge(key);
        for client in self.receivers.close(reactor, key, error) {
            self.counters.leave(client);
        }
    }

    fn sweep(&mut self, reactor: &mut Reactor) {
        let now_ms = reactor.now_ms();
        self.counters.sweep(now_ms);
        self.rates.sweep(now_ms);
        self.greylist.sweep(reactor.wall_ms() / 1_000);
        self.screen.sweep(now_ms);
        let acts = self.screen.tests_due(now_ms);
        self.perform(reactor, acts);
        reactor.set_timer(now_ms + SWEEP_MS, SWEEP_TIMER);
    }

    /// Another configuration for the same clients: what they have used up counts on.
    fn reconfigure(&mut self, reactor: &mut Reactor, slice: &[u8]) {
        let slice: LimitsSlice = match vsmtp_ipc::decode(slice) {
            Ok(slice) => slice,
            Err(error) => {
                Record::at(log::Level::Error, "bad-configuration").field("error", error).emit();
                return;
            }
        };
        let (rules, policy) = (settings::rules(&slice), settings::policy(&slice));
        self.wanted = settings::wanted(&rules, &policy);
        if !self.counters.change(rules) {
            let now_ms = reactor.now_ms();
            self.receivers.clients().for_each(|client| self.counters.present(now_ms, client));
        }
        self.look_ups.forget();
        let mut acts = self.screen.change(policy);
        acts.extend(self.screen.tests_due(reactor.now_ms()));
        self.perform(reactor, acts);
        for (key, error) in self.receivers.tell_wanted(self.wanted) {
            self.close(reactor, key, &error);
        }
    }

    fn answer_operator(&mut self, reactor: &mut Reactor, ticket: u64, request: LimitsRequest) {
        let answer = match request {
            LimitsRequest::Page(behind) => {
                let gauges = self.gauges();
                operator::page(&mut self.counters, reactor.now_ms(), behind, &self.figures, gauges)
            }
            LimitsRequest::Reset(client) => {
                let (counted, passed) = (self.counters.reset(client), self.screen.reset(client));
                Record::new("reset").field("client", client.to_canonical()).emit();
                LimitsAnswer::Reset(counted || passed)
            }
        };
        reactor.tell_master(&ToMaster::Limits { ticket, answer });
    }

    fn gauges(&self) -> Gauges {
        let (clients, pushed_out) = self.counters.size();
        let (testing, passed, left_out) = self.screen.sizes();
        Gauges {
            clients: clients as u64,
            pushed_out,
            open: self.receivers.sessions() as u64,
            testing: testing as u64,
            passed: passed as u64,
            lists_left_out: left_out as u64,
            greylist: self.greylist.sizes(),
            rates: self.rates.len() as u64,
            rates_pushed_out: self.rates.pushed_out(),
        }
    }

    fn end_turn(&mut self, reactor: &mut Reactor) -> Flow {
        if let Err(error) = self.look_ups.flush(reactor) {
            self.lose_resolver(reactor, &error);
        }
        for (key, error) in self.receivers.flush(reactor) {
            self.close(reactor, key, &error);
        }
        for (key, error) in self.filters.flush(reactor) {
            self.filters.close(reactor, key, &error);
        }
        self.figures.publish(reactor, self.gauges());
        if !self.draining {
            return Flow::Continue;
        }
        self.end_keeping();
        Flow::Exit
    }
}

fn report_test(name: &str, tested: Tested) {
    let why = match tested {
        Tested::Works => return,
        Tested::ListsEverybody => "it lists everybody",
        Tested::Silent => "no answer",
    };
    Record::at(log::Level::Warn, "list-left-out").field("list", name).field("why", why).emit();
}
