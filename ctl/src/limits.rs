//! `vsmtpctl limits`: which clients have used up what. The list comes in pages in the limiter's own order; the
//! heaviest are shown first.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use vsmtp_ipc::edge::ctl_master::{Answer, Request};
use vsmtp_ipc::edge::master_child::{Figure, LIMITS_PAGE, LimitsAnswer, LimitsRequest, LimitsRow};
use vsmtp_ipc::edge::receiver_limits::Kind;

use crate::failure::Failure;
use crate::output::{Output, span};
use crate::status::{Master, figures, unexpected};

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

/// Shows the clients that have used up most, at most so many.
pub fn list(master: &mut Master, limit: Option<usize>, out: &mut Output<'_>) -> Result<(), Failure> {
    let (summary, mut rows) = all(master)?;
    rows.sort_by_key(|row| (std::cmp::Reverse(weight(row)), row.network));
    rows.truncate(limit.unwrap_or(MAX_ROWS));
    if out.is_json() {
        out.object(&head(&summary))?;
        return rows.iter().try_for_each(|row| out.object(&object(row)));
    }
    let shown: Vec<String> = summary.figures.iter().map(|f| format!("{}={}", f.name, f.value)).collect();
    out.line(&format!("window={} {}", span(summary.window_ms.div_ceil(1000)), shown.join(" ")))?;
    let kinds = Kind::ALL.map(|kind| kind.name().to_uppercase());
    let names = ["CLIENT", "OPEN"].into_iter().chain(kinds.iter().map(String::as_str)).chain(["REFUSED"]);
    out.table(&names.collect::<Vec<_>>(), &rows.iter().map(|row| cells(row, &summary)).collect::<Vec<_>>())
}

/// Has the limiter forget what a client has used up.
pub fn reset(master: &mut Master, client: IpAddr, out: &mut Output<'_>) -> Result<(), Failure> {
    match master.ask(&Request::Limits(LimitsRequest::Reset(client)))?.message {
        Answer::Limits(LimitsAnswer::Reset(known)) if out.is_json() => {
            out.object(&json!({ "client": client.to_string(), "known": known }))
        }
        Answer::Limits(LimitsAnswer::Reset(true)) => out.line(&format!("forgotten: {client}")),
        Answer::Limits(LimitsAnswer::Reset(false)) => out.line(&format!("nothing is known of {client}")),
        other => Err(unexpected(other)),
    }
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

fn head(summary: &Summary) -> Value {
    let rates = Kind::ALL.iter().enumerate().filter_map(|(at, kind)| {
        let limit = summary.rates.get(at).copied().flatten()?;
        Some((kind.name().to_owned(), limit.into()))
    });
    json!({
        "window_ms": summary.window_ms,
        "open_limit": summary.open_limit,
        "rate_limits": Value::Object(rates.collect::<Map<_, _>>()),
        "figures": figures(&summary.figures),
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
    use crate::status::tests::{master, printed};

    fn page(rows: Vec<LimitsRow>) -> Answer {
        Answer::Limits(LimitsAnswer::Page {
            window_ms: 60_000,
            open_limit: Some(50),
            rates: vec![None, Some(30), None, None, None, None],
            figures: vec![Figure { name: "clients".to_owned(), value: 7 }],
            rows,
        })
    }

    fn row(last: u32, messages: u32) -> LimitsRow {
        let network = std::net::Ipv4Addr::from_bits(0xC000_0200 + last).into();
        LimitsRow { network, prefix: 32, open: 1, counts: vec![2, messages, 0, 0, 0, 0], refused: 3 }
    }

    #[test]
    fn all_pages_are_read_and_the_heaviest_come_first() {
        let first: Vec<LimitsRow> = (0..LIMITS_PAGE as u32).map(|n| row(n, 0)).collect();
        let (mut line, asked) = master(vec![page(first), page(vec![row(9_999, 40)])]);
        let (text, failure) = printed(false, |out| list(&mut line, Some(2), out));
        assert!(failure.is_none());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("window=1m clients=7"), "{text}");
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(words, ["192.0.41.15", "1/50", "2", "40/30", "0", "0", "0", "0", "3"]);
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
    fn programs_get_objects() {
        let (mut line, asked) =
            master(vec![page(vec![row(1, 5)]), Answer::Limits(LimitsAnswer::Reset(true))]);
        let (text, _) = printed(true, |out| list(&mut line, None, out));
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows[0]["rate_limits"], json!({ "messages": 30 }));
        assert_eq!((&rows[1]["client"], &rows[1]["messages"]), (&json!("192.0.2.1"), &json!(5)));
        let (text, _) = printed(true, |out| reset(&mut line, "192.0.2.1".parse().unwrap(), out));
        assert_eq!(text, "{\"client\":\"192.0.2.1\",\"known\":true}\n");
        assert!(matches!(asked.join().unwrap()[1], Request::Limits(LimitsRequest::Reset(_))));
    }
}
