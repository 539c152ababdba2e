//! The process between us and a program in a domain: it waits for the program, ends all that the program has started, in
//! whatever session, and ends as the program did. It ends all of it too when we let go of its leash, or are gone.
//!
//! It runs in a forked child: it must never allocate, lock, panic or return.

use std::os::fd::RawFd;

use super::child::FAILED;

/// Waits for the program, then ends what is left. Only for a process that can signal nobody but what is in its own domain,
/// and that adopts the orphans there: it sends SIGKILL to everybody whom it can reach.
pub(super) fn keep(program: libc::pid_t, leash: RawFd) -> ! {
    close_all_but(leash);
    wait_for(program, leash);
    end_like(end_all(program))
}

/// Its streams and the report of the start are the program's.
fn close_all_but(leash: RawFd) {
    let leash = leash.unsigned_abs();
    for (first, last) in [(0, leash.saturating_sub(1)), (leash + 1, libc::c_uint::MAX)] {
        // SAFETY: takes integers and touches no memory. The owners of these descriptors are in the parent and unaffected.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Returns when the program has ended or the leash is let go of; at once if that cannot be waited for.
fn wait_for(program: libc::pid_t, leash: RawFd) {
    // SAFETY: takes two integers and touches no memory.
    let ended = unsafe { libc::syscall(libc::SYS_pidfd_open, program, 0) };
    let Ok(ended) = RawFd::try_from(ended) else { return };
    if ended < 0 {
        return;
    }
    let event = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut events = [event(ended), event(leash)];
    loop {
        // SAFETY: pointer and length are those of a live array, which the kernel may write.
        let ready = unsafe { libc::poll(events.as_mut_ptr(), events.len() as libc::nfds_t, -1) };
        if ready >= 0 || last_error() != libc::EINTR {
            return;
        }
    }
}

/// Ends everybody in the domain but us, and waits until nobody is left. What the program has ended with.
fn end_all(program: libc::pid_t) -> Option<libc::c_int> {
    let mut of_program = None;
    loop {
        // Whoever is being forked meanwhile is either reached or not born: the kernel sees to that.
        // SAFETY: takes two integers and touches no memory.
        unsafe { libc::kill(-1, libc::SIGKILL) };
        let mut status = 0;
        // SAFETY: the pointer is to a live integer that the kernel may write.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if ended == program {
            of_program = Some(status);
        } else if ended < 0 && last_error() != libc::EINTR {
            return of_program;
        }
    }
}

fn end_like(status: Option<libc::c_int>) -> ! {
    let code = match status {
        Some(status) if libc::WIFEXITED(status) => libc::WEXITSTATUS(status),
        Some(status) if libc::WIFSIGNALED(status) => {
            // All signals have their default action here, and there are no core files.
            // SAFETY: takes an integer and touches no memory.
            unsafe { libc::raise(libc::WTERMSIG(status)) };
            FAILED
        }
        _ => FAILED,
    };
    // SAFETY: takes an integer and does not return; unlike exit it runs nothing of the parent's.
    unsafe { libc::_exit(code) }
}

fn last_error() -> libc::c_int {
    nix::errno::Errno::last_raw()
}
