//! Policies that were fetched, for as long as their domains ask for. Bounded; what ends first makes room.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Policy;

/// Most policies that are remembered.
const MAX_POLICIES: usize = 10_000;

/// The policies by domain. Times are those of the caller's clock.
#[derive(Default)]
pub struct Cache {
    by_domain: HashMap<String, Entry>,
}

struct Entry {
    id: String,
    policy: Arc<Policy>,
    fetched: Duration,
    ends: Duration,
}

impl Cache {
    /// Id, policy and age, if its time is not over.
    pub fn find(&self, domain: &str, now: Duration) -> Option<(String, Arc<Policy>, Duration)> {
        let entry = self.by_domain.get(domain).filter(|entry| now < entry.ends)?;
        Some((entry.id.clone(), Arc::clone(&entry.policy), now.saturating_sub(entry.fetched)))
    }

    /// Remembers a policy instead of an older one.
    pub fn insert(&mut self, domain: String, id: String, policy: Arc<Policy>, now: Duration) {
        if self.by_domain.len() >= MAX_POLICIES && !self.by_domain.contains_key(&domain) {
            self.by_domain.retain(|_, entry| now < entry.ends);
        }
        if self.by_domain.len() >= MAX_POLICIES && !self.by_domain.contains_key(&domain) {
            let first = self.by_domain.iter().min_by_key(|(_, entry)| entry.ends);
            if let Some(first) = first.map(|(domain, _)| domain.clone()) {
                self.by_domain.remove(&first);
            }
        }
        let ends = now.saturating_add(policy.max_age);
        self.by_domain.insert(domain, Entry { id, policy, fetched: now, ends });
    }
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::edge::client_resolver::StsMode;

    use super::*;

    fn policy(max_age: u64) -> Arc<Policy> {
        Arc::new(Policy { mode: StsMode::None, mx: Vec::new(), max_age: Duration::from_secs(max_age) })
    }

    #[test]
    fn a_policy_ends_when_its_time_is_over() {
        let (mut cache, at) = (Cache::default(), Duration::from_secs);
        cache.insert("a.test".to_owned(), "1".to_owned(), policy(10), at(5));
        assert_eq!(cache.find("a.test", at(14)).map(|(id, _, age)| (id, age)), Some(("1".to_owned(), at(9))));
        assert!(cache.find("a.test", at(15)).is_none() && cache.find("b.test", at(5)).is_none());
    }

    #[test]
    fn there_are_never_too_many() {
        let mut cache = Cache::default();
        for n in 0..MAX_POLICIES + 5 {
            cache.insert(format!("{n}.test"), String::new(), policy(1000 + n as u64), Duration::ZERO);
        }
        assert_eq!(cache.by_domain.len(), MAX_POLICIES);
        assert!(
            cache.find("4.test", Duration::ZERO).is_none() && cache.find("5.test", Duration::ZERO).is_some()
        );
    }
}
