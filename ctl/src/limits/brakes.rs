//! Who fails to log in, as the auth helper has counted it. Where nobody can log in there is nothing to show.

use std::cmp::Reverse;

use serde_json::json;
use vsmtp_ipc::edge::ctl_master::{Answer, Request};
use vsmtp_ipc::wire::{Braked, BrakesAnswer, BrakesRequest};

use super::shown;
use crate::failure::Failure;
use crate::output::{Output, span};
use crate::status::{Master, figures, unexpected};

/// Clients and accounts with most failures, at most so many.
pub fn list(master: &mut Master, limit: Option<usize>, out: &mut Output<'_>) -> Result<(), Failure> {
    let braked = match master.ask(&Request::Brakes(BrakesRequest::List))?.message {
        Answer::Brakes(None) => return Ok(()),
        Answer::Brakes(Some(BrakesAnswer::Listed(braked))) => braked,
        other => return Err(unexpected(other)),
    };
    let mut rows = rows(&braked);
    rows.truncate(limit.unwrap_or(usize::MAX));
    if !out.is_json() {
        out.line(&format!(
            "logins: window={} {}",
            span(braked.window_ms.div_ceil(1000)),
            shown(&braked.figures)
        ))?;
        return out.table(&["CLIENT", "ACCOUNT", "FAILURES"], &rows.iter().map(cells).collect::<Vec<_>>());
    }
    out.object(&json!({
        "login_window_ms": braked.window_ms,
        "failures_per_address": braked.per_client,
        "failures_per_account": braked.per_account,
        "logins": figures(&braked.figures),
    }))?;
    rows.iter().try_for_each(|row| out.object(&json!({ row.kind: row.name, "failed_logins": row.failures })))
}

/// Has failures forgotten. True if there were any.
pub fn reset(master: &mut Master, request: BrakesRequest) -> Result<bool, Failure> {
    match master.ask(&Request::Brakes(request))?.message {
        Answer::Brakes(None) => Ok(false),
        Answer::Brakes(Some(BrakesAnswer::Reset(known))) => Ok(known),
        other => Err(unexpected(other)),
    }
}

struct Row {
    /// `client` or `account`.
    kind: &'static str,
    name: String,
    failures: u32,
    limit: Option<u32>,
}

/// Those with most failures first.
fn rows(braked: &Braked) -> Vec<Row> {
    let clients = braked.clients.iter().map(|(client, failures)| Row {
        kind: "client",
        name: if client.is_ipv4() { client.to_string() } else { format!("{client}/64") },
        failures: *failures,
        limit: braked.per_client,
    });
    let accounts = braked.accounts.iter().map(|(account, failures)| Row {
        kind: "account",
        name: account.clone(),
        failures: *failures,
        limit: braked.per_account,
    });
    let mut rows: Vec<Row> = clients.chain(accounts).collect();
    rows.sort_by_key(|row| Reverse(row.failures));
    rows
}

fn cells(row: &Row) -> Vec<String> {
    let failures = match row.limit {
        Some(limit) => format!("{}/{limit}", row.failures),
        None => row.failures.to_string(),
    };
    let (name, none) = (row.name.clone(), "-".to_owned());
    if row.kind == "client" { vec![name, none, failures] } else { vec![none, name, failures] }
}
