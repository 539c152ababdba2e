//! What the schedule finds out by itself about messages that are kept back from a dead next hop: that their lifetime is
//! over, or that their sender should hear of the delay.

use std::sync::Arc;

use vsmtp_mail::QueueId;

use crate::bounce::Kind;
use crate::delegation;
use crate::ledger::courtesy::Courtesy;
use crate::ledger::{Clock, Ledger, RELOAD_WAIT_MS};
use crate::outcome::{self, Failure};
use crate::reports;
use crate::store::{Diagnostic, MessageState, Text};
use crate::trace;

/// These recipients were given up; the schedule has settled them.
pub fn expired(ledger: &mut Ledger, id: QueueId, recipients: &[u32], reason: &str, clock: Clock) {
    let Some(state) = state(ledger, id) else {
        return ledger.reload(id, RELOAD_WAIT_MS, clock);
    };
    if delegation::is_done_without(ledger, id, &state, reason, clock) {
        return;
    }
    let diagnostic = Diagnostic { status: outcome::expired(&state), remote: None, text: Text::new(reason) };
    let all = all_at_service(&state);
    let recipients = all.as_deref().unwrap_or(recipients);
    for index in recipients {
        if let Some(recipient) = outcome::recipient(&state, *index) {
            trace::given_up(id, recipient, &diagnostic);
        }
    }
    let failures = failures(recipients, &diagnostic, clock);
    ledger.failures.add(id, &state, failures, clock);
    outcome::close_if_idle(ledger, id, clock);
}

/// The sender is told of the delay of all recipients that are not settled.
pub fn warn(ledger: &mut Ledger, id: QueueId, reason: &str, clock: Clock) {
    let Some(state) = state(ledger, id) else { return };
    let diagnostic =
        Diagnostic { status: vsmtp_mail::EnhancedCode(4, 4, 1), remote: None, text: Text::new(reason) };
    let late = all_at_service(&state).unwrap_or_else(|| ledger.schedule.unsettled(id));
    let told = failures(&late, &diagnostic, clock);
    let until_ms = outcome::end_ms(ledger, &state);
    match reports::draft(ledger, Kind::Delay { until_ms }, id, &state, &told, clock) {
        Some(draft) => ledger.tell(Courtesy::on_delay(id, draft), clock),
        None => outcome::note_delay(ledger, id),
    }
}

/// All for whom one stands in the schedule, if a service is to see the message.
fn all_at_service(state: &MessageState) -> Option<Vec<u32>> {
    let one = state.disposition.delegation()?;
    one.is_with_service().then(|| delegation::unsettled(state))
}

fn state(ledger: &Ledger, id: QueueId) -> Option<Arc<MessageState>> {
    match ledger.store.message(id) {
        Ok(message) => Some(Arc::new(message.state)),
        Err(error) => {
            trace::unreadable(id, &error);
            None
        }
    }
}

fn failures(recipients: &[u32], diagnostic: &Diagnostic, clock: Clock) -> Vec<Failure> {
    let failure =
        |index: &u32| Failure { index: *index, diagnostic: diagnostic.clone(), at_ms: clock.wall_ms };
    recipients.iter().map(failure).collect()
}
