//! Descriptors as such: taking inherited ones, telling their kinds, limits. Never hands out a bare number.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{SFlag, fstat};

use crate::retry::check;

/// The first number that a launcher may use for handed-over descriptors; below are the three standard streams.
pub const FIRST_INHERITED: i32 = 3;

/// What a descriptor refers to, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdKind {
    /// Any socket.
    Socket,
    /// Memory without a name. Appearance only; the proof is `memfd::Sealed::verify`.
    Memfd,
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A pipe or FIFO.
    Pipe,
    /// An epoll instance.
    Epoll,
    /// An eventfd.
    EventFd,
    /// Anything else.
    Other,
}

/// Takes over the descriptor with this number, which the launcher left open for this process.
///
/// A number can be taken once. What keeps that true: a descriptor that came through exec has no close-on-exec flag,
/// everything this process opens itself has it, and taking sets it. So this refuses, with `InvalidInput`, a number
/// below 3, a number taken before, and a descriptor opened by this process; EBADF if nothing is open there.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    static TAKING: Mutex<()> = Mutex::new(());
    if number < FIRST_INHERITED {
        return Err(refused(number, "is a standard stream"));
    }
    let _one_at_a_time = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: F_GETFD touches no memory; a number that is not open gives EBADF.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(refused(number, "was taken before or was not inherited"));
    }
    // SAFETY: F_SETFD touches no memory, and the descriptor has no owner yet whom the flag could surprise.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the number is open, and without close-on-exec, so nothing in this process owns it; the flag just set,
    // under the lock, keeps a second caller from getting here.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn refused(number: i32, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {number} {why}"))
}

/// Closes every inherited descriptor with this number or a higher one that nobody has taken.
///
/// For the start of a program that a shell or an init system launched with strays. Reads /proc/self/fd.
pub fn close_from(first: i32) -> io::Result<()> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in numbers.into_iter().filter(|&number| number >= first) {
        // Those that cannot be taken are owned by somebody, or were the listing itself.
        drop(inherited(number));
    }
    Ok(())
}

/// True for a pipe or FIFO. Fit for the sandbox.
pub fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    format_of(fd) == Some(SFlag::S_IFIFO)
}

/// True for any socket. Fit for the sandbox.
pub fn is_socket(fd: BorrowedFd<'_>) -> bool {
    format_of(fd) == Some(SFlag::S_IFSOCK)
}

fn format_of(fd: BorrowedFd<'_>) -> Option<SFlag> {
    fstat(fd).ok().map(|status| SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT)
}

/// What the descriptor refers to. Epoll and eventfd are recognised through /proc, so before the sandbox only.
pub fn fd_kind(fd: BorrowedFd<'_>) -> FdKind {
    let Ok(status) = fstat(fd) else { return FdKind::Other };
    match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFSOCK => FdKind::Socket,
        SFlag::S_IFDIR => FdKind::Directory,
        SFlag::S_IFIFO => FdKind::Pipe,
        SFlag::S_IFREG if status.st_nlink == 0 && has_seals(fd) => FdKind::Memfd,
        SFlag::S_IFREG => FdKind::Regular,
        _ => anonymous_kind(fd),
    }
}

fn has_seals(fd: BorrowedFd<'_>) -> bool {
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok()
}

fn anonymous_kind(fd: BorrowedFd<'_>) -> FdKind {
    match fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) {
        Ok(target) if target.as_os_str() == "anon_inode:[eventpoll]" => FdKind::Epoll,
        Ok(target) if target.as_os_str() == "anon_inode:[eventfd]" => FdKind::EventFd,
        _ => FdKind::Other,
    }
}

/// Makes reads and writes return `WouldBlock` instead of waiting. Holds for everyone who shares the open file.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl(&fd, FcntlArg::F_GETFL)?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(&fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Opens a pipe, terminal or device once more, for writing: a file of its own, which never makes its writer wait, whatever
/// others who have it open want.
///
/// Through /proc, so before the sandbox only. An error for sockets, for a FIFO that nobody reads, and where this user may not
/// open what it was handed.
pub fn open_again_nonblocking(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let file = fs::OpenOptions::new().append(true).custom_flags(flags.bits()).open(path)?;
    Ok(file.into())
}

/// Sets close-on-exec, for a descriptor that came from somewhere that does not.
pub fn set_cloexec(fd: impl AsFd) -> io::Result<()> {
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// Allows this process up to `wanted` open descriptors, as far as the hard limit or privilege permits.
///
/// Never lowers the present limit. Returns the limit now in force.
pub fn raise_nofile(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if wanted <= soft {
        return Ok(soft);
    }
    if wanted > hard && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    let reachable = wanted.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, reachable, hard)?;
    Ok(reachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{PipeReader, Read, Write, pipe};
    use std::os::fd::IntoRawFd;

    /// A descriptor as exec would leave it: open, without close-on-exec, without an owner.
    fn as_if_inherited(reader: PipeReader) -> i32 {
        fcntl(&reader, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        reader.into_raw_fd()
    }

    #[test]
    fn an_inherited_descriptor_can_be_taken_once() {
        let (reader, writer) = pipe().unwrap();
        let number = as_if_inherited(reader);
        let taken = inherited(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert_eq!(inherited(number).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        drop(writer);
        assert_eq!(PipeReader::from(taken).read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn what_this_process_opened_and_what_is_not_open_is_refused() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(inherited(file.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(inherited(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
        for standard in -1..3 {
            assert_eq!(inherited(standard).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind = |fd: BorrowedFd<'_>| fd_kind(fd);
        let (reader, _writer) = pipe().unwrap();
        assert_eq!(kind(reader.as_fd()), FdKind::Pipe);
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(kind(socket.as_fd()), FdKind::Socket);
        assert_eq!(kind(tempfile::tempfile().unwrap().as_fd()), FdKind::Regular);
        assert_eq!(kind(File::open("/").unwrap().as_fd()), FdKind::Directory);
        assert_eq!(kind(File::open("/dev/null").unwrap().as_fd()), FdKind::Other);
        let epoll = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty()).unwrap();
        assert_eq!(kind(epoll.0.as_fd()), FdKind::Epoll);
        let event = nix::sys::eventfd::EventFd::new().unwrap();
        assert_eq!(kind(event.as_fd()), FdKind::EventFd);
        let memory = crate::memfd::Sealed::create(c"kind", &[]).unwrap();
        assert_eq!(kind(memory.as_fd()), FdKind::Memfd);
    }

    #[test]
    fn nonblocking_reads_do_not_wait() {
        let (mut reader, _writer) = pipe().unwrap();
        set_nonblocking(&reader).unwrap();
        assert_eq!(reader.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_pipe_that_is_opened_again_waits_for_nobody_and_the_first_one_stays_as_it_is() {
        let (reader, writer) = pipe().unwrap();
        let again = open_again_nonblocking(writer.as_fd()).unwrap();
        let mut file = File::from(again);
        let full = (0..10_000).find_map(|_| file.write(&[b'x'; 4096]).err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        let flags = OFlag::from_bits_retain(fcntl(&writer, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
        assert!(is_pipe(writer.as_fd()) && !is_socket(writer.as_fd()));
        drop(reader);
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(open_again_nonblocking(socket.as_fd()).is_err());
        assert!(is_socket(socket.as_fd()) && !is_pipe(socket.as_fd()));
    }

    #[test]
    fn the_descriptor_limit_is_never_lowered() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise_nofile(1).unwrap(), soft);
        assert_eq!(raise_nofile(hard).unwrap(), hard);
    }
}
