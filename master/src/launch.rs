//! Starts one child: its binary by descriptor, its user, its empty network, its two inherited descriptors, and its first
//! message. Everything else it gets later, over its edge.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;

use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::master_child::{Configure, MasterEnd, ToChild};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_sys::{clock, seqpacket, spawn};

use crate::accounts::Accounts;
use crate::child::{Child, State};
use crate::error::Error;
use crate::layout;
use crate::log_sink::LogSink;

/// What does not change from one child to the next.
pub struct Launcher {
    /// Who runs what.
    pub accounts: Accounts,
    /// Where lines go.
    pub log: LogSink,
    /// This machine among all.
    pub node: u32,
    /// Number of the next process.
    next_process: u32,
}

/// Milliseconds of one step of process numbers over restarts of the master.
const PROCESS_STEP_MS: u64 = 250;

impl Launcher {
    /// `node` tells this machine from others.
    pub fn new(accounts: Accounts, log: LogSink, node: u32) -> Self {
        // Numbers go on where the clock is, so that they do not come again after a restart; ids also hold the time.
        let next_process = (clock::wall_ms() / PROCESS_STEP_MS) as u32;
        Launcher { accounts, log, node, next_process }
    }

    /// Starts a process with its slice.
    pub fn start(&mut self, name: ProcessName, generation: u32, slice: Vec<u8>) -> Result<Child, Error> {
        let (ours, theirs) = seqpacket::pair().map_err(Error::io("make a socket pair"))?;
        let process = self.spawn(name, theirs)?;
        self.next_process = self.next_process.wrapping_add(1);
        let mut child = Child {
            name,
            process,
            channel: MasterEnd::new(ours, EdgeId::MasterChild),
            state: State::Starting,
            served: false,
            started_ms: clock::monotonic_ms(),
            heard_ms: clock::monotonic_ms(),
            figures: Vec::new(),
            declared: String::new(),
            accusations: 0,
        };
        let configure = ToChild::Configure(Configure {
            name,
            generation,
            node: self.node,
            process: self.next_process,
            log: self.log.kind(),
            log_level: self.log.level(settings_role(name.role)),
            log_facility: self.log.facility(),
            slice,
        });
        child.say(&configure, None);
        Ok(child)
    }

    fn spawn(&self, name: ProcessName, edge: OwnedFd) -> Result<spawn::Child, Error> {
        let program = program(name.role);
        let path = layout::binary(program.binary).ok_or_else(|| {
            Error::System(format!("{} is neither beside vsmtp nor in /usr/libexec/vsmtp", program.binary))
        })?;
        let file = File::open(&path).map_err(Error::path("open", &path))?;
        let log = self.log.open_or_stand_in().map_err(Error::io("open the log"))?;
        let as_root = self.accounts.are_separate();
        let stderr = log.try_clone().map_err(Error::io("copy the log descriptor"))?;
        let spawned = spawn::Spawn {
            program: file.into(),
            argv: program.arguments(),
            env: environment(),
            uid_gid: self.accounts.of(name.role),
            fds: vec![edge, log],
            stderr: std::os::fd::AsFd::as_fd(&stderr),
            new_netns: as_root && program.needs_no_network,
            new_ipcns: as_root,
            pdeathsig: false,
            session: true,
        }
        .spawn();
        spawned.map_err(|error| Error::Io(format!("start {name} ({})", path.display()), error.into()))
    }
}

struct Program {
    binary: &'static str,
    role_argument: Option<&'static str>,
    /// As root it gets a network namespace with nothing in it.
    needs_no_network: bool,
}

impl Program {
    fn arguments(&self) -> Vec<CString> {
        let words = [Some(self.binary), self.role_argument.map(|_| "--role"), self.role_argument];
        words.into_iter().flatten().filter_map(|word| CString::new(word).ok()).collect()
    }
}

/// What the configuration calls a role.
pub fn settings_role(role: Role) -> vsmtp_config::Role {
    use vsmtp_config::Role as Settings;
    match role {
        Role::Receiver => Settings::Receiver,
        Role::FilterSession | Role::FilterPost | Role::FilterOneshot => Settings::Filter,
        Role::QueueManager => Settings::Queue,
        Role::DeliverSmtp => Settings::Deliver,
        Role::DeliverMailbox => Settings::Mailbox,
        Role::Resolver => Settings::Resolver,
        Role::Limits => Settings::Limits,
        Role::Auth => Settings::Auth,
        Role::Keys => Settings::Keys,
        Role::Runner => Settings::Runner,
        Role::Database => Settings::Database,
    }
}

fn program(role: Role) -> Program {
    let (binary, role_argument, needs_no_network) = match role {
        Role::Receiver => ("vsmtp-receiver", None, false),
        Role::FilterSession => ("vsmtp-filter", Some("session"), true),
        Role::FilterPost => ("vsmtp-filter", Some("post"), true),
        Role::FilterOneshot => ("vsmtp-filter", Some("oneshot"), true),
        Role::QueueManager => ("vsmtp-queue", None, true),
        Role::DeliverSmtp => ("vsmtp-deliver", Some("smtp"), false),
        Role::DeliverMailbox => ("vsmtp-deliver", Some("mailbox"), true),
        Role::Resolver => ("vsmtp-resolver", None, false),
        Role::Limits => ("vsmtp-limits", None, true),
        Role::Auth => ("vsmtp-auth", None, true),
        Role::Keys => ("vsmtp-keys", None, true),
        // Commands may ask services of this host and of others.
        Role::Runner => ("vsmtp-runner", None, false),
        // Databases are on this host and on others.
        Role::Database => ("vsmtp-database", None, false),
    };
    Program { binary, role_argument, needs_no_network }
}

/// What a child may know of our environment: the time zone and back-traces, nothing else.
fn environment() -> Vec<CString> {
    ["TZ", "RUST_BACKTRACE"]
        .iter()
        .filter_map(|name| std::env::var(name).ok().map(|value| format!("{name}={value}")))
        .chain(["PATH=/usr/bin:/bin".to_owned()])
        .filter_map(|pair| CString::new(pair).ok())
        .collect()
}
