//! The way to the runner of commands, as rules use it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use vsmtp_config::Command;
use vsmtp_ipc::edge::filter_runner::Ended;

use crate::object::Fault;
use crate::transaction::Content;

/// Octets of a message that are in memory at once while it is handed over.
const PART: usize = 256 << 10;

/// What a rule gives to a command that it has run.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Arguments in place of those declared.
    pub arguments: Option<Vec<String>>,
    /// Its standard input; `None`: there is nothing to read.
    pub input: Option<Input>,
}

/// The standard input of a command.
#[derive(Debug, Clone)]
pub enum Input {
    /// These octets.
    Bytes(Vec<u8>),
    /// A message, which is read when it is handed over, part by part.
    Message {
        /// The header, with the empty line.
        header: Vec<u8>,
        /// The message as it came.
        content: Arc<dyn Content>,
        /// Where its body begins.
        body: u64,
    },
}

impl Input {
    /// Octets of it.
    pub fn size(&self) -> u64 {
        match self {
            Input::Bytes(bytes) => bytes.len() as u64,
            Input::Message { header, content, body } => {
                (header.len() as u64).saturating_add(content.len().saturating_sub(*body))
            }
        }
    }

    /// Hands it over from the beginning to the end.
    ///
    /// # Errors
    /// `take` fails, or the message cannot be read or ends too early: half of it must not pass for all.
    pub fn hand_over(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Input::Bytes(bytes) => take(bytes),
            Input::Message { header, content, body } => {
                take(header)?;
                let mut at = *body;
                while at < content.len() {
                    let part = content.read(at, PART)?;
                    if part.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    take(&part)?;
                    at += part.len() as u64;
                }
                Ok(())
            }
        }
    }
}

/// Why a command did not run, or why nobody knows how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRun {
    /// As many run and wait as may: a matter of the moment, and no mistake of anybody.
    Busy(Fault),
    /// Anything else.
    Failed(Fault),
}

impl From<Fault> for NotRun {
    fn from(fault: Fault) -> Self {
        NotRun::Failed(fault)
    }
}

/// Has commands run. Blocks the rule that asks, and hands the loop on before.
pub trait Runner: fmt::Debug + Send + Sync {
    /// A script has made this command.
    fn declare(&self, _: &Command) {}
    /// Runs it and waits for its end.
    ///
    /// # Errors
    /// It did not run, or nobody could wait for its end.
    fn run(&self, command: &Command, given: Given) -> Result<Ended, NotRun>;
}

/// No runner.
#[derive(Debug)]
pub struct NoRunner;

impl Runner for NoRunner {
    fn run(&self, command: &Command, _: Given) -> Result<Ended, NotRun> {
        Err(Fault(format!("the command {} did not run: nothing can be run here", command.program)).into())
    }
}

/// Takes note of the commands that scripts make while they are loaded, and runs none.
#[derive(Debug, Default)]
pub struct Collector(Mutex<Vec<Command>>);

impl Collector {
    /// Each of them once, in the order in which they were made.
    pub fn commands(&self) -> Vec<Command> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Runner for Collector {
    fn declare(&self, command: &Command) {
        let mut commands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !commands.contains(command) {
            commands.push(command.clone());
        }
    }

    fn run(&self, command: &Command, given: Given) -> Result<Ended, NotRun> {
        NoRunner.run(command, given)
    }
}
