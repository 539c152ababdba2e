//! The runner's binary, jailed as ever, between a scripted master and scripted filters.
#![forbid(unsafe_code)]

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use vsmtp_config::{Command, RunnerSlice};
use vsmtp_ipc::edge::filter_runner::{Answer, Ask, CREDITS, Declared, Ended, FilterEnd, MAX_OUTPUT, Refused};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId, encode};
use vsmtp_stage::{PATIENCE, Process, configure, next};
use vsmtp_sys::memfd::Sealed;

const SESSION: ProcessName = ProcessName { role: Role::FilterSession, instance: 0 };

struct Stage {
    process: Process,
}

fn shell(timeout_ms: u64, fixed: bool) -> Declared {
    Declared {
        program: "sh".to_owned(),
        arguments: vec!["-c".to_owned(), "cat; echo declared".to_owned()],
        timeout_ms,
        fixed,
    }
}

impl Stage {
    fn start(commands: &[Declared]) -> Stage {
        Stage::with(commands, 8)
    }

    fn with(commands: &[Declared], at_once: u32) -> Stage {
        let command = |declared: &Declared| Command {
            program: declared.program.clone(),
            arguments: declared.arguments.clone(),
            timeout: Duration::from_millis(declared.timeout_ms),
            fixed: declared.fixed,
        };
        let slice = RunnerSlice { commands: commands.iter().map(command).collect(), at_once };
        let configure = configure(Role::Runner, encode(&slice).unwrap());
        let mut process = Process::start(env!("CARGO_BIN_EXE_vsmtp-runner"), &[], configure);
        process.hear_master(|said| matches!(said, ToMaster::Ready));
        Stage { process }
    }

    fn filter(&mut self) -> FilterEnd {
        FilterEnd::new(self.process.introduce(SESSION), EdgeId::FilterRunner)
    }
}

fn ask(ticket: u64, command: Declared, arguments: Option<&[&str]>) -> Ask {
    let arguments = arguments.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
    Ask { ticket, command, arguments, input: None, left_ms: 60_000 }
}

fn say(filter: &mut FilterEnd, ask: &Ask, descriptors: Vec<OwnedFd>) {
    vsmtp_stage::say(filter, ask, descriptors);
}

fn ended(filter: &mut FilterEnd, ticket: u64) -> Ended {
    let answer = next(filter).unwrap().message;
    assert_eq!(answer.ticket, ticket);
    answer.result.unwrap()
}

#[test]
fn a_command_runs_with_what_it_is_given() {
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    say(&mut filter, &ask(1, shell(60_000, false), None), Vec::new());
    let end = ended(&mut filter, 1);
    assert_eq!((end.code, end.signal, end.stdout.as_slice()), (Some(0), None, &b"declared\n"[..]));
    let input = vec![b'x'; 100_000];
    let sealed = Sealed::create(c"input", &[IoSlice::new(&input)]).unwrap();
    let with_input = Ask {
        input: Some(100_000),
        ..ask(2, shell(60_000, false), Some(&["-c", "wc -c; echo \"$0\" >&2; exit 7", "$(id)"]))
    };
    say(&mut filter, &with_input, vec![sealed.into_fd()]);
    let end = ended(&mut filter, 2);
    assert_eq!(
        (end.code, end.stdout.as_slice(), end.stderr.as_slice()),
        (Some(7), &b"100000\n"[..], &b"$(id)\n"[..])
    );
    // Nobody waits for it any longer than it is said.
    let short =
        Ask { left_ms: 200, ..ask(3, shell(60_000, false), Some(&["-c", "sleep 1000 & sleep 1000"])) };
    say(&mut filter, &short, Vec::new());
    let end = ended(&mut filter, 3);
    assert_eq!((end.code, end.signal, end.timed_out), (None, Some(9), true));
    say(&mut filter, &ask(4, shell(60_000, false), Some(&["-c", "exec yes"])), Vec::new());
    let end = ended(&mut filter, 4);
    assert_eq!(
        (end.signal, end.timed_out, end.truncated, end.stdout.len()),
        (Some(9), false, true, MAX_OUTPUT)
    );
    // What it leaves running is ended with it, and its pipe with that.
    say(&mut filter, &ask(5, shell(60_000, false), Some(&["-c", "sleep 1000 & echo left"])), Vec::new());
    assert_eq!(ended(&mut filter, 5).stdout, b"left\n");
}

#[test]
fn what_is_not_declared_does_not_run_and_nonsense_costs_the_edge() {
    let missing = Declared { program: "/nowhere/program".to_owned(), ..shell(1000, false) };
    let mut stage = Stage::start(&[shell(1000, true), missing.clone()]);
    let mut filter = stage.filter();
    let asks = [
        ask(1, shell(1000, false), None),
        ask(2, shell(2000, true), None),
        ask(3, shell(1000, true), Some(&["-c", "id"])),
        ask(4, Declared { program: "/bin/sh".to_owned(), ..shell(1000, true) }, None),
    ];
    for ask in asks {
        say(&mut filter, &ask, Vec::new());
        assert_eq!(
            next(&mut filter).unwrap().message,
            Answer { ticket: ask.ticket, result: Err(Refused::NotDeclared) }
        );
    }
    say(&mut filter, &ask(5, missing, None), Vec::new());
    assert!(matches!(next(&mut filter).unwrap().message.result, Err(Refused::Failed(_))));
    say(&mut filter, &Ask { left_ms: 0, ..ask(6, shell(1000, true), None) }, Vec::new());
    assert_eq!(next(&mut filter).unwrap().message.result, Err(Refused::Busy));
    // An input that is not what was said.
    let sealed = Sealed::create(c"input", &[IoSlice::new(b"text")]).unwrap();
    say(&mut filter, &Ask { input: Some(5), ..ask(7, shell(1000, true), None) }, vec![sealed.into_fd()]);
    assert!(matches!(next(&mut filter), Err(ChannelError::Closed)));
    stage.process.hear_master(|said| matches!(said, ToMaster::Misbehaved(SESSION)));
    // More at once than there are credits.
    let mut filter = stage.filter();
    for ticket in 0..=u64::from(CREDITS) {
        filter.send(&ask(ticket, shell(1000, true), None), Vec::new()).unwrap();
    }
    let _ = filter.flush().unwrap();
    while next(&mut filter).is_ok() {}
    stage.process.hear_master(|said| matches!(said, ToMaster::Misbehaved(SESSION)));
}

#[test]
fn an_edge_that_ends_takes_its_commands_with_it_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun");
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    let script = format!("touch {}; exec sleep 86398", begun.display());
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", &script])), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait("it has begun", &|| begun.exists());
    wait("it sleeps", &|| is_asleep("86398"));
    drop(filter);
    let mut other = stage.filter();
    say(&mut other, &ask(2, shell(60_000, false), None), Vec::new());
    assert_eq!(ended(&mut other, 2).code, Some(0));
    wait("it is gone", &|| !is_asleep("86398"));
}

#[test]
fn no_more_run_at_once_than_may_and_they_are_the_first_to_go_when_memory_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("place").display().to_string();
    let mut stage = Stage::with(&[shell(60_000, false)], 1);
    let mut filter = stage.filter();
    // Two at once would find the place taken.
    let script = "mkdir \"$0\" || exit 1; sleep 0.1; rmdir \"$0\"; cat /proc/self/oom_score_adj";
    for ticket in 0..4 {
        say(&mut filter, &ask(ticket, shell(60_000, false), Some(&["-c", script, &place])), Vec::new());
    }
    for ticket in 0..4 {
        let end = ended(&mut filter, ticket);
        assert_eq!((end.code, end.stdout.as_slice()), (Some(0), &b"1000\n"[..]), "{end:?}");
    }
}

#[test]
fn what_makes_a_session_of_its_own_ends_with_its_command_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun").display().to_string();
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    // The inner one is a stray only when the outer one is gone.
    let inner = "setsid sleep 127.5 & touch \"$0\"; exec sleep 127.5";
    let script = format!("setsid sh -c '{inner}' \"$0\" & while [ ! -e \"$0\" ]; do sleep 0.02; done");
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", &script, &begun])), Vec::new());
    assert_eq!(ended(&mut filter, 1).code, Some(0));
    let deadline = Instant::now() + PATIENCE;
    while is_asleep("127.5") {
        assert!(Instant::now() < deadline, "it outlives its command");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Some process sleeps for this time, which one test alone uses.
fn is_asleep(time: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| line == format!("sleep\0{time}\0").as_bytes())
}
