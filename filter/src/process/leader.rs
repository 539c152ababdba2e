//! Threads that take turns at one loop. The leader runs the loop and every job of it, inline: a quick rule costs no change
//! of thread. Before a job blocks, or when it has run for a while, it cedes the lead: a parked thread goes on with the loop,
//! and the slow job hands its result in when it is done. So up to `workers` slow rules delay nobody.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Stack of each thread. Scripts may nest calls and expressions up to their limits; only what is touched costs memory.
const STACK: usize = 32 << 20;

/// Longest time in which jobs run one after the other and nothing is sent: answers, and questions that other jobs wait for.
const FLUSH_AFTER: Duration = Duration::from_millis(2);

/// What the threads share: a loop that finds jobs.
pub trait Desk: Send {
    /// Something to do outside the desk's lock.
    type Job: Send;
    /// What came of it.
    type Done: Send;

    /// Waits for events and handles them. `false`: the process is to end. Never called while jobs can be had.
    fn turn(&mut self) -> io::Result<bool>;
    /// The next job. `may_start` is false while all workers are busy with slow jobs: jobs then wait, and expire.
    fn next_job(&mut self, may_start: bool) -> Option<Self::Job>;
    /// Takes a result.
    fn finish(&mut self, done: Self::Done);
    /// Sends what jobs produced, and what they ask others.
    fn flush(&mut self);
    /// Makes a `turn` that waits in another thread return soon.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync>;
}

/// The threads of a desk.
pub struct Crew<D: Desk> {
    desk: Mutex<D>,
    run: fn(D::Job) -> D::Done,
    lead: Lead,
    /// Results of jobs that ceded.
    late: Mutex<Vec<D::Done>>,
    wake: Arc<dyn Fn() + Send + Sync>,
    /// When something was sent last. The leader's.
    flushed: Mutex<Instant>,
}

struct Lead {
    state: Mutex<LeadState>,
    free: Condvar,
    max_threads: usize,
}

#[derive(Default)]
struct LeadState {
    taken: bool,
    ended: bool,
    threads: usize,
    parked: usize,
}

thread_local! {
    /// Set while this thread leads: how to hand the lead on.
    static CEDE: RefCell<Option<Arc<dyn Fn() -> bool>>> = const { RefCell::new(None) };
    static LEADS: Cell<bool> = const { Cell::new(false) };
}

/// Hands the lead to another thread, if this thread has it and another can be had. Call before anything that may block.
pub fn cede() {
    if !LEADS.get() {
        return;
    }
    let hand_on = CEDE.with_borrow(Clone::clone);
    if hand_on.is_some_and(|hand_on| hand_on()) {
        LEADS.set(false);
    }
}

/// [`cede`]; true if the lead could not be handed on, so that this thread must not wait for what the loop does.
pub fn cede_or_stay() -> bool {
    cede();
    LEADS.get()
}

impl<D: Desk + 'static> Crew<D> {
    /// Runs a desk with up to `workers` slow jobs beside the loop. Returns when the desk says so.
    pub fn serve(desk: D, workers: usize, run: fn(D::Job) -> D::Done) {
        let wake = desk.waker();
        let lead = Lead { state: Mutex::default(), free: Condvar::new(), max_threads: workers + 1 };
        let crew = Arc::new(Crew {
            desk: Mutex::new(desk),
            run,
            lead,
            late: Mutex::new(Vec::new()),
            wake,
            flushed: Mutex::new(Instant::now()),
        });
        crew.lead.lock().threads = 1;
        let first = Arc::clone(&crew);
        // The main thread's stack is what the system gives, and may be too small for scripts.
        let thread = std::thread::Builder::new().name("vsl-worker".to_owned()).stack_size(STACK);
        match thread.spawn(move || first.work()) {
            Ok(thread) => drop(thread.join()),
            Err(error) => log::error!("event=thread-failed error=\"{error}\""),
        }
    }

    /// The life of one thread: take the lead, run the loop until the lead is ceded, hand in the late result, again.
    fn work(self: &Arc<Self>) {
        let crew = Arc::clone(self);
        CEDE.set(Some(Arc::new(move || crew.hand_on())));
        while self.lead.take() {
            LEADS.set(true);
            while LEADS.get() {
                self.step();
            }
        }
    }

    /// One job, or one turn if there is none.
    fn step(self: &Arc<Self>) {
        let may_start = self.lead.has_spare();
        let mut desk = lock(&self.desk);
        if lock(&self.flushed).elapsed() >= FLUSH_AFTER {
            desk.flush();
            *lock(&self.flushed) = Instant::now();
        }
        let job = desk.next_job(may_start);
        drop(desk);
        match job {
            Some(job) => self.do_job(job),
            None => self.wait(),
        }
    }

    fn do_job(self: &Arc<Self>, job: D::Job) {
        let done = (self.run)(job);
        if LEADS.get() {
            lock(&self.desk).finish(done);
        } else {
            lock(&self.late).push(done);
            (self.wake)();
        }
    }

    fn wait(&self) {
        let mut desk = lock(&self.desk);
        desk.flush();
        let goes_on = desk.turn();
        *lock(&self.flushed) = Instant::now();
        for done in lock(&self.late).drain(..) {
            desk.finish(done);
        }
        drop(desk);
        match goes_on {
            Ok(true) => {}
            Ok(false) => self.lead.end(),
            Err(error) => {
                log::error!("event=loop-failed error=\"{error}\"");
                self.lead.end();
            }
        }
    }

    /// Gives the lead away. False if nobody can take it.
    fn hand_on(self: &Arc<Self>) -> bool {
        let mut state = self.lead.lock();
        if state.parked == 0 {
            if state.threads >= self.lead.max_threads {
                return false;
            }
            let crew = Arc::clone(self);
            let started = std::thread::Builder::new()
                .name("vsl-worker".to_owned())
                .stack_size(STACK)
                .spawn(move || crew.work());
            if started.is_err() {
                return false;
            }
            state.threads += 1;
        }
        state.taken = false;
        drop(state);
        self.lead.free.notify_one();
        true
    }
}

impl Lead {
    fn lock(&self) -> MutexGuard<'_, LeadState> {
        lock(&self.state)
    }

    /// Parks until the lead is free. False when all is over.
    fn take(&self) -> bool {
        let mut state = self.lock();
        state.parked += 1;
        while state.taken && !state.ended {
            state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.parked -= 1;
        state.taken = true;
        !state.ended
    }

    /// True if a job that turns out slow could cede.
    fn has_spare(&self) -> bool {
        let state = self.lock();
        state.parked > 0 || state.threads < self.max_threads
    }

    fn end(&self) {
        self.lock().ended = true;
        LEADS.set(false);
        self.free.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Panics inside jobs are caught by `run`; the desk's own state is only touched between jobs.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    type Task = Box<dyn FnOnce() -> u32 + Send>;

    /// A desk whose events are tasks from a channel. It ends when it has as many results as tasks.
    struct Tasks {
        from: Receiver<Option<Task>>,
        to: Sender<Option<Task>>,
        ready: VecDeque<Task>,
        expected: usize,
        results: Arc<Mutex<Vec<u32>>>,
        flushes: Arc<AtomicU32>,
    }

    impl Desk for Tasks {
        type Job = Task;
        type Done = u32;
        fn turn(&mut self) -> io::Result<bool> {
            if let Ok(Some(task)) = self.from.recv() {
                self.ready.push_back(task);
            }
            self.ready.extend(self.from.try_iter().flatten());
            Ok(self.results.lock().unwrap().len() < self.expected)
        }
        fn next_job(&mut self, may_start: bool) -> Option<Task> {
            if may_start { self.ready.pop_front() } else { None }
        }
        fn finish(&mut self, done: u32) {
            self.results.lock().unwrap().push(done);
            let _ = self.to.send(None);
        }
        fn flush(&mut self) {
            self.flushes.fetch_add(1, Ordering::Relaxed);
        }
        fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
            let to = Mutex::new(self.to.clone());
            Arc::new(move || {
                let _ = to.lock().unwrap().send(None);
            })
        }
    }

    fn serve(workers: usize, tasks: Vec<Task>) -> Vec<u32> {
        serve_counting(workers, tasks, Arc::default())
    }

    fn serve_counting(workers: usize, tasks: Vec<Task>, flushes: Arc<AtomicU32>) -> Vec<u32> {
        let (to, from) = channel();
        let results = Arc::new(Mutex::new(Vec::new()));
        let expected = tasks.len();
        for task in tasks {
            to.send(Some(task)).unwrap();
        }
        let desk =
            Tasks { from, to, ready: VecDeque::new(), expected, results: Arc::clone(&results), flushes };
        Crew::serve(desk, workers, |task| task());
        results.lock().map(|results| results.clone()).unwrap()
    }

    #[test]
    fn quick_jobs_run_in_order_on_one_thread() {
        let threads = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let number = |n: u32| {
            let threads = Arc::clone(&threads);
            Box::new(move || {
                threads.lock().unwrap().insert(std::thread::current().id());
                n
            }) as Task
        };
        assert_eq!(serve(4, (0..50).map(number).collect()), (0..50).collect::<Vec<u32>>());
        assert_eq!(threads.lock().unwrap().len(), 1);
    }

    #[test]
    fn what_a_job_asks_does_not_wait_until_all_other_jobs_have_run() {
        let flushes = Arc::new(AtomicU32::new(0));
        let before = Arc::new(AtomicU32::new(u32::MAX));
        let count = |flushes: &Arc<AtomicU32>| flushes.load(Ordering::Relaxed);
        let (asked, heard) = channel();
        let (seen, at_first) = (Arc::clone(&flushes), Arc::clone(&before));
        let asks = Box::new(move || {
            at_first.store(count(&seen), Ordering::Relaxed);
            cede();
            u32::from(heard.recv_timeout(Duration::from_secs(30)).unwrap())
        }) as Task;
        let slow = Box::new(|| {
            std::thread::sleep(2 * FLUSH_AFTER);
            2_u32
        }) as Task;
        let (seen, at_first) = (Arc::clone(&flushes), Arc::clone(&before));
        let last = Box::new(move || {
            asked.send(count(&seen) > count(&at_first)).unwrap();
            3_u32
        }) as Task;
        let mut results = serve_counting(4, vec![asks, slow, last], flushes);
        results.sort_unstable();
        assert_eq!(results, [1, 2, 3]);
    }

    #[test]
    fn blocked_jobs_delay_nobody() {
        // Six jobs block until all six run at once, each in a thread of its own.
        let gate = Arc::new(Barrier::new(6));
        let blocked = |n: u32| {
            let gate = Arc::clone(&gate);
            Box::new(move || {
                cede();
                gate.wait();
                n
            }) as Task
        };
        let mut results = serve(6, (0..6).map(blocked).collect());
        results.sort_unstable();
        assert_eq!(results, (0..6).collect::<Vec<u32>>());
    }
}
