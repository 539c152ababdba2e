//! Reading the queue: `list`, `show`, `cat`.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};
use vsmtp_ipc::edge::ctl_queue::{Answer, Entry, EntryRecipient, PAGE, Request, State};
use vsmtp_mail::QueueId;

use super::{Queue, unexpected, word};
use crate::failure::Failure;
use crate::output::{Output, moment};

/// Widths of the columns of the list; it is printed before its widest cell is known.
const WIDTHS: [isize; 6] = [26, 11, -10, 20, 20, 0];
/// Octets of a message that are in memory at once.
const COPY: usize = 64 * 1024;
const HEAD: [&str; 6] = ["ID", "STATE", "SIZE", "ARRIVED", "NEXT ATTEMPT", "SENDER -> RECIPIENTS"];

/// Prints messages page by page.
pub fn list(
    queue: &mut Queue,
    state: Option<State>,
    limit: Option<u64>,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    if !out.is_json() {
        out.row(&WIDTHS, &HEAD)?;
    }
    let mut left = limit.unwrap_or(u64::MAX);
    let mut after = None;
    while left > 0 {
        let wanted = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let request = Request::List { state, after, limit: wanted };
        let page = match queue.ask(&request)?.message {
            Answer::Page(page) => page,
            other => return Err(unexpected(other)),
        };
        for entry in &page {
            if out.is_json() { out.object(&object(entry))? } else { row(entry, out)? }
        }
        let got = u64::try_from(page.len()).unwrap_or(left).min(left);
        left -= got;
        let last = page.last().map(|entry| entry.id);
        if got < u64::from(wanted) {
            break;
        }
        if last == after {
            return Err(Failure::Broken("the queue-manager sent the same page twice".to_owned()));
        }
        after = last;
    }
    Ok(())
}

/// Prints all about one message.
pub fn show(queue: &mut Queue, id: QueueId, out: &mut Output<'_>) -> Result<(), Failure> {
    let entry = match queue.ask(&Request::Show(id.into()))?.message {
        Answer::Shown(entry) => entry,
        other => return Err(unexpected(other)),
    };
    if out.is_json() {
        return out.object(&object(&entry));
    }
    for (name, value) in [
        ("id", QueueId::from(entry.id).to_string()),
        ("state", state(&entry)),
        ("priority", entry.priority.to_string()),
        ("size", entry.size.to_string()),
        ("arrived", moment(entry.arrived_ms)),
        ("next attempt", moment(entry.next_attempt_ms)),
        ("expires", moment(entry.expires_ms)),
        ("sender", format!("<{}>", entry.reverse_path)),
        ("unsettled", entry.recipients_total.to_string()),
    ] {
        out.row(&[14], &[name, &value])?;
    }
    out.line("")?;
    let cells = |r: &EntryRecipient| {
        let attempts = r.attempts.to_string();
        vec![r.address.clone(), r.status.clone(), attempts, r.next_hop.clone(), r.diagnostic.clone()]
    };
    let rows: Vec<_> = entry.recipients.iter().map(cells).collect();
    out.table(&["RECIPIENT", "STATUS", "ATTEMPTS", "NEXT HOP", "LATEST ANSWER"], &rows)
}

/// Prints the bytes of one message, without holding them in memory.
pub fn cat(queue: &mut Queue, id: QueueId, out: &mut Output<'_>) -> Result<(), Failure> {
    let received = queue.ask(&Request::Cat(id.into()))?;
    let length = match received.message {
        Answer::Body(length) => length,
        other => return Err(unexpected(other)),
    };
    let Some(descriptor) = received.descriptors.into_iter().next() else {
        return Err(Failure::Broken("the message came without its descriptor".to_owned()));
    };
    copy(&File::from(descriptor), length, out.raw())
}

/// Copies by position: the descriptor's own offset is wherever its writer left it.
fn copy(body: &File, length: u64, sink: &mut dyn Write) -> Result<(), Failure> {
    let mut buffer = vec![0; COPY];
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).map_or(COPY, |left| left.min(COPY));
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        let got = body.read_at(piece, at)?;
        if got == 0 {
            return Err(Failure::Broken(format!("{} octets of the message are missing", length - at)));
        }
        sink.write_all(piece.get(..got).unwrap_or_default())?;
        at += got as u64;
    }
    Ok(())
}

fn row(entry: &Entry, out: &mut Output<'_>) -> Result<(), Failure> {
    let shown: Vec<&str> = entry.recipients.iter().map(|r| r.address.as_str()).collect();
    let more = usize::try_from(entry.recipients_total).unwrap_or(usize::MAX).saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let cells = [
        QueueId::from(entry.id).to_string(),
        word(entry.state).to_owned(),
        entry.size.to_string(),
        moment(entry.arrived_ms),
        moment(entry.next_attempt_ms),
        format!("<{}> -> {}{more}", entry.reverse_path, shown.join(", ")),
    ];
    out.row(&WIDTHS, &cells.each_ref().map(String::as_str))?;
    let latest = entry.recipients.iter().find(|r| !r.diagnostic.is_empty());
    for said in remark(entry).iter().chain(latest.map(|recipient| &recipient.diagnostic)) {
        out.line(&format!("    ({said})"))?;
    }
    Ok(())
}

/// The state, with the name of the quarantine or the reason.
fn state(entry: &Entry) -> String {
    let why = if entry.quarantine.is_empty() { &entry.reason } else { &entry.quarantine };
    if why.is_empty() { word(entry.state).to_owned() } else { format!("{} ({why})", word(entry.state)) }
}

/// What a list says of a message below its line, besides the latest answer.
fn remark(entry: &Entry) -> Option<String> {
    let priority = (entry.priority != 0).then(|| format!("priority {}", entry.priority));
    let expires = (entry.expires_ms > 0).then(|| format!("expires {}", moment(entry.expires_ms)));
    let stopped = !(entry.quarantine.is_empty() && entry.reason.is_empty());
    let said: Vec<String> =
        [stopped.then(|| state(entry)), priority, expires].into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// The names of `postqueue -j`, which monitoring programs read, and more.
fn object(entry: &Entry) -> Value {
    let recipient = |r: &EntryRecipient| {
        let mut object = json!({
            "address": r.address,
            "status": r.status,
            "attempts": r.attempts,
            "nexthop": r.next_hop,
        });
        if let (false, Some(fields)) = (r.diagnostic.is_empty(), object.as_object_mut()) {
            fields.insert("delay_reason".to_owned(), r.diagnostic.clone().into());
        }
        object
    };
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
