//! Runs the rules of a stage on a transaction and says what the client is to be told. It decides what a status means;
//! it sends nothing. A rule that fails never lets a message through: the operator chose 451 or 554 for that.

mod delegation;
mod ground;
mod message;
mod post;
mod report;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::Level;
use rhai::Engine;
use vsmtp_config::{FilterSlice, OnError};
use vsmtp_daemon::Record;
use vsmtp_mail::{EnhancedCode, Reply};

use crate::api::Surroundings;
use crate::csv::Databases;
use crate::deposit::Deposit;
use crate::engine::{self, Directive, DirectiveKind, Failure, LoadedScript, ScriptError, Watch};
use crate::files::Folder;
use crate::places::Party;
use crate::plugins::Plugins;
use crate::policy::Policy;
use crate::stage::Stage;
use crate::status::{Delegated, Status};
use crate::transaction::{RcptSpec, Shared};
use crate::triage::{Part, Scripts};

pub use delegation::{ResumeAt, not_expected};
pub(crate) use ground::Ground;
pub use message::{Judged, Source, Stored};
pub use post::{Edit, PostJudged, PostMessage};

use report::ReportSigner;

/// Most scripts that judge the recipients of one message; each may make a message of its own of it, body and all. A client
/// sends the rest again in a transaction of its own, as with too many recipients.
const MAX_PARTS: usize = 8;

/// A rule that runs longer hands the event loop on.
const SLOW_AFTER: Duration = Duration::from_millis(1);

/// All that judging needs, made once per generation of the configuration.
#[derive(Debug)]
pub struct Judge {
    engine: Engine,
    scripts: Scripts,
    /// Lists and tables of the rules.
    lists: Arc<Folder>,
    /// Tables that rules keep.
    databases: Arc<Databases>,
    /// What rules write.
    deposit: Arc<Deposit>,
    /// Native plugins of the process.
    pub plugins: Arc<Plugins>,
    /// The policy without rules.
    pub policy: Policy,
    on_error: OnError,
    timeout: Duration,
    /// Most recipients of one message.
    pub max_recipients: usize,
    /// Largest header, in octets.
    pub max_header: u64,
    failures: AtomicU64,
    /// Our own addresses at which services bring messages back.
    receivers: Vec<SocketAddr>,
    /// There are rules for messages in the queue.
    judges_later: bool,
    /// Signs reports of ours; `None`: nobody does.
    reports: Option<ReportSigner>,
    /// Called when a rule runs for a while, before it may delay others.
    pub on_slow: fn(),
    /// Who hears of each directive; nobody where mail is judged.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Folders that rules reach while they run; `None`: no rule needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folders<'a> {
    /// That of the configuration, with files that are looked at again when they have changed.
    pub watched: Option<&'a Path>,
    /// That of the tables that rules keep.
    pub kept: Option<&'a Path>,
    /// That of the files that rules write.
    pub written: Option<&'a Path>,
}

/// Hears of each directive as it has run.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// The rules of a stage are about to run.
    fn begins(&self, shared: &Shared);
    /// One has run.
    fn ran(
        &self,
        shared: &Shared,
        stage: Stage,
        script: &str,
        result: Result<&Status, &Failure>,
        of: &Directive,
    );
}

/// What the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on, with the usual reply or this one.
    Accept(Option<Reply>),
    /// Say this; the session goes on.
    Refuse(Reply),
    /// Say this and close.
    Close(Reply),
}

impl Judge {
    /// Loads the rules and makes the policy of a slice. Reads files, so it must run where the configuration can be read.
    pub fn load(slice: &FilterSlice, surroundings: &Surroundings) -> Result<Self, ScriptError> {
        let Ground { engine, root, path, folder, surroundings, .. } = Ground::of(slice, surroundings)?;
        let _watch = Watch::until(Instant::now() + slice.timeout);
        let script = match path {
            Some(path) => engine::load(&engine, &root, &path)?,
            None => LoadedScript::empty("built-in policy"),
        };
        let mut scripts = Scripts::new(script);
        if let Some(folder) = folder {
            scripts.load_domains(&engine, &root, &folder)?;
        }
        surroundings.databases.close();
        if root.writes() {
            surroundings.deposit.open();
        }
        let judges_later = [Stage::Postq, Stage::Delivery].into_iter().any(|stage| scripts.want(stage));
        let receivers =
            scripts.delegates().filter_map(|one| one.service.as_ref()).map(|to| to.receiver).collect();
        Ok(Judge {
            engine,
            receivers,
            scripts,
            judges_later,
            reports: slice.report_signature.as_ref().map(|said| ReportSigner::new(said, &surroundings)),
            lists: Arc::clone(&surroundings.folder),
            databases: Arc::clone(&surroundings.databases),
            deposit: Arc::clone(&surroundings.deposit),
            plugins: Arc::clone(&surroundings.plugins),
            policy: Policy::new(slice),
            on_error: slice.on_error,
            timeout: slice.timeout,
            max_recipients: slice.rcpt_count_max as usize,
            max_header: slice.header_size_limit,
            failures: AtomicU64::new(0),
            on_slow: || {},
            observer: None,
        })
    }

    /// The folders that rules reach while they run: their jail must let them.
    pub fn folders(&self) -> Folders<'_> {
        Folders { watched: self.lists.watched(), kept: self.databases.used(), written: self.deposit.opened() }
    }

    /// Rules that failed or were stopped so far.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Directives that give messages to services, of anybody's rules.
    pub fn delegates(&self) -> impl Iterator<Item = &Arc<Directive>> {
        self.scripts.delegates()
    }

    /// True if the stage has rules, of anybody.
    pub fn wants(&self, stage: Stage) -> bool {
        self.scripts.want(stage)
    }

    /// Runs the rules of a stage, unless an earlier verdict of the transaction stands.
    pub fn run(&self, shared: &Shared, stage: Stage) -> Status {
        {
            let mut transaction = shared.lock();
            transaction.stage = stage;
            if let Some(status) = transaction.standing_verdict() {
                return status.clone();
            }
        }
        let status = self.run_or_fail(shared, stage).0;
        if status.is_sticky() {
            // Its reply is that to this command, not to all that follow.
            let kept = match &status {
                Status::FinalAccept(_) => Status::FinalAccept(None),
                other => other.clone(),
            };
            let mut transaction = shared.lock();
            // Anybody can write a handled sender: what its domain waives is not waived for the recipients of another.
            let is_hearsay = matches!(transaction.part, Part::Outgoing(_))
                && matches!(kept, Status::FinalAccept(_))
                && !self.policy.is_trusted(&transaction.peer);
            if is_hearsay {
                transaction.keep_verdict_of_part(kept);
            } else {
                transaction.keep_verdict(kept);
            }
        }
        status
    }

    /// The first status that is not `next`, and whether it stands for a rule that failed.
    fn run_or_fail(&self, shared: &Shared, stage: Stage) -> (Status, bool) {
        let part = shared.lock().part.clone();
        let Some(script) = self.scripts.of(&part) else {
            return (Scripts::without_script(&part, stage), false);
        };
        if script.stage(stage).is_empty() {
            return (Status::Next, false);
        }
        // A rule may have caught it, in this message or in one before.
        let party = {
            let mut transaction = shared.lock();
            transaction.was_busy = false;
            Party::of(transaction.peer.client.map(|(ip, _)| ip))
        };
        let now = Instant::now();
        let _watch = Watch::with_slow_hook(now + self.timeout, now + SLOW_AFTER, self.on_slow, party);
        if let Some(observer) = &self.observer {
            observer.begins(shared);
        }
        let resume = shared.lock().resume.take_if(|resume| resume.stage == stage);
        let (first, returned) = Self::first(script.stage(stage), resume.as_ref(), shared);
        let mut tag = shared.tag();
        for (at, directive) in script.stage(stage).iter().enumerate().skip(first) {
            if let Some(delegated) = self.delegated(directive, returned == Some(at)) {
                return (delegated, false);
            }
            let result = directive.call(&self.engine, &mut tag);
            if let Some(observer) = &self.observer {
                observer.ran(shared, stage, script.name(), result.as_ref(), directive);
            }
            match result {
                Ok(Status::Next) => {}
                Ok(status) => {
                    let script = (part != Part::Root).then(|| script.name());
                    Self::note(shared, stage, script, &directive.name, &status);
                    return (status, false);
                }
                Err(failure) => return (self.failed(shared, stage, &failure), true),
            }
        }
        (Status::Next, false)
    }

    /// With which directive of a stage to begin, and which one a service has had the message for.
    fn first(
        directives: &[Arc<Directive>],
        resume: Option<&ResumeAt>,
        shared: &Shared,
    ) -> (usize, Option<usize>) {
        let Some(resume) = resume else { return (0, None) };
        let is_it =
            |one: &Arc<Directive>| one.kind == DirectiveKind::Delegate && one.name == resume.directive;
        match directives.iter().position(is_it) {
            Some(at) if resume.skip => (at + 1, None),
            Some(at) => (at, Some(at)),
            None => {
                Record::at(Level::Warn, "delegate-gone")
                    .maybe("id", shared.lock().id)
                    .field("stage", resume.stage)
                    .field("directive", &resume.directive)
                    .emit();
                (0, None)
            }
        }
    }

    /// What a directive that delegates says before a service has had the message. Where rules are only tried there is no
    /// service, and it counts as if it had returned the message as it is.
    fn delegated(&self, directive: &Directive, has_returned: bool) -> Option<Status> {
        let service = directive.service.as_ref().filter(|_| !has_returned && self.observer.is_none())?;
        let delegated = Delegated { directive: directive.name.as_str().into(), service: Arc::clone(service) };
        Some(Status::Delegated(Box::new(delegated)))
    }

    /// One line for a status that ends a stage; `script` unless it is the root's.
    fn note(shared: &Shared, stage: Stage, script: Option<&str>, directive: &str, status: &Status) {
        let level = if matches!(status, Status::Accept(_)) { Level::Debug } else { Level::Info };
        if !log::log_enabled!(level) {
            return;
        }
        let transaction = shared.lock();
        let reply = match status {
            Status::Deny(reply) | Status::Reject(reply) => Some(reply),
            _ => None,
        };
        Record::at(level, "rule")
            .field("stage", stage)
            .maybe("script", script)
            .field("directive", directive)
            .field("status", status.name())
            .field("client", &transaction.client_ip)
            .maybe("id", transaction.id)
            .maybe("reply", reply)
            .emit();
    }

    /// One line with file, line, stage and directive, and the operator's reply for our own faults.
    fn failed(&self, shared: &Shared, stage: Stage, failure: &Failure) -> Status {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut transaction = shared.lock();
        Record::at(Level::Error, "script-failed")
            .field("at", &failure.error.location)
            .field("stage", stage)
            .field("directive", &failure.directive.name)
            .field("error", &failure.error.message)
            .field("client", &transaction.client_ip)
            .maybe("id", transaction.id)
            .emit();
        let was_busy = std::mem::take(&mut transaction.was_busy);
        match self.on_error {
            OnError::Defer => Status::Reject(local_error()),
            OnError::Deny if was_busy => Status::Reject(local_error()),
            OnError::Deny => {
                Status::Deny(Reply::fixed(554, EnhancedCode(5, 3, 0), "Local error in processing"))
            }
        }
    }

    /// The stages connect, helo and mail.
    pub fn command(&self, shared: &Shared, stage: Stage) -> Decision {
        if self.brings_back(&shared.lock().peer) {
            return Decision::Accept(None);
        }
        {
            let mut transaction = shared.lock();
            let path = transaction.mail.as_ref().map(|mail| mail.reverse_path.clone());
            transaction.sender =
                path.filter(|_| stage == Stage::Mail).and_then(|path| self.scripts.sender(&path));
            transaction.part = Scripts::part_of_sender(transaction.sender.as_ref());
        }
        let status = self.run(shared, stage);
        if stage < Stage::Mail {
            shared.lock().keep_for_session();
        }
        match (status, stage) {
            (Status::Accept(Some(reply)) | Status::FinalAccept(Some(reply)), Stage::Connect) => {
                Decision::Accept(self.greeting(&reply))
            }
            // An answer to EHLO carries the extensions; a rule's text cannot stand in for it.
            (Status::Accept(Some(reply)) | Status::FinalAccept(Some(reply)), Stage::Mail) => {
                Decision::Accept(Some(reply))
            }
            (
                Status::Next
                | Status::Accept(_)
                | Status::FinalAccept(_)
                | Status::Quarantine(_)
                | Status::Delegated(_),
                _,
            ) => Decision::Accept(None),
            // There is nothing to stay in: a greeting that refuses ends the session (RFC 5321 3.1).
            (Status::Reject(reply) | Status::Deny(reply), Stage::Connect) => {
                Decision::Close(unwelcome(reply))
            }
            (Status::Reject(reply), _) => Decision::Refuse(reply),
            (Status::Deny(reply), _) => Decision::Close(reply),
        }
    }

    /// The stage authenticate. Only a rule that accepts lets the client in; where there is none, whoever has checked the
    /// password has decided. A verdict holds for this question alone.
    pub fn authenticate(&self, shared: &Shared) -> Decision {
        {
            let mut transaction = shared.lock();
            transaction.stage = Stage::Authenticate;
            transaction.part = Part::Root;
        }
        if !self.wants(Stage::Authenticate) {
            return Decision::Accept(None);
        }
        match self.run_or_fail(shared, Stage::Authenticate) {
            (Status::Accept(_) | Status::FinalAccept(_), false) => Decision::Accept(None),
            (Status::Reject(reply), false) if reply.code() == CANNOT_TELL => Decision::Refuse(reply),
            _ => Decision::Refuse(wrong_credentials()),
        }
    }

    /// A greeting with a rule's text: it must be 220 and begin with our name.
    fn greeting(&self, reply: &Reply) -> Option<Reply> {
        let text = reply.lines().collect::<Vec<_>>().join("\n");
        Reply::new(220, None, &format!("{} {text}", self.policy.server_name())).ok()
    }

    /// One RCPT: the rules, then the built-in policy. Of one that is refused nothing is remembered.
    pub fn recipient(&self, shared: &Shared, spec: RcptSpec) -> Decision {
        if self.brings_back(&shared.lock().peer) {
            return Self::returning_recipient(shared, spec);
        }
        let waited = shared.lock().waited();
        let decision = self.decide_recipient(shared, spec);
        if !matches!(decision, Decision::Accept(_)) {
            shared.lock().forget_waited(waited);
        }
        decision
    }

    fn decide_recipient(&self, shared: &Shared, spec: RcptSpec) -> Decision {
        let address = spec.address.clone();
        let may_open = {
            let mut transaction = shared.lock();
            let is_trusted = self.policy.is_trusted(&transaction.peer);
            let sender = transaction.sender.as_ref();
            transaction.part = self.scripts.part_of_recipient(sender, is_trusted, address.domain());
            let parts = transaction.parts();
            if parts.len() >= MAX_PARTS && !parts.contains(&transaction.part) {
                let why = "Too many domains for one message, send it again for the others";
                return Decision::Refuse(Reply::fixed(452, EnhancedCode(4, 5, 3), why));
            }
            if transaction.add_client_recipient(spec).is_err() {
                return Decision::Refuse(Reply::fixed(452, EnhancedCode(4, 5, 3), "Too many recipients"));
            }
            // The rules for what a domain sends open no relay to whoever writes its name as the sender.
            let is_hearsay = !is_trusted && matches!(transaction.part, Part::Outgoing(_));
            transaction.standing_verdict().is_none() && !is_hearsay
        };
        let status = self.run(shared, Stage::Rcpt);
        let accepted = may_open && matches!(status, Status::Accept(_) | Status::FinalAccept(_));
        let decision = match status {
            Status::Accept(Some(reply)) | Status::FinalAccept(Some(reply)) => Decision::Accept(Some(reply)),
            Status::Next
            | Status::Accept(_)
            | Status::FinalAccept(_)
            | Status::Quarantine(_)
            | Status::Delegated(_) => Decision::Accept(None),
            Status::Reject(reply) => Decision::Refuse(reply),
            Status::Deny(reply) => Decision::Close(reply),
        };
        let mut transaction = shared.lock();
        if !matches!(decision, Decision::Accept(_)) {
            transaction.remove_recipient(&address);
            return decision;
        }
        // A rule that removed or rewrote the recipient has decided about it.
        let still_theirs = transaction.position(&address).and_then(|at| transaction.recipients.get(at));
        if still_theirs.is_none_or(|entry| entry.by_rule) {
            return decision;
        }
        let peer = Arc::clone(&transaction.peer);
        match self.policy.admit(&address, &peer, accepted) {
            Ok(_) => decision,
            Err(reply) => {
                transaction.remove_recipient(&address);
                Decision::Refuse(reply)
            }
        }
    }
}

/// The reply code for a password that nobody can check now (RFC 4954 6).
const CANNOT_TELL: u16 = 454;

/// What a client hears whose password nobody can check now.
pub fn cannot_tell() -> Reply {
    Reply::fixed(CANNOT_TELL, EnhancedCode(4, 7, 0), "Temporary authentication failure")
}

/// What a client hears whom the rules do not accept.
pub fn wrong_credentials() -> Reply {
    Reply::fixed(535, EnhancedCode(5, 7, 8), "Authentication credentials invalid")
}

/// What a client hears of our own faults.
pub fn local_error() -> Reply {
    Reply::fixed(451, EnhancedCode(4, 3, 0), "Local error in processing")
}

/// A greeting may be 220 or 554, and 421 is allowed anywhere (RFC 5321 4.2.3, 4.3.2).
fn unwelcome(reply: Reply) -> Reply {
    if !reply.is_transient() {
        return reply;
    }
    let text = reply.lines().collect::<Vec<_>>().join("\n");
    Reply::new(421, reply.enhanced(), &text).unwrap_or(reply)
}

#[cfg(test)]
mod tests;
