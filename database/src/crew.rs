//! The threads that ask. Each database has as many as connections to it, and a queue of its own: one that is slow keeps
//! waiting only those who ask it. A thread that panics has no answer, and makes its connection anew.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use vsmtp_config::Database;
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::filter_database::{Parameter, Refused, Rows};

use crate::connection::Connection;
use crate::line::Line;
use crate::tls::Tls;

/// Most questions that wait for a database, those among them that are put to it; more are refused.
pub const MAX_WAITING: usize = 512;
/// Most octets of the questions that wait for a database, and of those that are put to it; more are refused.
pub const MAX_WAITING_BYTES: usize = 4 << 20;
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
    pub line: Arc<Line>,
}

impl Job {
    /// What it takes of the memory, about.
    fn octets(&self) -> usize {
        let of_parameter = |parameter: &Parameter| match parameter {
            Parameter::Text(text) => text.len(),
            Parameter::Null | Parameter::Int(_) => 0,
        };
        self.statement.len() + self.parameters.iter().map(of_parameter).sum::<usize>()
    }
}

/// A question in its queue; those that are given up take room there until a thread has seen it.
struct Waiting {
    job: Job,
    room: Arc<AtomicUsize>,
}

impl Waiting {
    /// None if the questions that wait already leave no room for it.
    fn take(job: Job, room: &Arc<AtomicUsize>) -> Option<Self> {
        let octets = job.octets();
        let left = |room: usize| room.checked_sub(octets);
        room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).ok()?;
        Some(Waiting { job, room: Arc::clone(room) })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.room.fetch_add(self.job.octets(), Ordering::Relaxed);
    }
}

/// What came of a question.
pub type Heard = Result<Rows, Refused>;

/// Those that wait for one database, and the octets that are left for more.
struct Queue {
    jobs: SyncSender<Waiting>,
    room: Arc<AtomicUsize>,
}

/// The threads, as the loop sees them.
pub struct Crew {
    /// One queue for each database.
    queues: Vec<Queue>,
    heard: Receiver<(u64, Heard)>,
}

impl Crew {
    /// Starts the threads, which call `wake` after each answer. They connect when they are asked.
    ///
    /// # Errors
    /// A thread does not start.
    pub fn start(
        databases: &[(Database, Option<Tls>)],
        wake: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (done, heard) = channel();
        let mut queues = Vec::new();
        for (database, tls) in databases {
            let (to, jobs) = sync_channel(MAX_WAITING);
            queues.push(Queue { jobs: to, room: Arc::new(AtomicUsize::new(MAX_WAITING_BYTES)) });
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..database.connections {
                let (database, tls, jobs) = (database.clone(), tls.clone(), Arc::clone(&jobs));
                let (done, wake) = (done.clone(), wake.clone());
                let thread = thread::Builder::new().name("ask".to_owned()).stack_size(STACK);
                thread.spawn(move || {
                    serve(|| Connection::to(&database, tls.as_ref()), &database, &jobs, &done, wake)
                })?;
            }
        }
        Ok(Crew { queues, heard })
    }

    /// Has a question put to the database at this place; false if too many wait for it.
    #[must_use]
    pub fn take(&self, database: usize, job: Job) -> bool {
        let Some(queue) = self.queues.get(database) else { return false };
        Waiting::take(job, &queue.room).is_some_and(|waiting| queue.jobs.try_send(waiting).is_ok())
    }

    /// The next answer that is there.
    pub fn heard(&self) -> Option<(u64, Heard)> {
        self.heard.try_recv().ok()
    }
}

fn serve(
    connect: impl Fn() -> Connection,
    database: &Database,
    jobs: &Mutex<Receiver<Waiting>>,
    done: &Sender<(u64, Heard)>,
    wake: impl Fn(),
) {
    let mut connection = connect();
    loop {
        let waiting = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // The loop is gone only if the process ends.
        let Ok(waiting) = waiting else { return };
        let job = &waiting.job;
        if job.line.is_given_up() {
            continue;
        }
        let asked = catch_unwind(AssertUnwindSafe(|| connection.ask(job)));
        let heard = asked.unwrap_or_else(|_| {
            Record::at(log::Level::Error, "ask-panicked").field("database", &database.url).emit();
            connection = connect();
            Err(Refused::Failed("its answer is not understood".to_owned()))
        });
        let number = job.number;
        drop(waiting);
        let _ = done.send((number, heard));
        wake();
        if catch_unwind(AssertUnwindSafe(|| connection.rest())).is_err() {
            connection = connect();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn questions_take_no_more_room_than_there_is_and_give_it_back() {
        let room = Arc::new(AtomicUsize::new(10));
        let take = |statement: &str, parameter: &str| {
            let job = Job {
                number: 1,
                statement: statement.to_owned(),
                parameters: vec![Parameter::Text(parameter.to_owned()), Parameter::Null],
                until: Instant::now() + Duration::from_secs(60),
                line: Arc::default(),
            };
            Waiting::take(job, &room)
        };
        let first = take("select", "a").unwrap();
        // One that is given up is still there.
        first.job.line.give_up();
        assert!(take("sel", "a").is_none());
        let second = take("se", "a").unwrap();
        drop((first, second));
        assert!(take("select", "abcd").is_some());
    }
}
