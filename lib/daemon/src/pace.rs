//! Whether a loop lets messages gather or wants its turns at once, after how long the kernel keeps it waiting. Knows nothing of
//! messages.
//!
//! Where a mail system has its host to itself, a loop that does not interrupt others does more in each turn (see
//! [`scheduling`]). Beside programs that compute, such as scanners, each of its wake-ups would wait for their turns to end,
//! and a message has a dozen of them one after the other.

use std::time::Duration;

use vsmtp_sys::scheduling::{self, Account, Turns};

/// A look at the account is worth its two system calls so often, in milliseconds.
const LOOK_MS: u64 = 100;
/// A loop is kept waiting that has waited for more than this many times of what it ran. With the processors to ourselves it
/// is at most 1.5 under full load, beside programs that compute 2 to 10.
const KEPT_WAITING: u32 = 2;
/// Shorter waits between two looks tell nothing.
const LEAST_WAIT: Duration = Duration::from_millis(5);
/// So long, in milliseconds, turns are wanted at once before gathering is tried again.
const PROMPT_MS: u64 = 10_000;

/// The pace of one loop, on the thread that made this.
#[derive(Debug)]
pub(crate) struct Pace {
    account: Account,
    choice: Choice,
}

impl Pace {
    /// For the calling thread, before the jail; `None` where the kernel keeps no account, and messages gather always.
    pub(crate) fn of_this_thread() -> Option<Pace> {
        let mut account = Account::of_this_thread().ok()?;
        let turns = account.read().ok()?;
        Some(Pace { account, choice: Choice { turns, ..Choice::default() } })
    }

    /// After each turn of the loop. What the kernel refuses stays as it was.
    pub(crate) fn look(&mut self, now_ms: u64) {
        if !self.choice.is_due(now_ms) {
            return;
        }
        let Ok(turns) = self.account.read() else { return };
        let _ = match self.choice.after(turns, now_ms) {
            Some(Preference::Promptness) => scheduling::prefer_promptness(),
            Some(Preference::Throughput) => scheduling::prefer_throughput(),
            None => Ok(()),
        };
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Preference {
    #[default]
    Throughput,
    Promptness,
}

/// What is preferred, since when, and the account at the last look.
#[derive(Debug, Default)]
struct Choice {
    preference: Preference,
    since_ms: u64,
    looked_ms: u64,
    turns: Turns,
}

impl Choice {
    fn is_due(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.looked_ms) >= LOOK_MS
    }

    /// What the account leads to; `None` if nothing changes.
    fn after(&mut self, turns: Turns, now_ms: u64) -> Option<Preference> {
        let waited = turns.waited.saturating_sub(self.turns.waited);
        let ran = turns.ran.saturating_sub(self.turns.ran);
        (self.looked_ms, self.turns) = (now_ms, turns);
        let change = match self.preference {
            Preference::Throughput if waited >= LEAST_WAIT && waited > ran * KEPT_WAITING => {
                Preference::Promptness
            }
            Preference::Promptness if now_ms.saturating_sub(self.since_ms) >= PROMPT_MS => {
                Preference::Throughput
            }
            _ => return None,
        };
        (self.preference, self.since_ms) = (change, now_ms);
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(ran_ms: u64, waited_ms: u64) -> Turns {
        Turns { ran: Duration::from_millis(ran_ms), waited: Duration::from_millis(waited_ms) }
    }

    #[test]
    fn a_loop_that_is_kept_waiting_wants_its_turns_at_once() {
        let mut choice = Choice::default();
        assert_eq!(choice.after(turns(60, 90), 100), None, "the load of our own");
        assert_eq!(choice.after(turns(70, 120), 200), Some(Preference::Promptness));
        assert_eq!(choice.after(turns(80, 150), 300), None, "it does so already");
    }

    #[test]
    fn what_was_waited_before_the_last_look_does_not_count() {
        let mut choice = Choice { turns: turns(10, 10_000), ..Choice::default() };
        assert_eq!(choice.after(turns(60, 10_060), 100), None);
    }

    #[test]
    fn an_idle_loop_stays_as_it_is() {
        let mut choice = Choice::default();
        assert_eq!(choice.after(turns(0, 4), 100), None, "too short a wait to tell");
        assert_eq!(choice.after(turns(0, 4), 60_000), None);
    }

    #[test]
    fn gathering_is_tried_again_and_given_up_again() {
        let mut choice = Choice::default();
        assert_eq!(choice.after(turns(10, 50), 100), Some(Preference::Promptness));
        assert_eq!(choice.after(turns(20, 51), 100 + PROMPT_MS - 1), None);
        assert_eq!(choice.after(turns(30, 52), 100 + PROMPT_MS), Some(Preference::Throughput));
        assert_eq!(choice.after(turns(40, 92), 200 + PROMPT_MS), Some(Preference::Promptness));
    }

    #[test]
    fn a_look_is_due_after_a_while_and_whatever_the_clock_does() {
        let choice = Choice { looked_ms: 1000, ..Choice::default() };
        assert!(!choice.is_due(1000 + LOOK_MS - 1));
        assert!(choice.is_due(1000 + LOOK_MS));
        assert!(!choice.is_due(0));
    }

    /// The calling thread's policy (field 41 of stat in proc(5), counted here from behind the name).
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("its line");
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        fields.split_whitespace().nth(38).expect("a policy").to_owned()
    }

    #[test]
    fn what_is_chosen_is_told_to_the_kernel() {
        /// SCHED_OTHER and SCHED_BATCH (sched(7)).
        const POLICIES: (&str, &str) = ("0", "3");
        let before_and_after = std::thread::spawn(|| {
            let mut pace = Pace::of_this_thread().expect("the kernel's account");
            pace.choice.preference = Preference::Promptness;
            pace.look(PROMPT_MS - 1);
            let before = policy();
            pace.look(PROMPT_MS - 1 + LOOK_MS);
            (before, policy())
        });
        let before_and_after = before_and_after.join().expect("no panic");
        assert_eq!((before_and_after.0.as_str(), before_and_after.1.as_str()), POLICIES);
    }
}
