//! `vsmtpctl queue`: asks the queue-manager. Lists come page by page and are printed as they come, so a queue of a million
//! messages costs this program one page of memory.

mod change;
mod destinations;
mod list;
pub mod offline;

use serde_json::json;
use vsmtp_ipc::edge::ctl_queue::{Answer, Request, State};

use crate::arguments::QueueCommand;
use crate::failure::Failure;
use crate::line::Line;
use crate::output::Output;
use crate::status::figures;

/// A line to the queue-manager.
pub type Queue = Line<Request, Answer>;

/// Carries out one command.
pub fn run(command: &QueueCommand, queue: &mut Queue, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        QueueCommand::List { state, limit } => list::list(queue, state.map(State::from), *limit, out),
        QueueCommand::Show { id } => list::show(queue, *id, out),
        QueueCommand::Cat { id } => list::cat(queue, *id, out),
        QueueCommand::Hold(which) => change::change(queue, Request::Hold, "held", which, out),
        QueueCommand::Release(which) => change::change(queue, Request::Release, "released", which, out),
        QueueCommand::Flush(which) => change::change(queue, Request::Flush, "flushed", which, out),
        QueueCommand::Delete(which) => change::change(queue, Request::Delete, "deleted", which, out),
        QueueCommand::Requeue(which) => change::change(queue, Request::Requeue, "requeued", which, out),
        QueueCommand::Destinations => destinations::list(queue, out),
        QueueCommand::Stats => stats(queue, out),
        QueueCommand::Export { .. } | QueueCommand::Verify => {
            Err(Failure::Usage("export and verify ask no vsmtp that runs".to_owned()))
        }
    }
}

fn stats(queue: &mut Queue, out: &mut Output<'_>) -> Result<(), Failure> {
    match queue.ask(&Request::Stats)?.message {
        Answer::Stats(counts) if out.is_json() => out.object(&json!(figures(&counts))),
        Answer::Stats(counts) => {
            let rows: Vec<_> = counts.iter().map(|f| vec![f.name.clone(), f.value.to_string()]).collect();
            out.table(&["FIGURE", "VALUE"], &rows)
        }
        other => Err(unexpected(other)),
    }
}

/// What to say when the answer is not the one hoped for.
fn unexpected(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(text) => Failure::Refused(text),
        _ => Failure::Broken("the queue-manager answered another question".to_owned()),
    }
}

/// The word for a state, as `--state` takes it.
fn word(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Deferred => "deferred",
        State::Held => "held",
        State::Quarantined => "quarantined",
        State::Dead => "dead",
        State::Delegated => "delegated",
    }
}

#[cfg(test)]
mod tests;
