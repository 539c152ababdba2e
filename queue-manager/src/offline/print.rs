//! Messages of a spool as `vsmtpctl queue list` shows those of a running queue: the same columns, the same names.

use std::io::Write;

use serde_json::{Value, json};
use vsmtp_ipc::edge::ctl_queue::{Entry, EntryRecipient, State};
use vsmtp_mail::{QueueId, Rfc5322Date, escape_text};

use super::Failure;
use super::arguments::word;
use crate::control::listing;
use crate::store::{Disposition, Message, MessageState, Offline, ReadError, RecipientState};

/// Prints messages, each when it is read.
pub fn list(
    spool: &Offline,
    state: Option<State>,
    limit: u64,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if !json {
        row(out, ["ID", "STATE", "SIZE", "ARRIVED", "NEXT ATTEMPT", "SENDER -> RECIPIENTS"])?;
    }
    let mut left = limit;
    for (id, message) in spool.messages() {
        if left == 0 {
            break;
        }
        let entry = entry(id, &message, listing::LISTED_RECIPIENTS, true);
        // What cannot be read has no state, and is shown whatever is asked for.
        if message.is_ok() && state.is_some_and(|state| state != entry.state) {
            continue;
        }
        left -= 1;
        if json { writeln!(out, "{}", object(&entry))? } else { line(&entry, out)? }
    }
    Ok(())
}

/// What the spool says of a message. There is no clock in it: what was tried and is not settled is deferred.
pub fn entry(
    id: QueueId,
    message: &Result<Message, ReadError>,
    recipients: usize,
    unsettled_only: bool,
) -> Entry {
    let mut entry = Entry {
        id: id.into(),
        state: State::Active,
        quarantine: String::new(),
        reason: String::new(),
        priority: 0,
        expires_ms: 0,
        size: 0,
        arrived_ms: id.minted_ms(),
        next_attempt_ms: 0,
        reverse_path: String::new(),
        recipients: Vec::new(),
        recipients_total: 0,
    };
    match message {
        Ok(message) => {
            (entry.state, entry.next_attempt_ms) = standing(&message.state);
            let unsettled = message.state.progress.iter().filter(|progress| !progress.is_settled()).count();
            entry.recipients_total = u32::try_from(unsettled).unwrap_or(u32::MAX);
            listing::fill(&mut entry, message, recipients, unsettled_only);
        }
        Err(error) => entry.recipients.push(listing::unreadable(error)),
    }
    entry
}

/// The state, and the next attempt in milliseconds since 1970 or 0.
fn standing(message: &MessageState) -> (State, u64) {
    match &message.disposition {
        Disposition::Hold(_) => return (State::Held, 0),
        Disposition::Quarantine(_) => return (State::Quarantined, 0),
        Disposition::Dead(_) => return (State::Dead, 0),
        Disposition::Delegated(_) => return (State::Delegated, 0),
        Disposition::Active => {}
    }
    let waiting = message.progress.iter().filter_map(|progress| match progress {
        RecipientState::Waiting { attempts, until, .. } => Some((*attempts, *until)),
        _ => None,
    });
    let next = waiting.map(|(attempts, until)| if attempts == 0 { 0 } else { until }).min();
    match next {
        None | Some(0) => (State::Active, 0),
        Some(until) => (State::Deferred, until.saturating_mul(1000)),
    }
}

fn line(entry: &Entry, out: &mut dyn Write) -> Result<(), Failure> {
    let shown: Vec<&str> = entry.recipients.iter().map(|recipient| recipient.address.as_str()).collect();
    let total = usize::try_from(entry.recipients_total).unwrap_or(usize::MAX);
    let more = match total.saturating_sub(shown.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let route = format!("<{}> -> {}{more}", entry.reverse_path, shown.join(", "));
    row(
        out,
        [
            &QueueId::from(entry.id).to_string(),
            word(entry.state),
            &entry.size.to_string(),
            &moment(entry.arrived_ms),
            &moment(entry.next_attempt_ms),
            &route,
        ],
    )?;
    if let Some(latest) = entry.recipients.iter().find(|recipient| !recipient.diagnostic.is_empty()) {
        writeln!(out, "    ({})", escape_text(&latest.diagnostic))?;
    }
    Ok(())
}

/// Nothing that came from mail reaches the terminal with its control characters.
fn row(out: &mut dyn Write, cells: [&str; 6]) -> Result<(), Failure> {
    let [id, state, size, arrived, next, route] = cells;
    writeln!(out, "{id:26}  {state:11}  {size:>10}  {arrived:20}  {next:20}  {}", escape_text(route))?;
    Ok(())
}

fn moment(ms: u64) -> String {
    if ms == 0 { "-".to_owned() } else { Rfc5322Date(ms / 1000).rfc3339() }
}

/// The names of `vsmtpctl queue list --json`, which are those of `postqueue -j` and more.
pub fn object(entry: &Entry) -> Value {
    json!({
        "queue_name": word(entry.state),
        "queue_id": QueueId::from(entry.id).to_string(),
        "arrival_time": entry.arrived_ms / 1000,
        "message_size": entry.size,
        "forced_expire": false,
        "sender": entry.reverse_path,
        "quarantine": entry.quarantine,
        "reason": entry.reason,
        "priority": entry.priority,
        "expires": entry.expires_ms / 1000,
        "next_attempt": entry.next_attempt_ms / 1000,
        "recipients_total": entry.recipients_total,
        "recipients": entry.recipients.iter().map(recipient).collect::<Vec<_>>(),
    })
}

fn recipient(recipient: &EntryRecipient) -> Value {
    let mut object = json!({
        "address": recipient.address,
        "status": recipient.status,
        "attempts": recipient.attempts,
        "nexthop": recipient.next_hop,
    });
    if let (false, Some(fields)) = (recipient.diagnostic.is_empty(), object.as_object_mut()) {
        fields.insert("delay_reason".to_owned(), recipient.diagnostic.clone().into());
    }
    object
}
