//! The runner's binary, jailed as ever, between a scripted master and scripted filters.
#![forbid(unsafe_code)]

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use vsmtp_config::{Command, RunnerSlice};
use vsmtp_ipc::edge::filter_runner::{Answer, Ask, CREDITS, Declared, Ended, FilterEnd, MAX_OUTPUT, Refused};
use vsmtp_ipc::edge::master_child::{ToChild, ToMaster};
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
    let time = own_time(86398);
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", &format!("exec sleep {time}")])), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait("it sleeps", &|| is_asleep(&time));
    drop(filter);
    let mut other = stage.filter();
    say(&mut other, &ask(2, shell(60_000, false), None), Vec::new());
    assert_eq!(ended(&mut other, 2).code, Some(0));
    wait("it is gone", &|| !is_asleep(&time));
}

#[test]
fn no_more_run_at_once_than_may_and_they_are_the_first_to_go_when_memory_is_short() {
    let mut stage = Stage::with(&[shell(60_000, false)], 1);
    let mut filter = stage.filter();
    let script =
        "cat /proc/self/oom_score_adj; cut -d' ' -f1 /proc/uptime; sleep 0.1; cut -d' ' -f1 /proc/uptime";
    for ticket in 0..4 {
        say(&mut filter, &ask(ticket, shell(60_000, false), Some(&["-c", script])), Vec::new());
    }
    let mut last = 0.0;
    for ticket in 0..4 {
        let end = ended(&mut filter, ticket);
        let text = String::from_utf8(end.stdout).unwrap();
        let [score, begun, over] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!((end.code, score), (Some(0), "1000"));
        // None begins before the one before it is over.
        assert!(begun.parse::<f64>().unwrap() >= last, "{text}, {last}");
        last = over.parse().unwrap();
    }
}

#[test]
fn what_the_host_lacks_for_now_is_no_fault_of_the_command() {
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    let runner = stage.process.child.pid;
    let limits = std::fs::read_to_string(format!("/proc/{runner}/limits")).unwrap();
    let before = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let before = before.split_whitespace().next().unwrap();
    let permit = |descriptors: &str| {
        let mut prlimit = std::process::Command::new("prlimit");
        let prlimit = prlimit.args(["--pid", &runner.to_string(), &format!("--nofile={descriptors}:")]);
        assert!(prlimit.status().unwrap().success());
    };
    say(&mut filter, &ask(1, shell(60_000, false), None), Vec::new());
    assert_eq!(ended(&mut filter, 1).code, Some(0));
    permit("3");
    say(&mut filter, &ask(2, shell(60_000, false), None), Vec::new());
    assert_eq!(next(&mut filter).unwrap().message, Answer { ticket: 2, result: Err(Refused::Busy) });
    permit(before);
    say(&mut filter, &ask(3, shell(60_000, false), None), Vec::new());
    assert_eq!(ended(&mut filter, 3).code, Some(0));
}

#[test]
fn a_runner_whose_folder_is_gone_says_busy_and_makes_room_for_another() {
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    let script = "cd $TMPDIR/.. && pwd";
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", script])), Vec::new());
    let folder = String::from_utf8(ended(&mut filter, 1).stdout).unwrap();
    assert!(folder.contains("/vsmtp-runner."), "{folder}");
    let folder = std::path::Path::new(folder.trim());
    wait_until("its own use of it is over", || folder.read_dir().unwrap().next().is_none());
    std::fs::remove_dir(folder).unwrap();
    say(&mut filter, &ask(2, shell(60_000, false), None), Vec::new());
    assert_eq!(next(&mut filter).unwrap().message.result, Err(Refused::Busy));
    assert!(matches!(next(&mut filter), Err(ChannelError::Closed)));
    stage.process.logged("event=folder-lost");
}

#[test]
fn a_runner_that_ends_leaves_no_folder() {
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", "cd $TMPDIR/.. && pwd"])), Vec::new());
    let folder = String::from_utf8(ended(&mut filter, 1).stdout).unwrap();
    let folder = std::path::Path::new(folder.trim());
    assert!(folder.is_absolute() && folder.exists(), "{folder:?}");
    stage.process.tell(&ToChild::Drain { deadline_ms: 15_000 }, Vec::new());
    drop(filter);
    wait_until("it is removed", || !folder.exists());
}

/// The kernel can keep programs apart: Linux 6.12 and later, with Landlock.
fn has_domains() -> bool {
    vsmtp_sys::sandbox::Domain::prepare(&[]).unwrap().has_fence()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_makes_a_session_of_its_own_ends_with_its_command_all_the_same() {
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    if has_domains() {
        // Another command, which runs all the time.
        say(&mut filter, &ask(9, shell(60_000, false), Some(&["-c", "exec sleep 1000"])), Vec::new());
    }
    // The inner one is a stray only when the outer one is gone.
    let time = own_time(127);
    let inner = format!("setsid sleep {time} & touch $TMPDIR/begun; exec sleep {time}");
    let script = format!("setsid sh -c '{inner}' & while [ ! -e $TMPDIR/begun ]; do sleep 0.02; done");
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", &script])), Vec::new());
    assert_eq!(ended(&mut filter, 1).code, Some(0));
    wait_until("nothing outlives its command", || !is_asleep(&time));
}

#[test]
fn nothing_outlives_a_runner_that_is_killed() {
    if !has_domains() {
        return;
    }
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    let (fled, kept) = (own_time(128), own_time(129));
    let script = format!("setsid sleep {fled} & exec sleep {kept}");
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", &script])), Vec::new());
    wait_until("both sleep", || is_asleep(&fled) && is_asleep(&kept));
    stage.process.child.signal(9).unwrap();
    wait_until("both are gone", || !is_asleep(&fled) && !is_asleep(&kept));
}

#[test]
fn a_command_has_a_folder_of_its_own_and_nothing_of_it_is_left() {
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    let script = "mkdir -p $TMPDIR/a/b && echo text >$TMPDIR/a/b/file && cat $HOME/a/b/file && chmod 0 $TMPDIR/a && \
                  printf %s $TMPDIR >&2";
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", script])), Vec::new());
    let end = ended(&mut filter, 1);
    assert_eq!((end.code, end.stdout.as_slice()), (Some(0), &b"text\n"[..]), "{end:?}");
    let folder = std::path::PathBuf::from(String::from_utf8(end.stderr).unwrap());
    assert!(folder.is_absolute());
    wait_until("it is removed", || !folder.exists());
    if !has_domains() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    for folder in [place.path(), std::path::Path::new("/tmp"), std::path::Path::new("/var/tmp")] {
        let script = format!("( : >{}/vsmtp-runner-file ) 2>/dev/null", folder.display());
        say(&mut filter, &ask(2, shell(60_000, false), Some(&["-c", &script])), Vec::new());
        assert_ne!(ended(&mut filter, 2).code, Some(0), "{}", folder.display());
    }
}

#[test]
fn commands_neither_see_nor_disturb_each_other() {
    if !has_domains() {
        return;
    }
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    let sealed = Sealed::create(c"input", &[IoSlice::new(b"secret")]).unwrap();
    let time = own_time(86397);
    let script = format!("echo secret >$TMPDIR/file; exec sleep {time}");
    let first = Ask { input: Some(6), ..ask(1, shell(60_000, false), Some(&["-c", &script])) };
    say(&mut filter, &first, vec![sealed.into_fd()]);
    wait_until("it sleeps", || is_asleep(&time));
    let pid = sleeper(&time).unwrap();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let folder = environment.split(|octet| *octet == 0).find_map(|pair| pair.strip_prefix(b"TMPDIR="));
    let folder = String::from_utf8(folder.unwrap().to_vec()).unwrap();
    let runner = stage.process.child.pid;
    // Whoever reaches anything says so.
    let script = format!(
        "exec 2>/dev/null; cat /proc/{pid}/fd/0; cat /proc/{pid}/environ; ls /proc/{pid}/cwd/; cat {folder}/file; \
         for of in {pid} {runner} $PPID; do ( : </proc/$of/mem ) && echo memory; readlink /proc/$of/fd/0 /proc/$of/exe; cat /proc/$of/maps; done; \
         for of in {pid} {runner} $PPID; do prlimit --pid $of --nofile=4:4 && echo limits; done; \
         for of in {pid} {runner} $PPID; do renice -n 19 -p $of; taskset -p 1 $of >/dev/null && echo pinned; ionice -c 3 -p $of && echo input; done; \
         ls {folder}/..; ( echo x >{folder}/file ) && echo wrote; rm {folder}/file && echo removed; \
         ( : >{folder}/new ) && echo made; \
         for other in {pid} {runner} $PPID; do kill -KILL $other && echo killed; done; ls /tmp; ls /var/tmp; echo end"
    );
    say(&mut filter, &ask(2, shell(60_000, false), Some(&["-c", &script])), Vec::new());
    let end = ended(&mut filter, 2);
    assert_eq!(String::from_utf8_lossy(&end.stdout), "end\n", "{end:?}");
    assert_eq!(std::fs::read(format!("{folder}/file")).unwrap(), b"secret\n");
    assert!(is_asleep(&time));
}

#[test]
fn a_command_that_closes_the_folder_of_all_ends_no_other_and_nothing_is_left() {
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    let time = own_time(86396);
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", &format!("exec sleep {time}")])), Vec::new());
    wait_until("it sleeps", || is_asleep(&time));
    let script = "mkdir -p $TMPDIR/a/b && echo text >$TMPDIR/a/b/file && cd $TMPDIR/.. && pwd && \
                  chmod 0 $TMPDIR/a $TMPDIR && chmod 0 .";
    let mut path = String::new();
    for ticket in 2..5 {
        say(&mut filter, &ask(ticket, shell(60_000, false), Some(&["-c", script])), Vec::new());
        let end = ended(&mut filter, ticket);
        assert_eq!(end.code, Some(0), "{end:?}");
        path = String::from_utf8(end.stdout).unwrap();
    }
    assert!(is_asleep(&time));
    let folder = std::path::Path::new(path.trim());
    stage.process.tell(&ToChild::Drain { deadline_ms: 15_000 }, Vec::new());
    drop(filter);
    wait_until("it is removed", || !folder.exists());
    let log = stage.process.log();
    assert!(!log.contains("event=folder-"), "{log}");
}

#[test]
fn a_command_has_bounds_of_memory_and_of_files() {
    let mut stage = Stage::start(&[shell(60_000, false)]);
    let mut filter = stage.filter();
    let script = "grep -E '^Max (address space|file size|core)' /proc/self/limits | grep -oE '[0-9]+ +[0-9]+' | tr -s ' '";
    say(&mut filter, &ask(1, shell(60_000, false), Some(&["-c", script])), Vec::new());
    let text = String::from_utf8(ended(&mut filter, 1).stdout).unwrap();
    assert_eq!(text, "1073741824 1073741824\n0 0\n4294967296 4294967296\n");
}

/// A time to sleep for about so many seconds, which nobody else sleeps: not even the same test of another run.
fn own_time(seconds: u32) -> String {
    format!("{seconds}.{:07}", std::process::id())
}

/// Some process sleeps for this time, which one test alone uses.
fn is_asleep(time: &str) -> bool {
    sleeper(time).is_some()
}

/// The number of the process that does so.
fn sleeper(time: &str) -> Option<String> {
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    let wanted = format!("sleep\0{time}\0");
    let sleeps = |path: std::path::PathBuf| {
        std::fs::read(path.join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    };
    let found = processes.find(|process| sleeps(process.path()))?;
    found.file_name().into_string().ok()
}
