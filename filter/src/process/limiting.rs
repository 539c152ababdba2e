//! How rules reach the limiter. Nobody waits long for one that is away or silent: rules go on as if nothing were limited,
//! which is counted, and logged once until it answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use vsmtp_daemon::Record;
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::filter_limits::{Answer, Ask, CREDITS, Taken, Taking};

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
}

impl Inquiry for Limiting {
    type Asked = Wanted;
    type Heard = Answer;
    type Question = Ask;
    type Answer = Answer;
    const EDGE: EdgeId = EdgeId::FilterLimits;
    const CREDITS: u32 = CREDITS;

    fn question(wanted: &Wanted, ticket: u64, _: Duration) -> Ask {
        let Wanted::Take(taking) = wanted;
        Ask::Take { ticket, taking: taking.clone() }
    }

    fn heard(answer: Answer) -> (u64, Answer) {
        let Answer::Taken { ticket, .. } = &answer;
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
}

impl Limits {
    /// Asks through that door.
    pub fn new(door: Arc<Door<Limiting>>) -> Self {
        Limits { door, missed: AtomicU64::new(0), is_reported: AtomicBool::new(false) }
    }

    /// Questions that nobody answered in time.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn ask(&self, wanted: Wanted) -> Option<Answer> {
        // A rule is to have time for what it does without an answer.
        let patience = time_left().map_or(PATIENCE, |left| PATIENCE.min(left / 2));
        let answer = self.door.ask(vec![wanted], patience).pop().flatten();
        if answer.is_some() {
            self.is_reported.store(false, Ordering::Relaxed);
        } else {
            self.missed.fetch_add(1, Ordering::Relaxed);
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
        let Answer::Taken { taken, .. } = self.ask(Wanted::Take(taking))?;
        Some(taken)
    }
}
