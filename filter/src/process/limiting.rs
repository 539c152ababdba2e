//! How rules reach the limiter. Nobody waits long for one that is away or silent: rules go on as if nothing were limited,
//! which is counted, and logged once until it answers again. Rules may wait in all workers: it answers from memory, and one
//! that is not asked limits nothing. Only of one that is silent they leave workers free.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use vsmtp_daemon::Record;
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::filter_limits::{Answer, Ask, CREDITS, MAX_TRIPLES, Taken, Taking, Terms, Triple};

use super::inquiry::{Door, Inquiry};
use crate::engine::time_left;
use crate::limiter::Limiter;

/// Longest wait of a rule for the limiter.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// The edge to the limiter.
pub enum Limiting {}

/// What a rule asks.
pub enum Wanted {
    /// To count something.
    Take(Taking),
    /// Whether somebody has waited.
    Greylist(Triple, Terms),
    /// Nothing: it says who need not wait again.
    Accepted(Vec<(Triple, Terms)>),
}

impl Inquiry for Limiting {
    type Asked = Wanted;
    type Heard = Answer;
    type Question = Ask;
    type Answer = Answer;
    const EDGE: EdgeId = EdgeId::FilterLimits;
    const CREDITS: u32 = CREDITS;

    fn question(wanted: &Wanted, ticket: u64, _: Duration) -> Ask {
        match wanted {
            Wanted::Take(taking) => Ask::Take { ticket, taking: taking.clone() },
            Wanted::Greylist(triple, terms) => {
                Ask::Greylist { ticket, triple: triple.clone(), terms: *terms }
            }
            Wanted::Accepted(triples) => Ask::Accepted { ticket, triples: triples.clone() },
        }
    }

    fn heard(answer: Answer) -> (u64, Answer) {
        let (Answer::Taken { ticket, .. } | Answer::Greylisted { ticket, .. } | Answer::Noted { ticket }) =
            &answer;
        (*ticket, answer)
    }
}

/// What rules ask through.
#[derive(Debug)]
pub struct Limits {
    door: Arc<Door<Limiting>>,
    /// Questions that nobody answered in time.
    missed: AtomicU64,
    /// The log has heard that it is silent.
    is_reported: AtomicBool,
    /// Workers that rules run in.
    workers: usize,
}

impl Limits {
    /// Asks through that door, from rules in so many workers.
    pub fn new(door: Arc<Door<Limiting>>, workers: usize) -> Self {
        Limits { door, missed: AtomicU64::new(0), is_reported: AtomicBool::new(false), workers }
    }

    /// Questions that nobody answered in time.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// A message of these was accepted. Nobody waits until that is noted; if it never is, they wait once more.
    pub fn accepted(&self, triples: &[(Triple, Terms)]) {
        for some in triples.chunks(MAX_TRIPLES) {
            self.door.tell(Wanted::Accepted(some.to_vec()), PATIENCE);
        }
    }

    fn ask(&self, wanted: Wanted) -> Option<Answer> {
        // A rule is to have time for what it does without an answer.
        let patience = time_left().map_or(PATIENCE, |left| PATIENCE.min(left / 2));
        let Ok(mut answers) = self.door.ask_if_room(vec![wanted], patience) else {
            // Others wait for a limiter that is silent, and have said so.
            self.missed.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let answer = answers.pop().flatten();
        if answer.is_some() {
            self.is_reported.store(false, Ordering::Relaxed);
            self.door.take_all();
        } else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            self.door.leave_room(self.workers);
            if !self.is_reported.swap(true, Ordering::Relaxed) {
                Record::at(log::Level::Warn, "limits-silent")
                    .field("effect", "rules go on without limits")
                    .emit();
            }
        }
        answer
    }
}

impl Limiter for Limits {
    fn take(&self, taking: Taking) -> Option<Taken> {
        match self.ask(Wanted::Take(taking))? {
            Answer::Taken { taken, .. } => Some(taken),
            _ => None,
        }
    }

    fn greylist(&self, triple: Triple, terms: Terms) -> Option<u32> {
        match self.ask(Wanted::Greylist(triple, terms))? {
            Answer::Greylisted { wait_s, .. } => Some(wait_s),
            _ => None,
        }
    }
}
