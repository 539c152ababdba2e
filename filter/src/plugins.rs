//! Native plugins as rules reach them: loaded once per process, called beside the loop, and watched. What they do within a
//! call nobody can stop; a call that goes on for long after its rule's time ends the process, and the master starts another.
//!
//! On failure: a plugin that cannot be loaded is an error where it is imported; a call that fails is one where it stands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;
use vsmtp_daemon::Record;
use vsmtp_plugin_loader::{self as loader, Found, Function, Plugin, Refused, Value};
use vsmtp_sys::users;

use crate::engine::{deadline_passed, hand_on, party, time_left};
use crate::object::Fault;
use crate::places::Places;

/// The folder of plugins, in that of the configuration.
pub const FOLDER: &str = "plugins";
/// How long a call may go on after the time of its rule is over, and an object take to end, before the process is ended.
pub const GRACE: Duration = Duration::from_secs(10);
/// The time of a call that no rule has made.
const NO_RULE: Duration = Duration::from_secs(10);

/// The files of the folder, before any of them runs.
#[derive(Debug, Default)]
pub struct Files {
    found: Vec<Found>,
    fault: Option<String>,
}

impl Files {
    /// Opens those of a configuration. Where nothing is in its folder of plugins there is nothing to do.
    pub fn look(configuration: &Path) -> Self {
        match loader::find(&configuration.join(FOLDER)) {
            Ok(found) => Files { found, fault: None },
            Err(fault) => Files { found: Vec::new(), fault: Some(fault) },
        }
    }

    /// True if no file is there, usable or not.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The files that will be read and run: the jail must let them.
    pub fn paths(&self) -> Vec<PathBuf> {
        let usable = self.found.iter().filter(|found| found.file.is_ok());
        usable.map(|found| found.path.clone()).collect()
    }

    /// Loads them all. The jail must be closed: from here on their code runs.
    pub fn load(self) -> Arc<Plugins> {
        let all = self.found.into_iter().map(|found| {
            let loaded = load(&found);
            if let Err(refused) = &loaded {
                Record::at(Level::Warn, "plugin-refused")
                    .field("name", &found.name)
                    .field("error", refused)
                    .emit();
            }
            (found.name, loaded)
        });
        Arc::new(Plugins { all: all.collect(), fault: self.fault, ..Plugins::default() })
    }
}

fn load(found: &Found) -> Result<Arc<Plugin>, Refused> {
    let file = found.file.as_ref().map_err(|why| Refused::Broken(why.clone()))?;
    if users::is_root() {
        let why = "plugins are not loaded by root: make the user vsmtp-filter, or be another user";
        return Err(Refused::Broken(format!("{}: {why}", found.path.display())));
    }
    // Said before, not after: it may be the last that is heard of this process.
    Record::new("plugin-loading").field("name", &found.name).field("file", found.path.display()).emit();
    Plugin::load(file, &found.path)
}

/// All plugins of a process.
#[derive(Debug, Default)]
pub struct Plugins {
    all: Vec<(String, Result<Arc<Plugin>, Refused>)>,
    fault: Option<String>,
    /// Of calls that may wait: each has a worker.
    busy: Places,
    /// When each call that runs is overdue, and what it is.
    running: Mutex<HashMap<u64, (Instant, String)>>,
    calls: AtomicU64,
}

/// Why a call has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCalled {
    /// Too many calls are under way.
    Busy(Fault),
    /// It has failed.
    Failed(Fault),
}

impl Plugins {
    /// Each by its name, or why it was refused.
    pub fn all(&self) -> &[(String, Result<Arc<Plugin>, Refused>)] {
        &self.all
    }

    /// What is wrong with the folder as a whole.
    pub fn fault(&self) -> Option<&String> {
        self.fault.as_ref()
    }

    /// A quarter of so many workers is left to rules that do not call plugins.
    pub fn leave_room(&self, workers: usize) {
        self.busy.leave_room(workers);
    }

    /// Calls a function, as `label` in messages: `run` is given when the rule's time is over.
    pub fn call(
        &self,
        label: &str,
        function: &Function,
        run: impl FnOnce(Instant) -> Result<Value, String>,
    ) -> Result<Value, NotCalled> {
        if deadline_passed() {
            return Err(NotCalled::Failed(Fault(format!("{label} was not called: the rule's time is over"))));
        }
        // Others need not wait with it. One that says it is quick is taken at its word: handing on costs more than it.
        let place = if function.is_quick() {
            None
        } else {
            let busy =
                || NotCalled::Busy(Fault(format!("{label} was not called: too many calls of plugins run")));
            let place = self.busy.take(party()).ok_or_else(busy)?;
            hand_on();
            Some(place)
        };
        let deadline = Instant::now() + time_left().unwrap_or(NO_RULE);
        let running = self.begin(label, deadline + GRACE);
        let done = run(deadline);
        drop((running, place));
        done.map_err(|why| NotCalled::Failed(Fault(format!("{label}: {why}"))))
    }

    fn begin(&self, label: &str, overdue: Instant) -> Running<'_> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, (overdue, label.to_owned()));
        Running { plugins: self, number }
    }

    /// The call that is overdue, or the end of an object, if one is. Its thread cannot be had back.
    pub fn overdue(&self, now: Instant) -> Option<String> {
        if self.all.is_empty() {
            return None;
        }
        let call = self.lock().values().find(|(overdue, _)| *overdue <= now).map(|(_, label)| label.clone());
        // Whoever drops an object waits for its end, and is no call.
        let end = || loader::longest_ending().filter(|(since, _)| *since + GRACE <= now);
        call.or_else(|| end().map(|(_, plugin)| format!("the end of an object of {plugin}")))
    }

    /// Ends the process if a call is overdue: the master starts another, and clients hear 451.
    pub fn end_if_overdue(&self) {
        if let Some(function) = self.overdue(Instant::now()) {
            Record::at(Level::Error, "plugin-hangs").field("function", function).emit();
            vsmtp_daemon::flush_log();
            // Not in order: what a plugin has left for the end would run.
            std::process::abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Instant, String)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call, as long as it runs.
struct Running<'a> {
    plugins: &'a Plugins,
    number: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.plugins.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Plugins {
        let refused = Refused::Broken("broken".to_owned());
        Plugins { all: vec![("x".to_owned(), Err(refused))], ..Plugins::default() }
    }

    #[test]
    fn a_call_is_overdue_only_while_it_runs() {
        let (plugins, now) = (some(), Instant::now());
        assert_eq!(plugins.overdue(now + 2 * GRACE), None);
        let call = plugins.begin("x::f", now + GRACE);
        let quick = plugins.begin("x::g", now + 3 * GRACE);
        assert_eq!(plugins.overdue(now), None);
        assert_eq!(plugins.overdue(now + GRACE), Some("x::f".to_owned()));
        drop(call);
        assert_eq!(plugins.overdue(now + 2 * GRACE), None);
        drop(quick);
        assert!(plugins.lock().is_empty());
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_plugins() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::look(folder.path());
        assert!(files.is_empty() && files.paths().is_empty());
        let plugins = files.load();
        assert!(plugins.all().is_empty() && plugins.fault().is_none());
    }

    #[test]
    fn a_file_that_may_not_be_loaded_says_why_and_is_not_for_the_jail_to_let() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("plugins/x.so")).unwrap();
        let files = Files::look(folder.path());
        assert!(!files.is_empty() && files.paths().is_empty());
        let plugins = files.load();
        let [(name, Err(refused))] = plugins.all() else { panic!() };
        assert!(name == "x" && refused.to_string().contains("is not a file"), "{refused}");
    }
}
