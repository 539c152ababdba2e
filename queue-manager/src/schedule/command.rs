//! What operators and policy do to a message that is scheduled.

use vsmtp_mail::QueueId;

use super::Schedule;
use super::entry::Standing;
use super::slab::NONE;

impl Schedule {
    /// Gives a message another standing. Leases that are out go on. False if the message is not here.
    pub fn set_standing(&mut self, id: QueueId, standing: Standing) -> bool {
        let Some(message) = self.find(id) else { return false };
        let before = std::mem::replace(&mut self.messages[message].standing, standing);
        self.totals.discount(before, 1);
        self.totals.count(standing, 1);
        self.each_job(message, |schedule, job| schedule.enqueue(job));
        true
    }

    /// Tries a message now, whatever was found out about its next hops, and also before the time for which it was accepted.
    /// False if it is not here.
    pub fn flush(&mut self, id: QueueId) -> bool {
        let Some(message) = self.find(id) else { return false };
        self.revive_all(message);
        self.each_job(message, |schedule, job| {
            schedule.make_ready(job);
            schedule.enqueue(job);
        });
        true
    }

    /// Lets a message that was stopped go on: it is tried now, whatever was found out about its next hops, unless it was
    /// accepted for a later time. False if it is not here.
    pub fn resume(&mut self, id: QueueId, mono_ms: u64) -> bool {
        let Some(message) = self.find(id) else { return false };
        if self.messages[message].born_ms <= mono_ms as i64 {
            return self.flush(id);
        }
        self.revive_all(message);
        true
    }

    fn revive_all(&mut self, message: u32) {
        self.each_job(message, |schedule, job| {
            let destination = schedule.flows[schedule.jobs[job].flow].destination;
            schedule.destinations[destination].revive();
            schedule.end_rest(destination);
        });
    }

    /// Forgets a message. What is out on leases changes nothing here when it comes back, but [`Schedule::take_returned`]
    /// tells of it. False if it is not here.
    pub fn remove(&mut self, id: QueueId) -> bool {
        let Some(message) = self.find(id) else { return false };
        self.forget_id(message);
        let mut is_out = false;
        self.each_job(message, |schedule, job| is_out |= schedule.jobs[job].leased > 0);
        if is_out {
            self.orphan_leases(message);
        }
        self.drop_message(message);
        true
    }

    fn each_job(&mut self, message: u32, mut act: impl FnMut(&mut Self, u32)) {
        let mut job = self.messages[message].jobs;
        while job != NONE {
            act(self, job);
            job = self.jobs[job].sibling;
        }
    }
}
