//! Turning raw return values into `io::Result`, and repeating interrupted calls a bounded number of times.

use std::io;

/// How often one system call is repeated after EINTR before the error is passed on.
const MAX_INTERRUPTS: usize = 64;

/// A return value of libc's "negative means errno" kind.
pub(crate) trait Status: Copy {
    fn failed(self) -> bool;
}

impl Status for libc::c_int {
    fn failed(self) -> bool {
        self < 0
    }
}

impl Status for libc::c_long {
    fn failed(self) -> bool {
        self < 0
    }
}

impl Status for isize {
    fn failed(self) -> bool {
        self < 0
    }
}

/// The value, or the error that errno names.
pub(crate) fn check<T: Status>(value: T) -> io::Result<T> {
    if value.failed() { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Runs a libc `call` until it is not interrupted, at most `MAX_INTERRUPTS` times.
pub(crate) fn uninterrupted<T: Status>(mut call: impl FnMut() -> T) -> io::Result<T> {
    repeated(|| check(call()))
}

/// Runs `call` until it is not interrupted, at most `MAX_INTERRUPTS` times.
pub(crate) fn repeated<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..MAX_INTERRUPTS {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
    call()
}

/// A byte count that the kernel returned, known not to be negative.
pub(crate) fn count(value: isize) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// An error of ours with a kind and a sentence.
pub(crate) fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_errno(value: i32) {
        nix::errno::Errno::from_raw(value).set();
    }

    #[test]
    fn repeats_after_an_interruption_and_not_after_another_error() {
        let mut left = 3;
        let value = uninterrupted(|| {
            left -= 1;
            if left > 0 {
                set_errno(libc::EINTR);
                -1
            } else {
                7
            }
        });
        assert_eq!(value.unwrap(), 7);

        let mut calls = 0;
        let error = uninterrupted(|| {
            calls += 1;
            set_errno(libc::ENOSPC);
            -1
        });
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(calls, 1);
    }

    #[test]
    fn gives_up_when_every_call_is_interrupted() {
        let mut calls = 0;
        let error = uninterrupted(|| {
            calls += 1;
            set_errno(libc::EINTR);
            -1
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(calls, MAX_INTERRUPTS);
    }
}
