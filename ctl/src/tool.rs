//! Programs of the package that do one task for an operator: started here, each in its own jail, with the edge as its only
//! descriptor. Rules are never evaluated in this process, it asks no name server, and of keys it knows no more than
//! the files that it carries them from and to.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path};

use vsmtp_ipc::edge::ctl_filter::{Answer, Request, Task};
use vsmtp_ipc::edge::master_child::Evaluate;
use vsmtp_ipc::{EdgeId, Message};
use vsmtp_mail::Domain;
use vsmtp_sys::spawn::{Child, Spawn};
use vsmtp_sys::{seqpacket, spawn, users};

use crate::failure::Failure;
use crate::line::Line;
use crate::place::program;

/// The program that evaluates rules.
const FILTER: &str = "vsmtp-filter";
/// The role of a program that does one thing.
pub const TOOL: &str = "tool";
/// What of the environment it is given.
const ENVIRONMENT: [&str; 3] = ["PATH", "TZ", "RUST_BACKTRACE"];

/// The configuration that is meant: a folder, its main file, or nothing.
pub fn configuration(named: Option<&Path>, root: Option<&Path>) -> Result<Evaluate, Failure> {
    let absolute = |path: &Path| {
        // Who opens it is in a jail, where nothing leads upwards.
        let leads_up = path.components().any(|part| part == Component::ParentDir);
        let found = if leads_up { std::fs::canonicalize(path) } else { std::path::absolute(path) };
        found.map_err(|error| Failure::NotChecked(format!("{}: {error}", path.display())))
    };
    let root = root.map(absolute).transpose()?;
    let usual = || root.as_deref().unwrap_or(Path::new("/")).join("etc/vsmtp");
    let named = named.map_or_else(|| Ok(usual()), absolute)?;
    let config = if named.is_dir() { vsmtp_config::main_file(&named) } else { named };
    if !config.is_file() {
        return Err(Failure::NotChecked(format!("{} does not exist", config.display())));
    }
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| Failure::NotChecked(format!("{}: is not UTF-8", path.display())))
    };
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hostname = Domain::parse(hostname.trim()).map(|name| name.to_string());
    Ok(Evaluate {
        config_path: text(&config)?,
        hostname: hostname.unwrap_or_else(|_| "localhost".to_owned()),
        cores: std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
        root: root.as_deref().map(text).transpose()?.unwrap_or_default(),
    })
}

/// For what depends on no configuration.
pub fn no_configuration() -> Evaluate {
    Evaluate { config_path: String::new(), hostname: String::new(), cores: 1, root: String::new() }
}

/// A program of the package that does one thing and ends.
pub struct Tool {
    /// Its name, which is also that of the user whose rights it has, if root starts it.
    pub program: &'static str,
    /// What it is started as.
    pub role: &'static str,
    /// How it is spoken to.
    pub edge: EdgeId,
}

impl Tool {
    /// Starts it, asks and waits for the answer; it has ended when this returns.
    pub fn ask<Tx: Message, Rx: Message>(&self, request: &Tx) -> Result<Rx, Failure> {
        let mut started = self.start()?;
        started.ask(request)
    }

    /// Starts it, with the edge as its only descriptor.
    pub fn start<Tx: Message, Rx: Message>(&self) -> Result<Started<Tx, Rx>, Failure> {
        let (own, theirs) = seqpacket::pair()?;
        let path = program(self.program);
        let cannot = |error: &dyn std::fmt::Display| {
            Failure::NotChecked(format!("cannot start {}: {error}", path.display()))
        };
        let stderr = io::stderr();
        let account = if users::is_root() { users::user(self.program)? } else { None };
        let words = [self.program, "--role", self.role];
        let child = Spawn {
            program: File::open(&path).map_err(|error| cannot(&error))?.into(),
            argv: words.into_iter().filter_map(|word| CString::new(word).ok()).collect(),
            env: environment(),
            uid_gid: account.map(|user| (user.uid, user.gid)),
            fds: vec![theirs],
            stderr: stderr.as_fd(),
            new_netns: false,
            new_ipcns: false,
            pdeathsig: true,
            session: false,
        };
        let child = Ended(child.spawn().map_err(|error| cannot(&error))?);
        Ok(Started { name: self.program, line: Line::over(own, self.edge)?, _child: child })
    }
}

/// One that is running.
pub struct Started<Tx, Rx> {
    name: &'static str,
    line: Line<Tx, Rx>,
    _child: Ended,
}

impl<Tx: Message, Rx: Message> Started<Tx, Rx> {
    /// Asks and waits for the answer. Whatever goes wrong in between, what was asked is not known.
    pub fn ask(&mut self, request: &Tx) -> Result<Rx, Failure> {
        self.line.ask(request).map(|received| received.message).map_err(|failure| unknown(self.name, failure))
    }
}

/// The same failure as one of something that could not be looked at.
fn unknown(program: &str, failure: Failure) -> Failure {
    match failure {
        // Nobody else than the program itself can have closed it.
        Failure::NotPermitted(_) => Failure::NotChecked(format!("{program} ended without an answer")),
        Failure::Broken(why) => Failure::NotChecked(format!("{program}: {why}")),
        other => other,
    }
}

/// Has a filter do it.
pub fn ask(of: Evaluate, task: Task) -> Result<Answer, Failure> {
    let filter = Tool { program: FILTER, role: TOOL, edge: EdgeId::CtlFilter };
    match filter.ask(&Request { of, task })? {
        Answer::Failed(text) => Err(Failure::NotChecked(text)),
        answer => Ok(answer),
    }
}

fn environment() -> Vec<CString> {
    let set =
        ENVIRONMENT.into_iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    set.filter_map(|pair| CString::new(pair).ok()).collect()
}

/// Ends the child, whatever it does.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself; nobody has waited for it yet, so the pid is still its own.
        let _ = spawn::kill(self.0.pid, 9);
        let _ = self.0.try_wait();
    }
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::ChannelError;

    use super::*;

    #[test]
    fn whoever_gives_no_answer_has_not_looked() {
        let late = Failure::Broken("no answer within 60 s".to_owned());
        assert_eq!(unknown("vsmtp-filter", late).status(), 2);
        let gone = unknown("vsmtp-filter", Failure::from(ChannelError::Closed));
        assert_eq!((gone.status(), gone.to_string().as_str()), (2, "vsmtp-filter ended without an answer"));
        assert_eq!(unknown("vsmtp-filter", Failure::Usage(String::new())).status(), 64);
    }
}
