//! For tests: a real disk that writes down what is done to it, and lets the n-th operation fail.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use vsmtp_ipc::wire::Body;
use vsmtp_mail::MailboxFormat;

use crate::lease::{Lease, tests::attempt};
use crate::mailbox::disk::{Below, Disk};
use crate::mailbox::name::MailboxName;
use crate::mailbox::work::{Done, Inbox, Job};

pub type Log = Arc<Mutex<Vec<&'static str>>>;

pub struct Recorder {
    disk: Below,
    pub log: Log,
    fail_at: Option<(usize, Errno)>,
}

impl Recorder {
    pub fn new(root: &Path, fail_at: Option<(usize, Errno)>) -> Self {
        let root = std::fs::File::open(root).unwrap();
        Recorder { disk: Below::new(root.into()), log: Log::default(), fail_at }
    }

    fn step<T>(&self, name: &'static str, act: impl FnOnce(&Below) -> io::Result<T>) -> io::Result<T> {
        let mut log = self.log.lock().unwrap();
        log.push(name);
        match self.fail_at {
            Some((at, errno)) if log.len() == at + 1 => Err(errno.into()),
            _ => act(&self.disk),
        }
    }

    /// A job whose answer is written down too.
    pub fn job(&self, to: &str, format: MailboxFormat, message: &[u8]) -> (Job, Arc<Inbox>) {
        let log = Arc::clone(&self.log);
        let inbox = Arc::new(Inbox::new(move || log.lock().unwrap().push("answer")));
        let mut attempt = attempt("maildir", &[to], b"");
        attempt.body = Body::Inline(message.to_vec());
        let lease = Arc::new(Lease::parse(attempt, None, 1, 0).unwrap());
        let name = MailboxName::of(&lease.recipients[0].address, "+").unwrap();
        (Job::new(&lease, 0, name, format, &inbox).unwrap(), inbox)
    }

    pub fn operations(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }
}

pub fn only(inbox: &Inbox) -> Done {
    let mut done = inbox.take();
    assert_eq!(done.len(), 1);
    done.remove(0)
}

impl Disk for Recorder {
    fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        self.step("open folder", |disk| disk.open_folder(path))
    }

    fn make_folder(&self, parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        self.step("make folder", |disk| disk.make_folder(parent, name))
    }

    fn create(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        self.step("create", |disk| disk.create(folder, name))
    }

    fn open_file(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        self.step("open file", |disk| disk.open_file(folder, name))
    }

    fn write(&self, file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.step("write", |disk| disk.write(file, bytes, offset))
    }

    fn read(&self, file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.step("read", |disk| disk.read(file, buffer, offset))
    }

    fn sync_file(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.step("sync file", |disk| disk.sync_file(file))
    }

    fn publish(
        &self,
        from: BorrowedFd<'_>,
        name: &str,
        to: BorrowedFd<'_>,
        new_name: &str,
    ) -> io::Result<()> {
        self.step("publish", |disk| disk.publish(from, name, to, new_name))
    }

    fn sync_folder(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        self.step("sync folder", |disk| disk.sync_folder(folder))
    }

    fn remove(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        self.step("remove", |disk| disk.remove(folder, name))
    }

    fn truncate(&self, file: BorrowedFd<'_>, len: u64) -> io::Result<()> {
        self.step("truncate", |disk| disk.truncate(file, len))
    }

    fn lock(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        self.step("lock", |disk| disk.lock(file))
    }

    fn changed_at(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<u64> {
        self.step("look at", |disk| disk.changed_at(folder, name))
    }
}
