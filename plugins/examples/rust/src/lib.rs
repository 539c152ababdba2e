//! How often something was seen, for rules: `const senders = seen::counter(#{ most: 1000 });` in a file of `services/`, and
//! `senders.see(ctx::mail_from())` in a rule. It counts for one process: the filter that judges sessions and the one that
//! judges the queue have counters of their own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use vsmtp_plugin::{Error, Kind, Plugin, Value};

vsmtp_plugin::export!(plugin);

/// Most names of a counter where the script says nothing.
const MOST: i64 = 10_000;
/// Most that a script may say.
const MOST_OF_ALL: i64 = 1_000_000;

/// How often names were seen. Rules of many threads share one.
struct Counter {
    most: usize,
    names: Mutex<HashMap<String, i64>>,
}

impl Counter {
    /// Counts one more; a name beyond the most is not remembered, and seen for the first time each time.
    fn see(&self, name: &str) -> i64 {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = names.get_mut(name) {
            *count = count.saturating_add(1);
            return *count;
        }
        if names.len() < self.most {
            names.insert(name.to_owned(), 1);
        }
        1
    }
}

fn plugin() -> Plugin {
    Plugin::new("seen", "1.0")
        .quick("counter", &[Kind::Map], |arguments| {
            let most = arguments[0].get("most").map_or(Some(MOST), Value::int);
            let most = most.filter(|most| (1..=MOST_OF_ALL).contains(most));
            let most = most.ok_or_else(|| Error::new(format!("most must be from 1 to {MOST_OF_ALL}")))?;
            Ok(Value::object(Counter { most: usize::try_from(most)?, names: Mutex::default() }))
        })
        .object::<Counter>("counter", |counter| {
            counter.quick("see", &[Kind::Text], |counter, arguments| {
                Ok(counter.see(arguments[0].text().unwrap_or_default()))
            })
        })
}
