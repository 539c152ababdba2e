//! The questions that have no answer yet: whose they are, which database they are put to, until when somebody waits.
//! Whoever is forgotten here has the connection cut that the answer would come by.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::line::Line;

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
    line: Arc<Line>,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub struct Open {
    all: BTreeMap<u64, Question>,
    last: u64,
}

impl Open {
    /// Takes note of a question; answers its number, and what tells the thread that it is given up.
    pub fn note(&mut self, edge: usize, ticket: u64, database: usize) -> (u64, Arc<Line>) {
        self.last += 1;
        let line = Arc::new(Line::default());
        let question = Question { edge, ticket, database, line: Arc::clone(&line) };
        self.all.insert(self.last, question);
        (self.last, line)
    }

    /// The question is over: it has its answer, or gets none. `None` if it was before.
    pub fn end(&mut self, number: u64) -> Option<Question> {
        let question = self.all.remove(&number)?;
        question.line.give_up();
        Some(question)
    }

    /// Nobody waits any more for what an edge has asked.
    pub fn forget(&mut self, edge: usize) {
        let of_edge = |question: &Question| question.edge == edge;
        for question in self.all.values().filter(|question| of_edge(question)) {
            question.line.give_up();
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
        assert!(!first.is_given_up());
        let ended = open.end(one).unwrap();
        assert_eq!((ended.edge, ended.ticket), (3, 10));
        assert!(first.is_given_up() && open.end(one).is_none());
        open.forget(3);
        assert!(second.is_given_up() && open.end(two).is_none());
        assert!(!third.is_given_up());
        assert_eq!(open.end(other).unwrap().edge, 4);
        assert_eq!(open.len(), 0);
    }
}
