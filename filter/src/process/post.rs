//! `--role post`: the queue-manager asks about messages that it keeps already.
//!
//! On failure: a question that cannot be answered is answered `Unavailable`, and comes again later.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vsmtp_config::FilterSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Event, FIRST_TOKEN, Flow, Link, Live, Reactor, Record};
use vsmtp_ipc::edge::queue_filter::{CREDITS, PostAsk, PostStage, PostVerdict};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, WireError};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_mail::{Envelope, MAX_DELEGATE_NAME};
use vsmtp_sys::memfd::Sealed;
use vsmtp_sys::sandbox::Profile;

use super::content::{Inline, Memory, Staged};
use super::helpers::Helpers;
use super::leader::Desk;
use super::{cede, level_of_end, sandbox};
use crate::judge::{Edit, Judge, PostJudged, PostMessage};
use crate::stage::Stage;
use crate::transaction::{Content, Peer};

const QUEUE_TOKEN: usize = FIRST_TOKEN;

/// The process.
pub struct Post {
    pub(super) workers: usize,
    judge: Arc<Judge>,
    queue: Option<Queue>,
    /// Tells answers for a dead edge from those for the living one.
    epoch: u64,
    jobs: VecDeque<Job>,
    draining: bool,
    helpers: Helpers,
    next_token: usize,
}

struct Queue {
    link: Link<PostVerdict, PostAsk>,
    name: ProcessName,
    open: u32,
}

/// A question.
pub struct Job {
    judge: Arc<Judge>,
    ticket: u64,
    epoch: u64,
    message: PostMessage,
}

/// Its answer.
pub struct Done {
    ticket: u64,
    epoch: u64,
    judged: PostJudged,
}

/// Runs a job. A panic costs that question a delay.
pub(super) fn run(job: Job) -> Done {
    let Job { judge, ticket, epoch, message } = job;
    let judged = catch_unwind(AssertUnwindSafe(|| judge.post(message))).unwrap_or_else(|_| {
        log::error!("event=judge-panicked ticket={ticket}");
        PostJudged::Unavailable
    });
    Done { ticket, epoch, judged }
}

impl Daemon for Post {
    const NAME: &'static str = "vsmtp-filter";
    type Slice = FilterSlice;

    fn before_jail(boot: Boot<FilterSlice>) -> Result<Self, BootError> {
        let helpers = Helpers::new(&boot.slice);
        let mut host = helpers.surroundings(&boot.slice);
        host.plugins = super::load_plugins("filter-post", &boot.slice)?;
        let mut judge =
            Judge::load(&boot.slice, &host).map_err(|error| BootError::Fatal(error.to_string()))?;
        judge.on_slow = cede;
        Ok(Post {
            workers: boot.slice.workers as usize,
            judge: Arc::new(judge),
            queue: None,
            epoch: 0,
            jobs: VecDeque::new(),
            draining: false,
            helpers,
            next_token: QUEUE_TOKEN + 1,
        })
    }

    fn profile(&self) -> Profile {
        sandbox::judge("filter-post", self.judge.folders())
    }

    fn is_jailed(&self) -> bool {
        !self.judge.plugins.all().is_empty()
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        self.helpers.wake_by(reactor);
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) if name.role == Role::QueueManager => self.meet(reactor, name, socket),
            Event::Peer(name, socket) => self.meet_helper(reactor, name, socket),
            Event::Ready { token: QUEUE_TOKEN, readable: true, .. } => self.hear(reactor),
            Event::Ready { token, readable: true, .. } => self.helpers.hear(reactor, token),
            Event::Drain { .. } => self.draining = true,
            Event::TurnEnd => {
                self.judge.plugins.end_if_overdue();
                self.send(reactor);
                let open = self.queue.as_ref().map_or(0, |queue| queue.open);
                reactor.figure("script_failures", self.judge.failures());
                reactor.figure("limits_missed", self.helpers.limits().missed());
                reactor.figure("questions_open", u64::from(open));
                if self.draining && open == 0 {
                    return Flow::Exit;
                }
            }
            _ => {}
        }
        Flow::Continue
    }
}

impl Post {
    fn meet(&mut self, reactor: &Reactor, name: ProcessName, socket: OwnedFd) {
        self.epoch += 1;
        self.jobs.clear();
        let wanted = PostVerdict::Wanted {
            postq: self.judge.wants(Stage::Postq),
            delivery: self.judge.wants(Stage::Delivery),
            delegates: self.judge.services(),
        };
        let met = Link::new(reactor, socket, EdgeId::QueueFilter, QUEUE_TOKEN)
            .map_err(ChannelError::Io)
            .and_then(|mut link| link.send(&wanted, Vec::new()).map(|()| link));
        match met {
            Ok(link) => self.queue = Some(Queue { link, name, open: 0 }),
            Err(error) => {
                Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit()
            }
        }
    }

    fn meet_helper(&mut self, reactor: &Reactor, name: ProcessName, socket: OwnedFd) {
        let token = self.next_token;
        self.next_token += 1;
        if let Err(error) = self.helpers.introduce(reactor, name, socket, token) {
            Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit();
        }
    }

    fn hear(&mut self, reactor: &mut Reactor) {
        loop {
            let Some(queue) = &mut self.queue else { return };
            let heard = match queue.link.receive() {
                Ok(None) => return,
                Ok(Some(received)) => {
                    reactor.served();
                    queue.open += 1;
                    if queue.open > CREDITS {
                        Err(ChannelError::Misbehaved("more questions than credits".to_owned()))
                    } else {
                        self.asked(received.message, received.descriptors.into_iter().next())
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return self.close(reactor, &error);
            }
        }
    }

    fn asked(&mut self, ask: PostAsk, descriptor: Option<OwnedFd>) -> Result<(), ChannelError> {
        if ask.resume.as_ref().is_some_and(|resume| resume.directive.len() > MAX_DELEGATE_NAME) {
            return Err(WireError("directive").into());
        }
        let peer = Peer {
            service: ask.origin.service.map(Into::into),
            client: client(&ask.origin.client)?,
            client_name: None,
            server: None,
            uid: ask.origin.uid,
            connected_ms: ask.arrived_ms,
            server_name: self.judge.policy.server_name().clone(),
            identity: None,
            // RFC 3848: the protocol of who has authenticated ends so.
            was_authenticated: ask.origin.protocol.ends_with('A'),
            was_secured: ask.origin.protocol.trim_end_matches('A').ends_with('S'),
        };
        let message = PostMessage {
            id: ask.id.into(),
            stage: match ask.stage {
                PostStage::Routing | PostStage::Report => None,
                PostStage::Postq => Some(Stage::Postq),
                PostStage::Delivery => Some(Stage::Delivery),
            },
            is_report: ask.stage == PostStage::Report,
            reroute: ask.reroute,
            envelope: Envelope::try_from(&ask.envelope)?,
            peer,
            helo: ask.origin.helo,
            arrived_ms: ask.arrived_ms,
            resume: ask.resume,
            content: content(ask.body, descriptor)?,
        };
        let judge = Arc::clone(&self.judge);
        self.jobs.push_back(Job { judge, ticket: ask.ticket, epoch: self.epoch, message });
        Ok(())
    }

    fn answer(&mut self, done: Done) {
        let Some(queue) = self.queue.as_mut().filter(|_| done.epoch == self.epoch) else { return };
        queue.open = queue.open.saturating_sub(1);
        let ticket = done.ticket;
        let verdict = match done.judged {
            PostJudged::Keep { is_final } => PostVerdict::Keep { ticket, is_final },
            PostJudged::Refuse(reply, reports) => {
                PostVerdict::Refuse { ticket, reply: (&reply).into(), reports }
            }
            PostJudged::Unavailable => PostVerdict::Unavailable { ticket },
            PostJudged::Edit(edit) => {
                let Edit { envelope, expanded, disposition, pieces, notices } = *edit;
                let expanded = expanded.iter().map(Into::into).collect();
                let envelope = (&envelope).into();
                PostVerdict::Edit { ticket, envelope, expanded, notices, disposition, pieces }
            }
        };
        if let Err(error) = queue.link.send(&verdict, Vec::new()) {
            // A verdict that cannot be sent must not leave its question open.
            log::error!("event=answer-failed ticket={ticket} error=\"{error}\"");
            if queue.link.send(&PostVerdict::Unavailable { ticket }, Vec::new()).is_err() {
                self.queue = None;
            }
        }
    }

    fn send(&mut self, reactor: &mut Reactor) {
        self.helpers.send(reactor);
        let sent = self.queue.as_mut().map_or(Ok(()), |queue| queue.link.flush(reactor));
        if let Err(error) = sent {
            self.close(reactor, &error);
        }
    }

    fn close(&mut self, reactor: &mut Reactor, error: &ChannelError) {
        let is_idle = self.jobs.is_empty();
        self.jobs.clear();
        let Some(queue) = self.queue.take() else { return };
        let level = level_of_end(error, is_idle);
        Record::at(level, "edge-closed").field("peer", queue.name).field("error", error).emit();
        reactor.accuse(queue.name, error);
    }
}

/// The port is not kept with a message.
fn client(text: &str) -> Result<Option<(std::net::IpAddr, u16)>, WireError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(|ip| Some((ip, 0))).map_err(|_| WireError("client address"))
}

fn content(body: Body, descriptor: Option<OwnedFd>) -> Result<Arc<dyn Content>, ChannelError> {
    let missing = || ChannelError::Misbehaved("body without descriptor".to_owned());
    Ok(match body {
        Body::Inline(bytes) => Arc::new(Inline(Arc::new(bytes))),
        Body::Memfd(len) => {
            let sealed = Sealed::verify(descriptor.ok_or_else(missing)?, len)
                .map_err(|error| ChannelError::Misbehaved(error.to_string()))?;
            Arc::new(Memory(Arc::new(sealed)))
        }
        Body::File(len) => Arc::new(Staged { file: descriptor.ok_or_else(missing)?, len }),
    })
}

impl Desk for Live<Post> {
    type Job = Job;
    type Done = Done;

    fn turn(&mut self) -> io::Result<bool> {
        Live::turn(self).map(|flow| flow == Flow::Continue)
    }

    fn next_job(&mut self, may_start: bool) -> Option<Job> {
        if may_start { self.daemon.jobs.pop_front() } else { None }
    }

    fn finish(&mut self, done: Done) {
        self.daemon.answer(done);
    }

    fn flush(&mut self) {
        self.daemon.send(&mut self.reactor);
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        super::waker(&self.reactor)
    }
}
