//! Policies that were fetched, for as long as their domains ask for. Bounded in number and in octets: of too many, what nobody
//! has asked for the longest makes room, so that many that are met once do not push out those that are in use; of too large
//! ones the largest, so that who publishes large ones pushes out his like. Pure.
//!
//! Ages count by a clock that never jumps. What is kept over the death of the process has the time of day, which may: a
//! policy from the future is as one that was fetched just now, so that none outlives what its domain asks for by more than
//! that.

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

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// By the clock that never jumps.
    pub now: Duration,
    /// Seconds since 1970.
    pub wall_s: u64,
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
}

struct Entry {
    kept: Kept,
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
        if let Some(entry) = self.by_domain.get_mut(domain) {
            entry.kept.asked_s = time.wall_s;
        }
    }

    /// Remembers a policy that was fetched now, instead of an older one.
    pub fn insert(&mut self, domain: String, id: String, policy: Arc<Policy>, time: Time) {
        let asked_s = self.by_domain.get(&domain).map_or(time.wall_s, |entry| entry.kept.asked_s);
        let kept = Kept { domain, id, policy, fetched_s: time.wall_s, asked_s };
        self.changed = true;
        self.put(Entry { looked: Some(time.now), ..Entry::new(kept, Duration::ZERO, time) }, time);
    }

    /// Takes up what was kept, where nothing newer is known.
    pub fn absorb(&mut self, kept: Vec<Kept>, time: Time) {
        for mut kept in kept {
            if kept.fetched_s > time.wall_s {
                kept.fetched_s = time.wall_s;
                self.changed = true;
            }
            kept.asked_s = kept.asked_s.min(time.wall_s);
            let known = self.by_domain.get(&kept.domain);
            if known.is_some_and(|known| known.kept.fetched_s >= kept.fetched_s) {
                continue;
            }
            let age = Duration::from_secs(time.wall_s - kept.fetched_s);
            let entry = Entry::new(kept, age, time);
            if !entry.is_over(time) {
                self.put(entry, time);
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

    /// All whose time is not over.
    pub fn kept(&self, time: Time) -> impl Iterator<Item = &Kept> {
        self.by_domain.values().filter(move |entry| !entry.is_over(time)).map(|entry| &entry.kept)
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
        Entry { octets: kept.octets(), kept, age, at: time.now, looked: None }
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
