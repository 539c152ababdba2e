//! Changes that overtake each other on their way: each record must name the one before it, or what lies between is lost.

use std::sync::{Condvar, Mutex};

use vsmtp_mail::EnhancedCode;

use super::*;

/// Longest wait for the store's threads; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Syncs that fail one after the other.
const SICK: u64 = 12;

/// A store whose threads wait, each time they have reported something, until the test lets them go on.
struct Held {
    store: Store,
    threads: Arc<Threads>,
    events: Vec<Event>,
}

#[derive(Default)]
struct Threads {
    state: Mutex<BTreeMap<String, Thread>>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct Thread {
    /// It goes through without waiting.
    is_free: bool,
    /// It has reported, and waits.
    waits: bool,
}

impl Threads {
    fn of(&self, name: &str, change: impl FnOnce(&mut Thread)) {
        change(self.state.lock().unwrap().entry(name.to_owned()).or_default());
        self.changed.notify_all();
    }

    /// Waits until this holds for a thread.
    fn until(&self, name: &str, holds: impl Fn(Thread) -> bool) {
        let state = self.state.lock().unwrap();
        let not_yet = |all: &mut BTreeMap<String, Thread>| !holds(all.get(name).copied().unwrap_or_default());
        let waited = self.changed.wait_timeout_while(state, PATIENCE, not_yet).unwrap().1;
        assert!(!waited.timed_out(), "{name} does not come");
    }

    /// What a thread does after each report.
    fn pass(&self) {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        if self.state.lock().unwrap().get(&name).is_some_and(|thread| thread.is_free) {
            return;
        }
        self.of(&name, |thread| thread.waits = true);
        self.until(&name, |thread| thread.is_free || !thread.waits);
    }
}

impl Held {
    fn open(disk: &SimDisk) -> Held {
        let threads = Arc::new(Threads::default());
        // The janitor reports first of all that it has made a segment ready.
        threads.of("committer", |committer| committer.is_free = true);
        let theirs = threads.clone();
        let wake: Wake = Box::new(move || theirs.pass());
        // Nothing is synced, nor marked, but for a transaction.
        let options = Options { lazy_delay: Duration::from_secs(3600), ..OPTIONS };
        let (store, ..) = Unrecovered::on(disk.arc(), options).recover(wake).unwrap();
        threads.until("janitor", |janitor| janitor.waits);
        Held { store, threads, events: Vec::new() }
    }

    fn submit(&mut self, changes: Vec<Change>, urgency: Urgency) -> Ticket {
        self.store.submit(Transaction { changes, urgency }).unwrap()
    }

    /// Waits until a transaction is done, and takes that in.
    fn finish(&mut self, ticket: Ticket) {
        assert_eq!(self.result(ticket), Ok(()));
    }

    fn result(&mut self, ticket: Ticket) -> Result<(), CommitError> {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            self.store.poll(&mut self.events);
            let done = self.events.iter().find_map(|event| match event {
                Event::Completed { ticket: done, result } if *done == ticket => Some(result.clone()),
                _ => None,
            });
            if let Some(result) = done {
                return result;
            }
            assert!(std::time::Instant::now() < until, "{:?}", self.events);
            std::thread::yield_now();
        }
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let ticket = self.submit(changes, Urgency::Durable);
        self.finish(ticket);
    }

    /// Commits, and keeps the committer from going on: what is submitted now is prepared before anybody has heard of this.
    fn commit_unheard(&mut self, change: Change) {
        self.threads.of("committer", |committer| committer.is_free = false);
        self.submit(vec![change], Urgency::Durable);
        self.threads.until("committer", |committer| committer.waits);
    }

    fn let_committer_go(&self) {
        self.threads.of("committer", |committer| (committer.is_free, committer.waits) = (true, false));
    }

    /// The recipients of the first message have been tried as often as that, for this process and for the next.
    fn assert_attempts(&self, disk: &SimDisk, expected: [u16; 3]) {
        for store in [&self.store, &open(&disk.after_power_cut(0)).0] {
            let state = store.message(id(1)).unwrap().state;
            assert_eq!(state.disposition, Disposition::Active);
            let found: Vec<u16> = state.progress.iter().map(|one| one.brief().attempts).collect();
            assert_eq!(found, expected);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for name in ["committer", "janitor"] {
            self.threads.of(name, |thread| thread.is_free = true);
        }
    }
}

fn outcome(n: u32, recipient: u32, attempts: u16) -> Change {
    outcome_saying(n, recipient, attempts, "451 not now")
}

fn outcome_saying(n: u32, recipient: u32, attempts: u16, text: &str) -> Change {
    let last = Some(Diagnostic { status: EnhancedCode(4, 3, 0), remote: None, text: text.into() });
    let waiting = RecipientState::Waiting { attempts, until: 5, last };
    Change::Outcome { id: id(n), results: vec![(recipient, waiting)] }
}

#[test]
fn a_change_follows_what_was_reported_after_it_was_prepared() {
    let disk = SimDisk::default();
    let mut held = Held::open(&disk);
    held.commit(vec![accept(1, 3, 100), accept(2, 1, 100)]);
    // The first change is done, and nobody has heard of it when the second is prepared, but when the third is.
    held.commit_unheard(outcome(1, 0, 7));
    held.submit(vec![outcome(1, 1, 8)], Urgency::Durable);
    held.store.poll(&mut held.events);
    let last = held.submit(vec![outcome(2, 0, 9)], Urgency::Durable);
    held.let_committer_go();
    held.finish(last);
    held.assert_attempts(&disk, [7, 8, 0]);
}

#[test]
fn a_change_that_finds_a_place_late_follows_what_went_ahead_of_it() {
    let disk = SimDisk::default();
    let mut held = Held::open(&disk);
    held.commit(vec![accept(1, 3, 100), accept(2, 1, 100)]);
    held.commit_unheard(outcome(1, 0, 7));
    // Prepared before anybody has heard of the first, written after it, and not synced.
    let lazy = held.submit(vec![outcome(1, 1, 8)], Urgency::Lazy);
    held.let_committer_go();
    held.finish(lazy);
    for sync in 1..=SICK {
        disk.fail_sync(disk.syncs() + sync);
    }
    let mut failures = 0;
    loop {
        let ticket = held.submit(vec![outcome(2, 0, 9)], Urgency::Durable);
        if held.result(ticket).is_ok() {
            break;
        }
        failures += 1;
    }
    assert!(failures > 1, "it finds a place only after everybody has heard of everything");
    held.assert_attempts(&disk, [7, 8, 0]);
}

#[test]
fn a_change_for_which_there_is_no_segment_follows_what_went_ahead_of_it() {
    let disk = SimDisk::default();
    let mut held = Held::open(&disk);
    held.commit(vec![accept(1, 3, 100), accept(2, 1, 100)]);
    disk.set_free(Some(0));
    // Until there is room for little only, the segment that is kept back included.
    let long = "x".repeat(MAX_TEXT);
    loop {
        let ticket = held.submit(vec![outcome_saying(2, 0, 1, &long)], Urgency::Durable);
        if held.result(ticket).is_err() {
            break;
        }
    }
    held.commit_unheard(outcome(2, 0, 2));
    // Both are prepared before anybody has heard of the first, for which there is room.
    let first = held.submit(vec![outcome(1, 0, 7)], Urgency::Lazy);
    held.submit(vec![outcome_saying(1, 1, 8, &long)], Urgency::Lazy);
    held.let_committer_go();
    held.finish(first);
    let refused = held.submit(vec![outcome(2, 0, 3)], Urgency::Durable);
    assert!(held.result(refused).is_err(), "what is older has no place yet");
    disk.set_free(None);
    held.commit(vec![outcome(2, 0, 4)]);
    held.assert_attempts(&disk, [7, 8, 0]);
}

#[test]
fn a_change_that_waited_for_a_large_body_follows_what_went_ahead_of_it() {
    let disk = SimDisk::default();
    let mut held = Held::open(&disk);
    held.commit(vec![accept(1, 3, 100)]);
    // The janitor has its hands full, and the large body behind it.
    let mut staging = held.store.stage(id(2)).unwrap();
    staging.append(&body(2, 100_000)).unwrap();
    let state = Arc::new(record::test_state(1));
    let large = Change::Accept { id: id(2), state, body: NewBody::Staged(staging.finish()) };
    let last = held.submit(vec![large, outcome(1, 0, 7)], Urgency::Durable);
    held.commit(vec![outcome(1, 1, 8)]);
    held.commit(vec![accept(3, 1, 100)]);
    held.threads.of("janitor", |janitor| janitor.is_free = true);
    held.finish(last);
    held.assert_attempts(&disk, [7, 8, 0]);
}

#[test]
fn more_changes_on_their_way_than_can_be_counted_are_all_waited_for() {
    let disk = SimDisk::default();
    let mut held = Held::open(&disk);
    held.commit(vec![accept(1, 3, 100)]);
    held.commit_unheard(outcome(1, 0, 1));
    for n in 0..300 {
        held.submit(vec![outcome(1, 0, n)], Urgency::Durable);
    }
    held.store.poll(&mut held.events);
    // These are done, and reported.
    held.threads.of("committer", |committer| committer.waits = false);
    held.threads.until("committer", |committer| committer.waits);
    // These are not, when the next would rather write the whole state.
    for n in 0..20 {
        held.submit(vec![outcome(1, 1, n)], Urgency::Durable);
    }
    held.store.poll(&mut held.events);
    let last = held.submit(vec![outcome(1, 2, 9)], Urgency::Durable);
    held.let_committer_go();
    held.finish(last);
    held.assert_attempts(&disk, [299, 19, 9]);
}
