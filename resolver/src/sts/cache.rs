//! Policies that were fetched, for as long as their domains ask for. Bounded in number and in octets: of too many, what nobody
//! has asked for the longest makes room, so that many that are met once do not push out those that are in use; of too large
//! ones the largest, so that who publishes large ones pushes out his like. Pure.
//!
//! Ages count by a clock that never jumps. What is kept over the death of the process has the time of day, which may: a
//! policy from the future is as one that was fetched just now, so that none outlives what its domain asks for by more than
//! that. Since the time of day may be wrong at one start and right at the next, what is over by it when it is read is not used
//! and not forgotten for a day; what was fetched here is kept with the time at which it was, by the clock as it is at the end;
//! and by a clock from before this program nothing is judged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Policy;
use super::snapshot::{Kept, MAX_OCTETS};

/// Most policies that are remembered.
pub const MAX_POLICIES: usize = 10_000;
/// Policies that are to be remembered for less are fetched anew only when somebody asks for them.
const LONG: Duration = Duration::from_secs(86_400);
/// Longest and shortest time between two looks whether a policy has changed (RFC 8461 3.3 suggests a day).
const LOOK: Duration = Duration::from_secs(86_400);
const MIN_LOOK: Duration = Duration::from_secs(6 * 3_600);
/// After so many seconds in which nobody asked for a policy, it is left to its end.
const ASKED_S: u64 = 30 * 86_400;

/// How long what was over when it was read is kept all the same, by the clock that never jumps.
const REST: Duration = Duration::from_secs(86_400);
/// The time of day was never earlier while there was this program, in seconds since 1970: the begin of 2026. Machines without a
/// battery begin in 1970, or at the end of their last life.
const FLOOR_S: u64 = 1_767_225_600;

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// By the clock that never jumps.
    pub now: Duration,
    /// Seconds since 1970.
    pub wall_s: u64,
}

impl Time {
    /// False if the time of day cannot be right.
    fn is_possible(self) -> bool {
        self.wall_s >= FLOOR_S
    }
}

/// A policy whose time is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What its record stated.
    pub id: String,
    /// What it says.
    pub policy: Arc<Policy>,
    /// Time since it was fetched.
    pub age: Duration,
}

/// The policies by domain.
#[derive(Default)]
pub struct Cache {
    by_domain: HashMap<String, Entry>,
    octets: usize,
    changed: bool,
    /// What was over when it was read, by domain.
    resting: HashMap<String, Kept>,
    /// When those are forgotten.
    rest_end: Option<Duration>,
}

struct Entry {
    kept: Kept,
    /// Fetched by this process: its age is known whatever the time of day was.
    is_own: bool,
    /// What it takes of all octets.
    octets: usize,
    /// Its age at that time.
    age: Duration,
    at: Duration,
    /// When it was last looked whether it has changed, since the start.
    looked: Option<Duration>,
}

impl Cache {
    /// What is known of a domain.
    pub fn find(&self, domain: &str, time: Time) -> Option<Known> {
        let entry = self.by_domain.get(domain).filter(|entry| !entry.is_over(time))?;
        let Kept { id, policy, .. } = &entry.kept;
        Some(Known { id: id.clone(), policy: Arc::clone(policy), age: entry.age(time) })
    }

    /// Somebody asked for a policy.
    pub fn note_asked(&mut self, domain: &str, time: Time) {
        if let Some(entry) = self.by_domain.get_mut(domain).filter(|_| time.is_possible()) {
            entry.kept.asked_s = time.wall_s;
        }
    }

    /// Remembers a policy that was fetched now, instead of an older one.
    pub fn insert(&mut self, domain: String, id: String, policy: Arc<Policy>, time: Time) {
        let asked_s = self.by_domain.get(&domain).map_or(time.wall_s, |entry| entry.kept.asked_s);
        let kept = Kept { domain, id, policy, fetched_s: time.wall_s, asked_s };
        self.changed = true;
        self.resting.remove(&kept.domain);
        let entry = Entry::new(kept, Duration::ZERO, time);
        self.put(Entry { looked: Some(time.now), is_own: true, ..entry }, time);
    }

    /// Takes up what was kept, where nothing newer is known.
    pub fn absorb(&mut self, kept: Vec<Kept>, time: Time) {
        for mut kept in kept {
            if time.is_possible() {
                if kept.fetched_s > time.wall_s {
                    kept.fetched_s = time.wall_s;
                    self.changed = true;
                }
                kept.asked_s = kept.asked_s.min(time.wall_s);
            }
            let known = self.by_domain.get(&kept.domain);
            if known.is_some_and(|known| known.fetched_s(time) >= kept.fetched_s) {
                continue;
            }
            self.take_up(kept, time);
        }
    }

    /// Uses what was kept, or has it rest if its time seems to be over.
    fn take_up(&mut self, kept: Kept, time: Time) {
        let age_s = if time.is_possible() { time.wall_s.saturating_sub(kept.fetched_s) } else { 0 };
        let entry = Entry::new(kept, Duration::from_secs(age_s), time);
        if !entry.is_over(time) {
            self.put(entry, time);
        } else if self.resting.len() < MAX_POLICIES
            && *self.rest_end.get_or_insert(time.now.saturating_add(REST)) > time.now
        {
            self.resting.insert(entry.kept.domain.clone(), entry.kept);
        }
    }

    /// What rests is used after all, if the time of day is another now; or is forgotten, if it has rested long enough.
    pub fn rouse(&mut self, time: Time) {
        if self.rest_end.is_some_and(|end| time.now >= end) {
            self.changed |= !self.resting.is_empty();
            self.resting.clear();
        }
        let is_over =
            |kept: &Kept| time.wall_s.saturating_sub(kept.fetched_s) >= kept.policy.max_age.as_secs();
        if self.resting.values().all(is_over) {
            return;
        }
        for (_, kept) in std::mem::take(&mut self.resting) {
            if !self.by_domain.contains_key(&kept.domain) {
                self.take_up(kept, time);
            }
        }
    }

    /// Domains at whose policies it is to be looked again, at most so many, who has waited longest for it first. They count
    /// as looked at.
    pub fn take_due(&mut self, time: Time, most: usize) -> Vec<String> {
        let mut due: Vec<(u64, &mut Entry)> =
            self.by_domain.values_mut().filter_map(|entry| Some((entry.due(time)?, entry))).collect();
        due.sort_unstable_by_key(|(lateness, _)| std::cmp::Reverse(*lateness));
        due.truncate(most);
        due.into_iter()
            .map(|(_, entry)| {
                entry.looked = Some(time.now);
                entry.kept.domain.clone()
            })
            .collect()
    }

    /// All that the next process is to know, as far as there is room: those whose time is not over, then those that rest.
    pub fn kept(&self, time: Time) -> Vec<Kept> {
        let alive = self.by_domain.values().filter(|entry| !entry.is_over(time));
        let mut kept: Vec<Kept> =
            alive.map(|entry| Kept { fetched_s: entry.fetched_s(time), ..entry.kept.clone() }).collect();
        let mut octets: usize = kept.iter().map(Kept::octets).sum();
        for rests in self.resting.values() {
            octets += rests.octets();
            if octets > MAX_OCTETS || kept.len() >= MAX_POLICIES {
                break;
            }
            kept.push(rests.clone());
        }
        kept
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_domain.len()
    }

    /// True if something is to be kept that was not there at the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Something could not be kept: it is to be tried again.
    pub fn note_changed(&mut self) {
        self.changed = true;
    }

    fn put(&mut self, entry: Entry, time: Time) {
        self.remove(&entry.kept.domain);
        if self.len() >= MAX_POLICIES || self.octets + entry.octets > MAX_OCTETS {
            self.sweep(time);
        }
        while self.octets + entry.octets > MAX_OCTETS {
            let largest = self.by_domain.values().max_by_key(|entry| entry.octets);
            let Some(domain) = largest.map(|entry| entry.kept.domain.clone()) else { return };
            self.remove(&domain);
        }
        if self.len() >= MAX_POLICIES {
            let least = self.by_domain.values().min_by_key(|entry| (entry.kept.asked_s, entry.left(time)));
            if let Some(domain) = least.map(|entry| entry.kept.domain.clone()) {
                self.remove(&domain);
            }
        }
        self.octets += entry.octets;
        self.by_domain.insert(entry.kept.domain.clone(), entry);
    }

    fn remove(&mut self, domain: &str) {
        if let Some(entry) = self.by_domain.remove(domain) {
            self.octets = self.octets.saturating_sub(entry.octets);
        }
    }

    fn sweep(&mut self, time: Time) {
        let octets = &mut self.octets;
        self.by_domain.retain(|_, entry| {
            let stays = !entry.is_over(time);
            if !stays {
                *octets = octets.saturating_sub(entry.octets);
            }
            stays
        });
    }
}

impl Entry {
    /// As old as that now, and not looked at.
    fn new(kept: Kept, age: Duration, time: Time) -> Self {
        Entry { octets: kept.octets(), kept, is_own: false, age, at: time.now, looked: None }
    }

    /// When it was fetched, by the time of day: for the next process. What that was when this one began does not count for
    /// what was fetched here; while it cannot be right, that is from the future.
    fn fetched_s(&self, time: Time) -> u64 {
        match (self.is_own, time.is_possible()) {
            (false, _) => self.kept.fetched_s,
            (true, true) => time.wall_s.saturating_sub(self.age(time).as_secs()),
            (true, false) => u64::MAX,
        }
    }

    fn age(&self, time: Time) -> Duration {
        self.age.saturating_add(time.now.saturating_sub(self.at))
    }

    fn is_over(&self, time: Time) -> bool {
        self.left(time).is_zero()
    }

    fn left(&self, time: Time) -> Duration {
        self.kept.policy.max_age.saturating_sub(self.age(time))
    }

    /// How late it is for a look at it, in hundredths of the time between two; `None` if it is too early.
    fn due(&self, time: Time) -> Option<u64> {
        let max_age = self.kept.policy.max_age;
        let is_asked_for = time.wall_s.saturating_sub(self.kept.asked_s) < ASKED_S;
        if max_age < LONG || self.is_over(time) || !is_asked_for {
            return None;
        }
        let waited = self.looked.map_or(self.age(time), |looked| time.now.saturating_sub(looked));
        let between = (max_age / 4).clamp(MIN_LOOK, LOOK);
        (waited >= between).then(|| waited.as_secs().saturating_mul(100) / between.as_secs())
    }
}

#[cfg(test)]
mod tests;
