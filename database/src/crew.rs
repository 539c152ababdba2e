//! The threads that ask. Each database has as many as connections to it, and a queue of its own: one that is slow keeps
//! waiting only those who ask it. A thread that panics has no answer, and makes its connection anew.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use vsmtp_config::Database;
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::filter_database::{Parameter, Refused, Rows};

use crate::connection::Connection;

/// Most questions that wait for a database, those among them that are put to it; more are refused.
pub const MAX_WAITING: usize = 512;
/// Octets of a thread's stack; decoding an answer takes little.
const STACK: usize = 512 << 10;

/// A question, as a thread puts it.
#[derive(Debug)]
pub struct Job {
    /// Comes back with what is heard.
    pub number: u64,
    /// One statement of SQL.
    pub statement: String,
    /// For each `?` of it.
    pub parameters: Vec<Parameter>,
    /// Nobody waits for it any longer.
    pub until: Instant,
    /// Nobody waits for it any more.
    pub given_up: Arc<AtomicBool>,
}

/// What came of a question.
pub type Heard = Result<Rows, Refused>;

/// The threads, as the loop sees them.
pub struct Crew {
    /// One queue for each database.
    queues: Vec<SyncSender<Job>>,
    heard: Receiver<(u64, Heard)>,
}

impl Crew {
    /// Starts the threads, which call `wake` after each answer. They connect when they are asked.
    ///
    /// # Errors
    /// A thread does not start.
    pub fn start(databases: &[Database], wake: impl Fn() + Clone + Send + 'static) -> io::Result<Self> {
        let (done, heard) = channel();
        let mut queues = Vec::new();
        for database in databases {
            let (queue, jobs) = sync_channel::<Job>(MAX_WAITING);
            queues.push(queue);
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..database.connections {
                let (database, jobs) = (database.clone(), Arc::clone(&jobs));
                let (done, wake) = (done.clone(), wake.clone());
                let thread = thread::Builder::new().name("ask".to_owned()).stack_size(STACK);
                thread.spawn(move || serve(&database, &jobs, &done, wake))?;
            }
        }
        Ok(Crew { queues, heard })
    }

    /// Has a question put to the database at this place; false if too many wait for it.
    #[must_use]
    pub fn take(&self, database: usize, job: Job) -> bool {
        self.queues.get(database).is_some_and(|queue| queue.try_send(job).is_ok())
    }

    /// The next answer that is there.
    pub fn heard(&self) -> Option<(u64, Heard)> {
        self.heard.try_recv().ok()
    }
}

fn serve(database: &Database, jobs: &Mutex<Receiver<Job>>, done: &Sender<(u64, Heard)>, wake: impl Fn()) {
    let mut connection = Connection::to(database);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // The loop is gone only if the process ends.
        let Ok(job) = job else { return };
        if job.given_up.load(Ordering::Relaxed) {
            continue;
        }
        let asked = catch_unwind(AssertUnwindSafe(|| connection.ask(&job)));
        let heard = asked.unwrap_or_else(|_| {
            Record::at(log::Level::Error, "ask-panicked").field("database", &database.url).emit();
            connection = Connection::to(database);
            Err(Refused::Failed("its answer is not understood".to_owned()))
        });
        let _ = done.send((job.number, heard));
        wake();
        if catch_unwind(AssertUnwindSafe(|| connection.rest())).is_err() {
            connection = Connection::to(database);
        }
    }
}
