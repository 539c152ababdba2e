//! What an error of the disk means for the recipient. Everything is deferred that an operator or time can mend.

use std::io;

use nix::errno::Errno;
use vsmtp_mail::EnhancedCode;

use crate::lease::Verdict;

/// The verdict on a delivery that the disk refused; `doing` says what was being done.
pub fn of_error(doing: &str, error: &io::Error) -> Verdict {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let (code, what) = match errno {
        Some(Errno::EDQUOT | Errno::EFBIG) => (EnhancedCode(4, 2, 2), "mailbox is full"),
        Some(Errno::ENOSPC) => (EnhancedCode(4, 3, 1), "mail system is full"),
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => {
            (EnhancedCode(4, 3, 5), "mailbox may not be written")
        }
        Some(Errno::ELOOP | Errno::EXDEV | Errno::ENOTDIR | Errno::EISDIR | Errno::EINVAL) => {
            (EnhancedCode(4, 3, 5), "mailbox is not a plain folder or file")
        }
        Some(Errno::ENAMETOOLONG) => return no_such_mailbox(),
        _ => (EnhancedCode(4, 3, 0), "mailbox failed"),
    };
    Verdict::deferred(code, format!("{what}: {doing}: {error}"))
}

/// No file can have this name, now or later.
pub fn no_such_mailbox() -> Verdict {
    Verdict::failed(EnhancedCode(5, 1, 1), "no mailbox can have this name")
}

/// The message was delivered to this address before (RFC 9228).
pub fn looped(recipient: &vsmtp_mail::Address) -> Verdict {
    Verdict::failed(EnhancedCode(5, 4, 6), format!("mail for {recipient} loops back to it"))
}

/// Somebody else holds the mailbox.
pub fn locked() -> Verdict {
    Verdict::deferred(EnhancedCode(4, 2, 0), "mailbox is locked by another program")
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::edge::queue_deliver::Result3;

    use super::*;

    #[test]
    fn only_an_impossible_name_fails() {
        for (errno, code) in [
            (Errno::EDQUOT, EnhancedCode(4, 2, 2)),
            (Errno::ENOSPC, EnhancedCode(4, 3, 1)),
            (Errno::EACCES, EnhancedCode(4, 3, 5)),
            (Errno::ELOOP, EnhancedCode(4, 3, 5)),
            (Errno::EIO, EnhancedCode(4, 3, 0)),
            (Errno::EMFILE, EnhancedCode(4, 3, 0)),
        ] {
            let verdict = of_error("write", &errno.into());
            assert_eq!((verdict.result, verdict.enhanced), (Result3::Deferred, code), "{errno}");
        }
        assert_eq!(of_error("open", &Errno::ENAMETOOLONG.into()).result, Result3::Failed);
        assert_eq!(of_error("read", &io::ErrorKind::UnexpectedEof.into()).result, Result3::Deferred);
    }
}
