//! The daemon: events in, acts of the desk out.

mod kept;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::time::Instant;
use vsmtp_config::ResolverSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Event, Flow, Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records};
use vsmtp_ipc::role::Role;
use vsmtp_keeper::{FILES, Files, Keeper};
use vsmtp_sys::sandbox::Profile;
use vsmtp_tls::client::{Client, Roots};

use crate::clients::Clients;
use crate::desk::{Act, Asker, ClientId, Desk};
use crate::finding::{Finding, Key, Kind};
use crate::lookup::look_up;
use crate::name;
use crate::post::post;
use crate::sandbox;
use crate::sts::{Sts, snapshot};
use crate::surroundings::Surroundings;
use crate::upstream::Upstream;
use crate::worker::{MAX_LOOK_UPS, Worker};
use kept::UPKEEP_TIMER;

/// Most reports that are posted at once.
const MAX_POSTS: usize = 16;

/// What the thread is asked for.
#[derive(Clone)]
enum Job {
    LookUp(Key),
    /// For whom, where to, what.
    Post(Asker, String, Vec<u8>),
    /// To look at a policy again that is remembered.
    Refresh(String),
}

/// The daemon.
pub struct Resolver {
    desk: Desk,
    clients: Clients,
    /// Until the jail is entered.
    upstream: Option<Upstream>,
    /// Authorities for the hosts of MTA-STS policies; until the jail is entered.
    roots: Option<Roots>,
    /// Of the same; until the jail is entered.
    files: Option<Files>,
    /// From then on.
    worker: Option<Worker<Job>>,
    sts: Option<Arc<Sts>>,
    keeper: Option<Keeper<()>>,
    /// Reports that are being posted.
    posts: usize,
    /// Policies that are being looked at again.
    refreshes: usize,
    draining: bool,
}

impl Daemon for Resolver {
    const NAME: &'static str = "vsmtp-resolver";
    type Slice = ResolverSlice;

    fn before_jail(boot: Boot<ResolverSlice>) -> Result<Self, BootError> {
        let Surroundings { servers, trust_ad, local } = Surroundings::of(&boot.slice);
        if servers.is_empty() {
            Record::at(log::Level::Warn, "no-name-servers").emit();
        }
        let upstream = Upstream::new(servers, boot.slice.timeout, boot.slice.attempts, trust_ad);
        Record::new("name-servers")
            .field("servers", upstream.addresses())
            .field("trust_ad", upstream.trusted)
            .emit();
        Ok(Resolver {
            desk: Desk::new(local, usize::try_from(boot.slice.cache_size).unwrap_or(usize::MAX)),
            clients: Clients::default(),
            upstream: Some(upstream),
            roots: Some(roots(boot.slice.ca_file.as_deref())?),
            files: Some(Files::new(snapshot::FORMAT)),
            worker: None,
            sts: None,
            keeper: None,
            posts: 0,
            refreshes: 0,
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
        let waker = reactor.waker();
        let wake = move || {
            if let Err(error) = waker.wake() {
                log::error!("event=wake-failed error=\"{error}\"");
            }
        };
        let upstream = self.upstream.take().ok_or_else(|| BootError::Fatal("started twice".to_owned()))?;
        let roots = self.roots.take().unwrap_or_else(Roots::none);
        let (upstream, epoch) = (Arc::new(upstream), Instant::now());
        let client = Arc::new(Client::new(roots));
        let sts = Arc::new(Sts::new(Arc::clone(&client), epoch));
        self.begin_to_keep(reactor, &sts)?;
        let look_up = move |job: Job| {
            let (upstream, sts, client) = (Arc::clone(&upstream), Arc::clone(&sts), Arc::clone(&client));
            async move {
                match job {
                    Job::LookUp(key) if key.kind == Kind::StsPolicy => sts.look_up(upstream, key.name).await,
                    Job::LookUp(key) => look_up(upstream, key, epoch).await,
                    Job::Post(_, url, body) => post(client, upstream, url, body, epoch).await,
                    Job::Refresh(domain) => sts.refresh(upstream, domain).await,
                }
            }
        };
        let worker =
            Worker::start(look_up, wake).map_err(|error| BootError::Io("start the thread", error))?;
        self.worker = Some(worker);
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) if may_ask(name.role) => {
                match self.clients.introduce(reactor, name, socket) {
                    Ok(replaced) => replaced.into_iter().for_each(|id| self.desk.forget(id)),
                    Err(error) => Record::at(log::Level::Error, "edge-failed")
                        .field("peer", name)
                        .field("error", error)
                        .emit(),
                }
            }
            Event::Ready { token, readable: true, .. } => self.hear(reactor, token),
            Event::Timer(UPKEEP_TIMER) => self.keep_up(reactor),
            Event::Timer(number) => {
                let act = self.desk.due(reactor.now_ms(), number);
                self.perform(reactor, act);
            }
            Event::Drain { .. } => {
                self.draining = true;
                // Look-ups may hold the end up for longer than we have.
                self.keep();
            }
            Event::TurnEnd => return self.end_turn(reactor),
            _ => {}
        }
        Flow::Continue
    }
}

impl Resolver {
    fn hear(&mut self, reactor: &mut Reactor, client: ClientId) {
        loop {
            match self.clients.question(client) {
                Ok(Some(question)) => {
                    let asker = Asker { client, ticket: question.ticket };
                    let now_ms = reactor.now_ms();
                    let deadline_ms = now_ms.saturating_add(question.deadline_ms.into());
                    reactor.count("questions", 1);
                    if let Query::Post { url, body } = question.query {
                        self.post(reactor, asker, url, body);
                        continue;
                    }
                    self.desk.set_time(reactor.wall_ms() / 1000);
                    let acts = self.desk.ask(now_ms, asker, &question.query, deadline_ms);
                    self.perform(reactor, acts);
                }
                Ok(None) => return,
                Err(error) => return self.close(reactor, client, &error),
            }
        }
    }

    /// Has a report posted: for nobody but deliver, which leaves it to us because only we speak HTTPS.
    fn post(&mut self, reactor: &mut Reactor, asker: Asker, url: String, body: Vec<u8>) {
        if self.clients.role(asker.client) != Some(Role::DeliverSmtp) {
            let error = ChannelError::Misbehaved("a report from who has none".to_owned());
            return self.close(reactor, asker.client, &error);
        }
        let has_room = self.posts < MAX_POSTS;
        let job = Job::Post(asker, url, body);
        if has_room && self.worker.as_ref().is_some_and(|worker| worker.look_up(job)) {
            self.posts += 1;
        } else {
            let acts = [Act::Answer(asker, Err(DnsError::Temporary), false)];
            self.perform(reactor, acts);
        }
    }

    fn perform(&mut self, reactor: &mut Reactor, acts: impl IntoIterator<Item = Act>) {
        for act in acts {
            match act {
                Act::Answer(asker, result, secure) => {
                    reactor.served();
                    let answer = Answer { ticket: asker.ticket, result, secure };
                    if let Err(error) = self.clients.answer(asker.client, &answer) {
                        self.close(reactor, asker.client, &error);
                    }
                }
                Act::LookUp(key) => self.look_up(reactor, key),
                Act::Timer(at_ms, number) => reactor.set_timer(at_ms, number),
            }
        }
    }

    fn look_up(&mut self, reactor: &mut Reactor, key: Key) {
        reactor.count("look_ups", 1);
        // Rather refused than in line behind look-ups that may never end.
        let has_room = self.desk.running() <= MAX_LOOK_UPS;
        let accepted =
            has_room && self.worker.as_ref().is_some_and(|worker| worker.look_up(Job::LookUp(key.clone())));
        if !accepted {
            reactor.count("look_ups_refused", 1);
            let acts = self.desk.found(reactor.now_ms(), &key, Finding::refused());
            self.perform(reactor, acts);
        }
    }

    fn close(&mut self, reactor: &mut Reactor, client: ClientId, error: &ChannelError) {
        self.desk.forget(client);
        self.clients.close(reactor, client, error);
    }

    fn end_turn(&mut self, reactor: &mut Reactor) -> Flow {
        while let Some((job, finding)) = self.worker.as_ref().and_then(Worker::finding) {
            let acts = match job {
                Job::LookUp(key) => self.desk.found(reactor.now_ms(), &key, finding),
                Job::Post(asker, ..) => {
                    self.posts = self.posts.saturating_sub(1);
                    vec![Act::Answer(asker, finding.result, false)]
                }
                Job::Refresh(domain) => {
                    self.refreshes = self.refreshes.saturating_sub(1);
                    // Nobody waits for it, but whoever asks next is to hear of it. A fetch that failed once more tells nothing.
                    if let (Some(name), Ok(Records::StsPolicy { .. })) =
                        (name::parse(&domain), &finding.result)
                    {
                        self.desk.learn(reactor.now_ms(), Key { name, kind: Kind::StsPolicy }, finding);
                    }
                    Vec::new()
                }
            };
            self.perform(reactor, acts);
        }
        for (client, error) in self.clients.flush(reactor) {
            self.close(reactor, client, &error);
        }
        let (remembered, hits) = self.desk.remembered();
        reactor.figure("questions_open", self.desk.open() as u64);
        reactor.figure("look_ups_running", self.desk.running() as u64);
        reactor.figure("remembered", remembered as u64);
        reactor.figure("hits", hits);
        reactor.figure("policies", self.sts.as_ref().map_or(0, |sts| sts.policies()) as u64);
        let alive = self.worker.as_ref().is_some_and(Worker::is_alive);
        if !alive {
            Record::at(log::Level::Error, "look-ups-ended").emit();
        }
        if !alive || (self.draining && self.desk.open() + self.posts == 0) {
            self.end_keeping();
            Flow::Exit
        } else {
            Flow::Continue
        }
    }
}

/// The authorities that the hosts of policies need a certificate of.
fn roots(ca_file: Option<&str>) -> Result<Roots, BootError> {
    let Some(path) = ca_file else {
        let known = rustls_native_certs::load_native_certs().certs;
        return Ok(Roots::of_certificates(known.iter().map(|known| known.to_vec())));
    };
    let wrong =
        |error: &dyn std::fmt::Display| BootError::Fatal(format!("delivery.tls.ca_file {path}: {error}"));
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    Roots::of_pem(&pem).map_err(|error| wrong(&error))
}

/// The edges of the architecture.
fn may_ask(role: Role) -> bool {
    matches!(role, Role::Receiver | Role::FilterSession | Role::FilterPost | Role::DeliverSmtp | Role::Limits)
}
