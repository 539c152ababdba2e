//! `vsmtpctl queue destinations`: how the next hops stand, page by page.

use serde_json::{Value, json};
use vsmtp_ipc::edge::ctl_queue::{Answer, Condition, Destination, PAGE, Request};

use super::{Queue, unexpected};
use crate::failure::Failure;
use crate::output::{Output, moment};

/// Widths of the columns; they are printed before the widest cell is known.
const WIDTHS: [isize; 6] = [8, -9, -9, -12, 20, 0];
const HEAD: [&str; 6] = ["STATE", "MESSAGES", "ATTEMPTS", "AT A TIME", "NEXT ATTEMPT", "NEXT HOP"];

/// Prints all that have something to do, or a memory of trouble.
pub fn list(queue: &mut Queue, out: &mut Output<'_>) -> Result<(), Failure> {
    if !out.is_json() {
        out.row(&WIDTHS, &HEAD)?;
    }
    let mut after = None;
    loop {
        let page = match queue.ask(&Request::Destinations { after, limit: PAGE })?.message {
            Answer::Destinations(page) => page,
            other => return Err(unexpected(other)),
        };
        for destination in &page {
            if out.is_json() { out.object(&object(destination))? } else { row(destination, out)? }
        }
        let last = page.last().map(|destination| destination.number);
        if page.len() < PAGE as usize {
            return Ok(());
        }
        if last <= after {
            return Err(Failure::Broken("the queue-manager sent the same page twice".to_owned()));
        }
        after = last;
    }
}

fn row(destination: &Destination, out: &mut Output<'_>) -> Result<(), Failure> {
    let cells = [
        word(destination.condition).to_owned(),
        destination.messages.to_string(),
        destination.attempts.to_string(),
        destination.concurrency.to_string(),
        moment(destination.next_attempt_ms),
        destination.next_hop.clone(),
    ];
    out.row(&WIDTHS, &cells.each_ref().map(String::as_str))?;
    if destination.reason.is_empty() { Ok(()) } else { out.line(&format!("    ({})", destination.reason)) }
}

fn object(destination: &Destination) -> Value {
    json!({
        "nexthop": destination.next_hop,
        "state": word(destination.condition),
        "messages": destination.messages,
        "attempts": destination.attempts,
        "concurrency": destination.concurrency,
        "next_attempt": destination.next_attempt_ms / 1000,
        "reason": destination.reason,
    })
}

fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Up => "up",
        Condition::Limited => "limited",
        Condition::Resting => "resting",
        Condition::Dead => "dead",
    }
}
