//! From `main` to the first event. On failure the process says why on its log and exits; the master decides what then.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use log::LevelFilter;
use vsmtp_ipc::edge::master_child::{ChildEnd, Configure, LogTarget, ToChild, ToMaster};
use vsmtp_ipc::{ChannelError, EdgeId, Received};
use vsmtp_sys::{clock, fds, sandbox, scheduling, signals};

use crate::daemon::{Boot, Daemon, Flow};
use crate::live::Live;
use crate::pace::Pace;
use crate::reactor::Reactor;
use crate::sink::{flush_log, init_log};

/// The descriptor of the edge to the master.
pub const MASTER_FD: i32 = 3;
/// The descriptor of the log.
pub const LOG_FD: i32 = 4;
/// How long a child waits for its configuration, in milliseconds.
const CONFIGURE_MS: u64 = 10_000;

/// Why a daemon could not start.
#[derive(Debug)]
pub enum BootError {
    /// The kernel refused something, named in the text.
    Io(&'static str, io::Error),
    /// The master's side of the start is wrong: descriptors or first message.
    Master(String),
    /// The configuration or the environment is wrong, and starting again will not help: text for the operator.
    Fatal(String),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Io(what, error) => write!(f, "{what}: {error}"),
            BootError::Master(text) | BootError::Fatal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for BootError {}

/// The whole main of a daemon with an ordinary loop.
pub fn run<D: Daemon>() -> ExitCode {
    let mut pace = if D::GATHERS { Pace::of_this_thread() } else { None };
    let mut live = match boot::<D>() {
        Ok(live) => live,
        Err(error) => {
            log::error!("event=boot-failed error=\"{error}\"");
            flush_log();
            return ExitCode::FAILURE;
        }
    };
    loop {
        match live.turn() {
            Ok(Flow::Continue) => {
                if let Some(pace) = &mut pace {
                    pace.look(live.reactor.now_ms());
                }
            }
            Ok(Flow::Exit) => {
                flush_log();
                return ExitCode::SUCCESS;
            }
            Err(error) => {
                log::error!("event=loop-failed error=\"{error}\"");
                flush_log();
                return ExitCode::FAILURE;
            }
        }
    }
}

/// Starts a daemon as far as its first turn. For daemons that run the turns themselves.
pub fn boot<D: Daemon>() -> Result<Live<D>, BootError> {
    signals::ignore_sigpipe_and_xfsz().map_err(|error| BootError::Io("ignore SIGPIPE", error))?;
    let io = |what| move |error| BootError::Io(what, error);
    let log_fd = fds::inherited(LOG_FD).map_err(io("take the log descriptor"))?;
    let spare_log = log_fd.try_clone().map_err(io("copy the log descriptor"))?;
    init_log(log_fd, LogTarget::Stream, D::NAME, LevelFilter::Info, 0);
    vsmtp_sys::spawn::set_comm(D::NAME).map_err(io("set the process name"))?;
    if D::GATHERS {
        scheduling::prefer_throughput().map_err(io("set the scheduling policy"))?;
    }
    let socket = fds::inherited(MASTER_FD).map_err(io("take the master's descriptor"))?;
    let mut master = ChildEnd::new(socket, EdgeId::MasterChild);
    let configure = first_message(&mut master)?;
    init_log(spare_log, configure.log, D::NAME, level(configure.log_level), configure.log_facility);
    let Configure { name, generation, node, process, slice, .. } = configure;
    let slice = vsmtp_ipc::decode::<D::Slice>(&slice)
        .map_err(|error| BootError::Master(format!("configuration slice: {error}")))?;
    match D::before_jail(Boot { name, generation, node, process, slice }) {
        Ok(daemon) => enter(daemon, master),
        Err(error) => {
            tell_fatal(&mut master, &error);
            Err(error)
        }
    }
}

pub(crate) fn level(number: u8) -> LevelFilter {
    match number {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

fn enter<D: Daemon>(mut daemon: D, mut master: ChildEnd) -> Result<Live<D>, BootError> {
    let profile = daemon.profile();
    let applied = if daemon.is_jailed() { sandbox::tighten(&profile) } else { sandbox::apply(&profile) };
    let applied = applied.map_err(|error| BootError::Io("enter the sandbox", error))?;
    for _ in 0..daemon.files() {
        daemon.take_file(next_file(&mut master)?);
    }
    let mut reactor = Reactor::new(master).map_err(|error| BootError::Io("make the event loop", error))?;
    let landlock = format!("  landlock in force: {:?}\n", applied.landlock);
    let declared = sandbox::describe(&profile) + &landlock + &daemon.declares();
    reactor.tell_master(&ToMaster::Declared(declared));
    if let Err(error) = daemon.after_jail(&mut reactor) {
        tell_fatal(&mut reactor.master, &error);
        return Err(error);
    }
    reactor.tell_master(&ToMaster::Ready);
    Ok(Live::new(daemon, reactor))
}

/// Tells the master what is wrong with the configuration, if that is what it is.
fn tell_fatal(master: &mut ChildEnd, error: &BootError) {
    if let BootError::Fatal(text) = error {
        let _ = master.send(&ToMaster::Fatal(text.clone()), Vec::new());
        let _ = master.flush();
    }
}

fn first_message(master: &mut ChildEnd) -> Result<Configure, BootError> {
    match next_message(master)?.message {
        ToChild::Configure(configure) => Ok(configure),
        _ => Err(BootError::Master("first message is not a configuration".to_owned())),
    }
}

fn next_file(master: &mut ChildEnd) -> Result<OwnedFd, BootError> {
    let received = next_message(master)?;
    match (received.message, received.descriptors.into_iter().next()) {
        (ToChild::File(_), Some(file)) => Ok(file),
        _ => Err(BootError::Master("a file was to come next".to_owned())),
    }
}

fn next_message(master: &mut ChildEnd) -> Result<Received<ToChild>, BootError> {
    let refused = |error: ChannelError| BootError::Master(format!("edge to the master: {error}"));
    let deadline = clock::monotonic_ms() + CONFIGURE_MS;
    let mut wait = Wait::on(master.socket()).map_err(|error| BootError::Io("make a poll", error))?;
    loop {
        if let Some(received) = master.receive().map_err(refused)? {
            return Ok(received);
        }
        let left = deadline.saturating_sub(clock::monotonic_ms());
        if left == 0 {
            return Err(BootError::Master("nothing came from the master in time".to_owned()));
        }
        wait.readable(left).map_err(|error| BootError::Io("wait for the master", error))?;
    }
}

/// Waits for one descriptor, before there is a loop.
struct Wait {
    poll: mio::Poll,
    events: mio::Events,
}

impl Wait {
    fn on(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        poll.registry().register(
            &mut mio::unix::SourceFd(&fd.as_raw_fd()),
            mio::Token(0),
            mio::Interest::READABLE,
        )?;
        Ok(Wait { poll, events: mio::Events::with_capacity(1) })
    }

    fn readable(&mut self, milliseconds: u64) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::from_millis(milliseconds))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

/// The value of `--role` on the command line, for binaries with several roles.
pub fn role_argument() -> Option<String> {
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--role" {
            return arguments.next();
        }
    }
    None
}
