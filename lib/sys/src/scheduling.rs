//! How the kernel schedules this thread, and how long it has kept it waiting. Never raises a priority.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::Duration;

use crate::retry::uninterrupted;

/// Has wake-ups of this thread, and of those it starts, wait for the running one's turn to end instead of interrupting it
/// (SCHED_BATCH, sched(7)). Messages gather meanwhile, so each turn does more of them: fewer switches between processes for
/// the same work, at the price of some milliseconds of delay on a busy processor and of none on an idle one.
///
/// # Errors
/// The kernel's; it needs no privilege.
pub fn prefer_throughput() -> io::Result<()> {
    set_policy(libc::SCHED_BATCH)
}

/// Undoes `prefer_throughput` for this thread, and for those it starts: a wake-up may interrupt who runs (SCHED_OTHER).
///
/// # Errors
/// The kernel's; it needs no privilege.
pub fn prefer_promptness() -> io::Result<()> {
    set_policy(libc::SCHED_OTHER)
}

/// For the calling thread: the tables of the daemons allow no other.
fn set_policy(policy: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a live structure that the kernel only reads; 0 means the calling thread.
    uninterrupted(|| unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) })?;
    Ok(())
}

/// The kernel's account of one thread (`schedstat` of proc(5)).
#[derive(Debug)]
pub struct Account(File);

/// What a thread has had, and what it was kept waiting for, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Time on a processor.
    pub ran: Duration,
    /// Time in which it could have run, and another thread did.
    pub waited: Duration,
}

impl Account {
    /// That of the calling thread. To be opened before a jail, which hides `/proc`.
    ///
    /// # Errors
    /// There is no `/proc`, or the kernel keeps no such account.
    pub fn of_this_thread() -> io::Result<Self> {
        File::open("/proc/thread-self/schedstat").map(Account)
    }

    /// As of now.
    ///
    /// # Errors
    /// Reading failed, or the kernel's line is not of the form that is known.
    pub fn read(&mut self) -> io::Result<Turns> {
        /// Three numbers of 64 bits, and what is between them.
        const LINE: usize = 64;
        let mut line = [0; LINE];
        self.0.rewind()?;
        let length = self.0.read(&mut line)?;
        let mut numbers = line[..length].split(u8::is_ascii_whitespace).map(|number| {
            let number = std::str::from_utf8(number).ok()?.parse().ok()?;
            Some(Duration::from_nanos(number))
        });
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(ran), Some(waited)) => Ok(Turns { ran, waited }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "schedstat has no two numbers")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: no pointer is passed; 0 means the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn threads_inherit_the_preference_and_may_have_one_of_their_own() {
        let policies = std::thread::spawn(|| {
            prefer_throughput().unwrap();
            let inherited = std::thread::spawn(policy).join().unwrap();
            let own = std::thread::spawn(|| {
                prefer_promptness().unwrap();
                policy()
            });
            (inherited, own.join().unwrap(), policy())
        });
        let expected = (libc::SCHED_BATCH, libc::SCHED_OTHER, libc::SCHED_BATCH);
        assert_eq!(policies.join().unwrap(), expected);
    }

    #[test]
    fn a_thread_that_works_sees_its_time_pass() {
        let mut account = Account::of_this_thread().unwrap();
        let before = account.read().unwrap();
        let mut now = before;
        // The kernel brings the account up to date at its ticks and switches.
        for _ in 0..100_000_000u32 {
            std::thread::yield_now();
            now = account.read().unwrap();
            if now.ran > before.ran {
                break;
            }
        }
        assert!(now.ran > before.ran, "{now:?}");
        assert!(now.waited >= before.waited, "{now:?}");
    }
}
