//! The questions that have no answer yet: whose they are, which database they are put to, until when somebody waits.
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One that has no answer yet.
#[derive(Debug)]
pub struct Question {
    /// The edge that asked.
    pub edge: usize,
    /// Its name there.
    pub ticket: u64,
    /// The database, by its place in the list of them.
    pub database: usize,
    /// Tells the thread that nobody waits any more.
    given_up: Arc<AtomicBool>,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub struct Open {
    all: BTreeMap<u64, Question>,
    last: u64,
}

impl Open {
    /// Takes note of a question; answers its number, and what says that it is given up.
    pub fn note(&mut self, edge: usize, ticket: u64, database: usize) -> (u64, Arc<AtomicBool>) {
        self.last += 1;
        let given_up = Arc::new(AtomicBool::new(false));
        let question = Question { edge, ticket, database, given_up: Arc::clone(&given_up) };
        self.all.insert(self.last, question);
        (self.last, given_up)
    }

    /// The question is over: it has its answer, or gets none. `None` if it was before.
    pub fn end(&mut self, number: u64) -> Option<Question> {
        let question = self.all.remove(&number)?;
        question.given_up.store(true, Ordering::Relaxed);
        Some(question)
    }

    /// Nobody waits any more for what an edge has asked.
    pub fn forget(&mut self, edge: usize) {
        let of_edge = |question: &Question| question.edge == edge;
        for question in self.all.values().filter(|question| of_edge(question)) {
            question.given_up.store(true, Ordering::Relaxed);
        }
        self.all.retain(|_, question| !of_edge(question));
    }

    /// How many an edge has asked.
    pub fn of_edge(&self, edge: usize) -> usize {
        self.all.values().filter(|question| question.edge == edge).count()
    }

    /// How many are put to a database.
    pub fn of_database(&self, database: usize) -> usize {
        self.all.values().filter(|question| question.database == database).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_ends_once_and_whoever_asks_it_hears_of_it() {
        let mut open = Open::default();
        let (one, first) = open.note(3, 10, 0);
        let (two, second) = open.note(3, 11, 1);
        let (other, third) = open.note(4, 10, 1);
        assert_eq!((open.of_edge(3), open.of_database(1), open.len()), (2, 2, 3));
        assert!(!first.load(Ordering::Relaxed));
        let ended = open.end(one).unwrap();
        assert_eq!((ended.edge, ended.ticket), (3, 10));
        assert!(first.load(Ordering::Relaxed) && open.end(one).is_none());
        open.forget(3);
        assert!(second.load(Ordering::Relaxed) && open.end(two).is_none());
        assert!(!third.load(Ordering::Relaxed));
        assert_eq!(open.end(other).unwrap().edge, 4);
        assert_eq!(open.len(), 0);
    }
}
