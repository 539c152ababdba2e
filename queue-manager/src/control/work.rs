//! An order about one message or about many: carried out a slice at a time, answered when all of it is on disk.

use std::collections::VecDeque;

use vsmtp_ipc::edge::ctl_queue::{Answer, Request, Selection, State};
use vsmtp_mail::QueueId;

use super::listing::state_of;
use crate::ledger::{After, Clock, Ledger, Reload, Tell, Turns};
use crate::schedule::Standing;
use crate::store::{Change, Disposition, RemoveReason, StateChange, Urgency};
use crate::trace;

/// Messages changed in one turn.
const SLICE: usize = 500;
/// Ids that are looked up at once.
const LOOK_UP: usize = 16_384;
/// Commits of one order that may be under way.
const MAX_OPEN: u64 = 4096;

/// What is done to each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Hold,
    Release,
    Flush,
    Delete,
    Requeue,
}

/// An order under way.
#[derive(Debug)]
pub struct Work {
    action: Action,
    /// To look up more, behind the last one; `None` when all are known.
    scan: Option<Scan>,
    ids: VecDeque<QueueId>,
    /// Commits that have not ended.
    open: u64,
    changed: u64,
    failed: u64,
}

#[derive(Debug)]
struct Scan {
    state: Option<State>,
    after: Option<QueueId>,
}

impl Work {
    /// An order; or why it cannot be carried out.
    pub fn new(request: Request, ledger: &Ledger, clock: Clock) -> Result<Self, String> {
        let (action, selection) = match request {
            Request::Hold(selection) => (Action::Hold, selection),
            Request::Release(selection) => (Action::Release, selection),
            Request::Flush(selection) => (Action::Flush, selection),
            Request::Delete(selection) => (Action::Delete, selection),
            Request::Requeue(selection) => (Action::Requeue, selection),
            _ => return Err("not an order".to_owned()),
        };
        let (scan, ids) = match selection {
            Selection::One(id) => {
                let id = QueueId::from(id);
                if ledger.schedule.survey(id, clock.mono_ms).is_none() {
                    return Err(format!("message {id} is not in the queue"));
                }
                (None, VecDeque::from([id]))
            }
            Selection::All(_) if ledger.is_loading() => {
                return Err("the queue is being loaded; try again in a moment".to_owned());
            }
            Selection::All(state) => (Some(Scan { state, after: None }), VecDeque::new()),
        };
        Ok(Work { action, scan, ids, open: 0, changed: 0, failed: 0 })
    }

    /// Does a slice; an answer when all is done.
    pub fn go_on(&mut self, token: usize, uid: u32, ledger: &mut Ledger, clock: Clock) -> Option<Answer> {
        for _ in 0..SLICE {
            if self.ids.is_empty() {
                self.look_up(ledger);
            }
            if self.open >= MAX_OPEN {
                return None;
            }
            let Some(id) = self.ids.pop_front() else { break };
            self.one(id, token, uid, ledger, clock);
        }
        if !self.ids.is_empty() || self.scan.is_some() || self.open > 0 {
            return None;
        }
        Some(if self.failed == 0 {
            Answer::Changed(self.changed)
        } else {
            Answer::Failed(format!("{} messages changed, {} could not be", self.changed, self.failed))
        })
    }

    /// True if a slice can be done at once.
    pub fn has_more(&self) -> bool {
        (!self.ids.is_empty() || self.scan.is_some()) && self.open < MAX_OPEN
    }

    /// One of its commits has ended.
    pub fn committed(&mut self, done: bool) {
        self.open = self.open.saturating_sub(1);
        if done {
            self.changed += 1;
        } else {
            self.failed += 1;
        }
    }

    fn look_up(&mut self, ledger: &Ledger) {
        let Some(scan) = &mut self.scan else { return };
        let wanted =
            |standing, deferred| scan.state.is_none_or(|state| state_of(standing, deferred) == state);
        let ids = ledger.schedule.ids_after(scan.after, LOOK_UP, wanted);
        scan.after = ids.last().copied();
        if ids.len() < LOOK_UP {
            self.scan = None;
        }
        self.ids = ids.into();
    }

    fn one(&mut self, id: QueueId, token: usize, uid: u32, ledger: &mut Ledger, clock: Clock) {
        let Some(survey) = ledger.schedule.survey(id, clock.mono_ms) else { return };
        let state = |change| Change::State { id, change };
        // What is delegated may be on its way to another state: what an operator wants comes behind that, and stays.
        let is_changing = ledger.is_changing(id);
        let is_alone = is_changing || matches!(survey.standing, Standing::Delegated | Standing::Stale);
        let stopped = survey.standing.is_stopped();
        let (change, reload) = match self.action {
            // What is stopped is not tried, however much it is wanted: it has to be released first.
            Action::Flush if stopped => return,
            Action::Flush => {
                if ledger.flush(id) {
                    self.changed += 1;
                }
                return;
            }
            // While it is to be read once more, that it is held may be over already.
            Action::Hold if survey.standing == Standing::Held && !is_changing && !ledger.anew.has(id) => {
                return;
            }
            Action::Hold => {
                let hold = Disposition::Hold("by an operator".into());
                ledger.schedule.set_standing(id, Standing::Held);
                (state(StateChange::Disposition(hold)), Reload::OnFailure(id))
            }
            Action::Release if !stopped => return,
            // Whether it is stopped shows in a moment.
            Action::Release if is_changing => {
                self.failed += 1;
                return;
            }
            // The store knows whether it was judged.
            Action::Release => (state(StateChange::Disposition(Disposition::Active)), Reload::Now(id)),
            Action::Delete => {
                ledger.forget(id);
                (Change::Remove { id, reason: RemoveReason::Deleted }, Reload::OnFailure(id))
            }
            Action::Requeue => {
                ledger.schedule.set_standing(id, Standing::Stale);
                (state(StateChange::Requeue), Reload::Always(id))
            }
        };
        trace::operated(id, self.name(), uid);
        let tell = Tell::Operator { connection: token };
        let committed = if is_alone && matches!(self.action, Action::Hold | Action::Requeue) {
            ledger.commit_alone(id, vec![change], Urgency::Durable, (Turns::FromService, tell))
        } else {
            ledger.commit(vec![change], Vec::new(), Urgency::Durable, After { tell, reload })
        };
        match committed {
            Ok(()) => self.open += 1,
            Err(error) => {
                trace::not_committed(id, &error);
                self.failed += 1;
                ledger.reload(id, 0, clock);
            }
        }
    }

    fn name(&self) -> &'static str {
        match self.action {
            Action::Hold => "hold",
            Action::Release => "release",
            Action::Flush => "flush",
            Action::Delete => "delete",
            Action::Requeue => "requeue",
        }
    }
}
