//! The threads in which the one step of a handshake is done that waits for a signature. Few, and with a short line: a
//! handshake that finds no place in it is refused, not kept.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;
use vsmtp_tls::server::{Finished, Work};

/// Threads: how many signatures can be waited for at once.
pub const THREADS: usize = 4;
/// Steps that may wait for a thread.
pub const MAX_WAITING: usize = 256;

/// The threads.
pub struct Pool {
    work: SyncSender<(u64, Work)>,
    finished: Receiver<(u64, Finished)>,
}

impl Pool {
    /// Starts them. They wake the loop when something is done, and end with the pool.
    pub fn start(waker: Arc<Waker>) -> io::Result<Self> {
        let (work, line) = mpsc::sync_channel(MAX_WAITING);
        let (done, finished) = mpsc::channel();
        let line = Arc::new(Mutex::new(line));
        for number in 0..THREADS {
            let (line, done, waker) = (Arc::clone(&line), done.clone(), Arc::clone(&waker));
            let thread = std::thread::Builder::new().name(format!("handshake-{number}"));
            thread.spawn(move || serve(&line, &done, &waker))?;
        }
        Ok(Pool { work, finished })
    }

    /// Has a step of a session's handshake done. False if there is no place in the line.
    pub fn run(&self, session: u64, work: Work) -> bool {
        self.work.try_send((session, work)).is_ok()
    }

    /// A step that was done, and for whom.
    pub fn finished(&self) -> Option<(u64, Finished)> {
        self.finished.try_recv().ok()
    }
}

fn serve(line: &Mutex<Receiver<(u64, Work)>>, done: &Sender<(u64, Finished)>, waker: &Waker) {
    loop {
        let next = line.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((session, work)) = next else { return };
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
