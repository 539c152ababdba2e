//! How messages come into the schedule and leave it.

use vsmtp_mail::{MAX_RECIPIENTS, NextHop, QueueId, ReversePath};

use super::entry::{Item, Job, Marks, Message, Standing};
use super::flow::{CLASSES, Flow, Rank};
use super::slab::NONE;
use super::{Destination, MAX_IDLE_DESTINATIONS, Schedule, table};
use crate::store::Timing;

/// A message to be scheduled.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// Its id.
    pub id: QueueId,
    /// Senders take turns.
    pub sender: Sender,
    /// How long it has been here, in milliseconds; 0 for a new one.
    pub age_ms: u64,
    /// Whether it may be delivered.
    pub standing: Standing,
    /// The sender has been told of the delay.
    pub warned: bool,
    /// What is asked for it.
    pub timing: Timing,
}

/// A number for a sender: equal for equal senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender(pub u32);

impl Sender {
    /// The null sender.
    pub const NULL: Sender = Sender(0);
}

impl From<&ReversePath> for Sender {
    fn from(path: &ReversePath) -> Self {
        let Some(address) = path.address() else { return Sender::NULL };
        let hash = table::hash(1, address.local_part().as_bytes());
        Sender(table::hash(hash, address.domain().as_str().as_bytes()) as u32 | 1)
    }
}

/// One unsettled recipient of it.
#[derive(Debug, Clone, Copy)]
pub struct Pending<'a> {
    /// Place in the envelope, below [`MAX_RECIPIENTS`].
    pub index: u32,
    /// Where to.
    pub next_hop: &'a NextHop,
    /// Attempts so far.
    pub attempts: u32,
    /// Milliseconds until the next attempt.
    pub wait_ms: u64,
}

/// Why a message was not taken. Nothing of it is kept then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmitError {
    /// It is here already.
    Known,
    /// It has no unsettled recipient, or one with an impossible place.
    Recipients,
    /// The schedule holds all that its slots can number.
    Full,
}

impl std::fmt::Display for AdmitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AdmitError::Known => "message is scheduled already",
            AdmitError::Recipients => "message has no recipient to deliver to",
            AdmitError::Full => "schedule is full",
        })
    }
}

impl std::error::Error for AdmitError {}

impl Schedule {
    /// Takes a message with its unsettled recipients.
    pub fn admit<'a>(
        &mut self,
        admission: &Admission,
        recipients: impl IntoIterator<Item = Pending<'a>>,
        mono_ms: u64,
    ) -> Result<(), AdmitError> {
        if self.contains(admission.id) {
            return Err(AdmitError::Known);
        }
        let message = self.make_message(admission, mono_ms).ok_or(AdmitError::Full)?;
        let group = Group { class: self.class_of(admission.sender), rank: admission.timing.priority.into() };
        for pending in recipients {
            if let Err(error) = self.add_recipient(message, group, &pending, mono_ms) {
                self.drop_message(message);
                return Err(error);
            }
        }
        if self.messages[message].unsettled == 0 {
            self.drop_message(message);
            return Err(AdmitError::Recipients);
        }
        let hash = table::hash(self.seed, &self.messages[message].id);
        let (messages, seed) = (&self.messages, self.seed);
        self.by_id.insert(hash, message, |slot| table::hash(seed, &messages[slot].id));
        self.totals.count(admission.standing, 1);
        let mut job = self.messages[message].jobs;
        while job != NONE {
            self.enqueue(job);
            job = self.jobs[job].sibling;
        }
        Ok(())
    }

    fn make_message(&mut self, admission: &Admission, mono_ms: u64) -> Option<u32> {
        let null_sender = admission.sender == Sender::NULL;
        let mut marks = Marks::default();
        marks.set(Marks::NULL_SENDER, null_sender);
        marks.set(Marks::WARNED, admission.warned);
        let age_ms = admission.age_ms.saturating_sub(admission.timing.wait_ms);
        let lifetime_ms = admission.timing.lifetime_ms;
        let usual_ms = self.settings.lifetime_of(null_sender);
        let is_old = age_ms > 0 && age_ms >= lifetime_ms.unwrap_or(usual_ms);
        marks.set(Marks::OLD_AT_LOAD, is_old && !admission.timing.is_strict);
        marks.set(Marks::OWN_WARNING, admission.timing.late_ms.is_some());
        marks.set(Marks::OWN_LIFETIME, lifetime_ms.is_some());
        let message = self.messages.insert(Message {
            id: admission.id.to_bytes(),
            born_ms: (mono_ms as i64)
                .saturating_sub(i64::try_from(admission.age_ms).unwrap_or(i64::MAX))
                .saturating_add(i64::try_from(admission.timing.wait_ms).unwrap_or(i64::MAX)),
            jobs: NONE,
            unsettled: 0,
            standing: admission.standing,
            marks,
        })?;
        if let Some(lifetime_ms) = lifetime_ms {
            self.lifetimes.insert(message, lifetime_ms);
        }
        if let Some(late_ms) = admission.timing.late_ms {
            self.warnings.insert(message, late_ms);
        }
        Some(message)
    }

    fn add_recipient(
        &mut self,
        message: u32,
        group: Group,
        pending: &Pending<'_>,
        mono_ms: u64,
    ) -> Result<(), AdmitError> {
        let index = u16::try_from(pending.index)
            .ok()
            .filter(|index| {
                usize::from(*index) < MAX_RECIPIENTS && self.messages[message].unsettled < u16::MAX
            })
            .ok_or(AdmitError::Recipients)?;
        let job = self.job_for(message, group, pending.next_hop)?;
        let item = self.items.insert(Item { next: NONE, index }).ok_or(AdmitError::Full)?;
        self.messages[message].unsettled += 1;
        self.totals.recipients += 1;
        let attempts = u8::try_from(pending.attempts).unwrap_or(u8::MAX);
        self.jobs[job].attempts = self.jobs[job].attempts.max(attempts);
        // The first attempt waits for the time of release.
        let until_born_ms = self.messages[message].born_ms.saturating_sub(mono_ms as i64);
        let keep_ms = if attempts == 0 { u64::try_from(until_born_ms).unwrap_or(0) } else { 0 };
        if pending.wait_ms.max(keep_ms) == 0 {
            self.items[item].next = std::mem::replace(&mut self.jobs[job].ready, item);
            return Ok(());
        }
        // What waited in the store waits no longer than a retry may take: a clock that jumped back freezes nothing.
        let longest_ms = self.settings.max_backoff_ms.max(self.settings.min_backoff_ms);
        let wait = pending.wait_ms.min(longest_ms).max(keep_ms);
        if self.jobs[job].waiting == NONE {
            self.set_due(job, mono_ms.saturating_add(wait), mono_ms);
        }
        self.push_waiting(job, &[item]);
        Ok(())
    }

    fn class_of(&self, sender: Sender) -> u8 {
        (table::hash(self.seed, &sender.0.to_le_bytes()) % CLASSES as u64) as u8
    }

    /// The message's job for a next hop; recipients of one next hop usually come one after the other.
    fn job_for(&mut self, message: u32, group: Group, hop: &NextHop) -> Result<u32, AdmitError> {
        let destination = self.destination_for(hop)?;
        let flow = self.flow_for(destination, group)?;
        let newest = self.flows[flow].newest;
        if self.jobs.get(newest).is_some_and(|job| job.message == message && job.flow == flow) {
            return Ok(newest);
        }
        let sibling = self.messages[message].jobs;
        let job = Job { message, flow, sibling, ..Job::default() };
        let job = self.jobs.insert(job).ok_or(AdmitError::Full)?;
        let marks = self.messages[message].marks;
        if marks.has(Marks::OWN_LIFETIME) && marks.has(Marks::OLD_AT_LOAD) {
            self.spared.insert(job);
        }
        self.messages[message].jobs = job;
        self.flows[flow].newest = job;
        self.flows[flow].jobs += 1;
        Ok(job)
    }

    fn destination_for(&mut self, hop: &NextHop) -> Result<u32, AdmitError> {
        let hash = self.hop_hash(hop);
        if let Some(found) = self.by_hop.find(hash, |slot| self.destinations[slot].hop.as_ref() == Some(hop))
        {
            return Ok(found);
        }
        let destination = Destination::new(hop.clone(), hash, &self.settings);
        let slot = self.destinations.insert(destination).ok_or(AdmitError::Full)?;
        let destinations = &self.destinations;
        self.by_hop.insert(hash, slot, |slot| destinations[slot].hash);
        Ok(slot)
    }

    fn flow_for(&mut self, destination: u32, group: Group) -> Result<u32, AdmitError> {
        let Group { class, rank } = group;
        let hash = flow_hash(self.seed, destination, group);
        let is_it = |slot: u32| {
            let flow = &self.flows[slot];
            flow.destination == destination && flow.class == class && flow.rank == rank
        };
        if let Some(found) = self.by_flow.find(hash, is_it) {
            return Ok(found);
        }
        let flow = Flow { destination, class, rank, ..Flow::default() };
        let slot = self.flows.insert(flow).ok_or(AdmitError::Full)?;
        self.destinations[destination].flows += 1;
        let (flows, seed) = (&self.flows, self.seed);
        self.by_flow.insert(hash, slot, |slot| hash_of_flow(seed, &flows[slot]));
        Ok(slot)
    }

    /// Takes recipients off the books. True if the message is finished, and then it is gone.
    pub(super) fn settle_items(&mut self, message: u32, items: &[u32]) -> bool {
        for item in items {
            self.items.remove(*item);
        }
        self.totals.recipients -= items.len() as u64;
        let left = usize::from(self.messages[message].unsettled).saturating_sub(items.len());
        self.messages[message].unsettled = left as u16;
        if left > 0 {
            return false;
        }
        self.forget_id(message);
        self.drop_message(message);
        true
    }

    /// Takes the id of a message out of the table.
    pub(super) fn forget_id(&mut self, message: u32) {
        self.totals.discount(self.messages[message].standing, 1);
        let (messages, seed) = (&self.messages, self.seed);
        let hash_of = |slot: u32| table::hash(seed, &messages[slot].id);
        self.by_id.remove(hash_of(message), message, hash_of);
    }

    /// Frees a message that is not (or no more) in the table, with all that hangs on it but what is on leases.
    pub(super) fn drop_message(&mut self, message: u32) {
        let mut job = self.messages[message].jobs;
        while job != NONE {
            let next = self.jobs[job].sibling;
            let mut items = self.take_list(|s| std::mem::replace(&mut s.jobs[job].ready, NONE));
            items.extend(self.take_list(|s| std::mem::replace(&mut s.jobs[job].waiting, NONE)));
            self.totals.recipients -= items.len() as u64;
            for item in items {
                self.items.remove(item);
            }
            // One that stands in a queue, or is out on a lease, is freed when it comes back from there.
            self.jobs[job].message = NONE;
            if !self.jobs[job].queued && self.jobs[job].leased == 0 {
                self.free_job(job);
            }
            job = next;
        }
        let marks = self.messages.remove(message).marks;
        if marks.has(Marks::OWN_LIFETIME) {
            self.lifetimes.remove(&message);
        }
        if marks.has(Marks::OWN_WARNING) {
            self.warnings.remove(&message);
        }
    }

    pub(super) fn free_job(&mut self, job: u32) {
        let flow = self.jobs.remove(job).flow;
        self.spared.remove(&job);
        self.flows[flow].jobs -= 1;
        self.free_flow_if_unused(flow);
    }

    pub(super) fn free_flow_if_unused(&mut self, flow: u32) {
        let record = &self.flows[flow];
        if record.jobs > 0 || record.listed || record.head != NONE {
            return;
        }
        let destination = record.destination;
        let (flows, seed) = (&self.flows, self.seed);
        let hash_of = |slot: u32| hash_of_flow(seed, &flows[slot]);
        self.by_flow.remove(hash_of(flow), flow, hash_of);
        self.flows.remove(flow);
        self.destinations[destination].flows -= 1;
        self.note_if_idle(destination);
    }

    /// Remembers the state of next hops without work, but not of too many.
    pub(super) fn note_if_idle(&mut self, destination: u32) {
        let record = &mut self.destinations[destination];
        if record.flows > 0 || record.in_flight > 0 || record.idle {
            return;
        }
        record.idle = true;
        self.idle.push_back(destination);
        while self.idle.len() > MAX_IDLE_DESTINATIONS {
            let Some(oldest) = self.idle.pop_front() else { return };
            self.destinations[oldest].idle = false;
            if self.destinations[oldest].flows == 0 && self.destinations[oldest].in_flight == 0 {
                let destinations = &self.destinations;
                self.by_hop.remove(destinations[oldest].hash, oldest, |slot| destinations[slot].hash);
                self.destinations.remove(oldest);
            }
        }
    }
}

/// What the messages of a flow have in common besides their next hop.
#[derive(Debug, Clone, Copy)]
struct Group {
    class: u8,
    rank: Rank,
}

fn flow_hash(seed: u64, destination: u32, group: Group) -> u64 {
    let group = (u64::from(group.class) << 2) | group.rank as u64;
    table::hash(seed, &((u64::from(destination) << 10) | group).to_le_bytes())
}

fn hash_of_flow(seed: u64, flow: &Flow) -> u64 {
    flow_hash(seed, flow.destination, Group { class: flow.class, rank: flow.rank })
}
