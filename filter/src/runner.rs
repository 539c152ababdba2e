//! The way to the runner of commands, as rules use it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use vsmtp_config::Command;
use vsmtp_ipc::edge::filter_runner::Ended;

use crate::object::Fault;

/// What a rule gives to a command that it has run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// Arguments in place of those declared.
    pub arguments: Option<Vec<String>>,
    /// Its standard input; `None`: there is nothing to read.
    pub input: Option<Vec<u8>>,
}

/// Has commands run. Blocks the rule that asks, and hands the loop on before.
pub trait Runner: fmt::Debug + Send + Sync {
    /// A script has made this command.
    fn declare(&self, _: &Command) {}
    /// Runs it and waits for its end.
    ///
    /// # Errors
    /// It did not run, or nobody could wait for its end.
    fn run(&self, command: &Command, given: Given) -> Result<Ended, Fault>;
}

/// No runner.
#[derive(Debug)]
pub struct NoRunner;

impl Runner for NoRunner {
    fn run(&self, command: &Command, _: Given) -> Result<Ended, Fault> {
        Err(Fault(format!("the command {} did not run: nothing can be run here", command.program)))
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

    fn run(&self, command: &Command, given: Given) -> Result<Ended, Fault> {
        NoRunner.run(command, given)
    }
}
