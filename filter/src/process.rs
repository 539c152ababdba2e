//! The filter as a process: its edges, its threads, its jail. What a verdict is, is decided elsewhere; here it is carried.

mod asking;
pub(crate) mod content;
mod helpers;
mod inquiry;
mod leader;
mod limiting;
mod oneshot;
mod post;
mod repl;
mod resolving;
mod running;
pub mod sandbox;
mod session;
mod signing;
mod tool;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use vsmtp_config::FilterSlice;
use vsmtp_daemon::{BootError, Daemon, Live, Reactor};
use vsmtp_ipc::ChannelError;
use vsmtp_sys::sandbox as jail;

use crate::accounts::Accounts;
use crate::api::Surroundings;
use crate::database::Asker;
use crate::limiter::Limiter;
use crate::names::Names;
use crate::plugins::{Files, Plugins};
use crate::runner::Runner;
use crate::signer::Signer;
use crate::suffixes::{MAX_LIST_BYTES, Suffixes};

pub use leader::{Crew, Desk, cede};

/// Largest file of users or groups that is read, in octets.
const MAX_PASSWD: u64 = 16 << 20;

/// The whole program, in the role that the command line names.
pub fn main(role: Option<&str>) -> ExitCode {
    match role {
        Some("oneshot") => vsmtp_daemon::run::<oneshot::Oneshot>(),
        Some("post") => serve::<post::Post>(|post| post.workers, post::run),
        Some("tool") => tool::main(),
        Some("repl") => repl::main(),
        Some("session") => serve::<session::Session>(|session| session.workers, session::run),
        _ => {
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "vsmtp-filter: started by vsmtp with --role session, post or oneshot, by vsmtpctl with --role tool or repl"
            );
            ExitCode::from(2)
        }
    }
}

/// Boots a daemon whose jobs run beside its loop, and serves until it is to end.
fn serve<D: Daemon>(workers: fn(&D) -> usize, run: RunOf<Live<D>>) -> ExitCode
where
    Live<D>: Desk + 'static,
{
    let live = match vsmtp_daemon::boot::<D>() {
        Ok(live) => live,
        Err(error) => {
            log::error!("event=boot-failed error=\"{error}\"");
            vsmtp_daemon::flush_log();
            return ExitCode::FAILURE;
        }
    };
    let workers = workers(&live.daemon);
    Crew::serve(live, workers, run);
    vsmtp_daemon::flush_log();
    ExitCode::SUCCESS
}

type RunOf<D> = fn(<D as Desk>::Job) -> <D as Desk>::Done;

/// The native plugins of a role that judges. If there are any, a jail is closed before they run: that in which rules are loaded
/// then, too.
fn load_plugins(daemon: &'static str, slice: &FilterSlice) -> Result<Arc<Plugins>, BootError> {
    let configuration = Path::new(&slice.config_dir);
    let files = Files::look(configuration);
    if !files.is_empty() {
        let (kept, written) = (Path::new(&slice.database_dir), Path::new(&slice.app_dir));
        let profile = sandbox::loading(daemon, configuration, kept, written, &files.paths());
        jail::apply(&profile).map_err(|error| BootError::Io("enter the sandbox of loading", error))?;
    }
    Ok(files.load())
}

/// How loud the end of an edge is. A peer that leaves properly and leaves nothing undone, as at each reload, is no news.
fn level_of_end(error: &ChannelError, is_idle: bool) -> log::Level {
    if is_idle && matches!(error, ChannelError::Closed) { log::Level::Info } else { log::Level::Warn }
}

/// What scripts may ask about the host and, through others, of the resolver, the key holder, the limiter, the runner and whoever asks databases.
fn surroundings(
    names: Arc<dyn Names>,
    signer: Arc<dyn Signer>,
    limiter: Arc<dyn Limiter>,
    runner: Arc<dyn Runner>,
    asker: Arc<dyn Asker>,
) -> Surroundings {
    let passwd = host_file("/etc/passwd");
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Surroundings {
        hostname: hostname.trim().to_owned(),
        environment: std::env::vars().collect(),
        names,
        signer,
        limiter,
        runner,
        asker,
        users: users(&passwd),
        accounts: Arc::new(Accounts::parse(&passwd, &host_file("/etc/group"))),
        suffixes: Arc::new(suffixes()),
        ..Surroundings::default()
    }
}

/// The public suffix list of Debian's package `publicsuffix`; empty without it.
fn suffixes() -> Suffixes {
    let mut text = String::new();
    let file = std::fs::File::open("/usr/share/publicsuffix/public_suffix_list.dat");
    match file.and_then(|file| file.take(MAX_LIST_BYTES).read_to_string(&mut text)) {
        Ok(_) => Suffixes::parse(&text),
        Err(_) => Suffixes::default(),
    }
}

/// A file of users or groups of this host; empty if it cannot be read.
fn host_file(path: &str) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).map(|file| file.take(MAX_PASSWD));
    if let Err(error) = file.and_then(|mut file| file.read_to_string(&mut text)) {
        log::warn!("event=users-unreadable file={path} error=\"{error}\"");
    }
    text
}

/// The names in a file of users.
fn users(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
}

/// Wakes the loop from a thread whose result came late.
fn waker(reactor: &Reactor) -> Arc<dyn Fn() + Send + Sync> {
    let waker = reactor.waker();
    Arc::new(move || {
        if let Err(error) = waker.wake() {
            log::error!("event=wake-failed error=\"{error}\"");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_that_costs_something_is_a_warning() {
        assert_eq!(level_of_end(&ChannelError::Closed, true), log::Level::Info);
        assert_eq!(level_of_end(&ChannelError::Closed, false), log::Level::Warn);
        let broken = ChannelError::Io(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(level_of_end(&broken, true), log::Level::Warn);
    }
}
