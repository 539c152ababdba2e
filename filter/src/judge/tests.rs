//! What each status means at each stage, and that no rule, however broken, lets through what it should not: one file each
//! topic. Here is the bench.

use std::fs;

use tempfile::TempDir;
use vsmtp_config::{FilterSlice, Value};
use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::wire::Piece;
use vsmtp_mail::{Address, BodyType, Notify, QueueIdMint, ReversePath};

use super::*;
use crate::policy::tests::{peer, slice};
use crate::process::content::Inline;
use crate::transaction::{MailSpec, Transaction};

mod delegation;
mod failures;
mod folders;
mod messages;
mod report;
mod results;
mod status;
mod terms;
mod triage;

const MESSAGE: &[u8] = b"Received: x\r\nSubject: hi\r\n\r\nbody\r\n";

#[derive(Debug)]
struct Bench {
    judge: Judge,
    shared: Shared,
    _dir: TempDir,
}

fn load(script: &str, set: &[(&str, Value)]) -> Result<(Judge, TempDir), ScriptError> {
    load_on(script, set, &Surroundings::default())
}

fn load_on(
    script: &str,
    set: &[(&str, Value)],
    host: &Surroundings,
) -> Result<(Judge, TempDir), ScriptError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("filter.vsl"), script).unwrap();
    let slice = FilterSlice {
        config_dir: dir.path().display().to_string(),
        filter_path: dir.path().join("filter.vsl").display().to_string(),
        timeout: Duration::from_secs(5),
        ..slice(set)
    };
    Judge::load(&slice, host).map(|judge| (judge, dir))
}

fn bench(script: &str) -> Bench {
    bench_with(script, &[])
}

fn bench_with(script: &str, set: &[(&str, Value)]) -> Bench {
    bench_on(script, set, &Surroundings::default())
}

fn bench_on(script: &str, set: &[(&str, Value)], host: &Surroundings) -> Bench {
    let (judge, dir) = load_on(script, set, host).unwrap_or_else(|error| panic!("{script}: {error}"));
    let transaction = Transaction::new(Arc::new(peer(Some("203.0.113.5"))), judge.max_recipients);
    Bench { judge, shared: Shared::new(transaction), _dir: dir }
}

impl Bench {
    fn begin(&self) -> Decision {
        self.begin_as("a@client.test")
    }

    fn begin_as(&self, sender: &str) -> Decision {
        self.shared.lock().helo = Some("client.test".into());
        self.shared.lock().begin(MailSpec {
            reverse_path: ReversePath::parse(sender).unwrap(),
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            demands: vsmtp_mail::Demands::default(),
            wishes: vsmtp_mail::Wishes::default(),
            at_ms: 0,
        });
        self.judge.command(&self.shared, Stage::Mail)
    }

    fn rcpt(&self, to: &str) -> String {
        let spec =
            RcptSpec { address: Address::parse(to).unwrap(), original: None, notify: Notify::default() };
        show(&self.judge.recipient(&self.shared, spec))
    }

    fn message(&self, bytes: &[u8]) -> Judged {
        let content: Arc<dyn crate::transaction::Content> = Arc::new(Inline(Arc::new(bytes.to_vec())));
        let id = QueueIdMint::new(1, 1).next(1);
        self.judge.message(&self.shared, Source { id, content: Some(content) })
    }

    fn recipients(&self) -> String {
        let all =
            self.shared.lock().recipients.iter().map(|r| r.spec.address.to_string()).collect::<Vec<_>>();
        all.join(" ")
    }
}

fn show(decision: &Decision) -> String {
    match decision {
        Decision::Accept(None) => "accept".to_owned(),
        Decision::Accept(Some(reply)) => format!("accept {reply}"),
        Decision::Refuse(reply) => format!("refuse {}", reply.code()),
        Decision::Close(reply) => format!("close {}", reply.code()),
    }
}

/// The only message that was made of it.
fn only(judged: Judged) -> Stored {
    match judged {
        Judged::Store { mut messages, .. } if messages.len() == 1 => messages.remove(0),
        other => panic!("{}", show_message(&other)),
    }
}

fn show_message(judged: &Judged) -> String {
    match judged {
        Judged::Answer(decision) => show(decision),
        Judged::Store { messages, .. } => {
            let show = |stored: &Stored| {
                let (to, pieces) = (stored.envelope.recipients.len(), stored.pieces.len());
                format!("{:?} {to} recipients {pieces} pieces", stored.disposition)
            };
            messages.iter().map(show).collect::<Vec<_>>().join(" + ")
        }
    }
}
