//! The disk work of the mailbox role, away from the loop: a fixed number of threads, each with the mailboxes that fall to
//! it, so that one mailbox is never written by two of them. Bounded by the leases of the edge.
//!
//! A job is always settled: one that is dropped, for whatever reason, counts as deferred.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vsmtp_mail::{EnhancedCode, MailboxFormat};

use crate::lease::{Lease, LeaseKey, LeaseRecipient, Verdict};
use crate::mailbox::disk::Disk;
use crate::mailbox::name::MailboxName;
use crate::mailbox::unique::UniqueNames;
use crate::mailbox::{maildir, mbox, verdict};

/// Most deliveries that a thread takes through their steps together.
const MAX_BATCH: usize = 32;
/// Between two tries for a locked mailbox.
const LOCK_RETRY_MS: u64 = 100;
/// Longest wait for a locked mailbox.
const LOCK_WAIT_MS: u64 = 30_000;

/// Where threads leave what they settled, and how they wake the loop.
pub struct Inbox {
    done: Mutex<Vec<Done>>,
    /// The edge whose leases are still wanted.
    epoch: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// One recipient, settled.
#[derive(Debug)]
pub struct Done {
    /// Whose lease.
    pub key: LeaseKey,
    /// Which of its recipients.
    pub position: usize,
    /// What became of it.
    pub verdict: Verdict,
}

impl Inbox {
    /// `wake` is called from other threads after something was left.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Inbox { done: Mutex::new(Vec::new()), epoch: AtomicU64::new(0), wake: Box::new(wake) }
    }

    /// Only leases of this edge are wanted from now on. Those of another are given out again by the queue-manager, so
    /// what has not begun must not begin.
    pub fn want(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// All that was left since the last call.
    pub fn take(&self) -> Vec<Done> {
        // A panic between two pushes leaves the list whole.
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, done: Done) {
        let mut list = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(done);
        let first = list.len() == 1;
        drop(list);
        if first {
            (self.wake)();
        }
    }
}

/// One recipient's delivery.
pub struct Job {
    lease: Arc<Lease>,
    position: usize,
    recipient: LeaseRecipient,
    mailbox: MailboxName,
    format: MailboxFormat,
    inbox: Arc<Inbox>,
    /// Monotonic time at which waiting for a lock ends; 0 before the first try.
    give_up_ms: u64,
    settled: bool,
}

impl Job {
    /// The delivery of the lease's recipient at `position`; `None` if there is none.
    pub fn new(
        lease: &Arc<Lease>,
        position: usize,
        mailbox: MailboxName,
        format: MailboxFormat,
        inbox: &Arc<Inbox>,
    ) -> Option<Self> {
        let recipient = lease.recipients.get(position)?.clone();
        let (lease, inbox) = (Arc::clone(lease), Arc::clone(inbox));
        Some(Job { lease, position, recipient, mailbox, format, inbox, give_up_ms: 0, settled: false })
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The recipient.
    pub fn recipient(&self) -> &LeaseRecipient {
        &self.recipient
    }

    /// False if the queue-manager that gave the lease is gone.
    fn is_wanted(&self) -> bool {
        self.lease.key.epoch == self.inbox.epoch.load(Ordering::Relaxed)
    }

    /// Where it goes.
    pub fn mailbox(&self) -> &MailboxName {
        &self.mailbox
    }

    /// Ends the job.
    pub fn settle(mut self, verdict: &Verdict) {
        self.report(verdict.clone());
    }

    fn report(&mut self, verdict: Verdict) {
        self.settled = true;
        self.inbox.put(Done { key: self.lease.key, position: self.position, verdict });
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.settled {
            self.report(Verdict::deferred(EnhancedCode(4, 3, 0), "delivery was interrupted"));
        }
    }
}

/// The threads.
pub struct Pool {
    queues: Vec<Sender<Job>>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start<D: Disk + Send + Sync + 'static>(
        disk: &Arc<D>,
        threads: usize,
        names: impl Fn(usize) -> UniqueNames,
    ) -> std::io::Result<Self> {
        let mut queues = Vec::with_capacity(threads);
        for number in 0..threads.max(1) {
            let (queue, jobs) = channel();
            let worker = Worker { disk: Arc::clone(disk), names: names(number), waiting: Vec::new() };
            std::thread::Builder::new().name(format!("mailbox-{number}")).spawn(move || worker.run(&jobs))?;
            queues.push(queue);
        }
        Ok(Pool { queues })
    }

    /// Hands a job to the thread of its mailbox. If that thread is gone the job is deferred by being dropped.
    pub fn submit(&self, job: Job) {
        let at = shard(&job.mailbox, self.queues.len());
        if let Some(queue) = self.queues.get(at) {
            let _ = queue.send(job);
        }
    }
}

fn shard(mailbox: &MailboxName, shards: usize) -> usize {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    mailbox.hash(&mut hasher);
    usize::try_from(hasher.finish() % shards.max(1) as u64).unwrap_or(0)
}

struct Worker<D> {
    disk: Arc<D>,
    names: UniqueNames,
    /// Jobs that found their mailbox locked, and when each is tried again.
    waiting: Vec<(u64, Job)>,
}

impl<D: Disk> Worker<D> {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(batch) = self.next_batch(jobs) {
            // A panic costs the jobs of this batch, which are deferred as they are dropped, and nothing else.
            let work = std::panic::AssertUnwindSafe(|| self.deliver(batch));
            if std::panic::catch_unwind(work).is_err() {
                log::error!("event=mailbox-panic");
            }
        }
    }

    /// What can be done now; empty if only the wait for a lock ended, `None` when the pool is gone and nothing is left.
    fn next_batch(&mut self, jobs: &Receiver<Job>) -> Option<Vec<Job>> {
        let now = vsmtp_sys::clock::monotonic_ms();
        let mut batch: Vec<Job> =
            self.waiting.extract_if(.., |(due, _)| *due <= now).map(|(_, job)| job).collect();
        if batch.is_empty() {
            match self.waiting.iter().map(|(due, _)| *due).min() {
                None => batch.push(jobs.recv().ok()?),
                Some(due) => match jobs.recv_timeout(Duration::from_millis(due - now)) {
                    Ok(job) => batch.push(job),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return None,
                },
            }
        }
        while batch.len() < MAX_BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        Some(batch)
    }

    fn deliver(&mut self, mut batch: Vec<Job>) {
        batch.retain(Job::is_wanted);
        let (maildir, mbox): (Vec<Job>, Vec<Job>) =
            batch.into_iter().partition(|job| job.format == MailboxFormat::Maildir);
        if !maildir.is_empty() {
            maildir::deliver(&*self.disk, &mut self.names, maildir);
        }
        for job in mbox {
            self.deliver_mbox(job);
        }
    }

    fn deliver_mbox(&mut self, mut job: Job) {
        let now = vsmtp_sys::clock::monotonic_ms();
        if job.give_up_ms == 0 {
            job.give_up_ms = now + LOCK_WAIT_MS;
        }
        match mbox::deliver(&*self.disk, &job, vsmtp_sys::clock::wall_ms() / 1000) {
            mbox::Progress::Done(verdict) => job.settle(&verdict),
            mbox::Progress::Locked if now >= job.give_up_ms => job.settle(&verdict::locked()),
            mbox::Progress::Locked => self.waiting.push((now + LOCK_RETRY_MS, job)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use vsmtp_ipc::edge::queue_deliver::Result3;

    use super::*;
    use crate::lease::tests::attempt;
    use crate::mailbox::disk::Below;

    struct Bench {
        root: tempfile::TempDir,
        pool: Pool,
        inbox: Arc<Inbox>,
        woken: mpsc::Receiver<()>,
    }

    impl Bench {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let disk = Below::new(std::fs::File::open(root.path()).unwrap().into());
            let names = |thread| UniqueNames::new(1, thread, "host.test", || 7);
            let pool = Pool::start(&Arc::new(disk), 2, names).unwrap();
            let (wake, woken) = mpsc::channel();
            let wake = Mutex::new(wake);
            let inbox = Arc::new(Inbox::new(move || wake.lock().unwrap().send(()).unwrap()));
            Bench { root, pool, inbox, woken }
        }

        fn run(&self, epoch: u64) -> Verdict {
            let lease =
                Lease::parse(attempt("maildir", &["a@dst.test"], b"A: b\r\n\r\n"), None, epoch, 0).unwrap();
            let name = MailboxName { domain: "dst.test".into(), user: "a".into() };
            let job = Job::new(&Arc::new(lease), 0, name, MailboxFormat::Maildir, &self.inbox).unwrap();
            self.pool.submit(job);
            self.woken.recv_timeout(Duration::from_secs(10)).unwrap();
            let mut done = self.inbox.take();
            assert_eq!(done.len(), 1);
            done.remove(0).verdict
        }
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_begun() {
        let bench = Bench::new();
        bench.inbox.want(2);
        assert_eq!(bench.run(1).result, Result3::Deferred);
        assert!(!bench.root.path().join("dst.test").exists());
        assert_eq!(bench.run(2).result, Result3::Delivered);
    }

    #[test]
    fn a_job_that_is_dropped_is_deferred() {
        let bench = Bench::new();
        let lease = Arc::new(Lease::parse(attempt("maildir", &["a@dst.test"], b""), None, 1, 0).unwrap());
        let name = MailboxName { domain: "d".into(), user: "a".into() };
        assert!(Job::new(&lease, 1, name.clone(), MailboxFormat::Maildir, &bench.inbox).is_none());
        drop(Job::new(&lease, 0, name, MailboxFormat::Maildir, &bench.inbox));
        assert_eq!(bench.inbox.take()[0].verdict.result, Result3::Deferred);
    }
}
