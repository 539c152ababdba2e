//! How everything ends within five seconds: first those who take mail in, then those who judge it, then those who send it,
//! last the queue-manager, so that whatever is on its way still finds the next process alive.

use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::role::Role;

use crate::family::Family;

/// After this, what still lives is killed, in milliseconds.
const KILL_MS: u64 = 4_700;
/// What is killed and not gone is killed again after so many milliseconds.
const KILL_AGAIN_MS: u64 = 250;

/// One step: which roles are told to drain, how long they get, and when the step ends at the latest.
struct Step {
    roles: &'static [Role],
    drain_ms: u64,
    ends_ms: u64,
}

const STEPS: [Step; 3] = [
    Step { roles: &[Role::Receiver], drain_ms: 2_000, ends_ms: 2_200 },
    Step {
        roles: &[Role::FilterSession, Role::FilterPost, Role::DeliverSmtp, Role::DeliverMailbox],
        drain_ms: 1_000,
        ends_ms: 3_500,
    },
    Step {
        roles: &[
            Role::QueueManager,
            Role::Resolver,
            Role::Limits,
            Role::Auth,
            Role::Keys,
            Role::Runner,
            Role::Database,
        ],
        drain_ms: 1_000,
        ends_ms: KILL_MS,
    },
];

/// A stop under way.
pub struct Shutdown {
    began_ms: u64,
    step: usize,
    /// When what is left is killed, in monotonic milliseconds.
    kill_ms: u64,
}

impl Shutdown {
    /// Tells everybody to take no more, and the first to finish.
    pub fn begin(family: &mut Family, now_ms: u64) -> Self {
        family.forget_waiting(|_| true);
        family.say_to(|_| true, || ToChild::StopAccepting, false);
        let shutdown = Shutdown { began_ms: now_ms, step: 0, kill_ms: now_ms + KILL_MS };
        shutdown.drain(family);
        shutdown
    }

    /// Goes on as children end or time passes. True when all are gone.
    pub fn proceed(&mut self, family: &mut Family, now_ms: u64) -> bool {
        // A place without a process has nobody to end.
        family.forget_waiting(|_| true);
        while let Some(step) = STEPS.get(self.step) {
            if family.any_of(step.roles) && now_ms < self.began_ms + step.ends_ms {
                return false;
            }
            self.step += 1;
            self.drain(family);
        }
        if !family.any_of(&Role::DAEMONS) {
            return true;
        }
        if now_ms < self.kill_ms {
            return false;
        }
        self.kill_ms = now_ms + KILL_AGAIN_MS;
        let left: Vec<_> = family.slots().map(|(name, _)| name).collect();
        for name in left {
            vsmtp_daemon::Record::at(log::Level::Warn, "killed-at-stop").field("process", name).emit();
            family.kill(name);
        }
        false
    }

    /// When to look again, in monotonic milliseconds.
    pub fn next_ms(&self) -> u64 {
        STEPS.get(self.step).map_or(self.kill_ms, |step| self.began_ms + step.ends_ms)
    }

    fn drain(&self, family: &mut Family) {
        if let Some(step) = STEPS.get(self.step) {
            let drain = || ToChild::Drain { deadline_ms: step.drain_ms };
            family.say_to(|child| step.roles.contains(&child.name.role), drain, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_nobody_fills_any_more_keep_nobody_waiting() {
        let mut family = Family::default();
        let mut shutdown = Shutdown::begin(&mut family, 0);
        family.add(Role::Receiver, 0, 1);
        assert!(shutdown.proceed(&mut family, 1));
    }
}
