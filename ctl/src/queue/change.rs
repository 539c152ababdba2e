//! Changing the queue: `hold`, `release`, `flush`, `delete`, `requeue`.

use std::io::{self, BufRead, Read};

use serde_json::json;
use vsmtp_ipc::edge::ctl_queue::{Answer, Request, Selection, State};
use vsmtp_mail::QueueId;

use super::{Queue, unexpected};
use crate::arguments::Which;
use crate::failure::Failure;
use crate::output::Output;

/// The word that stands for standard input.
const STDIN: &str = "-";
/// Most octets of standard input that are read: more than a million ids.
const MAX_STDIN: u64 = 64 << 20;

/// Applies one change to all that are meant. With several ids, one that fails does not keep the others from it.
pub fn change(
    queue: &mut Queue,
    request: fn(Selection) -> Request,
    done: &str,
    which: &Which,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let selections = if which.all || which.state.is_some() {
        vec![Selection::All(which.state.map(State::from))]
    } else {
        ids(&which.ids, &mut io::stdin().lock())?.into_iter().map(|id| Selection::One(id.into())).collect()
    };
    let (mut changed, mut refused) = (0u64, Vec::new());
    for selection in selections {
        let name = match &selection {
            Selection::One(id) => QueueId::from(*id).to_string(),
            Selection::All(_) => "all".to_owned(),
        };
        match queue.ask(&request(selection))?.message {
            Answer::Changed(count) => changed += count,
            Answer::Failed(text) => refused.push(format!("{name}: {text}")),
            other => return Err(unexpected(other)),
        }
    }
    if out.is_json() {
        out.object(&json!({ "changed": changed, "failed": refused }))?;
    } else {
        out.line(&format!("{done}: {changed} {}", if changed == 1 { "message" } else { "messages" }))?;
    }
    if refused.is_empty() { Ok(()) } else { Err(Failure::Refused(refused.join("\n"))) }
}

/// All ids are read before the first is used: a typo in the third must not come after two deletions.
fn ids(words: &[String], stdin: &mut dyn BufRead) -> Result<Vec<QueueId>, Failure> {
    let parse = |word: &str| {
        QueueId::parse(word)
            .map_err(|error| Failure::Usage(format!("{}: {error}", vsmtp_mail::escape_text(word))))
    };
    let mut ids = Vec::new();
    for word in words {
        if word != STDIN {
            ids.push(parse(word)?);
            continue;
        }
        for line in stdin.take(MAX_STDIN).lines() {
            let line = line?;
            let first = line.split_whitespace().next();
            ids.extend(first.map(parse).transpose()?);
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_words_and_from_standard_input() {
        let id = |n: u8| QueueId::from_bytes([n; QueueId::LEN]).to_string();
        let input = format!("{}\n\n  {} rest of the line\n", id(2), id(3));
        let read = ids(&[id(1), "-".to_owned()], &mut input.as_bytes()).unwrap();
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), [id(1), id(2), id(3)]);
        assert!(ids(&[id(1), "-".to_owned()], &mut "nonsense\n".as_bytes()).is_err());
    }
}
