//! The threads in which the one step of a handshake is done that waits for a signature. Few, and with a short line: who
//! finds no place in it is refused before the handshake, not kept. Who was told to begin finds one.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mio::Waker;
use vsmtp_tls::server::{Finished, Work};

/// Threads: how many signatures can be waited for at once.
pub const THREADS: usize = 4;
/// Steps that may wait for a thread, before connections that begin with TLS are refused.
pub const MAX_WAITING: usize = 256;
/// Steps that may wait before STARTTLS is refused. Those whose client has heard 220 come on top: each is a session of its own,
/// so there are fewer than sessions.
pub const MAX_BEFORE_STARTTLS: usize = 192;

/// The threads.
pub struct Pool {
    line: Arc<Line>,
    finished: Receiver<(u64, Finished)>,
}

/// Steps that wait for a thread. One step wakes one thread: with a channel that threads share behind a lock, the one that
/// takes a step also wakes the next in line, only to have it wait again.
#[derive(Default)]
struct Line {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Default)]
struct Waiting {
    steps: VecDeque<(u64, Work)>,
    /// The pool is gone: the threads end.
    over: bool,
}

impl Pool {
    /// Starts them. They wake the loop when something is done, and end with the pool.
    pub fn start(waker: Arc<Waker>) -> io::Result<Self> {
        let line = Arc::new(Line::default());
        let (done, finished) = mpsc::channel();
        for number in 0..THREADS {
            let (line, done, waker) = (Arc::clone(&line), done.clone(), Arc::clone(&waker));
            let thread = std::thread::Builder::new().name(format!("handshake-{number}"));
            thread.spawn(move || serve(&line, &done, &waker))?;
        }
        Ok(Pool { line, finished })
    }

    /// Has a step of a session's handshake done. False if there is no place in the line; there always is for one that was
    /// promised it.
    pub fn run(&self, session: u64, work: Work, promised: bool) -> bool {
        let mut waiting = self.line.lock();
        if !promised && waiting.steps.len() >= MAX_WAITING {
            return false;
        }
        waiting.steps.push_back((session, work));
        drop(waiting);
        self.line.bell.notify_one();
        true
    }

    /// True if so many wait that nobody is to be told to begin.
    pub fn is_busy(&self) -> bool {
        self.line.lock().steps.len() >= MAX_BEFORE_STARTTLS
    }

    /// A step that was done, and for whom.
    pub fn finished(&self) -> Option<(u64, Finished)> {
        self.finished.try_recv().ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.line.lock().over = true;
        self.line.bell.notify_all();
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Between two calls the line is whole, whatever became of a thread.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a step; `None` at the end.
    fn next(&self) -> Option<(u64, Work)> {
        let mut waiting = self.lock();
        loop {
            if waiting.over {
                return None;
            }
            if let Some(step) = waiting.steps.pop_front() {
                return Some(step);
            }
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn serve(line: &Line, done: &Sender<(u64, Finished)>, waker: &Waker) {
    while let Some((session, work)) = line.next() {
        // A panic costs this handshake, which then runs into its deadline, and nobody else's.
        let Ok(finished) = catch_unwind(AssertUnwindSafe(|| work.run())) else {
            log::error!("event=handshake-panicked session={session}");
            continue;
        };
        if done.send((session, finished)).is_err() || waker.wake().is_err() {
            return;
        }
    }
}
