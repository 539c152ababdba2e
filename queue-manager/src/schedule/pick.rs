//! Picking: whose turn it is, and what goes out together.

use vsmtp_ipc::edge::queue_deliver::MAX_LEASE_RECIPIENTS;
use vsmtp_mail::QueueId;

use super::Schedule;
use super::lane::Lane;
use super::settle::Lease;
use super::slab::NONE;
use super::sweep::MAX_NOTICES;

/// Most flows that one call of `next` looks at in vain.
const MAX_STEPS: usize = 4096;

/// Deliver these recipients of this message; they share one next hop.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Comes back in the outcome.
    pub lease: u64,
    /// Whom to ask.
    pub lane: Lane,
    /// The message.
    pub id: QueueId,
    /// Places in the envelope, in rising order, at most [`MAX_LEASE_RECIPIENTS`].
    pub recipients: Vec<u32>,
    /// How often they were tried before.
    pub attempts: u32,
}

/// What `next` has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this.
    Lease(Plan),
    /// Nothing to send before something changes.
    Idle,
    /// Call again in the next turn: much had to be looked at, or was found out.
    Later,
}

impl Schedule {
    /// The next lease. Takes a credit of its lane and a place in its next hop's window.
    pub fn next(&mut self, mono_ms: u64) -> Next {
        for _ in 0..MAX_STEPS {
            if self.notices.len() >= MAX_NOTICES {
                return Next::Later;
            }
            if self.ring.is_empty() && !self.wake_lanes() {
                return Next::Idle;
            }
            let Some(flow) = self.ring.pop(&mut self.flows) else { return Next::Idle };
            if let Some(plan) = self.step(flow, mono_ms) {
                return Next::Lease(plan);
            }
        }
        Next::Later
    }

    /// A flow that waited for a lane with credits, if there is any. The flow that a credit woke may have found its next
    /// hop full, so the others must not wait for the next credit.
    fn wake_lanes(&mut self) -> bool {
        let mut woken = false;
        for open in self.lanes.iter_mut() {
            if open.credits.free() > 0
                && let Some(flow) = open.parked.pop(&mut self.flows)
            {
                self.ring.push(&mut self.flows, flow);
                woken = true;
            }
        }
        woken
    }

    /// Looks at a flow that was just taken off the ring, and puts it where it belongs.
    fn step(&mut self, flow: u32, mono_ms: u64) -> Option<Plan> {
        let destination = self.flows[flow].destination;
        let record = &mut self.destinations[destination];
        if record.is_dead(mono_ms) {
            self.drain(flow, destination, mono_ms);
            return None;
        }
        if record.room() == 0 {
            record.parked.push(&mut self.flows, flow);
            return None;
        }
        if let Some(free_ms) = record.free_ms(mono_ms) {
            record.parked.push(&mut self.flows, flow);
            self.wake_at(destination, free_ms, mono_ms);
            return None;
        }
        let record = &self.destinations[destination];
        let lane = record.hop.as_ref().and_then(|hop| self.lanes.choose(hop, record.hash));
        let Some(lane) = lane else {
            self.lanes.stranded.push(&mut self.flows, flow);
            return None;
        };
        if self.lanes.at(lane).credits.free() == 0 {
            self.lanes.at(lane).parked.push(&mut self.flows, flow);
            return None;
        }
        let plan = self.pop_takeable(flow).and_then(|job| self.begin(job, lane, destination, mono_ms));
        self.relist(flow, destination);
        plan
    }

    /// One job of a dead next hop's flow waits as if it had been tried.
    fn drain(&mut self, flow: u32, destination: u32, mono_ms: u64) {
        if let Some(job) = self.pop_takeable(flow) {
            self.suspend(job, mono_ms);
        }
        self.relist(flow, destination);
    }

    /// Takes the first job off a flow's queue. `None` if there is none, or if it has nothing to be tried any more.
    fn pop_takeable(&mut self, flow: u32) -> Option<u32> {
        let job = self.flows[flow].head;
        if job == NONE {
            return None;
        }
        self.flows[flow].head = self.jobs[job].behind;
        if self.flows[flow].head == NONE {
            self.flows[flow].tail = NONE;
        }
        self.jobs[job].behind = NONE;
        self.jobs[job].queued = false;
        let message = self.jobs[job].message;
        if message == NONE {
            if self.jobs[job].leased == 0 {
                self.free_queued_job(job);
            }
            return None;
        }
        let takeable = self.jobs[job].ready != NONE && self.messages[message].standing.goes_out();
        takeable.then_some(job)
    }

    /// Frees the job of a message that went away while the job stood in a queue. The flow is still being looked at.
    fn free_queued_job(&mut self, job: u32) {
        let flow = self.jobs.remove(job).flow;
        self.spared.remove(&job);
        self.flows[flow].jobs -= 1;
    }

    /// After a look at a flow: it goes to the end of its class, or is forgotten; then another one of the same next hop
    /// may have its turn.
    fn relist(&mut self, flow: u32, destination: u32) {
        if self.flows[flow].listed {
            return;
        }
        if self.flows[flow].destination == NONE {
            // Its last job ended while it was looked at.
            return self.wake_destination(destination);
        }
        if self.flows[flow].head != NONE {
            self.ring.push(&mut self.flows, flow);
            return;
        }
        self.free_flow_if_unused(flow);
        self.wake_destination(destination);
    }

    /// Lets as many flows that wait for a next hop back into the ring as it has room for, unless it must have its rest.
    pub(super) fn wake_destination(&mut self, destination: u32) {
        if self.destinations[destination].wake_ms > 0 {
            return;
        }
        for _ in 0..self.destinations[destination].room() {
            let Some(flow) = self.destinations[destination].parked.pop(&mut self.flows) else { return };
            self.ring.push(&mut self.flows, flow);
        }
    }

    /// Lets all flows that wait for a next hop back into the ring, to be drained.
    pub(super) fn wake_all(&mut self, destination: u32) {
        while let Some(flow) = self.destinations[destination].parked.pop(&mut self.flows) {
            self.ring.push(&mut self.flows, flow);
        }
    }

    /// A lease, unless the message's own lifetime is over.
    fn begin(&mut self, job: u32, lane: usize, destination: u32, mono_ms: u64) -> Option<Plan> {
        if self.is_overdue(job, mono_ms) {
            self.expire_overdue(job, mono_ms);
            return None;
        }
        self.lease(job, lane, destination, mono_ms)
    }

    fn lease(&mut self, job: u32, lane: usize, destination: u32, mono_ms: u64) -> Option<Plan> {
        let mut items = Vec::new();
        while items.len() < MAX_LEASE_RECIPIENTS && self.jobs[job].ready != NONE {
            let item = self.jobs[job].ready;
            self.jobs[job].ready = std::mem::replace(&mut self.items[item].next, NONE);
            items.push(item);
        }
        let mut recipients: Vec<u32> = items.iter().map(|item| u32::from(self.items[*item].index)).collect();
        recipients.sort_unstable();
        let open = self.lanes.at(lane);
        if !open.credits.take() {
            return None;
        }
        let lane = open.lane;
        let record = &mut self.destinations[destination];
        record.in_flight += 1;
        record.pace.count(mono_ms);
        self.jobs[job].leased += items.len() as u16;
        let message = self.jobs[job].message;
        let attempts = u32::from(self.jobs[job].attempts);
        let id = self.messages[message].id();
        let lease = self.leases.grant(Lease { lane, message, id, job, items, granted_ms: mono_ms });
        self.enqueue(job);
        Some(Plan { lease, lane, id, recipients, attempts })
    }
}
