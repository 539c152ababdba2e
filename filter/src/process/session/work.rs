//! What threads do outside the loop's lock: run rules on one transaction, and read files. A panic costs that question a 451.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vsmtp_ipc::wire::CHUNK;
use vsmtp_mail::Reply;
use vsmtp_sys::memfd::Sealed;

use super::queue::CopyOf;
use super::seats::Key;
use crate::judge::{Decision, Judge, Judged, Source, cannot_tell, local_error};
use crate::process::cede;
use crate::process::content::Staged;
use crate::stage::Stage;
use crate::transaction::{Content, MailSpec, RcptSpec, Shared};

/// A question to be judged.
pub struct Job {
    pub key: Key,
    pub judge: Arc<Judge>,
    pub shared: Shared,
    pub work: Work,
    /// Since when it waits, in monotonic milliseconds.
    pub since_ms: u64,
}

/// What is asked.
pub enum Work {
    /// Rules of the session.
    Stages(Vec<Stage>),
    /// Rules of the session that are due, then those of authenticate.
    Authenticate(Vec<Stage>),
    /// A transaction begins.
    Mail(MailSpec, Vec<Stage>),
    /// Recipients; the transaction begins with them if MAIL was not asked.
    Recipients(Option<(MailSpec, Vec<Stage>)>, Vec<Result<RcptSpec, Reply>>),
    /// The message.
    Message(Source),
    /// No rule: the next piece of a copy is read from a large body's file, which may wait for the disk.
    Copy(Arc<Staged>, CopyOf),
}

/// A job's result.
pub struct Done {
    pub key: Key,
    pub outcome: Outcome,
}

/// What was found.
pub enum Outcome {
    Decided(Decision),
    Authenticated(Decision),
    Recipients(Vec<Decision>),
    Judged(Judged),
    /// A sealed piece of the body and its length.
    Copied(CopyOf, io::Result<(OwnedFd, u64)>),
}

/// Runs a job.
pub fn run(job: Job) -> Done {
    let key = job.key;
    let question = Question::of(&job.work);
    let outcome = catch_unwind(AssertUnwindSafe(|| judge(job))).unwrap_or_else(|_| {
        log::error!("event=judge-panicked session={}", key.session);
        question.failure()
    });
    Done { key, outcome }
}

/// What kind of answer a job owes, for when the job itself is lost.
#[derive(Clone, Copy)]
enum Question {
    Command,
    Authenticate,
    Recipients(usize),
    Message,
    Copy(CopyOf),
}

impl Question {
    fn of(work: &Work) -> Self {
        match work {
            Work::Stages(_) | Work::Mail(..) => Question::Command,
            Work::Authenticate(_) => Question::Authenticate,
            Work::Recipients(_, asked) => Question::Recipients(asked.len()),
            Work::Message(_) => Question::Message,
            Work::Copy(_, of) => Question::Copy(*of),
        }
    }

    fn failure(self) -> Outcome {
        let refused = Decision::Refuse(local_error());
        match self {
            Question::Command => Outcome::Decided(refused),
            Question::Authenticate => Outcome::Authenticated(Decision::Refuse(cannot_tell())),
            Question::Recipients(number) => Outcome::Recipients(vec![refused; number]),
            Question::Message => Outcome::Judged(Judged::Answer(refused)),
            Question::Copy(of) => Outcome::Copied(of, Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// The answer to a question that could not be judged.
pub fn failure(work: &Work) -> Outcome {
    Question::of(work).failure()
}

fn judge(job: Job) -> Outcome {
    let Job { judge, shared, work, .. } = job;
    match work {
        Work::Stages(stages) => Outcome::Decided(run_stages(&judge, &shared, stages)),
        Work::Authenticate(stages) => {
            let greeted = run_stages(&judge, &shared, stages);
            let accepted = matches!(greeted, Decision::Accept(_));
            Outcome::Authenticated(if accepted { judge.authenticate(&shared) } else { greeted })
        }
        Work::Mail(spec, stages) => Outcome::Decided(begin(&judge, &shared, spec, stages)),
        Work::Recipients(begins, asked) => {
            let begun =
                begins.map_or(Decision::Accept(None), |(spec, stages)| begin(&judge, &shared, spec, stages));
            if !matches!(begun, Decision::Accept(_)) {
                return Outcome::Recipients(asked.iter().map(|_| begun.clone()).collect());
            }
            Outcome::Recipients(
                asked
                    .into_iter()
                    .map(|rcpt| match rcpt {
                        Ok(spec) => judge.recipient(&shared, spec),
                        Err(reply) => Decision::Refuse(reply),
                    })
                    .collect(),
            )
        }
        Work::Message(source) => Outcome::Judged(judge.message(&shared, source)),
        Work::Copy(staged, of) => Outcome::Copied(of, chunk_of_file(&staged, of.end)),
    }
}

/// A sealed piece of a large body's file, and its length.
fn chunk_of_file(staged: &Staged, offset: u64) -> io::Result<(OwnedFd, u64)> {
    // The disk may be slow.
    cede();
    let bytes = staged.read(offset, CHUNK)?;
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let sealed = Sealed::create(c"chunk", &[IoSlice::new(&bytes)])?;
    Ok((sealed.into_fd(), bytes.len() as u64))
}

/// The last stage's answer, or the first refusal.
fn run_stages(judge: &Judge, shared: &Shared, stages: Vec<Stage>) -> Decision {
    let mut decision = Decision::Accept(None);
    for stage in stages {
        decision = judge.command(shared, stage);
        if !matches!(decision, Decision::Accept(_)) {
            break;
        }
    }
    decision
}

/// Session rules that are due, then the transaction, then its own rules.
fn begin(judge: &Judge, shared: &Shared, spec: MailSpec, stages: Vec<Stage>) -> Decision {
    let (session, mail): (Vec<Stage>, Vec<Stage>) =
        stages.into_iter().partition(|stage| *stage < Stage::Mail);
    let greeted = run_stages(judge, shared, session);
    if !matches!(greeted, Decision::Accept(_)) {
        return greeted;
    }
    let peer = Arc::clone(&shared.lock().peer);
    if !judge.brings_back(&peer)
        && let Err(reply) = judge.policy.admit_sender(&spec.reverse_path, &peer)
    {
        return Decision::Refuse(reply);
    }
    shared.lock().begin(spec);
    let decision = run_stages(judge, shared, mail);
    if !matches!(decision, Decision::Accept(_)) {
        shared.lock().reset();
    }
    decision
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::api::Surroundings;
    use crate::policy::tests::{peer, slice};
    use crate::transaction::Transaction;

    #[test]
    fn a_job_reads_the_pieces_of_a_copy() {
        let judge = Arc::new(Judge::load(&slice(&[]), &Surroundings::default()).unwrap());
        let body = [vec![b'a'; CHUNK], vec![b'b'; 10]].concat();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&body).unwrap();
        let staged = Arc::new(Staged { file: file.into(), len: body.len() as u64 });
        let id = |number| vsmtp_mail::QueueIdMint::new(1, 1).next(number).into();
        let read = |end| {
            let of = CopyOf { copy: id(1), original: id(2), end };
            let shared = Shared::new(Transaction::new(Arc::new(peer(None)), 10));
            let work = Work::Copy(Arc::clone(&staged), of);
            let key = Key { token: 1, session: 1 };
            match run(Job { key, judge: Arc::clone(&judge), shared, work, since_ms: 0 }).outcome {
                Outcome::Copied(of, chunk) if of.end == end => chunk,
                _ => panic!("another answer"),
            }
        };
        for (end, piece) in [(0, &body[..CHUNK]), (CHUNK as u64, &body[CHUNK..])] {
            let (descriptor, len) = read(end).unwrap();
            assert_eq!(Sealed::verify(descriptor, len).unwrap().read_all(CHUNK as u64).unwrap(), piece);
        }
        assert!(read(body.len() as u64).is_err());
    }
}
