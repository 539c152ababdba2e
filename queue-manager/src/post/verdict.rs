//! What a verdict does to a message. It counts only for what was asked about: what has changed since is asked about
//! again.

use std::sync::Arc;

use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::queue_filter::{PostStage, PostVerdict};
use vsmtp_ipc::wire;
use vsmtp_mail::{EnhancedCode, QueueId, Reply};

use super::Post;
use super::asked::Asked;
use super::edit::{self, Edit};
use crate::delegation;
use crate::intake;
use crate::ledger::{After, Clock, Judgement, Ledger, RELOAD_WAIT_MS, Reload, Tell};
use crate::outcome::{self, Failure};
use crate::reports;
use crate::schedule::Standing;
use crate::store::{Change, Diagnostic, Disposition, MessageState, StateChange, Text, Urgency};
use crate::trace;

impl Post {
    /// Takes what a filter says of what it was asked.
    pub(super) fn judged(
        &mut self,
        verdict: PostVerdict,
        asked: Asked,
        ledger: &mut Ledger,
        clock: Clock,
    ) -> Result<(), ChannelError> {
        match verdict {
            PostVerdict::Wanted { .. } => Ok(()),
            PostVerdict::Keep { is_final, .. } => {
                self.keep(asked, is_final, ledger, clock);
                Ok(())
            }
            PostVerdict::Edit { envelope, expanded, notices, disposition, pieces, .. } => {
                let Some(token) = delegation::fresh_token() else {
                    ledger.put_off(asked.id, clock);
                    return Ok(());
                };
                let mut edited = Edit::new(&envelope, (&disposition, token), pieces, &asked)?;
                edited.expanded = wire::expanded(&expanded)?;
                intake::bound(&mut edited.state.envelope.terms, clock);
                edited.notices = intake::notices(&notices)?;
                if is_as_asked(&asked, ledger, clock) {
                    revise(edited, asked.id, ledger, clock);
                }
                Ok(())
            }
            PostVerdict::Refuse { reply, reports, .. } => {
                let reply = Reply::try_from(&reply)?;
                let state = edit::reported(reports, &asked)?;
                if is_as_asked(&asked, ledger, clock) {
                    refuse(&reply, asked.id, &state, ledger, clock);
                }
                Ok(())
            }
            PostVerdict::Unavailable { .. } => {
                ledger.put_off(asked.id, clock);
                Ok(())
            }
        }
    }

    /// Nothing is to be changed: the next stage is asked, or the message goes on.
    pub(super) fn keep(&mut self, asked: Asked, is_final: bool, ledger: &mut Ledger, clock: Clock) {
        if asked.is_changing(ledger) {
            return ledger.line.push_back(asked.id);
        }
        let delivery = matches!(ledger.judgement, Judgement::Wanted { delivery: true, .. });
        if asked.stage == PostStage::Postq && delivery && !is_final {
            let known = Some((asked.state, asked.settled));
            return self.question(asked.token, asked.id, PostStage::Delivery, known, ledger, clock);
        }
        if standing(ledger, asked.id, clock).is_some() {
            go_on(asked.id, ledger, clock);
        }
    }
}

/// Rules and routing tables have seen it, or need not: it goes on as it is.
pub(super) fn go_on(id: QueueId, ledger: &mut Ledger, clock: Clock) {
    ledger.rerouting.remove(&id);
    let mut changes = Vec::new();
    // An operator may have stopped it meanwhile.
    if is_judging(ledger, id, clock) {
        let standing;
        (changes, standing) = delegation::over(ledger, id);
        ledger.schedule.set_standing(id, standing);
    }
    changes.push(Change::State { id, change: StateChange::Judged });
    let after = After { tell: Tell::Nobody, reload: Reload::OnFailure(id) };
    if let Err(error) = ledger.commit(changes, Vec::new(), Urgency::Lazy, after) {
        trace::not_committed(id, &error);
        ledger.reload(id, RELOAD_WAIT_MS, clock);
    }
}

/// True if a verdict counts. If not, the message is asked about again: at once if it is another by now, later if the
/// store does not tell, and then not by what is remembered of it.
fn is_as_asked(asked: &Asked, ledger: &mut Ledger, clock: Clock) -> bool {
    match asked.is_overtaken(ledger) {
        Ok(is_overtaken) => {
            if is_overtaken {
                ledger.line.push_back(asked.id);
            }
            !is_overtaken
        }
        Err(_) => {
            ledger.warm.forget(asked.id);
            ledger.put_off(asked.id, clock);
            false
        }
    }
}

/// It waits for a verdict, and none is being committed.
pub(super) fn is_judging(ledger: &Ledger, id: QueueId, clock: Clock) -> bool {
    standing(ledger, id, clock) == Some(Standing::Judging)
}

/// As the verdicts see it; `None` if it is gone, or has its verdict already.
fn standing(ledger: &Ledger, id: QueueId, clock: Clock) -> Option<Standing> {
    let survey = ledger.schedule.survey(id, clock.mono_ms)?;
    (!ledger.revising.contains(&id)).then_some(survey.standing)
}

fn revise(mut edit: Edit, id: QueueId, ledger: &mut Ledger, clock: Clock) {
    match standing(ledger, id, clock) {
        Some(Standing::Judging) => {}
        // An operator stopped it meanwhile.
        Some(Standing::Held) => {
            if edit.state.disposition.is_active() || edit.state.disposition.delegation().is_some() {
                edit.state.disposition = Disposition::Hold("by an operator".into());
            }
        }
        // The edit was made on a state that is over; to commit it would undo what has happened since.
        Some(
            Standing::Active | Standing::Quarantined | Standing::Dead | Standing::Delegated | Standing::Stale,
        )
        | None => return,
    }
    trace::judged(id, if edit.state.disposition.delegation().is_some() { "delegate" } else { "edit" });
    let told = reports::on_expansion(ledger, id, &edit.state, None, &edit.expanded, clock);
    let mut fresh = reports::notices(ledger, id, &edit.state, &edit.notices, clock);
    fresh.extend(told);
    ledger.revising.insert(id);
    let change = Change::Revise { id, state: Box::new(edit.state) };
    let after = After { tell: Tell::Nobody, reload: Reload::Always(id) };
    if let Err(error) = ledger.commit(vec![change], fresh, Urgency::Durable, after) {
        trace::not_committed(id, &error);
        ledger.reload(id, RELOAD_WAIT_MS, clock);
    }
}

/// Refused after it was accepted: every recipient fails, and the sender is told.
fn refuse(reply: &Reply, id: QueueId, state: &Arc<MessageState>, ledger: &mut Ledger, clock: Clock) {
    // What an operator has stopped meanwhile stays, and is asked about again if it is released.
    if !is_judging(ledger, id, clock) || !ledger.schedule.remove(id) {
        return;
    }
    ledger.rerouting.remove(&id);
    ledger.resuming.remove(&id);
    trace::judged(id, "refuse");
    let status = match reply.enhanced() {
        Some(EnhancedCode(5, subject, detail)) => EnhancedCode(5, subject, detail),
        _ => EnhancedCode(5, 7, 1),
    };
    let diagnostic = Diagnostic { status, remote: None, text: Text::new(&reply.to_string()) };
    let count = u32::try_from(state.envelope.recipients.len()).unwrap_or(u32::MAX);
    let failures: Vec<Failure> = (0..count)
        .map(|index| Failure { index, diagnostic: diagnostic.clone(), at_ms: clock.wall_ms })
        .collect();
    for failure in &failures {
        if let Some(recipient) = outcome::recipient(state, failure.index) {
            trace::given_up(id, recipient, &failure.diagnostic);
        }
    }
    ledger.failures.add(id, state, failures, clock);
    outcome::close(ledger, id, clock);
}
