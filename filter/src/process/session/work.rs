//! What threads do outside the loop's lock: run rules on one transaction. A panic costs that question a 451.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vsmtp_mail::Reply;

use super::seats::Key;
use crate::judge::{Decision, Judge, Judged, Source, cannot_tell, local_error};
use crate::stage::Stage;
use crate::transaction::{MailSpec, RcptSpec, Shared};

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
}

impl Question {
    fn of(work: &Work) -> Self {
        match work {
            Work::Stages(_) | Work::Mail(..) => Question::Command,
            Work::Authenticate(_) => Question::Authenticate,
            Work::Recipients(_, asked) => Question::Recipients(asked.len()),
            Work::Message(_) => Question::Message,
        }
    }

    fn failure(self) -> Outcome {
        let refused = Decision::Refuse(local_error());
        match self {
            Question::Command => Outcome::Decided(refused),
            Question::Authenticate => Outcome::Authenticated(Decision::Refuse(cannot_tell())),
            Question::Recipients(number) => Outcome::Recipients(vec![refused; number]),
            Question::Message => Outcome::Judged(Judged::Answer(refused)),
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
    }
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
    if let Err(reply) = judge.policy.admit_sender(&spec.reverse_path, &peer) {
        return Decision::Refuse(reply);
    }
    shared.lock().begin(spec);
    let decision = run_stages(judge, shared, mail);
    if !matches!(decision, Decision::Accept(_)) {
        shared.lock().reset();
    }
    decision
}
