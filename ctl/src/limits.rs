//! `vsmtpctl limits`: which clients have used up what, and who fails to log in. The list comes in pages in the limiter's own
//! order; the heaviest are shown first.

mod brakes;

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use vsmtp_ipc::edge::ctl_master::{Answer, Request};
use vsmtp_ipc::edge::master_child::{Figure, LIMITS_PAGE, LimitsAnswer, LimitsRequest, LimitsRow};
use vsmtp_ipc::edge::receiver_limits::Kind;
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::BrakesRequest;

use crate::arguments::Whom;
use crate::failure::Failure;
use crate::output::{Output, span};
use crate::status::{Master, figures, processes, unexpected};

/// The figures of receivers that are about this.
const OF_SESSIONS: [&str; 5] = ["turned_away", "limited", "protocol_faults", "error_delays", "error_ends"];
/// Most clients that are taken from a limiter, so that one that never ends its list cannot fill our memory.
const MAX_ROWS: usize = 1_000_000;

/// What the limiter says of itself with each page.
#[derive(Default)]
struct Summary {
    window_ms: u64,
    open_limit: Option<u32>,
    rates: Vec<Option<u32>>,
    figures: Vec<Figure>,
}

/// Shows the clients that have used up most, and those who failed to log in most, at most so many of each.
pub fn list(master: &mut Master, limit: Option<usize>, out: &mut Output<'_>) -> Result<(), Failure> {
    let (summary, mut rows) = all(master)?;
    rows.sort_by_key(|row| (std::cmp::Reverse(weight(row)), row.network));
    rows.truncate(limit.unwrap_or(MAX_ROWS));
    let sessions = of_receivers(master)?;
    if out.is_json() {
        out.object(&head(&summary, &sessions))?;
        rows.iter().try_for_each(|row| out.object(&object(row)))?;
        return brakes::list(master, limit, out);
    }
    out.line(&format!("window={} {}", span(summary.window_ms.div_ceil(1000)), shown(&summary.figures)))?;
    out.line(&format!("sessions: {}", shown(&sessions)))?;
    let kinds = Kind::ALL.map(|kind| kind.name().to_uppercase());
    let names = ["CLIENT", "OPEN"].into_iter().chain(kinds.iter().map(String::as_str)).chain(["REFUSED"]);
    out.table(&names.collect::<Vec<_>>(), &rows.iter().map(|row| cells(row, &summary)).collect::<Vec<_>>())?;
    brakes::list(master, limit, out)
}

/// Has forgotten what a client has used up and how often it failed to log in, or how often that was tried for an account.
pub fn reset(master: &mut Master, whom: &Whom, out: &mut Output<'_>) -> Result<(), Failure> {
    let (kind, name, known) = match whom {
        Whom::Client(client) => {
            // Where one of them is away, the other forgets all the same.
            let used = forget_used(master, *client);
            let failed = brakes::reset(master, BrakesRequest::ResetClient(*client));
            let half = match (&used, &failed) {
                (Ok(true), Err(_)) => Some("what it has used up"),
                (Err(_), Ok(true)) => Some("its failures to log in"),
                _ => None,
            };
            if let Some(half) = half.filter(|_| !out.is_json()) {
                out.line(&format!("forgotten of {client}: {half}"))?;
            }
            ("client", client.to_string(), used? | failed?)
        }
        Whom::Account(account) => {
            let failed = brakes::reset(master, BrakesRequest::ResetAccount(account.clone()))?;
            ("account", account.clone(), failed)
        }
    };
    match known {
        _ if out.is_json() => out.object(&json!({ kind: name, "known": known })),
        true => out.line(&format!("forgotten: {name}")),
        false => out.line(&format!("nothing is known of {name}")),
    }
}

fn forget_used(master: &mut Master, client: IpAddr) -> Result<bool, Failure> {
    match master.ask(&Request::Limits(LimitsRequest::Reset(client)))?.message {
        Answer::Limits(LimitsAnswer::Reset(known)) => Ok(known),
        other => Err(unexpected(other)),
    }
}

/// What receivers have counted of the brakes within a session, all together.
fn of_receivers(master: &mut Master) -> Result<Vec<Figure>, Failure> {
    let processes = processes(master, &Request::Status)?;
    let receivers = processes.iter().filter(|process| process.name.role == Role::Receiver);
    let all: Vec<&Figure> = receivers.flat_map(|process| &process.figures).collect();
    let sum = |name: &&str| Figure {
        name: (*name).to_owned(),
        value: all.iter().filter(|figure| figure.name == *name).map(|figure| figure.value).sum(),
    };
    Ok(OF_SESSIONS.iter().map(sum).collect())
}

fn shown(figures: &[Figure]) -> String {
    figures.iter().map(|f| format!("{}={}", f.name, f.value)).collect::<Vec<_>>().join(" ")
}

fn all(master: &mut Master) -> Result<(Summary, Vec<LimitsRow>), Failure> {
    let (mut found, mut seen): (Vec<LimitsRow>, HashSet<IpAddr>) = Default::default();
    loop {
        let behind = found.last().map(|row| row.network);
        let answer = master.ask(&Request::Limits(LimitsRequest::Page(behind)))?.message;
        let Answer::Limits(LimitsAnswer::Page { window_ms, open_limit, rates, figures, rows }) = answer
        else {
            return Err(unexpected(answer));
        };
        let is_last = rows.len() < LIMITS_PAGE;
        let goes_on = rows.iter().all(|row| seen.insert(row.network));
        found.extend(rows);
        if is_last {
            return Ok((Summary { window_ms, open_limit, rates, figures }, found));
        }
        if !goes_on || found.len() > MAX_ROWS {
            return Err(Failure::Broken("the list of clients does not end".to_owned()));
        }
    }
}

fn weight(row: &LimitsRow) -> u64 {
    row.counts.iter().map(|count| u64::from(*count)).sum::<u64>() + u64::from(row.open)
}

fn client(row: &LimitsRow) -> String {
    let whole = if row.network.is_ipv4() { 32 } else { 128 };
    if row.prefix == whole { row.network.to_string() } else { format!("{}/{}", row.network, row.prefix) }
}

fn cells(row: &LimitsRow, summary: &Summary) -> Vec<String> {
    let of = |count: u32, limit: Option<u32>| match limit {
        Some(limit) => format!("{count}/{limit}"),
        None => count.to_string(),
    };
    let counts = row.counts.iter().enumerate();
    let counts = counts.map(|(at, count)| of(*count, summary.rates.get(at).copied().flatten()));
    let first = [client(row), of(row.open, summary.open_limit)];
    first.into_iter().chain(counts).chain([row.refused.to_string()]).collect()
}

fn head(summary: &Summary, sessions: &[Figure]) -> Value {
    let rates = Kind::ALL.iter().enumerate().filter_map(|(at, kind)| {
        let limit = summary.rates.get(at).copied().flatten()?;
        Some((kind.name().to_owned(), limit.into()))
    });
    json!({
        "window_ms": summary.window_ms,
        "open_limit": summary.open_limit,
        "rate_limits": Value::Object(rates.collect::<Map<_, _>>()),
        "figures": figures(&summary.figures),
        "sessions": figures(sessions),
    })
}

fn object(row: &LimitsRow) -> Value {
    let mut object = Map::new();
    object.insert("client".to_owned(), client(row).into());
    object.insert("open".to_owned(), row.open.into());
    for (kind, count) in Kind::ALL.iter().zip(&row.counts) {
        object.insert(kind.name().to_owned(), (*count).into());
    }
    object.insert("refused".to_owned(), row.refused.into());
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{master, printed, process};
    use vsmtp_ipc::wire::{Braked, BrakesAnswer};

    fn page(rows: Vec<LimitsRow>) -> Answer {
        Answer::Limits(LimitsAnswer::Page {
            window_ms: 60_000,
            open_limit: Some(50),
            rates: vec![None, Some(30), None, None, None, None],
            figures: vec![Figure { name: "clients".to_owned(), value: 7 }],
            rows,
        })
    }

    /// What two receivers and somebody else have counted.
    fn processes() -> Answer {
        let counted = |role, value| {
            let figures = vec![Figure { name: "error_ends".to_owned(), value }];
            vsmtp_ipc::edge::ctl_master::ProcessStatus { figures, ..process(role, 1) }
        };
        Answer::Processes(vec![
            counted(Role::Receiver, 2),
            counted(Role::Receiver, 3),
            counted(Role::FilterSession, 100),
        ])
    }

    fn braked() -> Answer {
        Answer::Brakes(Some(BrakesAnswer::Listed(Braked {
            window_ms: 600_000,
            per_client: Some(20),
            per_account: None,
            figures: vec![Figure { name: "denied".to_owned(), value: 9 }],
            clients: vec![("192.0.2.7".parse().unwrap(), 20), ("2001:db8::".parse().unwrap(), 1)],
            accounts: vec![("tim".to_owned(), 30)],
        })))
    }

    fn row(last: u32, messages: u32) -> LimitsRow {
        let network = std::net::Ipv4Addr::from_bits(0xC000_0200 + last).into();
        LimitsRow { network, prefix: 32, open: 1, counts: vec![2, messages, 0, 0, 0, 0], refused: 3 }
    }

    #[test]
    fn all_pages_are_read_and_the_heaviest_come_first() {
        let first: Vec<LimitsRow> = (0..LIMITS_PAGE as u32).map(|n| row(n, 0)).collect();
        let (mut line, asked) = master(vec![page(first), page(vec![row(9_999, 40)]), processes(), braked()]);
        let (text, failure) = printed(false, |out| list(&mut line, Some(2), out));
        assert!(failure.is_none());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("window=1m clients=7"), "{text}");
        assert!(lines[1].starts_with("sessions: ") && lines[1].ends_with(" error_ends=5"), "{text}");
        let words: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!(words, ["192.0.41.15", "1/50", "2", "40/30", "0", "0", "0", "0", "3"]);
        assert_eq!(lines[5], "logins: window=10m denied=9");
        let words: Vec<Vec<&str>> = lines[7..].iter().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words, [vec!["-", "tim", "30"], vec!["192.0.2.7", "-", "20/20"]], "{text}");
        let asked = asked.join().unwrap();
        let last = row(LIMITS_PAGE as u32 - 1, 0).network;
        assert!(matches!(&asked[1], Request::Limits(LimitsRequest::Page(Some(behind))) if *behind == last));
    }

    #[test]
    fn a_list_that_goes_in_circles_ends() {
        let same = || page((0..LIMITS_PAGE as u32).map(|n| row(n, 0)).collect());
        let (mut line, asked) = master(vec![same(), same()]);
        let (_, failure) = printed(false, |out| list(&mut line, None, out));
        assert_eq!(failure.unwrap().status(), 75);
        assert_eq!(asked.join().unwrap().len(), 2);
    }

    #[test]
    fn a_reset_asks_both_before_it_says_that_one_is_away() {
        let away = || Answer::Failed("away".to_owned());
        let (mut line, asked) = master(vec![
            away(),
            Answer::Brakes(Some(BrakesAnswer::Reset(true))),
            Answer::Limits(LimitsAnswer::Reset(true)),
            away(),
        ]);
        let whom = Whom::Client("192.0.2.1".parse().unwrap());
        for half in ["its failures to log in", "what it has used up"] {
            let (text, failure) = printed(false, |out| reset(&mut line, &whom, out));
            assert_eq!(text, format!("forgotten of 192.0.2.1: {half}\n"));
            assert!(matches!(failure, Some(Failure::Refused(text)) if text == "away"));
        }
        assert_eq!(asked.join().unwrap().len(), 4);
    }

    #[test]
    fn programs_get_objects() {
        let (mut line, asked) = master(vec![
            page(vec![row(1, 5)]),
            processes(),
            braked(),
            Answer::Limits(LimitsAnswer::Reset(false)),
            Answer::Brakes(Some(BrakesAnswer::Reset(true))),
            Answer::Brakes(None),
        ]);
        let (text, _) = printed(true, |out| list(&mut line, None, out));
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows[0]["rate_limits"], json!({ "messages": 30 }));
        assert_eq!((&rows[1]["client"], &rows[1]["messages"]), (&json!("192.0.2.1"), &json!(5)));
        assert_eq!(rows[0]["sessions"]["error_ends"], json!(5));
        assert_eq!(rows[2]["failures_per_address"], json!(20));
        assert_eq!((&rows[3]["account"], &rows[3]["failed_logins"]), (&json!("tim"), &json!(30)));
        assert_eq!((&rows[5]["client"], &rows[5]["failed_logins"]), (&json!("2001:db8::/64"), &json!(1)));
        let whom = Whom::Client("192.0.2.1".parse().unwrap());
        let (text, _) = printed(true, |out| reset(&mut line, &whom, out));
        assert_eq!(text, "{\"client\":\"192.0.2.1\",\"known\":true}\n");
        let (text, _) = printed(false, |out| reset(&mut line, &Whom::Account("tim".to_owned()), out));
        assert_eq!(text, "nothing is known of tim\n");
        let asked = asked.join().unwrap();
        assert!(matches!(asked[3], Request::Limits(LimitsRequest::Reset(_))));
        assert!(matches!(asked[4], Request::Brakes(BrakesRequest::ResetClient(_))));
        assert!(matches!(&asked[5], Request::Brakes(BrakesRequest::ResetAccount(name)) if name == "tim"));
    }
}
