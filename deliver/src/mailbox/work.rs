//! The disk work of the mailbox role, away from the loop: a fixed number of threads, each with the mailboxes that fall to
//! it, so that one mailbox is never written by two of them. Bounded by the leases of the edge.
//!
//! A job is always settled: one that is dropped, for whatever reason, counts as deferred.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vsmtp_mail::EnhancedCode;

use crate::lease::{Lease, LeaseKey, LeaseRecipient, Verdict};
use crate::mailbox::disk::Disk;
use crate::mailbox::name::MailboxName;
use crate::mailbox::unique::UniqueNames;
use crate::mailbox::{maildir, mbox, verdict};
use vsmtp_mail::MailboxFormat;

/// Most deliveries that a thread takes through their steps together.
const MAX_BATCH: usize = 32;
/// Between two tries for a locked mailbox.
const LOCK_RETRY_MS: u64 = 100;
/// Longest wait for a locked mailbox.
const LOCK_WAIT_MS: u64 = 30_000;

/// Where threads leave what they settled, and how they wake the loop.
pub struct Inbox {
    done: Mutex<Vec<Done>>,
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
        Inbox { done: Mutex::new(Vec::new()), wake: Box::new(wake) }
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
        lease.recipients.get(position)?;
        let (lease, inbox) = (Arc::clone(lease), Arc::clone(inbox));
        Some(Job { lease, position, mailbox, format, inbox, give_up_ms: 0, settled: false })
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The recipient.
    pub fn recipient(&self) -> &LeaseRecipient {
        self.lease.recipients.get(self.position).expect("`new` has looked")
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

    fn deliver(&mut self, batch: Vec<Job>) {
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
