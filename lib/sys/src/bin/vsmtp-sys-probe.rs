//! A program that shows from the inside what a launch and a sandbox have left it. Tests start it; nobody installs it.
//!
//! Its standard output is a protocol of lines `key<TAB>value`. Exit code 0 means that it got to the end.

use std::error::Error;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, mpsc};
use std::{env, fs, thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vsmtp_sys::report::Report;
use vsmtp_sys::sandbox::{
    self, Allow, BASE, BODIES, Denied, Limits, PathGrant, Profile, Rights, Rule, THREADS, Tcp, probe,
};
use vsmtp_sys::signals::Signals;
use vsmtp_sys::{clock, fds, memfd, random, seqpacket, spawn};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// File calls for the Landlock part, so that what refuses is Landlock and not the table.
const FILES: &[Rule] = &[
    Allow("openat", "probing Landlock"),
    Allow("mkdirat", "probing Landlock"),
    Allow("mkdir", "probing Landlock"),
    Allow("unlinkat", "probing Landlock"),
    Allow("unlink", "probing Landlock"),
    Allow("execve", "probing Landlock"),
    Allow("socket", "probing Landlock"),
    Allow("bind", "probing Landlock"),
    Allow("connect", "probing Landlock"),
    Allow("kill", "probing Landlock"),
    Allow("statx", "probing Landlock"),
    Allow("ftruncate", "probing Landlock"),
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["report"] => report(),
        ["acts"] => attempt_all(),
        ["acts", "base"] => confine(base()).and_then(|()| attempt_all()),
        ["work"] => confine(base()).and_then(|()| work()),
        ["early-thread"] => early_thread(),
        ["kill", act] => confine(Profile { on_denied: Denied::Kill, ..base() }).and_then(|()| attempt(act)),
        ["abort"] => confine(base()).map(|()| std::process::abort()),
        ["panic"] => confine(base()).and_then(|()| panic()),
        ["limits"] => limits(),
        ["landlock", directory] => landlock(directory.into()),
        ["sleep"] => sleep(),
        ["children"] => children(),
        ["close-from", keep] => close_strays(keep.parse()),
        ["old-calls"] => confine(base()).map(|()| old_call()),
        _ => Err("unknown mode".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say("error", &error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn say(key: &str, value: &str) {
    // A probe without an output has nothing to prove.
    let _ = io::stdout().write_all(format!("{key}\t{value}\n").as_bytes());
}

fn base() -> Profile {
    Profile {
        daemon: "probe",
        syscalls: vec![BASE, THREADS, BODIES],
        on_denied: Denied::Errno,
        landlock: Vec::new(),
        landlock_tcp: Tcp::None,
        limits: Limits { nofile: Some(64), ..Limits::default() },
    }
}

fn confine(profile: Profile) -> Outcome {
    let applied = sandbox::apply(&profile)?;
    say("landlock", &format!("{:?}", applied.landlock));
    say("threads", &applied.threads.to_string());
    Ok(())
}

fn attempt_all() -> Outcome {
    probe::acts().for_each(|act| say(act.name(), &answer(act.attempt())));
    Ok(())
}

fn attempt(name: &str) -> Outcome {
    let act = probe::acts().find(|act| act.name() == name).ok_or("no such act")?;
    say(name, &answer(act.attempt()));
    Ok(())
}

/// 0 or the error number.
fn answer<T>(result: io::Result<T>) -> String {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0).to_string()
}

/// Who and where this process is, as the kernel tells.
fn report() -> Outcome {
    let report = Report::of(std::process::id().try_into()?)?;
    let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    say("uids", &numbers(&report.uids));
    say("gids", &numbers(&report.gids));
    say("groups", &numbers(&report.groups));
    say("no_new_privs", &format!("{:?}", report.no_new_privs));
    say("capabilities", &format!("{:?}", report.capabilities));
    say("args", &env::args().collect::<Vec<_>>().join(" "));
    say("env", &env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "));
    say("directory", &env::current_dir()?.display().to_string());
    for (name, inode) in report.namespaces {
        say(&format!("ns {name}"), &inode.to_string());
    }
    // The listing itself is one of them, and the highest.
    let mut descriptors = report.descriptors.ok_or("cannot see own descriptors")?;
    descriptors.pop();
    for (number, target) in descriptors {
        say(&format!("fd {number}"), &target);
    }
    for line in fs::read_to_string("/proc/self/status")?.lines() {
        if let Some((key @ ("SigBlk" | "SigIgn" | "Umask" | "NSsid"), value)) = line.split_once(":\t") {
            say(key, value);
        }
    }
    for number in [3, 4] {
        say(&format!("inherited {number}"), &answer(fds::inherited(number)));
    }
    spawn::set_comm("vsmtp-probe")?;
    say("comm", fs::read_to_string("/proc/self/comm")?.trim());
    Ok(())
}

/// Waits until the descriptor handed over ends.
fn sleep() -> Outcome {
    io::copy(&mut fs::File::from(fds::inherited(3)?), &mut io::sink())?;
    Ok(())
}

/// The master's way of noticing its children's ends.
fn children() -> Outcome {
    let signals = Signals::block()?;
    for code in ["exit 3", "kill -9 $$"] {
        // Dropped unwaited on purpose: that is left to `wait_any`.
        drop(Command::new("/bin/sh").args(["-c", code]).spawn()?);
    }
    let mut ended = Vec::new();
    while ended.len() < 2 {
        poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        while let Some(signal) = signals.next()? {
            say("signal", &format!("{signal:?}"));
        }
        while let Some((_, status)) = spawn::wait_any()? {
            ended.push(status.to_string());
        }
    }
    ended.sort_unstable();
    say("ended", &ended.join(", "));
    say("then", &format!("{:?}", spawn::wait_any()?));
    Ok(())
}

/// Takes one inherited descriptor, closes all others, and shows what is left.
fn close_strays(keep: Result<i32, std::num::ParseIntError>) -> Outcome {
    let _kept = fds::inherited(keep?)?;
    fds::close_from(fds::FIRST_INHERITED)?;
    let report = Report::of(std::process::id().try_into()?)?;
    for (number, target) in report.descriptors.unwrap_or_default() {
        say(&format!("fd {number}"), &target);
    }
    Ok(())
}

/// What every daemon does all day must go on working.
fn work() -> Outcome {
    let mut growing = memfd::Growing::create(c"body", 1 << 20)?;
    growing.append(&vec![b'x'; 100_000])?;
    let body = growing.seal()?;
    let (one, other) = socket_pair()?;
    let length = body.len();
    seqpacket::send(&one, &[IoSlice::new(b"take this")], &[body.as_fd()])?;
    let (mut buffer, mut received) = ([0; 64], Vec::new());
    seqpacket::recv(&other, &mut buffer, &mut received)?;
    let received = memfd::Sealed::verify(received.pop().ok_or("no descriptor")?, length)?;
    say("map", &received.map()?.len().to_string());
    say("read", &received.read_all(length)?.len().to_string());
    fds::set_nonblocking(&one)?;

    let total = Arc::new(Mutex::new(0u64));
    let workers = (0..8u64).map(|number| {
        let total = Arc::clone(&total);
        thread::Builder::new().name(format!("worker {number}")).spawn(move || {
            let blocks: Vec<Vec<u8>> = (0..200).map(|size| vec![1; size * 1000]).collect();
            let sum = blocks.iter().flatten().map(|&byte| u64::from(byte)).sum::<u64>();
            if let Ok(mut total) = total.lock() {
                *total += sum;
            }
        })
    });
    for worker in workers.collect::<Result<Vec<_>, _>>()? {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    say("sum", &total.lock().map_err(|_| "poisoned")?.to_string());
    thread::sleep(std::time::Duration::from_millis(1));
    random::random_u64()?;
    say("clock", &(clock::wall_ms() > 0 && clock::monotonic_ms() > 0).to_string());
    let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new("quietly")));
    say("unwinding", &caught.is_err().to_string());
    Ok(())
}

/// Made in advance by a daemon; here a descriptor handed over by the test.
fn socket_pair() -> io::Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    Ok((fds::inherited(3)?, fds::inherited(4)?))
}

/// A thread that was there before the table must be bound by it too.
fn early_thread() -> Outcome {
    let (confined, wait) = mpsc::channel::<()>();
    let early = thread::spawn(move || -> Outcome {
        wait.recv()?;
        attempt_all()
    });
    confine(base())?;
    confined.send(())?;
    early.join().map_err(|_| "the early thread panicked")?
}

fn panic() -> Outcome {
    let payload = std::panic::catch_unwind(|| panic!("on purpose"));
    say("panicked", &payload.is_err().to_string());
    Ok(())
}

fn limits() -> Outcome {
    let limits = Limits {
        nofile: Some(40),
        fsize: Some(4096),
        address_space: Some(1 << 30),
        data: None,
        nproc: None,
        memlock: Some(0),
    };
    vsmtp_sys::signals::ignore_sigpipe_and_xfsz()?;
    confine(Profile { limits, ..base() })?;
    let mut opened = Vec::new();
    let failed = (0..100).find_map(|_| match memfd::Growing::create(c"many", 1) {
        Ok(file) => {
            opened.push(file);
            None
        }
        Err(error) => Some(error),
    });
    drop(opened);
    say("nofile", &answer(failed.map_or(Ok(()), Err)));
    let mut file = memfd::Growing::create(c"large", u64::MAX)?;
    say("fsize", &answer(file.append(&[0; 4097]).and_then(|()| file.append(&[0; 1]))));
    let huge: Result<Vec<u8>, _> = {
        let mut block = Vec::new();
        block.try_reserve_exact(2 << 30).map(|()| block)
    };
    say("as", if huge.is_err() { "refused" } else { "allowed" });
    Ok(())
}

/// What may be done in a granted directory, and nowhere else, when the table allows the calls.
fn landlock(directory: PathBuf) -> Outcome {
    let profile = Profile {
        syscalls: vec![BASE, FILES],
        landlock: vec![
            PathGrant { path: directory.join("managed"), rights: Rights::Manage },
            PathGrant { path: directory.join("deposited"), rights: Rights::Deposit },
            PathGrant { path: directory.join("readable"), rights: Rights::Read },
            PathGrant { path: directory.join("writable"), rights: Rights::ReadWrite },
            PathGrant { path: directory.join("file"), rights: Rights::Read },
        ],
        ..base()
    };
    confine(profile)?;
    for place in ["managed", "deposited", "readable", "writable", "other"] {
        let inside = directory.join(place);
        say(&format!("{place} read"), &answer(fs::read(inside.join("present"))));
        say(&format!("{place} list"), &answer(fs::read_dir(&inside)));
        let mut writing = fs::OpenOptions::new();
        say(&format!("{place} write"), &answer(writing.append(true).open(inside.join("present"))));
        say(&format!("{place} create"), &answer(fs::File::create(inside.join("new"))));
        say(&format!("{place} mkdir"), &answer(fs::create_dir(inside.join("newdir"))));
        say(&format!("{place} remove"), &answer(fs::remove_file(inside.join("new"))));
    }
    say("file read", &answer(fs::read(directory.join("file"))));
    say("tcp bind", &answer(std::net::TcpListener::bind("127.0.0.1:0")));
    attempt("execute")?;
    attempt("signal process")
}

/// The 32-bit way into the kernel, where number 20 is getpid.
#[cfg(target_arch = "x86_64")]
fn old_call() {
    let mut register: u64 = 20;
    // SAFETY: getpid takes nothing and writes nothing but the result register.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") register, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    say("int 0x80", &register.to_string());
}

#[cfg(not(target_arch = "x86_64"))]
fn old_call() {
    std::process::abort();
}
