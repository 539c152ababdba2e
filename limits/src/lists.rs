//! DNS lists of hosts (RFC 5782): what is asked about a client, what answers mean, and which lists are worth asking. A list
//! that says that everybody is listed, as a domain that was given up and parked does, is left out until it says so no more.
//! Pure.

use std::net::{IpAddr, Ipv4Addr};

use vsmtp_config::DnsblSite;

/// How long the test of a list counts, in milliseconds.
const TEST_KEEP_MS: u64 = 3_600_000;
/// When a list that failed its test, or could not be tested, is tested again, in milliseconds.
const RETEST_MS: u64 = 60_000;
/// Never in any list that works (RFC 5782 5).
const NEVER_LISTED: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A list by its place.
pub type ZoneId = usize;

/// The lists of the configuration.
#[derive(Debug, Default)]
pub struct Lists {
    zones: Vec<Zone>,
    sites: Vec<(ZoneId, DnsblSite)>,
}

#[derive(Debug)]
struct Zone {
    name: String,
    state: State,
    /// A test is under way.
    testing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not tested yet.
    Unknown,
    /// Counts until then.
    Counts { until_ms: u64 },
    /// Is left out until then.
    LeftOut { until_ms: u64 },
}

/// What a test showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tested {
    /// The list works.
    Works,
    /// It says that everybody is listed.
    ListsEverybody,
    /// It gave no answer.
    Silent,
}

/// What lists say about a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// All weights together.
    pub total: i32,
    /// The lists that raised it.
    pub lists: Vec<String>,
}

impl Lists {
    /// Lists that were tested by an earlier configuration are not tested again.
    pub fn new(sites: &[DnsblSite], before: &Lists) -> Self {
        let mut lists = Lists::default();
        for site in sites {
            let name = site.zone().as_str();
            let known = lists.zones.iter().position(|zone| zone.name == name);
            let zone = known.unwrap_or_else(|| {
                let state = before
                    .zones
                    .iter()
                    .find(|zone| zone.name == name)
                    .map_or(State::Unknown, |zone| zone.state);
                lists.zones.push(Zone { name: name.to_owned(), state, testing: false });
                lists.zones.len() - 1
            });
            lists.sites.push((zone, site.clone()));
        }
        lists
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// The name of a list.
    pub fn name(&self, zone: ZoneId) -> &str {
        self.zones.get(zone).map_or("", |zone| &zone.name)
    }

    /// The tests that are due, each with the name to ask for; they count as under way from now on.
    pub fn tests_due(&mut self, now_ms: u64) -> Vec<(ZoneId, String)> {
        let mut due = Vec::new();
        for (at, zone) in self.zones.iter_mut().enumerate() {
            let is_due = match zone.state {
                State::Unknown => true,
                State::Counts { until_ms } | State::LeftOut { until_ms } => until_ms <= now_ms,
            };
            if is_due && !zone.testing {
                zone.testing = true;
                due.push((at, question(NEVER_LISTED, &zone.name)));
            }
        }
        due
    }

    /// The end of a test: addresses, none if the name does not exist, or `None` for no answer.
    pub fn tested(&mut self, now_ms: u64, zone: ZoneId, answer: Option<&[IpAddr]>) -> Tested {
        let Some(zone) = self.zones.get_mut(zone) else { return Tested::Silent };
        zone.testing = false;
        let (tested, state) = match answer {
            Some([]) => (Tested::Works, State::Counts { until_ms: now_ms.saturating_add(TEST_KEEP_MS) }),
            Some(_) => {
                (Tested::ListsEverybody, State::LeftOut { until_ms: now_ms.saturating_add(RETEST_MS) })
            }
            None => (Tested::Silent, State::LeftOut { until_ms: now_ms.saturating_add(RETEST_MS) }),
        };
        zone.state = state;
        tested
    }

    /// True once every list has been tested.
    pub fn are_tested(&self) -> bool {
        self.zones.iter().all(|zone| zone.state != State::Unknown)
    }

    /// How many lists are left out now.
    pub fn left_out(&self) -> usize {
        self.zones.iter().filter(|zone| matches!(zone.state, State::LeftOut { .. })).count()
    }

    /// The names to ask for about a client. Lists that are left out are not asked.
    pub fn questions(&self, client: IpAddr) -> Vec<(ZoneId, String)> {
        let asked = |(_, zone): &(ZoneId, &Zone)| !matches!(zone.state, State::LeftOut { .. });
        let zones = self.zones.iter().enumerate().filter(asked);
        zones.map(|(at, zone)| (at, question(client, &zone.name))).collect()
    }

    /// What the answers come to. Only lists that count do.
    pub fn score(&self, answers: &[(ZoneId, Vec<IpAddr>)]) -> Score {
        let mut score = Score::default();
        for (zone, site) in &self.sites {
            let counts = self.zones.get(*zone).is_some_and(|zone| matches!(zone.state, State::Counts { .. }));
            let is_listed =
                answers.iter().filter(|(of, _)| of == zone).flat_map(|(_, found)| found).any(|address| {
                    match address {
                        IpAddr::V4(v4) => site.matches(*v4),
                        IpAddr::V6(_) => false,
                    }
                });
            if counts && is_listed {
                score.total = score.total.saturating_add(site.weight());
                let name = self.name(*zone);
                if site.weight() > 0 && !score.lists.iter().any(|known| known == name) {
                    score.lists.push(name.to_owned());
                }
            }
        }
        score
    }
}

/// The name under which a list has an address: its octets, or for IPv6 its half octets, in reverse.
pub fn question(client: IpAddr, zone: &str) -> String {
    match client.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.{zone}")
        }
        IpAddr::V6(v6) => {
            let digits =
                v6.octets().into_iter().rev().map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4));
            digits.collect::<String>() + zone
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(sites: &[&str]) -> Lists {
        let sites: Vec<DnsblSite> = sites.iter().map(|text| DnsblSite::parse(text).unwrap()).collect();
        Lists::new(&sites, &Lists::default())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_asked_for_in_reverse() {
        assert_eq!(question(ip("192.0.2.99"), "bl.test"), "99.2.0.192.bl.test");
        assert_eq!(question(ip("::ffff:192.0.2.99"), "bl.test"), "99.2.0.192.bl.test");
        assert_eq!(
            question(ip("2001:db8:1:2:3:4:567:89ab"), "ugly.example.com"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ugly.example.com",
            "the example of RFC 5782 2.4"
        );
    }

    #[test]
    fn one_list_with_two_patterns_is_asked_once_and_counts_twice() {
        let mut lists = lists(&["bl.test=127.0.0.2*3", "bl.test=127.0.0.4*4", "good.test*-2"]);
        assert_eq!(lists.questions(ip("192.0.2.1")).len(), 2);
        for (zone, _) in lists.tests_due(0) {
            assert_eq!(lists.tested(0, zone, Some(&[])), Tested::Works);
        }
        let score = lists.score(&[(0, vec![ip("127.0.0.2"), ip("127.0.0.4")]), (1, vec![ip("127.0.0.9")])]);
        assert_eq!(score, Score { total: 5, lists: vec!["bl.test".to_owned()] });
        assert_eq!(lists.score(&[(0, vec![ip("127.0.0.3"), ip("192.0.2.7"), ip("::1")])]), Score::default());
    }

    #[test]
    fn a_list_of_everybody_is_left_out_until_it_says_so_no_more() {
        let mut lists = lists(&["bl.test"]);
        assert!(!lists.are_tested());
        assert_eq!(lists.tests_due(5), [(0, "1.0.0.127.bl.test".to_owned())]);
        assert_eq!(lists.tests_due(6), [], "under way");
        assert_eq!(lists.tested(7, 0, Some(&[ip("127.0.0.2")])), Tested::ListsEverybody);
        assert!(lists.are_tested() && lists.left_out() == 1);
        assert_eq!(lists.questions(ip("192.0.2.1")), []);
        assert_eq!(lists.score(&[(0, vec![ip("127.0.0.2")])]).total, 0);
        assert_eq!(lists.tests_due(6 + RETEST_MS), []);
        assert_eq!(lists.tests_due(7 + RETEST_MS).len(), 1);
        assert_eq!(lists.tested(8 + RETEST_MS, 0, Some(&[])), Tested::Works);
        assert_eq!(lists.score(&[(0, vec![ip("127.0.0.2")])]).total, 1);
        assert_eq!(lists.tests_due(9 + RETEST_MS), []);
        let kept = Lists::new(&[DnsblSite::parse("bl.test*9").unwrap()], &lists);
        assert!(kept.are_tested(), "an earlier test counts for the next configuration");
    }

    #[test]
    fn a_silent_list_is_left_out_for_a_while() {
        let mut lists = lists(&["bl.test"]);
        lists.tests_due(0);
        assert_eq!(lists.tested(0, 0, None), Tested::Silent);
        assert_eq!(lists.left_out(), 1);
        assert_eq!(lists.tests_due(RETEST_MS).len(), 1);
    }
}
