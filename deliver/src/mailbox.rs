//! `deliver --role mailbox`: virtual users' Maildirs and mboxes below one folder. The loop takes leases and answers them;
//! threads do the disk work. It never opens anything outside the mail root, and has no network.

mod disk;
mod maildir;
mod mbox;
mod name;
mod quote;
#[cfg(test)]
mod recorder;
mod text;
mod unique;
mod verdict;
mod work;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vsmtp_config::MailboxSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Event, FIRST_TOKEN, Flow, Reactor};
use vsmtp_ipc::edge::queue_deliver::{Advice, Reach, Settled};
use vsmtp_ipc::role::Role;
use vsmtp_mail::{EnhancedCode, MailboxFormat, NextHop};
use vsmtp_sys::sandbox::Profile;

use crate::lease::{Ended, Lease, LeaseKey, Order, Verdict, span_ms};
use crate::mailbox::disk::Below;
use crate::mailbox::name::MailboxName;
use crate::mailbox::unique::UniqueNames;
use crate::mailbox::work::{Done, Inbox, Job, Pool};
use crate::queue::QueueEdge;
use crate::sandbox;

/// Token of the edge to the queue-manager.
const QUEUE_TOKEN: usize = FIRST_TOKEN;
/// Threads that write and sync: so many syncs share one commit of the file system's journal.
const THREADS: usize = 8;

/// The daemon.
pub struct Mailbox {
    slice: MailboxSlice,
    process: u32,
    host: String,
    disk: Arc<Below>,
    /// From the jail on.
    work: Option<Work>,
    queue: QueueEdge,
    open: HashMap<LeaseKey, Open>,
    draining: bool,
}

struct Work {
    pool: Pool,
    inbox: Arc<Inbox>,
}

/// A lease some of whose recipients are not settled.
struct Open {
    lease: Arc<Lease>,
    settled: Vec<Settled>,
    started_ms: u64,
}

impl Daemon for Mailbox {
    const NAME: &'static str = "vsmtp-deliver";
    type Slice = MailboxSlice;

    fn before_jail(boot: Boot<MailboxSlice>) -> Result<Self, BootError> {
        let root = Path::new(&boot.slice.mail_root);
        let directory = nix::libc::O_DIRECTORY | nix::libc::O_CLOEXEC;
        let root = OpenOptions::new().read(true).custom_flags(directory).open(root).map_err(|error| {
            BootError::Fatal(format!("delivery.mail_root {}: {error}", boot.slice.mail_root))
        })?;
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Ok(Mailbox {
            process: boot.process,
            host: host.unwrap_or_else(|| "localhost".to_owned()),
            disk: Arc::new(Below::new(root.into())),
            slice: boot.slice,
            work: None,
            queue: QueueEdge::new(QUEUE_TOKEN),
            open: HashMap::new(),
            draining: false,
        })
    }

    fn profile(&self) -> Profile {
        sandbox::mailbox(&PathBuf::from(&self.slice.mail_root))
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        let waker = reactor.waker();
        let inbox = Arc::new(Inbox::new(move || {
            if let Err(error) = waker.wake() {
                log::error!("event=wake-failed error=\"{error}\"");
            }
        }));
        let names = |thread| UniqueNames::new(self.process, thread, &self.host, wall_us);
        let pool = Pool::start(&self.disk, THREADS, names)
            .map_err(|error| BootError::Io("start a thread", error))?;
        self.work = Some(Work { pool, inbox });
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) if name.role == Role::QueueManager => {
                self.queue.connect(reactor, name, socket);
                self.want();
            }
            Event::Ready { token: QUEUE_TOKEN, readable: true, .. } => self.take_leases(reactor),
            Event::StopAccepting => self.refuse_more(reactor),
            Event::Drain { .. } => {
                self.refuse_more(reactor);
                self.draining = true;
            }
            Event::TurnEnd => return self.end_turn(reactor),
            _ => {}
        }
        Flow::Continue
    }
}

impl Mailbox {
    fn take_leases(&mut self, reactor: &mut Reactor) {
        while let Some(order) = self.queue.receive(reactor) {
            let lease = match order {
                Order::Deliver(lease) => *lease,
                // Not for this role, and its sender will try another.
                Order::Post(post) => {
                    let verdict = Verdict::deferred(EnhancedCode(4, 3, 5), "this role posts nothing");
                    self.queue.settle(reactor, Ended::of_post(post.key, &verdict));
                    continue;
                }
                // It is with a thread or about to be, and a disk makes nobody wait for long.
                Order::Withdraw(_) => continue,
            };
            match lease.next_hop {
                NextHop::Mailbox(format) => self.begin(reactor, lease, format),
                _ => {
                    let verdict = Verdict::deferred(EnhancedCode(4, 3, 5), "next hop is not a mailbox");
                    let settled = lease.all(&verdict);
                    self.answer(reactor, &lease, settled, lease.arrived_ms);
                }
            }
        }
    }

    /// Takes no more leases, and sends back at once what was not looked at: the process may end with this turn.
    fn refuse_more(&mut self, reactor: &mut Reactor) {
        self.queue.refuse(reactor);
        self.take_leases(reactor);
    }

    /// Tells the threads whose leases are still wanted.
    fn want(&self) {
        if let Some(work) = &self.work {
            work.inbox.want(self.queue.epoch());
        }
    }

    fn begin(&mut self, reactor: &mut Reactor, lease: Lease, format: MailboxFormat) {
        let lease = Arc::new(lease);
        let started_ms = reactor.now_ms();
        self.open.insert(lease.key, Open { lease: Arc::clone(&lease), settled: Vec::new(), started_ms });
        for (position, recipient) in lease.recipients.iter().enumerate() {
            let name = MailboxName::of(&recipient.address, &self.slice.recipient_delimiter);
            let job = match (&self.work, name) {
                (Some(work), Some(name)) => Job::new(&lease, position, name, format, &work.inbox),
                _ => None,
            };
            match (&self.work, job) {
                (Some(work), Some(job)) => work.pool.submit(job),
                _ => self
                    .settle(reactor, Done { key: lease.key, position, verdict: verdict::no_such_mailbox() }),
            }
        }
    }

    fn settle(&mut self, reactor: &mut Reactor, done: Done) {
        let Some(open) = self.open.get_mut(&done.key) else { return };
        let Some(recipient) = open.lease.recipients.get(done.position) else { return };
        open.settled.push(done.verdict.settle(recipient.index));
        if open.settled.len() == open.lease.recipients.len()
            && let Some(open) = self.open.remove(&done.key)
        {
            self.answer(reactor, &open.lease, open.settled, open.started_ms);
        }
    }

    fn answer(&mut self, reactor: &mut Reactor, lease: &Lease, settled: Vec<Settled>, started_ms: u64) {
        let delays_ms =
            (span_ms(lease.arrived_ms, started_ms), 0, span_ms(started_ms, vsmtp_sys::clock::monotonic_ms()));
        reactor.count("leases", 1);
        let ended = Ended {
            key: lease.key,
            settled,
            reach: Reach::Reached,
            advice: Advice::default(),
            remote: String::new(),
            tls: String::new(),
            reports: false,
            relayed: false,
            delays_ms,
            sessions: Vec::new(),
        };
        self.queue.settle(reactor, ended);
    }

    fn end_turn(&mut self, reactor: &mut Reactor) -> Flow {
        let done = self.work.as_ref().map(|work| work.inbox.take()).unwrap_or_default();
        for done in done {
            self.settle(reactor, done);
        }
        reactor.figure("leases_open", self.open.len() as u64);
        self.queue.flush(reactor);
        if self.queue.take_lost() {
            self.want();
        }
        let is_done = self.open.is_empty() && !self.queue.is_blocked();
        let must_end = self.queue.has_failed() || self.draining && is_done;
        if must_end { Flow::Exit } else { Flow::Continue }
    }
}

fn wall_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
