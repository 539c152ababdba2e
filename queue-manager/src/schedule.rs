//! When which recipient is tried, and how many at a time: the queue as it stands in memory. Pure code: the clock is
//! handed in, nothing is read or written, and whatever happens here can be rebuilt from the store.
//!
//! It never loses a recipient: one that is not settled is ready, waiting, or out on a lease, and a lease whose deliver
//! process is gone comes back as waiting.

mod admit;
mod command;
mod destination;
mod entry;
mod flow;
mod lane;
mod pace;
mod pick;
mod settings;
mod settle;
mod slab;
mod survey;
mod sweep;
mod table;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use vsmtp_mail::{NextHop, QueueId};

pub use admit::{Admission, AdmitError, Pending, Sender};
pub use entry::Standing;
pub use lane::{Lane, LaneKind};
pub use pace::{LimitTable, Limits, Rate};
pub use pick::{Next, Plan};
pub use settings::Settings;
pub use settle::{Advice, LeaseError, Reached, Report, Settled, Verdict};
pub use survey::{Condition, Prospect, Survey, Totals};

use destination::Destination;
use entry::{Item, Job, Message};
use flow::{Flow, Ring};
use lane::Lanes;
use settings::Jitter;
use slab::{NONE, Slab};
use sweep::{MAX_NOTICES, Sweep};
use table::Table;

/// Due times are kept in units of 2^6 ms, so that 32 bits last for eight years.
const TICK_BITS: u32 = 6;
/// Timers that may be stale before anybody counts.
const MIN_TIMERS: usize = 1024;
/// Most jobs that become due in one call of `tick`; the next call goes on.
const MAX_DUE_AT_ONCE: usize = 10_000;
/// Most next hops of which something is remembered though nothing is queued for them.
const MAX_IDLE_DESTINATIONS: usize = 4096;

/// How long recipients wait.
#[derive(Debug, Clone, Copy)]
struct Wait {
    at_least_ms: u64,
    /// The host itself has said so, and may know better than the usual wait, which is longer.
    is_wish: bool,
}

/// So often a host's wish may make a wait shorter than usual; then it has proved that it does not mean it.
const HEEDED_ATTEMPTS: u8 = 3;

/// What the schedule found out by itself. The daemon acts on it.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// These recipients were kept back by their next hop until their lifetime ended: fail them. They are settled here
    /// already.
    Expired {
        /// The message.
        id: QueueId,
        /// Places in the envelope.
        recipients: Vec<u32>,
        /// What is wrong with the next hop.
        reason: Box<str>,
        /// Nothing is left of the message.
        finished: bool,
    },
    /// A service cannot be reached now; who can go on without it does.
    Unserved {
        /// The message.
        id: QueueId,
        /// What is wrong with the service.
        reason: Box<str>,
    },
    /// The sender should be told of the delay, once.
    Warn {
        /// The message.
        id: QueueId,
        /// What is wrong with the next hop.
        reason: Box<str>,
    },
}

/// The whole schedule.
#[derive(Debug)]
pub struct Schedule {
    settings: Settings,
    jitter: Jitter,
    seed: u64,
    /// Monotonic time of the start.
    started_ms: u64,
    messages: Slab<Message>,
    /// Lifetimes in milliseconds of the messages that have one of their own.
    lifetimes: HashMap<u32, u64>,
    /// The ages, in milliseconds, at which senders want to hear that messages are late.
    warnings: HashMap<u32, u64>,
    /// Jobs whose message's own lifetime was over before they came in here: one attempt comes before the end.
    spared: HashSet<u32>,
    jobs: Slab<Job>,
    items: Slab<Item>,
    flows: Slab<Flow>,
    destinations: Slab<Destination>,
    by_id: Table,
    by_flow: Table,
    by_hop: Table,
    ring: Ring,
    lanes: Lanes,
    leases: settle::Leases,
    due: BinaryHeap<Reverse<u64>>,
    /// Next hops that must have their rest, by the time when it ends.
    resting: BinaryHeap<Reverse<(u64, u32)>>,
    sweep: Sweep,
    idle: VecDeque<u32>,
    notices: VecDeque<Notice>,
    totals: Totals,
}

impl Schedule {
    /// An empty schedule. The seed spreads retries and protects tables; it need not be secret from the operator.
    pub fn new(settings: Settings, seed: u64, mono_ms: u64) -> Self {
        Schedule {
            settings,
            jitter: Jitter(seed ^ 0x5eed),
            seed,
            started_ms: mono_ms,
            messages: Slab::default(),
            lifetimes: HashMap::new(),
            warnings: HashMap::new(),
            spared: HashSet::new(),
            jobs: Slab::default(),
            items: Slab::default(),
            flows: Slab::default(),
            destinations: Slab::default(),
            by_id: Table::default(),
            by_flow: Table::default(),
            by_hop: Table::default(),
            ring: Ring::default(),
            lanes: Lanes::default(),
            leases: settle::Leases::default(),
            due: BinaryHeap::new(),
            resting: BinaryHeap::new(),
            sweep: Sweep::new(mono_ms),
            idle: VecDeque::new(),
            notices: VecDeque::new(),
            totals: Totals::default(),
        }
    }

    /// Takes new settings; what waits already keeps its time.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
        for destination in self.destinations.slots() {
            self.destinations[destination].limit(&self.settings);
            self.end_rest(destination);
        }
    }

    /// True if the message is here.
    pub fn contains(&self, id: QueueId) -> bool {
        self.find(id).is_some()
    }

    /// Makes ready what is due. Returns true if more is due than one call takes, or if more was found out.
    pub fn tick(&mut self, mono_ms: u64) -> bool {
        let more = self.sweep(mono_ms);
        self.end_rests(mono_ms);
        for _ in 0..MAX_DUE_AT_ONCE {
            if self.notices.len() >= MAX_NOTICES {
                return true;
            }
            match self.due.peek() {
                Some(Reverse(entry)) if self.tick_ms(*entry) <= mono_ms => {}
                _ => return more,
            }
            if let Some(Reverse(entry)) = self.due.pop() {
                self.fire((entry >> 32) as u32, entry as u32, mono_ms);
            }
        }
        true
    }

    /// Monotonic time of the next `tick` that has something to do.
    pub fn wake_ms(&self) -> Option<u64> {
        let due = self.due.peek().map(|Reverse(entry)| self.tick_ms(*entry));
        let rested = self.resting.peek().map(|Reverse((at_ms, _))| *at_ms);
        due.into_iter().chain(rested).chain(self.sweep_ms()).min()
    }

    /// Nothing goes to a next hop before that time.
    fn wake_at(&mut self, destination: u32, at_ms: u64, mono_ms: u64) {
        self.sweep.not_before(mono_ms);
        let record = &mut self.destinations[destination];
        if record.wake_ms != at_ms {
            record.wake_ms = at_ms;
            self.resting.push(Reverse((at_ms, destination)));
        }
    }

    /// Lets next hops go on that have rested. There is no cancel: a timer that was set before another one is stale.
    fn end_rests(&mut self, mono_ms: u64) {
        while let Some(Reverse((at_ms, destination))) = self.resting.peek().copied()
            && at_ms <= mono_ms
        {
            self.resting.pop();
            if self.destinations[destination].wake_ms == at_ms {
                self.end_rest(destination);
            }
        }
    }

    fn end_rest(&mut self, destination: u32) {
        self.destinations[destination].wake_ms = 0;
        self.wake_destination(destination);
    }

    /// What the schedule found out, oldest first. Take all after each `tick` and each round of `next`.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    fn tick_ms(&self, entry: u64) -> u64 {
        self.started_ms.saturating_add((entry >> 32) << TICK_BITS)
    }

    fn find(&self, id: QueueId) -> Option<u32> {
        let bytes = id.to_bytes();
        self.by_id.find(table::hash(self.seed, &bytes), |slot| self.messages[slot].id == bytes)
    }

    /// A timer went off; it is stale if the job was settled, flushed, or put off meanwhile.
    fn fire(&mut self, tick: u32, job: u32, mono_ms: u64) {
        let record = &self.jobs[job];
        if record.message == NONE || record.waiting == NONE || record.due != tick {
            return;
        }
        if self.messages[record.message].standing.goes_out() {
            if self.is_overdue(job, mono_ms) {
                self.make_ready(job);
                return self.expire_overdue(job, mono_ms);
            }
            let destination = &self.destinations[self.flows[record.flow].destination];
            if destination.is_dead(mono_ms) {
                self.make_ready(job);
                return self.suspend(job, mono_ms);
            }
        }
        self.make_ready(job);
        self.enqueue(job);
    }

    /// Moves the waiting recipients of a job to the ready ones.
    fn make_ready(&mut self, job: u32) {
        let record = &mut self.jobs[job];
        let waiting = std::mem::replace(&mut record.waiting, NONE);
        let ready = std::mem::replace(&mut record.ready, waiting);
        if ready == NONE || waiting == NONE {
            self.jobs[job].ready = if waiting == NONE { ready } else { waiting };
            return;
        }
        let mut last = waiting;
        while self.items[last].next != NONE {
            last = self.items[last].next;
        }
        self.items[last].next = ready;
    }

    /// Lets a job stand in its flow's queue if there is something to try.
    fn enqueue(&mut self, job: u32) {
        let record = &self.jobs[job];
        if record.queued || record.ready == NONE || !self.messages[record.message].standing.goes_out() {
            return;
        }
        let flow = record.flow;
        self.jobs[job].queued = true;
        self.jobs[job].behind = NONE;
        match self.flows[flow].tail {
            NONE => self.flows[flow].head = job,
            tail => self.jobs[tail].behind = job,
        }
        self.flows[flow].tail = job;
        if !self.flows[flow].listed {
            self.ring.push(&mut self.flows, flow);
        }
    }

    /// The next hop is dead: all ready recipients of the job wait until it is looked at again. That is no attempt, but
    /// the attempts of others show that there is nobody, so their lifetime may end and their sender be warned.
    fn suspend(&mut self, job: u32, mono_ms: u64) {
        let destination = &self.destinations[self.flows[self.jobs[job].flow].destination];
        let reason: Box<str> = destination.reason.clone().unwrap_or_default();
        if self.expire_ready(job, &reason, mono_ms) {
            return;
        }
        let items = self.take_list(|schedule| std::mem::replace(&mut schedule.jobs[job].ready, NONE));
        if self.jobs[job].waiting == NONE {
            let alive_in = self.alive_in_ms(job, mono_ms);
            let spread = self.jitter.below(alive_in / 8 + 1);
            self.set_due(job, mono_ms.saturating_add(alive_in).saturating_add(spread), mono_ms);
        }
        self.push_waiting(job, &items);
        let message = self.jobs[job].message;
        self.warn_of_delay(message, &reason, mono_ms);
        if self.messages[message].standing == Standing::Delegated {
            let id = self.messages[message].id();
            self.notices.push_back(Notice::Unserved { id, reason });
        }
    }

    /// How long the next hop of a job will be left alone.
    fn alive_in_ms(&self, job: u32, mono_ms: u64) -> u64 {
        self.destinations[self.flows[self.jobs[job].flow].destination].dead_until_ms.saturating_sub(mono_ms)
    }

    /// The slots of a list of recipients that `cut` has taken off its job.
    fn take_list(&mut self, cut: impl FnOnce(&mut Self) -> u32) -> Vec<u32> {
        let mut at = cut(self);
        let mut items = Vec::new();
        while at != NONE {
            items.push(at);
            at = std::mem::replace(&mut self.items[at].next, NONE);
        }
        items
    }

    /// Puts recipients on the waiting list. Those of one job share their due time: the first to be put off sets it, and
    /// one that comes back much later moves it.
    fn put_off(&mut self, job: u32, items: &[u32], mono_ms: u64, wait: Wait) {
        if items.is_empty() {
            return;
        }
        let is_first = self.jobs[job].waiting == NONE;
        if is_first {
            self.jobs[job].attempts = self.jobs[job].attempts.saturating_add(1);
        }
        let soon_ms = mono_ms.saturating_add(self.settings.min_backoff_ms / 2);
        if is_first || self.due_ms(job) < soon_ms {
            let attempts = self.jobs[job].attempts;
            let usual = self.settings.backoff_ms(attempts, &mut self.jitter);
            let spread = self.jitter.below(wait.at_least_ms / 8 + 1);
            let wished = wait.at_least_ms.saturating_add(spread);
            let heeds = wait.is_wish && attempts <= HEEDED_ATTEMPTS;
            self.set_due(
                job,
                mono_ms.saturating_add(if heeds { wished } else { usual.max(wished) }),
                mono_ms,
            );
        }
        self.push_waiting(job, items);
    }

    fn push_waiting(&mut self, job: u32, items: &[u32]) {
        for item in items {
            self.items[*item].next = std::mem::replace(&mut self.jobs[job].waiting, *item);
        }
    }

    fn set_due(&mut self, job: u32, at_ms: u64, mono_ms: u64) {
        // Before its attempt a spared one has no end that it could wait for.
        let end_ms = self.end_ms(self.jobs[job].message).filter(|_| !self.spared.contains(&job));
        let at_ms = end_ms.map_or(at_ms, |end_ms| at_ms.min(end_ms));
        // Before its sender is told at a time of its own that it is late, it is tried once more.
        let late_ms = self.late_ms(self.jobs[job].message).filter(|late_ms| *late_ms > mono_ms);
        let at_ms = late_ms.map_or(at_ms, |late_ms| at_ms.min(late_ms));
        let ticks = (at_ms.saturating_sub(self.started_ms) >> TICK_BITS).saturating_add(1);
        let tick = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.jobs[job].due = tick;
        if self.due.len() > MIN_TIMERS + 2 * self.jobs.len() {
            self.drop_stale_timers();
        }
        self.due.push(Reverse((u64::from(tick) << 32) | u64::from(job)));
    }

    /// There is no cancel: a timer of a job that was flushed or settled stays until it goes off, or until here.
    fn drop_stale_timers(&mut self) {
        let jobs = &self.jobs;
        self.due.retain(|Reverse(entry)| {
            let job = &jobs[*entry as u32];
            job.message != NONE && job.waiting != NONE && job.due == (entry >> 32) as u32
        });
    }

    fn hop_hash(&self, hop: &NextHop) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hasher = std::hash::DefaultHasher::new();
        self.seed.hash(&mut hasher);
        hop.hash(&mut hasher);
        hasher.finish()
    }
}
