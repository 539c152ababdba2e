//! What the runner of commands is told.

use bincode::{Decode, Encode};

use crate::command::Command;
use crate::config::Config;

/// What the runner of commands is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RunnerSlice {
    /// What it may run, and nothing else.
    pub commands: Vec<Command>,
    /// Most programs at once.
    pub at_once: u32,
}

impl Config {
    /// What the runner of commands is told.
    pub fn runner(&self) -> RunnerSlice {
        let mut commands: Vec<Command> = Vec::new();
        for (_, command) in &self.filter.commands {
            if !commands.contains(command) {
                commands.push(command.clone());
            }
        }
        RunnerSlice { commands, at_once: self.filter.commands_at_once }
    }
}
