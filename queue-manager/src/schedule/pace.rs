//! How many go to one next hop in a time. In no span of a rate's length do more go than it says, wherever the span begins:
//! remote servers count like that. Pure arithmetic; a bounded number of counters whatever the rate is.

use std::collections::VecDeque;
use std::sync::Arc;

use vsmtp_config::ByNextHop;
use vsmtp_mail::NextHop;

/// Counters of one rate. What was sent within a sixteenth of its length is forgotten together.
const COUNTERS: u64 = 16;

/// At most so many in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub period_ms: u64,
}

/// What one next hop bears.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// Attempts at a time; `None` for what holds for all.
    pub concurrency: Option<u32>,
    /// Messages in a time; `None` for what holds for all.
    pub rates: Option<Arc<[Rate]>>,
}

/// What each next hop bears.
#[derive(Debug, Clone, Default)]
pub struct LimitTable {
    /// Messages in a time, where nothing else is said.
    pub rates: Arc<[Rate]>,
    /// What single next hops bear.
    pub by_next_hop: ByNextHop<Limits>,
}

impl LimitTable {
    /// Attempts at a time, if a row says something about that, and the rates of a next hop. Servers that are near (LMTP)
    /// have only rates of their own, mailboxes none.
    pub(super) fn of(&self, hop: &NextHop) -> (Option<u32>, Arc<[Rate]>) {
        let row = self.by_next_hop.of(hop);
        let usual =
            || if matches!(hop, NextHop::Smtp { .. }) { Arc::clone(&self.rates) } else { Arc::default() };
        let rates = row.and_then(|row| row.rates.clone()).unwrap_or_else(usual);
        (row.and_then(|row| row.concurrency), rates)
    }
}

/// What has gone to one next hop lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rates: Arc<[Rate]>,
    /// One for each rate.
    counted: Vec<Counted>,
}

/// What counts against one rate, oldest first.
#[derive(Debug, Default)]
struct Counted {
    spans: VecDeque<Span>,
    total: u32,
}

#[derive(Debug)]
struct Span {
    first_ms: u64,
    last_ms: u64,
    count: u32,
}

impl Pace {
    /// Takes other rates; what was counted counts if they are the same.
    pub fn set_rates(&mut self, rates: Arc<[Rate]>) {
        if *self.rates != *rates {
            self.counted = rates.iter().map(|_| Counted::default()).collect();
            self.rates = rates;
        }
    }

    /// When the next one may go, if not now.
    pub fn free_ms(&mut self, mono_ms: u64) -> Option<u64> {
        let pairs = self.rates.iter().zip(&mut self.counted);
        pairs.filter_map(|(rate, counted)| counted.free_ms(*rate, mono_ms)).max()
    }

    /// When the next one may go; 0 for now. For the eye: forgets nothing.
    pub fn next_ms(&self, mono_ms: u64) -> u64 {
        let pairs = self.rates.iter().zip(&self.counted);
        pairs.filter_map(|(rate, counted)| counted.next_ms(*rate, mono_ms)).max().unwrap_or(0)
    }

    /// One goes now.
    pub fn count(&mut self, mono_ms: u64) {
        for (rate, counted) in self.rates.iter().zip(&mut self.counted) {
            counted.add(*rate, mono_ms);
        }
    }
}

impl Counted {
    fn free_ms(&mut self, rate: Rate, mono_ms: u64) -> Option<u64> {
        while let Some(first) = self.spans.front().filter(|span| span.last_ms + rate.period_ms <= mono_ms) {
            self.total = self.total.saturating_sub(first.count);
            self.spans.pop_front();
        }
        self.next_ms(rate, mono_ms)
    }

    /// The time at which enough of what was counted is out of the rate's length, if more than enough is in it now.
    fn next_ms(&self, rate: Rate, mono_ms: u64) -> Option<u64> {
        let mut left = self.total;
        let mut spans = self.spans.iter();
        let mut end_ms = 0;
        while left >= rate.count {
            let span = spans.next()?;
            left = left.saturating_sub(span.count);
            end_ms = span.last_ms + rate.period_ms;
        }
        Some(end_ms).filter(|end_ms| *end_ms > mono_ms)
    }

    fn add(&mut self, rate: Rate, mono_ms: u64) {
        self.total = self.total.saturating_add(1);
        let length_ms = rate.period_ms / COUNTERS;
        match self.spans.back_mut().filter(|span| mono_ms < span.first_ms + length_ms) {
            Some(span) => (span.last_ms, span.count) = (mono_ms, span.count.saturating_add(1)),
            None => self.spans.push_back(Span { first_ms: mono_ms, last_ms: mono_ms, count: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(rates: &[(u32, u64)]) -> Pace {
        let mut pace = Pace::default();
        pace.set_rates(
            rates.iter().map(|(count, period_ms)| Rate { count: *count, period_ms: *period_ms }).collect(),
        );
        pace
    }

    /// Sends as soon as it may, `pause_ms` after the one before at the earliest. Answers when each went.
    fn send(pace: &mut Pace, from_ms: u64, how_many: usize, mut pause_ms: impl FnMut() -> u64) -> Vec<u64> {
        let (mut now, mut sent) = (from_ms, Vec::new());
        while sent.len() < how_many {
            match pace.free_ms(now) {
                Some(free_ms) => {
                    assert!(free_ms > now);
                    now = free_ms;
                }
                None => {
                    pace.count(now);
                    sent.push(now);
                    now += pause_ms();
                }
            }
        }
        sent
    }

    #[test]
    fn one_every_five_seconds_is_exactly_that() {
        let sent = send(&mut pace(&[(1, 5000)]), 100, 4, || 0);
        assert_eq!(sent, [100, 5100, 10_100, 15_100]);
    }

    #[test]
    fn all_rates_hold() {
        let sent = send(&mut pace(&[(2, 1000), (3, 60_000)]), 0, 5, || 0);
        assert_eq!(sent, [0, 0, 1000, 61_000, 61_000]);
    }

    #[test]
    fn other_rates_begin_anew_and_the_same_go_on() {
        let mut pace = pace(&[(1, 5000)]);
        pace.count(0);
        pace.set_rates([Rate { count: 1, period_ms: 5000 }].into());
        assert_eq!(pace.free_ms(1), Some(5000));
        pace.set_rates([Rate { count: 1, period_ms: 6000 }].into());
        assert_eq!(pace.free_ms(1), None);
        pace.set_rates(Arc::default());
        assert_eq!(pace.free_ms(1), None);
    }

    proptest! {
        #[test]
        fn no_span_has_more_than_its_rate_and_little_is_wasted(
            count in 1u32..40,
            period_ms in 1u64..5000,
            pauses in proptest::collection::vec(0u64..300, 200),
        ) {
            let mut pace = pace(&[(count, period_ms)]);
            let mut pauses = pauses.into_iter().cycle();
            let sent = send(&mut pace, 7, 200, || pauses.next().unwrap_or(0));
            for (at, first) in sent.iter().enumerate() {
                let within = sent[at..].iter().take_while(|later| **later < first + period_ms).count();
                prop_assert!(within <= count as usize, "{} in {} ms", within, period_ms);
            }
            prop_assert!(pace.counted[0].spans.len() <= COUNTERS as usize * 2 + 1);
            // Without pauses the whole rate is used but for the counters' coarseness.
            let mut busy = self::pace(&[(count, period_ms)]);
            let sent = send(&mut busy, 0, count as usize * 3, || 0);
            prop_assert!(sent.last().unwrap() <= &(2 * (period_ms + period_ms / COUNTERS + 1)));
        }
    }
}
