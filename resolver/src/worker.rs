//! The thread that looks up: the only place with tokio. Keys go in, findings come out, at most [`MAX_LOOK_UPS`] at a time.
//!
//! Look-ups do not know of each other, so that no dead domain delays another. One that panics brings a temporary failure.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, mpsc as findings};
use std::thread::{Builder, JoinHandle};

use tokio::runtime::Runtime;
use tokio::sync::mpsc as keys;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::client_resolver::DnsError;

use crate::finding::{Finding, Key};
use crate::lookup::look_up;
use crate::upstream::Upstream;

/// Most look-ups at a time.
pub const MAX_LOOK_UPS: usize = 4096;

/// The thread, as the loop sees it.
pub struct Worker {
    keys: keys::Sender<Key>,
    findings: findings::Receiver<(Key, Finding)>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread. It calls `wake` after each finding.
    pub fn start(upstream: Upstream, wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (keys, jobs) = keys::channel(MAX_LOOK_UPS);
        let (done, findings) = findings::channel();
        let report = move |key, finding| {
            // The loop is gone only if the process ends.
            let _ = done.send((key, finding));
            wake();
        };
        let thread = Builder::new()
            .name("look-ups".to_owned())
            .spawn(move || run(&runtime, upstream, jobs, report))?;
        Ok(Worker { keys, findings, thread })
    }

    /// Has a key looked up; false if there are too many already.
    #[must_use]
    pub fn look_up(&self, key: Key) -> bool {
        self.keys.try_send(key).is_ok()
    }

    /// The next finding that is there.
    pub fn finding(&self) -> Option<(Key, Finding)> {
        self.findings.try_recv().ok()
    }

    /// False if the thread has ended, which it never should.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

fn run(runtime: &Runtime, upstream: Upstream, jobs: keys::Receiver<Key>, report: impl Fn(Key, Finding)) {
    runtime.block_on(serve(Arc::new(upstream), jobs, report));
}

async fn serve(upstream: Arc<Upstream>, mut jobs: keys::Receiver<Key>, report: impl Fn(Key, Finding)) {
    let epoch = Instant::now();
    let mut tasks: JoinSet<Finding> = JoinSet::new();
    let mut running: HashMap<Id, Key> = HashMap::new();
    loop {
        tokio::select! {
            job = jobs.recv(), if tasks.len() < MAX_LOOK_UPS => {
                let Some(key) = job else { return };
                let task = tasks.spawn(look_up(Arc::clone(&upstream), key.clone(), epoch));
                running.insert(task.id(), key);
            }
            Some(ended) = tasks.join_next_with_id() => {
                let (id, finding) = ended.unwrap_or_else(|error| (error.id(), panicked(&error)));
                if let Some(key) = running.remove(&id) {
                    report(key, finding);
                }
            }
        }
    }
}

fn panicked(error: &JoinError) -> Finding {
    Record::at(log::Level::Error, "look-up-panicked").field("error", error).emit();
    Finding::failed(DnsError::Temporary)
}
