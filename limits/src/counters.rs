//! The one interface to what clients have used up: enter, leave, spend, note, reset. Whoever asks knows neither windows nor
//! tables, so that counts may come from a store that several machines share. Pure: the clock is handed in.
//!
//! What is refused is not counted, so that a client that tries without pause gets what its limit allows, and no more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vsmtp_ipc::edge::receiver_limits::Kind;

use crate::table::{Client, Table};
use crate::window::PARTS;

/// What clients may use up. From the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Length of a window, in milliseconds.
    pub window_ms: u64,
    /// Most sessions at once.
    pub open: Option<u32>,
    /// Most of each kind in a window, in the order of [`Kind::ALL`].
    pub rates: [Option<u32>; Kind::ALL.len()],
    /// The share of a rate, in percent, from which on replies are delayed.
    pub soft_percent: u32,
    /// By how much, in milliseconds.
    pub delay_ms: u32,
    /// Leading bits of an IPv4 address that make one client.
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
}

/// What a client has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// Sessions at once.
    Open,
    /// Something in the window.
    Rate(Kind),
}

/// What of a wish is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// So many.
    pub granted: u32,
    /// After so many milliseconds.
    pub delay_ms: u32,
    /// Why not all.
    pub excess: Option<Excess>,
    /// It is the first refusal of this kind to this client for a while, so the log should hear of it.
    pub is_news: bool,
}

/// One client as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its address, or the first of its network.
    pub network: IpAddr,
    /// Leading bits that make it.
    pub prefix: u8,
    /// Sessions that it has open.
    pub open: u32,
    /// Counts in the window, in the order of [`Kind::ALL`].
    pub counts: [u32; Kind::ALL.len()],
    /// How often it was refused since it is known.
    pub refused: u64,
}

/// The counts of all clients.
#[derive(Debug)]
pub struct Counters {
    rules: Rules,
    table: Table,
}

impl Rules {
    /// The limit of one kind.
    pub fn rate(&self, kind: Kind) -> Option<u32> {
        let at = Kind::ALL.iter().position(|known| *known == kind)?;
        self.rates.get(at).copied().flatten()
    }

    /// The client that an address belongs to, and its leading bits.
    pub fn network(&self, client: IpAddr) -> (IpAddr, u8) {
        match client.to_canonical() {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_v4.min(32))).unwrap_or(0);
                (Ipv4Addr::from_bits(v4.to_bits() & mask).into(), self.prefix_v4)
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_v6.min(128))).unwrap_or(0);
                (Ipv6Addr::from_bits(v6.to_bits() & mask).into(), self.prefix_v6)
            }
        }
    }

    /// The number of the part of a window that a time lies in.
    pub fn part(&self, now_ms: u64) -> u32 {
        // Wraps after two years with the shortest window; then counts stand still until the process is started again.
        u32::try_from(now_ms / (self.window_ms / PARTS).max(1)).unwrap_or(u32::MAX)
    }
}

impl Counters {
    /// Nobody is known.
    pub fn new(rules: Rules) -> Self {
        Counters { rules, table: Table::default() }
    }

    /// What clients may use up.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Other rules for the same clients. False if clients are other networks or windows have another length now: then all
    /// is forgotten, and sessions that are open must be counted again.
    #[must_use]
    pub fn change(&mut self, rules: Rules) -> bool {
        let same = |of: fn(&Rules) -> (u64, u8, u8)| of(&self.rules) == of(&rules);
        let kept = same(|rules| (rules.window_ms, rules.prefix_v4, rules.prefix_v6));
        self.rules = rules;
        if !kept {
            self.table = Table::default();
        }
        kept
    }

    /// A client wants one more session. Granted, it is counted and open until [`Counters::leave`].
    pub fn enter(&mut self, now_ms: u64, client: IpAddr) -> Grant {
        let (part, key) = (self.rules.part(now_ms), self.rules.network(client).0);
        let rules = &self.rules;
        let known = self.table.client(key, part);
        if rules.open.is_some_and(|limit| known.open >= limit) {
            return refuse(known, part, Excess::Open);
        }
        for kind in [Kind::Errors, Kind::AuthFailures] {
            if is_over(rules, known, kind, part) {
                return refuse(known, part, Excess::Rate(kind));
            }
        }
        let grant = take(rules, known, Kind::Connections, 1, part);
        known.open += grant.granted;
        grant
    }

    /// A session that was open before anybody asked.
    pub fn present(&mut self, now_ms: u64, client: IpAddr) {
        let (part, key) = (self.rules.part(now_ms), self.rules.network(client).0);
        let known = self.table.client(key, part);
        known.open = known.open.saturating_add(1);
    }

    /// One session of a client is over.
    pub fn leave(&mut self, client: IpAddr) {
        if let Some(known) = self.table.find(self.rules.network(client).0) {
            known.open = known.open.saturating_sub(1);
        }
    }

    /// A client wants so many of a kind; 0 to hear only whether it still may.
    pub fn spend(&mut self, now_ms: u64, client: IpAddr, kind: Kind, count: u32) -> Grant {
        let (part, key) = (self.rules.part(now_ms), self.rules.network(client).0);
        let rules = &self.rules;
        let known = self.table.client(key, part);
        if kind == Kind::Messages && is_over(rules, known, Kind::Errors, part) {
            return refuse(known, part, Excess::Rate(Kind::Errors));
        }
        if count == 0 && is_over(rules, known, kind, part) {
            return refuse(known, part, Excess::Rate(kind));
        }
        take(rules, known, kind, count, part)
    }

    /// A client has done something so often. Counted, whatever the limit.
    pub fn note(&mut self, now_ms: u64, client: IpAddr, kind: Kind, count: u32) {
        let (part, key) = (self.rules.part(now_ms), self.rules.network(client).0);
        self.table.client(key, part).window(kind).add(part, count);
    }

    /// Forgets what a client has used up; sessions that are open stay counted. False if it is not known.
    pub fn reset(&mut self, client: IpAddr) -> bool {
        let known = self.table.find(self.rules.network(client).0);
        known.map(Client::forget).is_some()
    }

    /// Forgets the clients of which nothing is left.
    pub fn sweep(&mut self, now_ms: u64) {
        self.table.sweep(self.rules.part(now_ms));
    }

    /// So many clients behind that one.
    pub fn page(&mut self, now_ms: u64, behind: Option<IpAddr>, most: usize) -> Vec<Row> {
        let part = self.rules.part(now_ms);
        let (v4, v6) = (self.rules.prefix_v4, self.rules.prefix_v6);
        let row = |(network, client): (IpAddr, &mut Client)| Row {
            network,
            prefix: if network.is_ipv4() { v4 } else { v6 },
            open: client.open,
            counts: client.counts(part),
            refused: client.refused,
        };
        self.table.behind(behind).take(most).map(row).collect()
    }

    /// How many clients are known, and how many made room for others.
    pub fn size(&self) -> (usize, u64) {
        (self.table.len(), self.table.pushed_out())
    }
}

fn is_over(rules: &Rules, client: &mut Client, kind: Kind, part: u32) -> bool {
    rules.rate(kind).is_some_and(|limit| client.window(kind).count(part) >= limit)
}

/// Takes what is left, at most `count`.
fn take(rules: &Rules, client: &mut Client, kind: Kind, count: u32, part: u32) -> Grant {
    let window = client.window(kind);
    let used = window.count(part);
    let Some(limit) = rules.rate(kind) else {
        window.add(part, count);
        return Grant { granted: count, delay_ms: 0, excess: None, is_news: false };
    };
    let granted = count.min(limit.saturating_sub(used));
    window.add(part, granted);
    let soft = u64::from(limit) * u64::from(rules.soft_percent) / 100;
    let late = rules.soft_percent < 100 && u64::from(used) + u64::from(granted) > soft;
    let delay_ms = if late { rules.delay_ms } else { 0 };
    if granted == count {
        return Grant { granted, delay_ms, excess: None, is_news: false };
    }
    Grant { granted, delay_ms, ..refuse(client, part, Excess::Rate(kind)) }
}

fn refuse(client: &mut Client, part: u32, excess: Excess) -> Grant {
    client.refused = client.refused.saturating_add(1);
    let place = match excess {
        Excess::Open => Kind::ALL.len(),
        Excess::Rate(kind) => Kind::ALL.iter().position(|known| *known == kind).unwrap_or(0),
    };
    let is_news = client.told.get_mut(place).is_some_and(|told| {
        // 0 is never; a part begins to count at 1.
        let is_news = *told == 0 || u64::from(part.saturating_sub(*told)) >= PARTS;
        if is_news {
            *told = part.max(1);
        }
        is_news
    });
    Grant { granted: 0, delay_ms: 0, excess: Some(excess), is_news }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn rules() -> Rules {
        Rules {
            window_ms: MINUTE,
            open: Some(2),
            rates: [None; 6],
            soft_percent: 100,
            delay_ms: 500,
            prefix_v4: 32,
            prefix_v6: 64,
        }
    }

    fn with(kind: Kind, limit: u32) -> Rules {
        let mut rules = rules();
        rules.rates[Kind::ALL.iter().position(|known| *known == kind).unwrap()] = Some(limit);
        rules
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_so_many_sessions_at_once_and_its_network_is_one_client() {
        let mut counters = Counters::new(rules());
        assert_eq!(counters.enter(0, ip("2001:db8::1")).granted, 1);
        assert_eq!(counters.enter(0, ip("2001:db8::2")).granted, 1);
        let third = counters.enter(0, ip("2001:db8::3"));
        assert_eq!((third.granted, third.excess, third.is_news), (0, Some(Excess::Open), true));
        assert!(!counters.enter(1, ip("2001:db8::3")).is_news, "the log has heard of it");
        assert_eq!(counters.enter(0, ip("2001:db8:0:1::1")).granted, 1);
        assert_eq!(counters.enter(0, ip("192.0.2.1")).granted, 1);
        assert_eq!(counters.enter(0, ip("192.0.2.2")).granted, 1, "an address of its own");
        assert_eq!(counters.enter(0, ip("::ffff:192.0.2.1")).granted, 1, "the same as 192.0.2.1");
        assert_eq!(counters.enter(0, ip("192.0.2.1")).granted, 0);
        counters.leave(ip("192.0.2.1"));
        assert_eq!(counters.enter(0, ip("192.0.2.1")).granted, 1);
        let mut wide = Counters::new(Rules { prefix_v4: 24, ..rules() });
        assert_eq!(wide.enter(0, ip("192.0.2.1")).granted + wide.enter(0, ip("192.0.2.9")).granted, 2);
        assert_eq!(wide.enter(0, ip("192.0.2.77")).granted, 0);
        assert_eq!(wide.enter(0, ip("192.0.3.77")).granted, 1);
    }

    #[test]
    fn of_a_wish_that_is_too_large_a_part_is_granted() {
        let mut counters = Counters::new(with(Kind::Recipients, 5));
        let client = ip("192.0.2.1");
        assert_eq!(counters.spend(0, client, Kind::Recipients, 3).granted, 3);
        let grant = counters.spend(1, client, Kind::Recipients, 9);
        assert_eq!((grant.granted, grant.excess), (2, Some(Excess::Rate(Kind::Recipients))));
        assert_eq!(counters.spend(2, client, Kind::Recipients, 1).granted, 0);
        assert_eq!(counters.spend(2, client, Kind::Messages, 1).granted, 1, "another kind");
        assert_eq!(counters.spend(2, ip("192.0.2.2"), Kind::Recipients, 1).granted, 1, "another client");
        assert_eq!(counters.spend(MINUTE * 7 / 6, client, Kind::Recipients, 5).granted, 5);
    }

    #[test]
    fn too_many_errors_shut_the_door_and_stop_messages() {
        let mut counters = Counters::new(with(Kind::Errors, 3));
        let client = ip("192.0.2.1");
        assert_eq!(counters.enter(0, client).granted, 1);
        counters.note(0, client, Kind::Errors, 2);
        assert_eq!(counters.spend(0, client, Kind::Messages, 1).granted, 1);
        counters.note(0, client, Kind::Errors, 1);
        assert_eq!(counters.spend(0, client, Kind::Messages, 1).excess, Some(Excess::Rate(Kind::Errors)));
        assert_eq!(counters.enter(0, client).excess, Some(Excess::Rate(Kind::Errors)));
    }

    #[test]
    fn whether_a_client_still_may_can_be_asked_without_spending() {
        let mut counters = Counters::new(with(Kind::AuthFailures, 1));
        let client = ip("192.0.2.1");
        assert_eq!(counters.spend(0, client, Kind::AuthFailures, 0).excess, None);
        counters.note(0, client, Kind::AuthFailures, 1);
        assert_eq!(
            counters.spend(0, client, Kind::AuthFailures, 0).excess,
            Some(Excess::Rate(Kind::AuthFailures))
        );
    }

    #[test]
    fn near_the_limit_replies_come_late() {
        let mut counters = Counters::new(Rules { soft_percent: 50, ..with(Kind::Messages, 4) });
        let client = ip("192.0.2.1");
        let mut delay = || counters.spend(0, client, Kind::Messages, 1).delay_ms;
        assert_eq!([delay(), delay(), delay(), delay()], [0, 0, 500, 500]);
    }

    #[test]
    fn a_reset_forgets_all_but_open_sessions_and_other_rules_keep_counts() {
        let mut counters = Counters::new(with(Kind::Messages, 1));
        let client = ip("192.0.2.1");
        assert_eq!(counters.enter(0, client).granted, 1);
        assert_eq!(counters.spend(0, client, Kind::Messages, 1).granted, 1);
        assert!(counters.change(with(Kind::Messages, 2)));
        assert_eq!(counters.spend(0, client, Kind::Messages, 2).granted, 1);
        assert!(counters.reset(client) && !counters.reset(ip("192.0.2.2")));
        assert_eq!(counters.spend(0, client, Kind::Messages, 2).granted, 2);
        assert_eq!(counters.page(0, None, 10)[0].open, 1);
        assert!(!counters.change(Rules { window_ms: 1_000, ..rules() }));
        assert_eq!(counters.size().0, 0);
    }

    #[test]
    fn what_is_not_limited_is_counted_and_never_refused() {
        let mut counters = Counters::new(Rules { open: None, ..rules() });
        for _ in 0..100_000 {
            assert_eq!(counters.enter(0, ip("192.0.2.1")).granted, 1);
        }
        let row = counters.page(0, None, 1).remove(0);
        assert_eq!((row.open, row.counts[0], row.prefix, row.refused), (100_000, 100_000, 32, 0));
    }
}
