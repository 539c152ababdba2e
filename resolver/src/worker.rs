//! The thread that looks up: the only place with tokio. Keys, or other jobs, go in, findings come out, at most [`MAX_LOOK_UPS`] at a time.
//!
//! Look-ups do not know of each other, so that no dead domain delays another. One that panics brings a temporary failure.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc as findings;
use std::thread::{self, JoinHandle};

use tokio::runtime::Builder;
use tokio::sync::mpsc as keys;
use tokio::task::{Id, JoinError, JoinSet};
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::client_resolver::DnsError;

use crate::finding::{Finding, Key};

/// Most look-ups at a time.
pub const MAX_LOOK_UPS: usize = 4096;

/// The thread, as the loop sees it.
pub struct Worker<J = Key> {
    keys: keys::Sender<J>,
    findings: findings::Receiver<(J, Finding)>,
    thread: JoinHandle<()>,
}

impl<J: Clone + Send + 'static> Worker<J> {
    /// Starts the thread, which runs `look_up` for each key and calls `wake` after each finding.
    pub fn start<F>(
        look_up: impl Fn(J) -> F + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = Finding> + Send + 'static,
    {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (keys, jobs) = keys::channel(MAX_LOOK_UPS);
        let (done, findings) = findings::channel();
        let report = move |key, finding| {
            // The loop is gone only if the process ends.
            let _ = done.send((key, finding));
            wake();
        };
        let thread = thread::Builder::new()
            .name("look-ups".to_owned())
            .spawn(move || runtime.block_on(serve(jobs, look_up, report)))?;
        Ok(Worker { keys, findings, thread })
    }

    /// Has a key looked up; false if there are too many already.
    #[must_use]
    pub fn look_up(&self, key: J) -> bool {
        self.keys.try_send(key).is_ok()
    }

    /// The next finding that is there.
    pub fn finding(&self) -> Option<(J, Finding)> {
        self.findings.try_recv().ok()
    }

    /// False if the thread has ended, which it never should.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }
}

async fn serve<J, F>(mut jobs: keys::Receiver<J>, look_up: impl Fn(J) -> F, report: impl Fn(J, Finding))
where
    J: Clone,
    F: Future<Output = Finding> + Send + 'static,
{
    let mut tasks: JoinSet<Finding> = JoinSet::new();
    let mut running: HashMap<Id, J> = HashMap::new();
    loop {
        tokio::select! {
            job = jobs.recv(), if tasks.len() < MAX_LOOK_UPS => {
                let Some(key) = job else { return };
                let task = tasks.spawn(look_up(key.clone()));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vsmtp_ipc::edge::client_resolver::Records;

    use super::*;
    use crate::finding::Kind;
    use crate::name;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn key(text: &str) -> Key {
        Key { name: name::parse(text).unwrap(), kind: Kind::Mx }
    }

    fn good() -> Finding {
        Finding { result: Ok(Records::Mx(vec![])), secure: true, keep: Duration::ZERO }
    }

    #[test]
    fn a_look_up_that_panics_is_a_temporary_failure_and_the_only_one() {
        let (woken, wakes) = findings::channel();
        let look_up = |key: Key| async move {
            assert_ne!(key, self::key("poison.example"), "on purpose");
            good()
        };
        let worker = Worker::start(look_up, move || woken.send(()).unwrap()).unwrap();
        for (text, expected) in
            [("poison.example", Finding::failed(DnsError::Temporary)), ("well.example", good())]
        {
            assert!(worker.look_up(key(text)));
            wakes.recv_timeout(PATIENCE).unwrap();
            assert_eq!(worker.finding(), Some((key(text), expected)));
        }
        assert!(worker.is_alive() && worker.finding().is_none());
    }

    #[test]
    fn look_ups_that_never_end_delay_no_other_and_are_bounded() {
        let (woken, wakes) = findings::channel();
        let look_up = |key: Key| async move {
            match key.kind {
                Kind::Mx => std::future::pending().await,
                _ => good(),
            }
        };
        let worker = Worker::start(look_up, move || woken.send(()).unwrap()).unwrap();
        // One less than run at a time.
        for n in 1..MAX_LOOK_UPS {
            assert!(worker.look_up(key(&format!("n{n}.example"))));
        }
        let quick = Key { kind: Kind::A, ..key("quick.example") };
        assert!(worker.look_up(quick.clone()));
        wakes.recv_timeout(PATIENCE).unwrap();
        assert_eq!(worker.finding(), Some((quick.clone(), good())));
        // Full: one more runs, then as many wait as there is room for.
        let more = (0..3 * MAX_LOOK_UPS).filter(|n| worker.look_up(key(&format!("m{n}.example")))).count();
        assert!((1..=MAX_LOOK_UPS + 1).contains(&more), "{more}");
    }
}
