//! Which hosts take mail for a name: its mail exchangers or itself, those that have addresses, and none behind ourselves
//! (RFC 5321 5.1, RFC 7505). It asks nobody itself: it says what is to be asked.

use std::collections::HashSet;

use vsmtp_ipc::edge::client_resolver::{DnsError, Query};
use vsmtp_mail::{Domain, EnhancedCode};

use super::{Candidate, Resolution, Step, Unroutable, fail};
use crate::lease::Verdict;
use crate::smtp::ourselves::Ourselves;

/// Most mail exchangers whose addresses are asked for; the best ones.
const MAX_HOSTS: usize = 8;

impl Resolution {
    pub(super) fn on_mx(&mut self, records: Vec<(u16, String)>, us: &Ourselves) -> Step {
        if matches!(&records[..], [(_, name)] if name.is_empty() || name == ".") {
            return fail(EnhancedCode(5, 1, 10), format!("{} takes no mail (null MX)", self.host));
        }
        let mut hosts: Vec<(u16, String)> = records
            .into_iter()
            .filter_map(|(preference, name)| {
                Domain::parse(&name).ok().map(|name| (preference, name.to_string()))
            })
            .collect();
        hosts.sort();
        let mut known = HashSet::new();
        hosts.retain(|(_, name)| known.insert(name.clone()));
        let ours = hosts.iter().find(|(_, name)| us.name.as_str().eq_ignore_ascii_case(name)).cloned();
        choose(&mut hosts, self.chance);
        // What is no better than ourselves must be known as such.
        hosts.extend(ours.filter(|ours| !hosts.contains(ours)));
        if hosts.is_empty() {
            // There are MX records, so the address of the domain itself does not count.
            return fail(EnhancedCode(5, 4, 4), format!("mail servers of {} have no valid names", self.host));
        }
        self.ask_addresses(hosts)
    }

    pub(super) fn on_no_mx(&mut self, error: DnsError) -> Step {
        match error {
            DnsError::NoRecords => {
                // The implicit MX (RFC 5321 5.1).
                self.ask_addresses(vec![(0, self.host.to_string())])
            }
            DnsError::NoSuchName | DnsError::BadName => {
                fail(EnhancedCode(5, 1, 2), format!("domain {} does not exist", self.host))
            }
            DnsError::Temporary | DnsError::Bogus => self.defer(),
        }
    }

    pub(super) fn ask_addresses(&mut self, hosts: Vec<(u16, String)>) -> Step {
        let questions: Vec<Query> = hosts.iter().map(|(_, name)| Query::Addresses(name.clone())).collect();
        self.open.extend(questions.iter().cloned());
        self.hosts = hosts
            .into_iter()
            .map(|(preference, name)| Candidate::new(preference, &name, Vec::new()))
            .collect();
        Step::Ask(questions)
    }

    pub(super) fn on_located(&mut self, us: &Ourselves) -> Step {
        self.located = true;
        // A host that an operator named may well be ourselves on purpose.
        if self.mx {
            let best = us.best_of(self.hosts.iter().map(|found| &found.host), self.port);
            self.hosts.retain(|found| best.is_none_or(|ours| found.host.preference < ours));
            if best.is_some() && self.hosts.is_empty() {
                return fail(
                    EnhancedCode(5, 4, 6),
                    format!("mail for {} loops back to this server", self.host),
                );
            }
        }
        self.incomplete = self.hosts.iter().any(|found| found.unclear);
        self.hosts.retain(|found| !found.host.addresses.is_empty());
        if !self.hosts.is_empty() {
            return self.ask_proofs();
        }
        if self.incomplete {
            return self.defer();
        }
        let text = format!("no address of a mail server for {}", self.host);
        if self.mx {
            return fail(EnhancedCode(5, 4, 4), text);
        }
        // The operator's own setting: a mistake there must not bounce everybody's mail.
        Step::Done(Err(Unroutable(Verdict::deferred(EnhancedCode(4, 4, 4), text))))
    }
}

/// Keeps the best [`MAX_HOSTS`] of hosts by rising preference; of those that are equal where the bound is, chance decides, or the
/// others would never get mail.
fn choose(hosts: &mut Vec<(u16, String)>, mut chance: u64) {
    let Some(bound) = hosts.get(MAX_HOSTS).map(|(preference, _)| *preference) else { return };
    let first = hosts.partition_point(|(preference, _)| *preference < bound);
    let end = hosts.partition_point(|(preference, _)| *preference <= bound);
    for at in first..MAX_HOSTS {
        let choices = (end - at) as u64;
        hosts.swap(at, at + usize::try_from(chance % choices).unwrap_or(0));
        chance /= choices;
    }
    hosts.truncate(MAX_HOSTS);
    hosts.sort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_exchangers_the_best_stay_and_chance_decides_among_equals() {
        let chosen = |chance: u64| {
            let mut hosts: Vec<(u16, String)> = (0..20).map(|n| (20, format!("mx{n:02}.test"))).collect();
            hosts.splice(0..0, [(5, "best.test".to_owned())]);
            hosts.push((30, "last.test".to_owned()));
            choose(&mut hosts, chance);
            hosts
        };
        let mut seen = HashSet::new();
        for chance in 0..2000 {
            let hosts = chosen(chance * 7919);
            assert_eq!((hosts.len(), hosts[0].1.as_str()), (MAX_HOSTS, "best.test"));
            seen.extend(hosts);
        }
        assert_eq!(seen.len(), 21, "each of the equal ones, and never the worst");
    }
}
