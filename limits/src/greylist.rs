//! Who has waited: triples of client, sender and recipient that were told to come again, and that did. A triple is let in
//! for good only when a message of it was accepted, so one that is refused later leaves everything as it was. Those that
//! wait have a table of their own: strangers, however many, push out strangers only. Pure: time comes in, as seconds since
//! 1970, since what is kept outlives the process.

use vsmtp_ipc::edge::filter_limits::{Terms, Triple};

use crate::recent::{Bounds, Recent};

/// Most triples that wait.
pub const MAX_WAITING: usize = 65_536;
/// Most triples that were let in.
pub const MAX_WELCOME: usize = 65_536;
/// Most clients of which triples were let in.
pub const MAX_KNOWN: usize = 65_536;
/// Most octets of the keys of each of these tables.
pub const MAX_TABLE_OCTETS: usize = 8 << 20;

/// What is known of a triple or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// When it was first seen.
    pub since_s: u64,
    /// When it is forgotten.
    pub until_s: u64,
    /// Of a client: how many of its triples waited and were let in.
    pub count: u32,
}

/// All of it.
#[derive(Debug)]
pub struct Greylist {
    /// Triples that wait, that were let in, and clients: in the order in which they are kept on disk.
    tables: [Recent<Record>; 3],
    changed: bool,
}

/// How many there are of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Triples that wait.
    pub waiting: usize,
    /// Triples that were let in.
    pub welcome: usize,
    /// Clients.
    pub known: usize,
}

impl Default for Greylist {
    fn default() -> Self {
        let bounds = [MAX_WAITING, MAX_WELCOME, MAX_KNOWN];
        let table = |entries| Recent::new(Bounds { entries, octets: MAX_TABLE_OCTETS });
        Greylist { tables: bounds.map(table), changed: false }
    }
}

impl Greylist {
    /// Seconds that a triple still waits; 0 if it is let in. One that was never seen begins to wait.
    pub fn ask(&mut self, now_s: u64, triple: &Triple, terms: &Terms) -> u32 {
        let (client, key) = keys(triple);
        let [waiting, welcome, known] = &mut self.tables;
        let enough = |record: &Record| terms.known_after > 0 && record.count >= terms.known_after;
        if valid(known, &client, now_s).is_some_and(|record| enough(record))
            || valid(welcome, &key, now_s).is_some()
        {
            return 0;
        }
        if let Some(record) = valid(waiting, &key, now_s) {
            // A clock that went back does not make anybody wait longer than once more.
            let waited = now_s.saturating_sub(record.since_s);
            return u32::try_from(u64::from(terms.delay_s).saturating_sub(waited)).unwrap_or(u32::MAX);
        }
        let until_s = now_s.saturating_add(terms.window_s.into());
        waiting.put(&key, Record { since_s: now_s, until_s, count: 0 });
        self.changed = true;
        terms.delay_s
    }

    /// A message of a triple was accepted: it, or its client, need not wait again for a lifetime.
    pub fn accepted(&mut self, now_s: u64, triple: &Triple, terms: &Terms) {
        let (client, key) = keys(triple);
        let [waiting, welcome, known] = &mut self.tables;
        let until_s = now_s.saturating_add(terms.lifetime_s.into());
        let has_waited = waiting.remove(&key).is_some();
        if has_waited {
            welcome.put(&key, Record { since_s: now_s, until_s, count: 0 });
        } else if let Some(record) = valid(welcome, &key, now_s) {
            record.until_s = until_s;
        }
        match valid(known, &client, now_s) {
            Some(record) => {
                record.until_s = until_s;
                record.count = record.count.saturating_add(has_waited.into());
            }
            None if has_waited => known.put(&client, Record { since_s: now_s, until_s, count: 1 }),
            None => {}
        }
        self.changed = true;
    }

    /// Forgets what is over.
    pub fn sweep(&mut self, now_s: u64) {
        for table in &mut self.tables {
            table.retain(|record| record.until_s > now_s);
        }
    }

    /// How many there are.
    pub fn sizes(&self) -> Sizes {
        let [waiting, welcome, known] = self.tables.each_ref().map(Recent::len);
        Sizes { waiting, welcome, known }
    }

    /// True if something is to be kept that was not there at the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Something could not be kept: it is to be tried again.
    pub fn note_changed(&mut self) {
        self.changed = true;
    }

    /// The tables, as they are kept.
    pub fn tables(&self) -> &[Recent<Record>; 3] {
        &self.tables
    }

    /// The tables, to be filled from what was kept.
    pub fn tables_mut(&mut self) -> &mut [Recent<Record>; 3] {
        &mut self.tables
    }
}

/// The key of a client, and that of its triple.
fn keys(triple: &Triple) -> (String, String) {
    let client = triple.client.to_string();
    // No part holds a NUL, so that no two triples are taken for one.
    let key = format!("{client}\0{}\0{}", triple.sender, triple.recipient);
    (client, key)
}

/// What is known and not over.
fn valid<'t>(table: &'t mut Recent<Record>, key: &str, now_s: u64) -> Option<&'t mut Record> {
    table.find(key).filter(|record| record.until_s > now_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { delay_s: 300, window_s: 3_600, lifetime_s: 86_400, known_after: 3 };

    fn triple(client: &str, sender: &str) -> Triple {
        Triple { client: client.parse().unwrap(), sender: sender.into(), recipient: "b@dst.test".into() }
    }

    #[test]
    fn who_comes_again_after_the_delay_and_within_the_window_is_let_in() {
        let mut list = Greylist::default();
        let one = triple("192.0.2.0", "a@src.test");
        assert_eq!(list.ask(1_000, &one, &TERMS), 300);
        assert_eq!(list.ask(1_100, &one, &TERMS), 200);
        assert_eq!((list.ask(1_299, &one, &TERMS), list.ask(1_300, &one, &TERMS)), (1, 0));
        assert_eq!(list.ask(4_599, &one, &TERMS), 0);
        assert_eq!(list.ask(4_600, &one, &TERMS), 300, "too late: it begins anew");
        let other = Triple { recipient: "c@dst.test".into(), ..one.clone() };
        assert_eq!(list.ask(4_950, &other, &TERMS), 300);
        // A clock that goes back.
        assert_eq!((list.ask(10, &one, &TERMS), list.ask(4_900, &one, &TERMS)), (300, 0));
    }

    #[test]
    fn only_a_message_that_was_accepted_lets_in_for_good() {
        let mut list = Greylist::default();
        let one = triple("192.0.2.0", "a@src.test");
        list.ask(0, &one, &TERMS);
        // It comes again, and is refused for another reason.
        assert_eq!(list.ask(300, &one, &TERMS), 0);
        assert_eq!(list.sizes(), Sizes { waiting: 1, welcome: 0, known: 0 });
        assert_eq!(list.ask(3_600, &one, &TERMS), 300, "nothing is left of it");
        assert_eq!(list.ask(3_900, &one, &TERMS), 0);
        list.accepted(3_900, &one, &TERMS);
        assert_eq!(list.sizes(), Sizes { waiting: 0, welcome: 1, known: 1 });
        assert_eq!(list.ask(3_900 + 86_399, &one, &TERMS), 0);
        list.accepted(90_000, &one, &TERMS);
        assert_eq!(list.ask(90_000 + 86_399, &one, &TERMS), 0, "from its latest message on");
        assert_eq!(list.ask(90_000 + 86_400, &one, &TERMS), 300);
    }

    #[test]
    fn a_client_of_which_enough_waited_is_known() {
        let mut list = Greylist::default();
        for number in 0..3 {
            let one = triple("192.0.2.0", &format!("a{number}@src.test"));
            assert_eq!(list.ask(0, &one, &TERMS), 300);
            for _ in 0..5 {
                // What comes often counts once.
                list.accepted(300, &one, &TERMS);
            }
        }
        let new = triple("192.0.2.0", "new@src.test");
        assert_eq!(list.ask(400, &new, &TERMS), 0);
        list.accepted(400, &new, &TERMS);
        assert_eq!(list.ask(400, &new, &Terms { known_after: 0, ..TERMS }), 300);
        assert_eq!(list.ask(400, &new, &Terms { known_after: 4, ..TERMS }), 300);
        assert_eq!(list.ask(400, &triple("198.51.100.0", "a0@src.test"), &TERMS), 300);
        list.sweep(400 + 86_400);
        assert_eq!(list.sizes(), Sizes { waiting: 0, welcome: 0, known: 0 });
    }

    #[test]
    fn strangers_push_out_strangers_only() {
        let mut list = Greylist::default();
        let friend = triple("192.0.2.0", "a@src.test");
        list.ask(0, &friend, &TERMS);
        list.accepted(300, &friend, &TERMS);
        let first = triple("198.51.100.0", "x@src.test");
        list.ask(300, &first, &TERMS);
        for number in 0..MAX_WAITING {
            list.ask(300, &triple("198.51.100.0", &format!("{number}@src.test")), &TERMS);
        }
        assert_eq!(list.sizes().waiting, MAX_WAITING);
        assert_eq!((list.ask(700, &friend, &TERMS), list.ask(700, &first, &TERMS)), (0, 300));
    }
}
