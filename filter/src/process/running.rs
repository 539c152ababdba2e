//! How rules reach the runner of commands.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Most octets of standard inputs that wait for their commands' ends, of all rules of a filter.
const MAX_INPUTS: u64 = 256 << 20;

/// What is said of a command that the configuration does not declare.
const NOT_DECLARED: &str = "it is not declared so; a command is declared by being made while scripts are loaded, outside \
                            rules and functions, or in filter.commands";

/// What is said where all places are taken, or all that a network may have.
const TOO_MANY: &str = "too many commands run at the moment";
/// What is said where the runner starts none for now: why is in its log, if it is not for want of a place.
const NOT_NOW: &str = "too many commands run at the moment, or the host lacks what one more needs";
/// What is said where too many octets wait already.
const TOO_MUCH: &str = "too much is given to commands at the moment";

/// What rules run commands through. Where none is declared there is no runner, and nobody who would refuse.
pub fn way(door: Arc<Door<Running>>, has_commands: bool) -> Arc<dyn Runner> {
    if has_commands { Arc::new(Commands { door, inputs: Inputs::default() }) } else { Arc::new(NoneDeclared) }
}

/// The way to the runner, with what is on it.
#[derive(Debug)]
struct Commands {
    door: Arc<Door<Running>>,
    inputs: Inputs,
}

/// Octets of inputs that are in memory.
#[derive(Debug, Default)]
struct Inputs(AtomicU64);

/// The octets of one input, as long as it is in memory.
struct Held<'a>(&'a AtomicU64, u64);

impl Inputs {
    /// Room for so many octets, if there is any.
    fn hold(&self, octets: u64) -> Option<Held<'_>> {
        let more = |held: u64| held.checked_add(octets).filter(|all| *all <= MAX_INPUTS);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Held(&self.0, octets))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
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

impl Runner for Commands {
    fn run(&self, command: &Command, given: Given) -> Result<Ended, NotRun> {
        let Command { program, arguments, timeout, fixed } = command;
        let did_not_run = |why: &str| did_not_run(command, why);
        let busy = |why: &str| NotRun::Busy(did_not_run(why));
        let Given { arguments: own, input } = given;
        let octets = input.as_ref().map_or(0, Input::size);
        if octets > MAX_INPUT {
            return Err(did_not_run(&format!("its input is larger than {MAX_INPUT} bytes")).into());
        }
        // A large input is read from the disk: others need not wait with it.
        hand_on();
        let mut held = None;
        let wanted = || {
            held = Some(self.inputs.hold(octets).ok_or_else(|| busy(TOO_MUCH))?);
            let input = input.as_ref().map(sealed).transpose();
            // The message is there and small enough: it is the host that lacks something.
            let input = input.map_err(|error| busy(&error.to_string()))?;
            let command = Declared {
                program: program.clone(),
                arguments: arguments.clone(),
                timeout_ms: milliseconds(*timeout),
                fixed: *fixed,
            };
            Ok::<_, NotRun>(vec![Wanted { command, arguments: own, input }])
        };
        let answers = self.door.prepare_and_ask(timeout.saturating_add(GRACE), wanted);
        match answers.map_err(|NoRoom| busy(TOO_MANY))??.pop().flatten() {
            Some(Ok(ended)) => Ok(ended),
            Some(Err(Refused::NotDeclared)) => Err(did_not_run(NOT_DECLARED).into()),
            Some(Err(Refused::Busy)) => Err(busy(NOT_NOW)),
            Some(Err(Refused::Failed(why))) => Err(did_not_run(&why).into()),
            // It did not come to its turn in time, or nobody is left who could tell: not for ever.
            None => Err(busy("it had no turn in time, or the runner is gone")),
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
        let door = way(questions.door(), true);
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

    /// A message that says when it is read.
    #[derive(Debug)]
    struct Told(std::sync::Mutex<std::sync::mpsc::Sender<()>>);

    impl crate::transaction::Content for Told {
        fn len(&self) -> u64 {
            1000
        }

        fn read(&self, _: u64, len: usize) -> io::Result<Vec<u8>> {
            let _ = self.0.lock().unwrap().send(());
            Ok(vec![b'x'; len.min(1000)])
        }
    }

    /// A message that cannot be read at the moment.
    #[derive(Debug)]
    struct Unreadable;

    impl crate::transaction::Content for Unreadable {
        fn len(&self) -> u64 {
            1000
        }

        fn read(&self, _: u64, _: usize) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn an_input_that_cannot_be_had_is_no_refusal_for_ever() {
        let questions = Inquiries::<Running>::new();
        questions.wake_by(Arc::new(|| {}));
        let door = way(questions.door(), true);
        let input = Input::Message { header: Vec::new(), content: Arc::new(Unreadable), body: 0 };
        let refused = door.run(&command(), Given { input: Some(input), arguments: None });
        assert!(matches!(refused, Err(NotRun::Busy(_))), "{refused:?}");
    }

    #[test]
    fn an_input_is_not_read_before_there_is_a_place_and_all_inputs_together_are_bounded() {
        let questions = Inquiries::<Running>::new();
        questions.leave_room(1);
        let (woken, asked) = std::sync::mpsc::channel();
        questions.wake_by(Arc::new(move || {
            let _ = woken.send(());
        }));
        let door = way(questions.door(), true);
        let (told, reads) = std::sync::mpsc::channel();
        let content = Arc::new(Told(std::sync::Mutex::new(told)));
        let given = || Given {
            input: Some(Input::Message { header: Vec::new(), content: content.clone(), body: 0 }),
            arguments: None,
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| door.run(&command(), given()));
            asked.recv_timeout(Duration::from_secs(15)).unwrap();
            assert_eq!(reads.try_iter().count(), 1);
            assert!(matches!(door.run(&command(), given()), Err(NotRun::Busy(_))));
            assert_eq!(reads.try_iter().count(), 0, "it has no place, so it is not read");
            drop(questions);
            assert!(first.join().unwrap().is_err());
        });
        let inputs = Inputs::default();
        let held: Vec<_> = std::iter::from_fn(|| inputs.hold(MAX_INPUT)).collect();
        assert_eq!(held.len() as u64, MAX_INPUTS / MAX_INPUT);
        drop(held);
        assert!(inputs.hold(MAX_INPUTS).is_some());
    }
}
