//! The limiter of a rehearsal: it counts, and no time passes but for who is greylisted.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vsmtp_ipc::edge::filter_limits::{Taken, Taking, Terms, Triple};

use crate::limiter::Limiter;

/// Most rates and keys that are counted; beyond, nothing is limited.
const MAX_COUNTED: usize = 100_000;

/// What was counted and seen.
#[derive(Debug, Default)]
pub struct Counts(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// By the name of the rate, its period and the key.
    counts: HashMap<(String, u32, String), u32>,
    /// Who has been told to wait.
    waiting: HashSet<(IpAddr, String, String)>,
}

impl Counts {
    /// Forgets all.
    pub fn clear(&self) {
        *self.lock() = Seen::default();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limiter for Counts {
    fn take(&self, taking: Taking) -> Option<Taken> {
        let mut seen = self.lock();
        if seen.counts.len() >= MAX_COUNTED {
            return None;
        }
        let counted = seen.counts.entry((taking.name, taking.period_s, taking.key)).or_default();
        let wanted = counted.saturating_add(taking.count);
        let granted = wanted <= taking.limit;
        if granted {
            *counted = wanted;
        }
        Some(Taken { granted, left: taking.limit.saturating_sub(*counted) })
    }

    /// Who comes again has waited long enough.
    fn greylist(&self, triple: Triple, terms: Terms) -> Option<u32> {
        let mut seen = self.lock();
        let key = (triple.client, triple.sender, triple.recipient);
        let is_new = seen.waiting.len() < MAX_COUNTED && seen.waiting.insert(key);
        Some(if is_new { terms.delay_s } else { 0 })
    }
}
