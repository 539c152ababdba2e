//! How rules reach the runner of commands.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use vsmtp_config::Command;
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::filter_runner::{Answer, Ask, CREDITS, Declared, Ended, MAX_INPUT, Refused};
use vsmtp_sys::memfd::{Growing, Sealed};

use super::inquiry::{Door, Inquiry, NoRoom};
use crate::engine::hand_on;
use crate::object::Fault;
use crate::runner::{Given, Input, NotRun, Runner};

/// How much longer than the command may run a rule waits: for a place, and for the news of the end.
const GRACE: Duration = Duration::from_secs(5);

/// What is said of a command that the configuration does not declare.
const NOT_DECLARED: &str = "it is not declared so; a command is declared by being made while scripts are loaded, outside \
                            rules and functions, or in filter.commands";

/// What rules run commands through. Where none is declared there is no runner, and nobody who would refuse.
pub fn way(door: Arc<Door<Running>>, has_commands: bool) -> Arc<dyn Runner> {
    if has_commands { door } else { Arc::new(NoneDeclared) }
}

#[derive(Debug)]
struct NoneDeclared;

impl Runner for NoneDeclared {
    fn run(&self, command: &Command, _: Given) -> Result<Ended, NotRun> {
        Err(did_not_run(command, NOT_DECLARED).into())
    }
}

fn did_not_run(command: &Command, why: &str) -> Fault {
    Fault(format!("the command {} did not run: {why}", command.program))
}

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
    fn run(&self, command: &Command, given: Given) -> Result<Ended, NotRun> {
        let Command { program, arguments, timeout, fixed } = command;
        let did_not_run = |why: &str| did_not_run(command, why);
        // A large input is read from the disk: others need not wait with it.
        hand_on();
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
        let busy = || NotRun::Busy(did_not_run("too many commands run at the moment"));
        let answers = self.ask_if_room(vec![wanted], timeout.saturating_add(GRACE));
        match answers.map_err(|NoRoom| busy())?.pop().flatten() {
            Some(Ok(ended)) => Ok(ended),
            Some(Err(Refused::NotDeclared)) => Err(did_not_run(NOT_DECLARED).into()),
            Some(Err(Refused::Busy)) => Err(busy()),
            Some(Err(Refused::Failed(why))) => Err(did_not_run(&why).into()),
            // It did not come to its turn in time, or nobody is left who could tell: not for ever.
            None => Err(NotRun::Busy(did_not_run("it had no turn in time, or the runner is gone"))),
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

#[cfg(test)]
mod tests {
    use super::super::inquiry::Inquiries;
    use super::*;

    fn command() -> Command {
        Command {
            program: "scan".to_owned(),
            arguments: Vec::new(),
            timeout: Duration::from_secs(20),
            fixed: false,
        }
    }

    #[test]
    fn where_nothing_is_declared_a_command_is_refused_at_once() {
        let began = std::time::Instant::now();
        let questions = Inquiries::<Running>::new();
        questions.wake_by(Arc::new(|| {}));
        let refused = way(questions.door(), false).run(&command(), Given::default()).unwrap_err();
        assert!(format!("{refused:?}").contains("it is not declared so"), "{refused:?}");
        assert!(began.elapsed() < command().timeout, "nobody was waited for");
    }

    #[test]
    fn who_finds_no_place_is_told_so_at_once() {
        let questions = Inquiries::<Running>::new();
        questions.leave_room(1);
        let (woken, asked) = std::sync::mpsc::channel();
        questions.wake_by(Arc::new(move || {
            let _ = woken.send(());
        }));
        let door = questions.door();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| door.run(&command(), Given::default()));
            asked.recv_timeout(Duration::from_secs(15)).unwrap();
            let second = door.run(&command(), Given::default());
            assert!(
                matches!(&second, Err(NotRun::Busy(fault)) if fault.0.contains("too many commands run")),
                "{second:?}"
            );
            // Nobody is left who could answer the first.
            drop(questions);
            assert!(matches!(first.join().unwrap(), Err(NotRun::Busy(_))), "never a refusal for ever");
        });
    }
}
