//! How the kernel schedules this process. Never raises a priority.

use std::io;

use crate::retry::uninterrupted;

/// Has wake-ups of this thread, and of those it starts, wait for the running one's turn to end instead of interrupting it
/// (SCHED_BATCH, sched(7)). Messages gather meanwhile, so each turn does more of them: fewer switches between processes for
/// the same work, at the price of some milliseconds of delay on a busy processor and of none on an idle one.
///
/// # Errors
/// The kernel's; it needs no privilege.
pub fn prefer_throughput() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a live structure that the kernel only reads; 0 means the calling thread.
    uninterrupted(|| unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameter) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_inherit_the_preference() {
        let policy = || {
            // SAFETY: no pointer is passed; 0 means the calling thread.
            unsafe { libc::sched_getscheduler(0) }
        };
        let inherited = std::thread::spawn(move || {
            prefer_throughput().unwrap();
            std::thread::spawn(policy).join().unwrap()
        });
        assert_eq!(inherited.join().unwrap(), libc::SCHED_BATCH);
    }
}
