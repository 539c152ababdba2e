//! What a script may use: operations, depth, sizes, wall-clock time. Native functions are not covered by Rhai's limits,
//! so each of them bounds itself.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rhai::{Dynamic, Engine};

use crate::places::Party;

/// Operations between two looks at the clock.
const CLOCK_EVERY: u64 = 256;

/// The limits of one engine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Operations of one call of a directive, or of loading a script.
    pub operations: u64,
    /// Nested function calls.
    pub call_levels: usize,
    /// Depth of an expression at the top level and inside a function.
    pub expr_depth: (usize, usize),
    /// Bytes of one string.
    pub string_bytes: usize,
    /// Elements of one array.
    pub array_len: usize,
    /// Entries of one map.
    pub map_len: usize,
    /// Variables in scope.
    pub variables: usize,
    /// Functions of one script.
    pub functions: usize,
    /// Modules that one script may import.
    pub modules: usize,
    /// Wall-clock time of one call.
    pub wall_clock: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            operations: 5_000_000,
            call_levels: 48,
            expr_depth: (96, 64),
            string_bytes: 16 << 20,
            array_len: 100_000,
            map_len: 100_000,
            variables: 1_024,
            functions: 4_096,
            modules: 1_024,
            wall_clock: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// For the one-shot evaluation of configuration.
    pub fn for_configuration() -> Self {
        Limits { operations: 1_000_000, wall_clock: Duration::from_secs(10), ..Limits::default() }
    }

    pub(super) fn apply(&self, engine: &mut Engine) {
        engine.set_max_operations(self.operations);
        engine.set_max_call_levels(self.call_levels);
        engine.set_max_expr_depths(self.expr_depth.0, self.expr_depth.1);
        engine.set_max_string_size(self.string_bytes);
        engine.set_max_array_size(self.array_len);
        engine.set_max_map_size(self.map_len);
        engine.set_max_variables(self.variables);
        engine.set_max_functions(self.functions);
        engine.set_max_modules(self.modules);
        engine.on_progress(|operations| {
            let stop = operations % CLOCK_EVERY == 0 && WATCH.with(Watched::tick);
            stop.then(|| Dynamic::from("script ran longer than its time limit"))
        });
    }
}

/// What `on_progress` can reach: Rhai hands it a number and nothing else, so the running call's deadline is kept per
/// thread. A call runs on one thread from beginning to end.
struct Watched {
    deadline: Cell<Option<Instant>>,
    slow_after: Cell<Option<Instant>>,
    on_slow: Cell<Option<fn()>>,
    party: Cell<Party>,
}

thread_local! {
    static WATCH: Watched = const {
        Watched {
            deadline: Cell::new(None),
            slow_after: Cell::new(None),
            on_slow: Cell::new(None),
            party: Cell::new(Party::Local),
        }
    };
}

impl Watched {
    /// True if the running call must stop.
    fn tick(&self) -> bool {
        let Some(deadline) = self.deadline.get() else { return false };
        let now = Instant::now();
        if self.slow_after.get().is_some_and(|slow| now >= slow) {
            self.slow_after.set(None);
            if let Some(on_slow) = self.on_slow.get() {
                on_slow();
            }
        }
        now >= deadline
    }
}

/// Sets the deadline of the scripts that run on this thread until it is dropped; nests.
#[derive(Debug)]
pub struct Watch {
    deadline: Option<Instant>,
    slow_after: Option<Instant>,
    on_slow: Option<fn()>,
    party: Party,
}

impl Watch {
    /// Scripts of this thread stop at `deadline`.
    pub fn until(deadline: Instant) -> Self {
        Self::set(Some(deadline), None, None, Party::Local)
    }

    /// The same for scripts that run for a party, and `on_slow` is called once if they still run at `slow_after`.
    pub fn with_slow_hook(deadline: Instant, slow_after: Instant, on_slow: fn(), party: Party) -> Self {
        Self::set(Some(deadline), Some(slow_after), Some(on_slow), party)
    }

    fn set(deadline: Option<Instant>, slow: Option<Instant>, hook: Option<fn()>, party: Party) -> Self {
        WATCH.with(|watch| Watch {
            deadline: watch.deadline.replace(deadline),
            slow_after: watch.slow_after.replace(slow),
            on_slow: watch.on_slow.replace(hook),
            party: watch.party.replace(party),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCH.with(|watch| {
            watch.deadline.set(self.deadline);
            watch.slow_after.set(self.slow_after);
            watch.on_slow.set(self.on_slow);
            watch.party.set(self.party);
        });
    }
}

/// For native functions that are about to wait: others need not wait with them.
pub fn hand_on() {
    WATCH.with(|watch| {
        watch.slow_after.set(None);
        if let Some(on_slow) = watch.on_slow.get() {
            on_slow();
        }
    });
}

/// For native functions that wait: for whom the running call is.
pub fn party() -> Party {
    WATCH.with(|watch| watch.party.get())
}

/// For native functions that loop: true if the running call is past its deadline.
pub fn deadline_passed() -> bool {
    WATCH.with(|watch| watch.deadline.get().is_some_and(|deadline| Instant::now() >= deadline))
}

/// For native functions that wait: what the running call has left; `None` if it has no deadline.
pub fn time_left() -> Option<Duration> {
    let deadline = WATCH.with(|watch| watch.deadline.get());
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}
