//! Looking at the schedule without changing it: for lists, figures and reports.

use std::collections::{BTreeSet, HashMap};

use vsmtp_mail::{NextHop, QueueId};

use super::Schedule;
use super::destination::Destination;
use super::entry::{Message, Standing};
use super::slab::NONE;

/// Counts, kept up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that may be delivered, those included that are to be read anew first.
    pub active: u64,
    /// Messages that wait for the post-queue filter.
    pub judging: u64,
    /// Messages on hold.
    pub held: u64,
    /// Messages in quarantine.
    pub quarantined: u64,
    /// Messages given up.
    pub dead: u64,
    /// Messages that a service has, or is to get.
    pub delegated: u64,
    /// Unsettled recipients of all of them.
    pub recipients: u64,
}

impl Totals {
    /// All messages.
    pub fn messages(&self) -> u64 {
        self.active + self.judging + self.held + self.quarantined + self.dead + self.delegated
    }

    pub(super) fn count(&mut self, standing: Standing, more: u64) {
        *self.slot(standing) += more;
    }

    pub(super) fn discount(&mut self, standing: Standing, less: u64) {
        let slot = self.slot(standing);
        *slot = slot.saturating_sub(less);
    }

    fn slot(&mut self, standing: Standing) -> &mut u64 {
        match standing {
            Standing::Active | Standing::Stale => &mut self.active,
            Standing::Judging => &mut self.judging,
            Standing::Held => &mut self.held,
            Standing::Quarantined => &mut self.quarantined,
            Standing::Dead => &mut self.dead,
            Standing::Delegated => &mut self.delegated,
        }
    }
}

/// How one message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// Whether it may be delivered.
    pub standing: Standing,
    /// All that is unsettled waits for a later time.
    pub deferred: bool,
    /// Monotonic time of the next attempt; `None` while one may start at any time, or may not start at all.
    pub next_ms: Option<u64>,
    /// Unsettled recipients.
    pub unsettled: u32,
    /// Most attempts that any of them has seen.
    pub attempts: u32,
    /// Milliseconds since it arrived.
    pub age_ms: u64,
}

/// How one next hop stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Prospect {
    /// Its place in the order of the pages.
    pub number: u32,
    /// Which.
    pub next_hop: NextHop,
    /// How it is.
    pub condition: Condition,
    /// Messages with something for it.
    pub messages: u64,
    /// Attempts under way.
    pub attempts: u32,
    /// Attempts that it gets at a time at present.
    pub concurrency: u32,
    /// Monotonic time of the next attempt, if none may begin now.
    pub next_ms: Option<u64>,
    /// Why nobody could be reached lately; empty if somebody was.
    pub reason: Box<str>,
}

/// How a next hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It takes mail, as far as we know.
    Up,
    /// It has had all that its rate allows for now.
    Limited,
    /// Its host asked for a pause.
    Resting,
    /// Nobody could be reached, and it is left alone for a while.
    Dead,
}

impl Schedule {
    /// The next `limit` next hops behind `after` with something to do, or with a memory of trouble.
    pub fn prospects(&self, after: Option<u32>, limit: usize, mono_ms: u64) -> Vec<Prospect> {
        let mut messages: HashMap<u32, u64> = HashMap::new();
        for (_, flow) in self.flows.iter().filter(|(_, flow)| flow.destination != NONE) {
            *messages.entry(flow.destination).or_default() += u64::from(flow.jobs);
        }
        let behind = self.destinations.iter().filter(|(slot, _)| after.is_none_or(|after| *slot > after));
        let prospect = |(number, record): (u32, &Destination)| {
            let next_ms = record.next_ms(mono_ms);
            let condition = match next_ms {
                Some(_) if record.is_dead(mono_ms) => Condition::Dead,
                Some(_) if record.rest_until_ms > mono_ms => Condition::Resting,
                Some(_) => Condition::Limited,
                None => Condition::Up,
            };
            let messages = messages.get(&number).copied().unwrap_or(0);
            let is_quiet = messages == 0 && record.in_flight == 0 && record.reason.is_none();
            Some(Prospect {
                number,
                next_hop: record.hop.clone().filter(|_| !is_quiet || condition != Condition::Up)?,
                condition,
                messages,
                attempts: record.in_flight,
                concurrency: record.concurrency(),
                next_ms,
                reason: record.reason.clone().unwrap_or_default(),
            })
        };
        behind.filter_map(prospect).take(limit).collect()
    }

    /// Counts.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Leases that are out.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// True if that lease is out.
    pub fn has_lease(&self, lease: u64) -> bool {
        self.leases.is_out(lease)
    }

    /// True if leases of a message are out that were granted before it was removed, whether it is here again or not.
    pub fn has_orphans(&self, id: QueueId) -> bool {
        self.leases.has_orphans(id)
    }

    /// True if [`Schedule::take_returned`] has something to say.
    pub fn has_returned(&self) -> bool {
        self.leases.has_returned()
    }

    /// Next hops that something is known about.
    pub fn destinations(&self) -> usize {
        self.destinations.len()
    }

    /// How a message stands.
    pub fn survey(&self, id: QueueId, mono_ms: u64) -> Option<Survey> {
        let message = self.find(id)?;
        let record = &self.messages[message];
        let (mut next_ms, mut attempts, mut busy) = (None, 0, false);
        let mut job = record.jobs;
        while job != NONE {
            let this = &self.jobs[job];
            busy |= this.ready != NONE || this.leased > 0;
            if this.waiting != NONE {
                let due = self.due_ms(job);
                next_ms = Some(next_ms.map_or(due, |before: u64| before.min(due)));
            }
            attempts = attempts.max(u32::from(this.attempts));
            job = this.sibling;
        }
        let is_active = record.standing.goes_out();
        Some(Survey {
            standing: record.standing,
            deferred: is_active && !busy,
            next_ms: next_ms.filter(|_| is_active && !busy),
            unsettled: u32::from(record.unsettled),
            attempts,
            age_ms: record.age_ms(mono_ms),
        })
    }

    /// Places in the envelope of the unsettled recipients, in rising order.
    pub fn unsettled(&self, id: QueueId) -> Vec<u32> {
        let Some(message) = self.find(id) else { return Vec::new() };
        let mut found: Vec<u32> =
            self.leased_items(message).map(|item| u32::from(self.items[item].index)).collect();
        let mut job = self.messages[message].jobs;
        while job != NONE {
            for mut at in [self.jobs[job].ready, self.jobs[job].waiting] {
                while at != NONE {
                    found.push(u32::from(self.items[at].index));
                    at = self.items[at].next;
                }
            }
            job = self.jobs[job].sibling;
        }
        found.sort_unstable();
        found
    }

    /// The next `limit` ids behind `after`, in rising order, of messages that `wanted` says yes to, given their standing
    /// and whether they are deferred. Looks at every message once and remembers no more than `limit`.
    pub fn ids_after(
        &self,
        after: Option<QueueId>,
        limit: usize,
        wanted: impl Fn(Standing, bool) -> bool,
    ) -> Vec<QueueId> {
        let mut page: BTreeSet<QueueId> = BTreeSet::new();
        for (_, message) in self.messages.iter() {
            if message.is_vacant() {
                continue;
            }
            let id = message.id();
            let is_full = page.len() >= limit;
            if after.is_some_and(|after| id <= after)
                || (is_full && page.last().is_none_or(|last| id >= *last))
            {
                continue;
            }
            if wanted(message.standing, self.is_deferred(message)) {
                page.insert(id);
            }
            if page.len() > limit {
                page.pop_last();
            }
        }
        page.into_iter().collect()
    }

    /// May be delivered, and all that is unsettled waits.
    fn is_deferred(&self, message: &Message) -> bool {
        let mut job = message.jobs;
        while job != NONE {
            let this = &self.jobs[job];
            if this.ready != NONE || this.leased > 0 {
                return false;
            }
            job = this.sibling;
        }
        message.standing.goes_out()
    }

    pub(super) fn due_ms(&self, job: u32) -> u64 {
        self.tick_ms(u64::from(self.jobs[job].due) << 32)
    }
}
