//! What each directive did: its verdict, what it changed, what it logged.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vsmtp_ipc::edge::ctl_filter::Step;
use vsmtp_mail::Terms;

use super::diff;
use crate::engine::{Directive, Failure};
use crate::judge::Observer;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{Shared, Transaction};

/// Most steps that are kept.
const MAX_STEPS: usize = 10_000;

/// Takes the lines that were logged since the last time.
pub type LogLines = fn() -> Vec<String>;

/// Keeps what it hears.
pub struct Recorder {
    log: LogLines,
    kept: Mutex<Recording>,
}

#[derive(Default)]
struct Recording {
    before: Snapshot,
    steps: Vec<Step>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// With nothing heard.
    pub fn new(log: LogLines) -> Self {
        Recorder { log, kept: Mutex::default() }
    }

    /// The steps so far.
    pub fn steps(&self) -> Vec<Step> {
        self.lock().steps.clone()
    }

    /// Forgets all.
    pub fn clear(&self) {
        *self.lock() = Recording::default();
        (self.log)();
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Recorder {
    fn begins(&self, shared: &Shared) {
        self.lock().before = Snapshot::of(&shared.lock());
        (self.log)();
    }

    fn ran(
        &self,
        shared: &Shared,
        stage: Stage,
        script: &str,
        result: Result<&Status, &Failure>,
        of: &Directive,
    ) {
        let after = Snapshot::of(&shared.lock());
        let (verdict, reply) = match result {
            Ok(status) => (status.name(), said(status)),
            Err(failure) => ("failed", Some(failure.error.to_string())),
        };
        let mut recording = self.lock();
        let step = Step {
            stage: stage.name().to_owned(),
            script: script.to_owned(),
            kind: of.kind.name().to_owned(),
            directive: of.name.to_string(),
            line: u32::try_from(of.location.line).unwrap_or(u32::MAX),
            verdict: verdict.to_owned(),
            reply,
            changes: recording.before.changes(&after),
            log: (self.log)(),
        };
        if recording.steps.len() < MAX_STEPS {
            recording.steps.push(step);
        }
        recording.before = after;
    }
}

/// What a status has to say beside its name.
pub(super) fn said(status: &Status) -> Option<String> {
    match status {
        Status::Next => None,
        Status::Accept(reply) | Status::FinalAccept(reply) => reply.as_ref().map(ToString::to_string),
        Status::Reject(reply) | Status::Deny(reply) => Some(reply.to_string()),
        Status::Quarantine(name) => Some(name.to_string()),
        Status::Delegated(to) => Some(to.service.to_string()),
    }
}

/// What rules can change.
#[derive(Default)]
pub(super) struct Snapshot {
    sender: String,
    recipients: Vec<(String, Option<String>)>,
    header: Vec<u8>,
    hold: Option<Box<str>>,
    terms: Terms,
    is_quiet: bool,
    /// To whom, and about what.
    notices: Vec<(String, String)>,
}

impl Snapshot {
    /// As it is now.
    pub(super) fn of(transaction: &Transaction) -> Self {
        let hop = |entry: &crate::transaction::Entry| entry.transport.as_ref().map(ToString::to_string);
        Snapshot {
            sender: transaction.mail.as_ref().map(|mail| mail.reverse_path.to_string()).unwrap_or_default(),
            recipients: transaction
                .recipients
                .iter()
                .map(|entry| (entry.spec.address.to_string(), hop(entry)))
                .collect(),
            header: transaction.header.to_bytes(),
            hold: transaction.hold.clone(),
            terms: transaction.terms.clone(),
            is_quiet: transaction.is_quiet,
            notices: transaction
                .notices
                .iter()
                .map(|notice| (notice.to.clone(), notice.subject.clone()))
                .collect(),
        }
    }

    /// What has changed since, one change each.
    pub(super) fn changes(&self, after: &Snapshot) -> Vec<String> {
        let mut changes = Vec::new();
        if self.sender != after.sender {
            changes.push(format!("sender <{}> becomes <{}>", self.sender, after.sender));
        }
        let is_in = |list: &[(String, Option<String>)], to: &str| list.iter().any(|(other, _)| other == to);
        for (to, _) in self.recipients.iter().filter(|(to, _)| !is_in(&after.recipients, to)) {
            changes.push(format!("recipient <{to}> removed"));
        }
        for (to, hop) in &after.recipients {
            if !is_in(&self.recipients, to) {
                changes.push(format!("recipient <{to}> added"));
            }
            let before =
                self.recipients.iter().find(|(other, _)| other == to).and_then(|(_, hop)| hop.as_ref());
            if let Some(hop) = hop.as_ref().filter(|hop| Some(*hop) != before) {
                changes.push(format!("recipient <{to}> goes to {hop}"));
            }
        }
        changes.extend(
            diff::lines(&self.header, &after.header).into_iter().map(|line| format!("header {line}")),
        );
        match (&self.hold, &after.hold) {
            (before, Some(reason)) if before.as_ref() != Some(reason) => {
                changes.push(format!("held {reason}").trim_end().to_owned());
            }
            (Some(_), None) => changes.push("not held any more".to_owned()),
            _ => {}
        }
        if self.terms.priority != after.terms.priority {
            changes.push(format!("priority {}", after.terms.priority.number()));
        }
        if let Some(time_s) =
            after.terms.not_before_s.filter(|_| self.terms.not_before_s != after.terms.not_before_s)
        {
            changes.push(format!("not before {}", vsmtp_mail::Rfc5322Date(time_s).rfc3339()));
        }
        if let Some(lifetime_s) =
            after.terms.lifetime_s.filter(|_| self.terms.lifetime_s != after.terms.lifetime_s)
        {
            changes.push(format!("expires after {lifetime_s} s"));
        }
        self.said_changes(after, &mut changes);
        changes
    }

    /// What is said about the message, to whom.
    fn said_changes(&self, after: &Snapshot, changes: &mut Vec<String>) {
        if self.terms.report_text != after.terms.report_text {
            changes.push(match &after.terms.report_text {
                Some(text) => format!("reports say {text:?}"),
                None => "reports say what they usually say".to_owned(),
            });
        }
        if let Some(from) =
            after.terms.report_from.as_ref().filter(|from| self.terms.report_from.as_ref() != Some(*from))
        {
            changes.push(format!("reports come from <{from}>"));
        }
        if after.is_quiet && !self.is_quiet {
            changes.push("reports suppressed".to_owned());
        }
        // Rules only add to them.
        for (to, subject) in after.notices.iter().skip(self.notices.len()) {
            changes.push(format!("notice to <{to}>: {subject}"));
        }
    }
}
