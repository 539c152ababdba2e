//! The line of messages that wait for a verdict: whose turn it is, and what goes on without one where there are no
//! rules. It passes no message by: one that cannot be asked about now comes back into the line.

use std::collections::HashSet;

use vsmtp_ipc::edge::queue_filter::PostStage;
use vsmtp_mail::QueueId;

use super::Post;
use super::verdict::{go_on, is_judging};
use crate::ledger::{Clock, Judgement, Ledger};
use crate::schedule::Standing;

/// Questions asked in one turn.
const ASK_AT_ONCE: usize = 64;
/// Messages that go on in one turn where there are no rules.
const RELEASE_AT_ONCE: usize = 20_000;
/// Messages that are looked for at once when the line ran short.
const REFILL: usize = 4096;

impl Post {
    /// Asks about messages that wait. True if more could be asked at once.
    pub fn ask(&mut self, ledger: &mut Ledger, clock: Clock) -> bool {
        let Judgement::Wanted { postq, delivery } = ledger.judgement else { return false };
        let ended = self.changing.extract_if(.., |id| !ledger.store.is_busy(*id));
        ledger.line.extend(ended);
        while let Some((due_ms, id)) = ledger.later.front().copied()
            && due_ms <= clock.mono_ms
        {
            ledger.later.pop_front();
            ledger.line.push_back(id);
        }
        if !postq && !delivery {
            ledger.line.extend(self.suspects.drain(..));
            return self.release(ledger, clock);
        }
        for _ in 0..ASK_AT_ONCE {
            let Some(token) = self.newest else { return false };
            let free = self.edges.get(&token).is_some_and(|edge| edge.credits.free() > 0);
            if ledger.line.is_empty() && ledger.line_is_short {
                self.refill(ledger, REFILL);
            }
            if !free {
                return false;
            }
            let Some(id) = self.next(ledger) else { return false };
            // The line may hold a message twice: it was read anew, or another filter came.
            if !is_judging(ledger, id, clock) || self.is_asked(id) || self.must_wait(id, ledger) {
                continue;
            }
            let stage = if postq { PostStage::Postq } else { PostStage::Delivery };
            self.question(token, id, stage, None, ledger, clock);
        }
        true
    }

    /// Whose turn it is. Of those with which filters have died only one is asked about at once.
    fn next(&mut self, ledger: &mut Ledger) -> Option<QueueId> {
        let is_trying = self.asked.values().any(|asked| self.unlucky.contains_key(&asked.id));
        if !is_trying && let Some(id) = self.suspects.pop_front() {
            return Some(id);
        }
        loop {
            let id = ledger.line.pop_front()?;
            if !is_trying || !self.unlucky.contains_key(&id) {
                return Some(id);
            }
            if !self.suspects.contains(&id) {
                self.suspects.push_back(id);
            }
        }
    }

    /// At most [`MAX_EDGES`] times [`CREDITS`] are out, and mostly few.
    pub(super) fn is_asked(&self, id: QueueId) -> bool {
        self.asked.values().any(|asked| asked.id == id)
    }

    /// True while what the store says of it may be over in a moment. It comes back into the line.
    fn must_wait(&mut self, id: QueueId, ledger: &Ledger) -> bool {
        let is_busy = ledger.store.is_busy(id);
        if is_busy {
            self.changing.push(id);
        }
        is_busy
    }

    /// There are no rules: what waited for them goes on, unless it is to be routed anew. True if there is more.
    fn release(&mut self, ledger: &mut Ledger, clock: Clock) -> bool {
        if ledger.line.is_empty() && ledger.line_is_short {
            self.refill(ledger, RELEASE_AT_ONCE);
        }
        for _ in 0..RELEASE_AT_ONCE {
            let Some(id) = ledger.line.pop_front() else { break };
            if !is_judging(ledger, id, clock) {
                continue;
            }
            if ledger.resuming.contains(&id) {
                go_on(id, ledger, clock);
                continue;
            }
            if !ledger.rerouting.contains(&id) {
                ledger.schedule.set_standing(id, Standing::Active);
                continue;
            }
            if self.is_asked(id) || self.must_wait(id, ledger) {
                continue;
            }
            let asker =
                self.newest.filter(|token| self.edges.get(token).is_some_and(|edge| edge.credits.free() > 0));
            let Some(token) = asker else {
                ledger.line.push_front(id);
                return false;
            };
            self.question(token, id, PostStage::Routing, None, ledger, clock);
        }
        !ledger.line.is_empty() || ledger.line_is_short
    }

    /// More messages wait than the line could remember: those that are neither asked about nor put off.
    fn refill(&mut self, ledger: &mut Ledger, most: usize) {
        let put_off = ledger.later.iter().map(|(_, id)| *id).chain(self.changing.iter().copied());
        let waiting = put_off.chain(self.suspects.iter().copied());
        let busy: HashSet<QueueId> = self.asked.values().map(|asked| asked.id).chain(waiting).collect();
        let limit = most + busy.len();
        let found = ledger.schedule.ids_after(None, limit, |standing, _| standing == Standing::Judging);
        ledger.line_is_short = found.len() == limit;
        ledger.line.extend(found.into_iter().filter(|id| !busy.contains(id)));
    }

    /// When the next message may be asked about again. Never while there is nobody to ask: then a filter that comes is
    /// what is waited for.
    pub fn wake_ms(ledger: &Ledger) -> Option<u64> {
        let is_somebody_there = matches!(ledger.judgement, Judgement::Wanted { .. });
        ledger.later.front().filter(|_| is_somebody_there).map(|(due_ms, _)| *due_ms)
    }
}
