//! System calls that a signal interrupts. It owns the repetition of them, and never hides another error.

use std::io::{ErrorKind, Result};

/// Makes a call until it is not interrupted.
///
/// A wait on a socket with a time-out is not resumed by the kernel after a signal, even one that nobody handles (signal(7)).
/// Such a one comes to any thread of the tests when the process is continued, or when a child ends while the thread that
/// has started it has all signals blocked, because it starts the next one. `read_exact`, `read_until` and the like repeat
/// by themselves; `read`, `peek`, `recv` and `fill_buf` do not. Each interrupt is one such event, so this comes to an end.
///
/// # Errors
/// Those of the call, but `Interrupted`.
pub fn uninterrupted<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_repeated_after_interrupts_and_nothing_else() {
        let results = [ErrorKind::Interrupted, ErrorKind::Interrupted, ErrorKind::WouldBlock];
        let mut results = results.into_iter();
        let error =
            uninterrupted(|| Err::<(), _>(results.next().expect("a call").into())).expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let mut results = [Err(ErrorKind::Interrupted.into()), Ok(0), Ok(1)].into_iter();
        assert_eq!(uninterrupted(|| results.next().expect("a call")).expect("an end"), 0);
    }
}
