//! How rules reach the runner of commands.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use vsmtp_config::Command;
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::filter_runner::{Answer, Ask, CREDITS, Declared, Ended, MAX_INPUT, Refused};
use vsmtp_sys::memfd::{Growing, Sealed};

use super::inquiry::{Door, Inquiry};
use crate::object::Fault;
use crate::runner::{Given, Input, Runner};

/// How much longer than the command may run a rule waits: for a place, and for the news of the end.
const GRACE: Duration = Duration::from_secs(5);

/// The edge to the runner.
pub enum Running {}

/// What a rule asks.
pub struct Wanted {
    command: Declared,
    arguments: Option<Vec<String>>,
    input: Option<Sealed>,
}

impl Inquiry for Running {
    type Asked = Wanted;
    type Heard = Result<Ended, Refused>;
    type Question = Ask;
    type Answer = Answer;
    const EDGE: EdgeId = EdgeId::FilterRunner;
    const CREDITS: u32 = CREDITS;
    // Nobody knows how far it has come, and a command must not run twice for one message.
    const ASKS_AGAIN: bool = false;

    fn question(wanted: &Wanted, ticket: u64, left: Duration) -> Ask {
        Ask {
            ticket,
            command: wanted.command.clone(),
            arguments: wanted.arguments.clone(),
            input: wanted.input.as_ref().map(Sealed::len),
            left_ms: milliseconds(left),
        }
    }

    fn descriptors(wanted: &Wanted) -> io::Result<Vec<OwnedFd>> {
        wanted.input.iter().map(|input| input.try_clone().map(Sealed::into_fd)).collect()
    }

    fn heard(answer: Answer) -> (u64, Result<Ended, Refused>) {
        (answer.ticket, answer.result)
    }
}

impl Runner for Door<Running> {
    fn run(&self, command: &Command, given: Given) -> Result<Ended, Fault> {
        let Command { program, arguments, timeout, fixed } = command;
        let did_not_run = |why: &str| Fault(format!("the command {program} did not run: {why}"));
        let input = given.input.map(|input| {
            if input.size() > MAX_INPUT {
                return Err(did_not_run(&format!("its input is larger than {MAX_INPUT} bytes")));
            }
            sealed(&input).map_err(|error| did_not_run(&error.to_string()))
        });
        let wanted = Wanted {
            command: Declared {
                program: program.clone(),
                arguments: arguments.clone(),
                timeout_ms: milliseconds(*timeout),
                fixed: *fixed,
            },
            arguments: given.arguments,
            input: input.transpose()?,
        };
        match Door::ask(self, vec![wanted], timeout.saturating_add(GRACE)).pop().flatten() {
            Some(Ok(ended)) => Ok(ended),
            Some(Err(Refused::NotDeclared)) => Err(did_not_run(
                "it is not declared so; a command is declared by being made while scripts are loaded, outside rules and \
                 functions, or in filter.commands",
            )),
            Some(Err(Refused::Busy)) => Err(did_not_run("as many run as may")),
            Some(Err(Refused::Failed(why))) => Err(did_not_run(&why)),
            None => Err(Fault(format!("the command {program} did not end in time, or could not be run"))),
        }
    }
}

/// The input as the command reads it. What it is made of is given up when this returns.
fn sealed(input: &Input) -> io::Result<Sealed> {
    let mut file = Growing::create(c"input", MAX_INPUT)?;
    input.hand_over(|part| file.append(part))?;
    file.seal()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
