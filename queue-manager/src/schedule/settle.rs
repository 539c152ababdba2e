//! Leases and what comes of them. A lease ends with one outcome, or with its deliver process; then what it held waits.

use std::collections::HashMap;

use vsmtp_mail::QueueId;

use super::entry::Marks;
use super::lane::Lane;
use super::slab::NONE;
use super::{Schedule, Wait};

/// First wait after a deliver process died with a lease: nothing speaks against the next hop.
const LOST_WAIT_MS: u64 = 5_000;
/// A message that seemed past its lifetime when it was loaded is tried for at least so long before it expires: the clock
/// may have been wrong then, or may be wrong now.
const OLD_AT_LOAD_GRACE_MS: u64 = 3_600_000;

/// What an outcome says of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Delivered or failed for good.
    Settled,
    /// Try again later.
    Deferred,
}

/// What an outcome says of the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached<'a> {
    /// A host answered as a mail server should.
    Yes,
    /// Nobody could be reached, for this reason.
    No(&'a str),
}

/// What the host asks for besides its verdicts. Nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advice {
    /// Before which time the deferred recipients are not to be tried again; 0 if nothing was said.
    pub retry_after_ms: u64,
    /// Fewer attempts at a time.
    pub fewer: bool,
    /// How long nothing at all is to be tried at this next hop; 0 if nothing was said.
    pub pause_ms: u64,
}

/// All that an outcome says of the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// Whether somebody answered.
    pub reached: Reached<'a>,
    /// What the next attempts should heed.
    pub advice: Advice,
}

impl<'a> From<Reached<'a>> for Report<'a> {
    fn from(reached: Reached<'a>) -> Self {
        Report { reached, advice: Advice::default() }
    }
}

/// What became of a lease.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The message; `None` if it was removed meanwhile.
    pub id: Option<QueueId>,
    /// Deferred recipients whose lifetime is over: they failed, and are settled here.
    pub expired: Vec<u32>,
    /// Tell the sender of the delay, now and never again.
    pub warn: bool,
    /// Nothing is left of the message; it is forgotten here.
    pub finished: bool,
    /// Milliseconds until the deferred ones are tried again.
    pub retry_in_ms: u64,
    /// Attempts so far, this one included.
    pub attempts: u32,
}

/// An outcome that no honest deliver process sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseError {
    /// No such lease on this lane.
    Unknown,
    /// The recipients are not those of the lease.
    Recipients,
}

impl std::fmt::Display for LeaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LeaseError::Unknown => "outcome of a lease that was not given",
            LeaseError::Recipients => "outcome does not name the recipients of its lease",
        })
    }
}

impl std::error::Error for LeaseError {}

/// The leases that are out.
#[derive(Debug, Default)]
pub(super) struct Leases {
    out: HashMap<u64, Lease>,
    /// How many of them belong to a message that was removed.
    orphans: HashMap<QueueId, u32>,
    /// Messages whose last orphan has ended. No more than leases that end in one turn.
    returned: Vec<QueueId>,
    /// Those that have become orphans, and whose deliver processes are not told yet. No more than leases that are out.
    withdrawn: Vec<(Lane, u64)>,
    last: u64,
}

/// A lease that is out.
#[derive(Debug)]
pub(super) struct Lease {
    pub lane: Lane,
    /// `NONE` once the message was removed.
    pub message: u32,
    pub id: QueueId,
    pub job: u32,
    pub items: Vec<u32>,
    pub granted_ms: u64,
}

impl Leases {
    pub fn grant(&mut self, lease: Lease) -> u64 {
        self.last += 1;
        self.out.insert(self.last, lease);
        self.last
    }

    pub fn has_orphans(&self, id: QueueId) -> bool {
        self.orphans.contains_key(&id)
    }

    pub fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// An orphan has ended.
    fn end_orphan(&mut self, id: QueueId) {
        let Some(count) = self.orphans.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            self.orphans.remove(&id);
            self.returned.push(id);
        }
    }

    pub fn is_out(&self, lease: u64) -> bool {
        self.out.contains_key(&lease)
    }

    pub fn len(&self) -> usize {
        self.out.len()
    }
}

impl Schedule {
    /// A deliver process is up and takes so many leases at a time.
    pub fn lane_up(&mut self, lane: Lane, credits: u32, mono_ms: u64) {
        self.lane_down(lane, mono_ms);
        self.lanes.open(lane, credits);
        while let Some(flow) = self.lanes.stranded.pop(&mut self.flows) {
            self.ring.push(&mut self.flows, flow);
        }
    }

    /// A deliver process gets no more leases: another one has its place, or it is to end. Those that it has go on.
    pub fn lane_retire(&mut self, lane: Lane) {
        let Some(open) = self.lanes.find(lane) else { return };
        open.retired = true;
        while let Some(flow) = open.parked.pop(&mut self.flows) {
            self.ring.push(&mut self.flows, flow);
        }
    }

    /// A deliver process is gone: its leases come back. Answers how many.
    pub fn lane_down(&mut self, lane: Lane, mono_ms: u64) -> usize {
        if let Some(mut open) = self.lanes.close(lane) {
            while let Some(flow) = open.parked.pop(&mut self.flows) {
                self.ring.push(&mut self.flows, flow);
            }
        }
        let lost: Vec<u64> =
            self.leases.out.iter().filter(|(_, l)| l.lane == lane).map(|(id, _)| *id).collect();
        for id in &lost {
            if let Some(lease) = self.leases.out.remove(id) {
                self.lost(&lease, mono_ms);
            }
        }
        lost.len()
    }

    /// A lane with a lease that is older than that, if any: its process hangs.
    pub fn overdue(&self, granted_before_ms: u64) -> Option<Lane> {
        self.leases.out.values().find(|lease| lease.granted_ms < granted_before_ms).map(|lease| lease.lane)
    }

    /// An attempt could not even be sent (the body cannot be read, the edge is broken): the lease comes back.
    pub fn give_back(&mut self, lease: u64, mono_ms: u64) {
        if let Some(lease) = self.leases.out.remove(&lease) {
            self.return_credit(lease.lane);
            self.lost(&lease, mono_ms);
        }
    }

    /// A deliver process that gets no more leases was sent this one before it could say so, or has broken it off because its
    /// message was removed: somebody else gets it at once, and nothing counts as tried.
    pub fn take_back(&mut self, lane: Lane, lease: u64) -> Result<(), LeaseError> {
        if self.leases.out.get(&lease).is_none_or(|granted| granted.lane != lane) {
            return Err(LeaseError::Unknown);
        }
        let Some(lease) = self.leases.out.remove(&lease) else { return Err(LeaseError::Unknown) };
        self.return_credit(lane);
        if self.leave(&lease) == NONE {
            self.drop_leased_items(&lease);
            return Ok(());
        }
        for item in &lease.items {
            self.items[*item].next = std::mem::replace(&mut self.jobs[lease.job].ready, *item);
        }
        self.enqueue(lease.job);
        Ok(())
    }

    /// Takes an outcome. `results` names each recipient of the lease once, in any order.
    pub fn settle<'a>(
        &mut self,
        lane: Lane,
        lease: u64,
        results: &[(u32, Verdict)],
        report: impl Into<Report<'a>>,
        mono_ms: u64,
    ) -> Result<Settled, LeaseError> {
        let granted =
            self.leases.out.get(&lease).filter(|granted| granted.lane == lane).ok_or(LeaseError::Unknown)?;
        let verdicts = self.match_up(granted, results)?;
        let Some(granted) = self.leases.out.remove(&lease) else { return Err(LeaseError::Unknown) };
        self.return_credit(lane);
        let report = report.into();
        self.judge_destination(granted.job, &report, mono_ms);
        Ok(self.apply(&granted, &verdicts, report.advice, mono_ms))
    }

    /// The verdicts in the order of the lease's items.
    fn match_up(&self, lease: &Lease, results: &[(u32, Verdict)]) -> Result<Vec<Verdict>, LeaseError> {
        if results.len() != lease.items.len() {
            return Err(LeaseError::Recipients);
        }
        let mut sorted: Vec<(u32, Verdict)> = results.to_vec();
        sorted.sort_unstable_by_key(|(index, _)| *index);
        let verdict_of = |item: &u32| {
            let index = u32::from(self.items[*item].index);
            let at = sorted.binary_search_by_key(&index, |(index, _)| *index).ok()?;
            sorted.get(at).map(|(_, verdict)| *verdict)
        };
        lease.items.iter().map(verdict_of).collect::<Option<_>>().ok_or(LeaseError::Recipients)
    }

    fn return_credit(&mut self, lane: Lane) {
        let Some(open) = self.lanes.find(lane) else { return };
        if open.credits.give_back()
            && let Some(flow) = open.parked.pop(&mut self.flows)
        {
            self.ring.push(&mut self.flows, flow);
        }
    }

    fn judge_destination(&mut self, job: u32, report: &Report<'_>, mono_ms: u64) {
        let destination = self.flows[self.jobs[job].flow].destination;
        let record = &mut self.destinations[destination];
        let died = match report.reached {
            // Whoever has too much to do is alive, whether we were let in or not.
            _ if report.advice.fewer => {
                record.fewer();
                false
            }
            Reached::Yes => {
                record.reached(&self.settings);
                false
            }
            Reached::No(reason) => record.unreachable(mono_ms, reason, &self.settings, &mut self.jitter),
        };
        if report.advice.pause_ms > 0 {
            let rest_ms = mono_ms.saturating_add(report.advice.pause_ms);
            record.rest_until_ms = record.rest_until_ms.max(rest_ms);
        }
        if died {
            self.wake_all(destination);
        }
    }

    fn apply(&mut self, lease: &Lease, verdicts: &[Verdict], advice: Advice, mono_ms: u64) -> Settled {
        let message = self.leave(lease);
        if message == NONE {
            self.drop_leased_items(lease);
            return Settled::default();
        }
        self.tried(lease.job);
        let pick = |wanted: Verdict| {
            let pairs = lease.items.iter().zip(verdicts);
            pairs.filter(|(_, verdict)| **verdict == wanted).map(|(item, _)| *item).collect::<Vec<u32>>()
        };
        let (mut settled, mut deferred) = (pick(Verdict::Settled), pick(Verdict::Deferred));
        let mut answer = Settled { id: Some(self.messages[message].id()), ..Settled::default() };
        if !deferred.is_empty() && self.is_expired(message, mono_ms) {
            answer.expired = deferred.iter().map(|item| u32::from(self.items[*item].index)).collect();
            settled.append(&mut deferred);
        }
        if !deferred.is_empty() {
            let at_least_ms = self.alive_in_ms(lease.job, mono_ms).max(advice.retry_after_ms);
            let is_wish = at_least_ms > 0 && at_least_ms == advice.retry_after_ms;
            self.put_off(lease.job, &deferred, mono_ms, Wait { at_least_ms, is_wish });
            answer.retry_in_ms = self.due_ms(lease.job).saturating_sub(mono_ms);
            answer.warn = self.take_warning(message, mono_ms);
        }
        answer.attempts = u32::from(self.jobs[lease.job].attempts) + u32::from(deferred.is_empty());
        answer.finished = self.settle_items(message, &settled);
        answer
    }

    fn lost(&mut self, lease: &Lease, mono_ms: u64) {
        let message = self.leave(lease);
        if message == NONE {
            return self.drop_leased_items(lease);
        }
        let first = self.jobs[lease.job].attempts == 0 && self.jobs[lease.job].waiting == NONE;
        if first {
            self.jobs[lease.job].attempts = 1;
            let wait = LOST_WAIT_MS + self.jitter.below(LOST_WAIT_MS);
            self.set_due(lease.job, mono_ms.saturating_add(wait), mono_ms);
            self.push_waiting(lease.job, &lease.items);
        } else {
            // Again and again this must not go on.
            self.tried(lease.job);
            self.put_off(lease.job, &lease.items, mono_ms, Wait { at_least_ms: 0, is_wish: false });
        }
    }

    /// A job's attempt has ended; if nothing of it is left to be tried for the first time here, it is spared no more.
    fn tried(&mut self, job: u32) {
        if self.jobs[job].ready == NONE && self.jobs[job].leased == 0 {
            self.spared.remove(&job);
        }
    }

    /// The lease no more counts at its job and its next hop. Answers the message, or `NONE` if it was removed.
    fn leave(&mut self, lease: &Lease) -> u32 {
        let job = &mut self.jobs[lease.job];
        job.leased = job.leased.saturating_sub(lease.items.len() as u16);
        let destination = self.flows[job.flow].destination;
        let record = &mut self.destinations[destination];
        record.in_flight = record.in_flight.saturating_sub(1);
        self.wake_destination(destination);
        lease.message
    }

    fn drop_leased_items(&mut self, lease: &Lease) {
        for item in &lease.items {
            self.items.remove(*item);
        }
        let job = &self.jobs[lease.job];
        if job.message == NONE && !job.queued && job.leased == 0 {
            self.free_job(lease.job);
        }
        self.leases.end_orphan(lease.id);
    }

    /// Cuts the leases of a message that is being removed off it.
    pub(super) fn orphan_leases(&mut self, message: u32) {
        let Leases { out, orphans, withdrawn, .. } = &mut self.leases;
        for (number, lease) in out.iter_mut().filter(|(_, lease)| lease.message == message) {
            lease.message = NONE;
            withdrawn.push((lease.lane, *number));
            *orphans.entry(lease.id).or_default() += 1;
            self.totals.recipients = self.totals.recipients.saturating_sub(lease.items.len() as u64);
        }
    }

    /// A lease that is out and to be asked back, for its message was removed. Take all in each turn.
    pub fn take_withdrawn(&mut self) -> Option<(Lane, u64)> {
        self.leases.withdrawn.pop()
    }

    /// True if a lease is out of a message that was removed.
    pub fn is_withdrawn(&self, lease: u64) -> bool {
        self.leases.out.get(&lease).is_some_and(|lease| lease.message == NONE)
    }

    /// A message of which nothing is out any more that was granted before it was removed, however that ended. Each is told
    /// once. Take all in each turn.
    pub fn take_returned(&mut self) -> Option<QueueId> {
        self.leases.returned.pop()
    }

    /// When a lifetime that a message has of its own ends, in monotonic milliseconds; not before the grace of one that
    /// seemed to be over at the start.
    pub(super) fn end_ms(&self, message: u32) -> Option<u64> {
        let record = self.messages.get(message).filter(|record| record.marks.has(Marks::OWN_LIFETIME))?;
        let lifetime_ms = i64::try_from(*self.lifetimes.get(&message)?).unwrap_or(i64::MAX);
        let end_ms = u64::try_from(record.born_ms.saturating_add(lifetime_ms)).unwrap_or(0);
        let is_old = record.marks.has(Marks::OLD_AT_LOAD);
        Some(if is_old { end_ms.max(self.grace_end_ms()) } else { end_ms })
    }

    /// The age at which its sender wants to hear that it is late, if that is not the queue's own.
    fn own_warning(&self, message: u32) -> Option<u64> {
        self.messages.get(message).filter(|record| record.marks.has(Marks::OWN_WARNING))?;
        self.warnings.get(&message).copied()
    }

    /// When its sender is to hear that it is late, in monotonic milliseconds; `None` if that is for the queue to say, or
    /// was said.
    pub(super) fn late_ms(&self, message: u32) -> Option<u64> {
        let late_ms = i64::try_from(self.own_warning(message)?).unwrap_or(i64::MAX);
        let record = &self.messages[message];
        let at_ms = u64::try_from(record.born_ms.saturating_add(late_ms)).unwrap_or(0);
        (!record.marks.has(Marks::WARNED)).then_some(at_ms)
    }

    fn grace_end_ms(&self) -> u64 {
        self.started_ms.saturating_add(OLD_AT_LOAD_GRACE_MS)
    }

    /// Its message has a lifetime of its own, which is over: nothing is tried any more.
    pub(super) fn is_overdue(&self, job: u32, mono_ms: u64) -> bool {
        !self.spared.contains(&job)
            && self.end_ms(self.jobs[job].message).is_some_and(|end_ms| mono_ms >= end_ms)
    }

    pub(super) fn is_expired(&self, message: u32, mono_ms: u64) -> bool {
        if let Some(end_ms) = self.end_ms(message) {
            return mono_ms >= end_ms;
        }
        let record = &self.messages[message];
        let lifetime = self.settings.lifetime_of(record.marks.has(Marks::NULL_SENDER));
        let in_grace = record.marks.has(Marks::OLD_AT_LOAD) && mono_ms < self.grace_end_ms();
        record.age_ms(mono_ms) >= lifetime && !in_grace
    }

    /// True once, when the time has come to tell the sender of the delay.
    pub(super) fn take_warning(&mut self, message: u32, mono_ms: u64) -> bool {
        let own = self.own_warning(message);
        let after = own.unwrap_or(self.settings.delay_warning_ms);
        let record = &mut self.messages[message];
        let due = (after > 0 || own.is_some())
            && !record.marks.has(Marks::WARNED)
            && !record.marks.has(Marks::NULL_SENDER)
            && record.age_ms(mono_ms) >= after;
        if due {
            record.marks.set(Marks::WARNED, true);
        }
        due
    }

    /// Recipients of a message that are out on leases.
    pub(super) fn leased_items(&self, message: u32) -> impl Iterator<Item = u32> {
        self.leases
            .out
            .values()
            .filter(move |lease| lease.message == message)
            .flat_map(|lease| lease.items.iter().copied())
    }
}
