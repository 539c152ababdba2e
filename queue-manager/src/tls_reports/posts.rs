//! Reports on their way to places of the web: which are due, and which a deliver process has. Pure and bounded. They are
//! not kept over a restart.

use std::collections::{HashMap, VecDeque};

use vsmtp_ipc::edge::client_resolver::MAX_POST;
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_mail::QueueId;

/// Numbers of leases of this kind have this bit, so that they are never those of mail.
const MARK: u64 = 1 << 63;
/// Most reports that wait.
const MAX_WAITING: usize = 1000;
/// Wait after a place could not be reached.
const RETRY_MS: u64 = 30 * 60_000;
/// Wait after the process died that had it.
const LOST_MS: u64 = 10_000;
/// Most attempts for one report: a day of them, as RFC 8460 5.5 wants it.
const MAX_TRIES: u32 = 48;

/// A report for one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Its id.
    pub id: QueueId,
    /// Where to.
    pub url: String,
    /// Compressed.
    pub body: Vec<u8>,
    due_ms: u64,
    tries: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Posts {
    waiting: VecDeque<Post>,
    out: HashMap<u64, Post>,
    last: u64,
}

/// How one has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was taken.
    Taken(Post),
    /// It will not be tried again.
    GivenUp(Post),
    /// It will.
    Later,
    /// There was none of that number.
    Unknown,
}

impl Posts {
    /// Puts one in line; false if there is no room, or it is too large.
    pub fn add(&mut self, id: QueueId, url: String, body: Vec<u8>, now_ms: u64) -> bool {
        let fits = body.len() <= MAX_POST && self.waiting.len() + self.out.len() < MAX_WAITING;
        if fits {
            self.waiting.push_back(Post { id, url, body, due_ms: now_ms, tries: 0 });
        }
        fits
    }

    /// The next that is due, and the number of its lease.
    pub fn next(&mut self, now_ms: u64) -> Option<(u64, &Post)> {
        let at = self.waiting.iter().position(|post| post.due_ms <= now_ms)?;
        let mut post = self.waiting.remove(at)?;
        post.tries += 1;
        self.last += 1;
        let number = MARK | self.last;
        Some((number, self.out.entry(number).or_insert(post)))
    }

    /// A deliver process says how one ended.
    pub fn ended(&mut self, number: u64, result: Result3, now_ms: u64) -> End {
        let Some(mut post) = self.out.remove(&number) else { return End::Unknown };
        match result {
            Result3::Delivered => End::Taken(post),
            Result3::Deferred if post.tries < MAX_TRIES => {
                post.due_ms = now_ms + RETRY_MS;
                self.waiting.push_back(post);
                End::Later
            }
            Result3::Deferred | Result3::Failed => End::GivenUp(post),
        }
    }

    /// The deliver process that had it is gone.
    pub fn lost(&mut self, number: u64, now_ms: u64) {
        if let Some(mut post) = self.out.remove(&number) {
            post.due_ms = now_ms + LOST_MS;
            self.waiting.push_back(post);
        }
    }

    /// When the next becomes due; one that is due already waits for a deliver process, not for the clock.
    pub fn wake_ms(&self, now_ms: u64) -> Option<u64> {
        self.waiting.iter().map(|post| post.due_ms).filter(|due_ms| *due_ms > now_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> QueueId {
        QueueId::from_bytes([7; 16])
    }

    #[test]
    fn a_report_is_tried_until_it_is_taken_or_refused_or_a_day_is_over() {
        let mut posts = Posts::default();
        assert!(posts.add(id(), "https://a.test/".to_owned(), vec![1], 5));
        let number = posts.next(5).map(|(number, _)| number).unwrap();
        assert!(number & MARK != 0 && posts.next(5).is_none());
        assert_eq!(posts.ended(number, Result3::Deferred, 10), End::Later);
        assert_eq!(posts.ended(number, Result3::Deferred, 10), End::Unknown);
        assert_eq!((posts.wake_ms(10), posts.wake_ms(10 + RETRY_MS)), (Some(10 + RETRY_MS), None));
        assert!(posts.next(9 + RETRY_MS).is_none());
        let number = posts.next(10 + RETRY_MS).map(|(number, _)| number).unwrap();
        posts.lost(number, 0);
        let mut now_ms = LOST_MS;
        for tries in 3.. {
            let number = posts.next(now_ms).map(|(number, _)| number).unwrap();
            match posts.ended(number, Result3::Deferred, now_ms) {
                End::Later => now_ms += RETRY_MS,
                end => {
                    assert!(matches!(end, End::GivenUp(_)) && tries == MAX_TRIES, "{tries}");
                    break;
                }
            }
        }
        for (result, taken) in [(Result3::Delivered, true), (Result3::Failed, false)] {
            assert!(posts.add(id(), String::new(), Vec::new(), 0));
            let number = posts.next(0).map(|(number, _)| number).unwrap();
            assert_eq!(matches!(posts.ended(number, result, 0), End::Taken(_)), taken);
        }
        assert!(posts.waiting.is_empty() && posts.out.is_empty());
    }

    #[test]
    fn there_are_never_too_many_and_none_is_too_large() {
        let mut posts = Posts::default();
        assert!(!posts.add(id(), String::new(), vec![0; MAX_POST + 1], 0));
        assert_eq!(
            (0..MAX_WAITING + 5).filter(|_| posts.add(id(), String::new(), vec![], 0)).count(),
            MAX_WAITING
        );
    }
}
