//! From the command line to a running family.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::process::ExitCode;

use log::LevelFilter;
use vsmtp_config::{Config, MasterSlice};
use vsmtp_ipc::edge::master_child::LogTarget;
use vsmtp_ipc::role::Role;
use vsmtp_sys::disk::{self, Lock, Locked};
use vsmtp_sys::signals::{self, Signals};
use vsmtp_sys::{fds, random};

use crate::accounts::Accounts;
use crate::arguments::{Action, Arguments, HELP};
use crate::demo;
use crate::error::Error;
use crate::evaluate::{self, Evaluation};
use crate::files::Files;
use crate::key_files;
use crate::launch::Launcher;
use crate::layout::Layout;
use crate::links;
use crate::listeners::{self, Listeners};
use crate::log_sink::LogSink;
use crate::master::Master;

/// Descriptors that the master and its children may have open.
const NOFILE: u64 = 1 << 20;

/// The whole program.
pub fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            vsmtp_daemon::flush_log();
            let _ = writeln!(std::io::stderr(), "vsmtp: {error}");
            if matches!(error, Error::Usage(_)) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Error> {
    let mut out = std::io::stdout();
    match arguments.action {
        Action::Help => write_out(&mut out, HELP),
        Action::Version => write_out(&mut out, concat!("vsmtp ", env!("CARGO_PKG_VERSION"), "\n")),
        Action::Check => {
            let (_, _, config) = prepare(&arguments)?;
            report_warnings(&config);
            vsmtp_daemon::flush_log();
            write_out(&mut out, "configuration is valid\n")
        }
        Action::Run => start(&arguments)?.run(),
    }
}

/// What `check` and `run` share: where things are, who runs what, and the evaluated configuration.
fn prepare(arguments: &Arguments) -> Result<(Layout, Launcher, Config), Error> {
    let root = arguments.root.as_deref().map(absolute).transpose()?;
    let config = arguments.config.as_deref().map(absolute).transpose()?;
    let layout = Layout::new(root.as_deref(), config.as_deref());
    log_to(&LogSink::stderr())?;
    if arguments.demo {
        demo::install(&layout)?;
    }
    if !layout.config().is_file() {
        return Err(Error::Config(format!(
            "{} does not exist: write it, name another with -c, or try --demo with --root",
            layout.config().display()
        )));
    }
    let accounts = Accounts::resolve(root.is_some(), None)?;
    let mut launcher = Launcher::new(accounts, LogSink::stderr(), node()?);
    let context = evaluate::context(&layout, root.as_deref());
    let config = Evaluation::start(&mut launcher, &layout, context)?.wait()?;
    // Opened again when they are needed: this only says early what is wrong.
    drop(key_files::open(&config.keys())?);
    Ok((layout, launcher, config))
}

fn start(arguments: &Arguments) -> Result<Master, Error> {
    // Ignored rather than fatal: fewer descriptors only mean fewer sessions.
    let _ = fds::raise_nofile(NOFILE);
    signals::ignore_sigpipe_and_xfsz().map_err(Error::io("ignore SIGPIPE"))?;
    let signals = Signals::block().map_err(Error::io("block signals"))?;
    let (layout, mut launcher, config) = prepare(arguments)?;
    let slice = config.master();
    launcher.accounts = Accounts::resolve(arguments.root.is_some(), slice.uid_range)?;
    launcher.log = LogSink::new(slice.log.clone());
    log_to(&launcher.log)?;
    report_warnings(&config);
    let lock = make_folders(&layout, &launcher.accounts, &config)?;
    Files::check(&slice.password_files, &slice.token_keys)?;
    listeners::refuse_if_taken(&slice.listeners)?;
    let listeners = Listeners::bind(&layout, &launcher.accounts, &slice.listeners, slice.receivers)?;
    if !launcher.accounts.are_separate() {
        log::warn!("event=not-root effect=\"all processes run as one user, without network namespaces\"");
    }
    Master::new(layout, arguments.clone(), launcher, config, listeners, signals, lock)
}

/// Points the master's own log at a sink.
pub fn log_to(sink: &LogSink) -> Result<(), Error> {
    point(sink, open_log(sink)?);
    Ok(())
}

/// Opens a sink. A file that cannot be written is a mistake of the configuration; a daemon that is down comes back.
pub fn open_log(sink: &LogSink) -> Result<OwnedFd, Error> {
    let out = match sink.open() {
        Err(error) if sink.kind() != LogTarget::Stream => {
            vsmtp_daemon::Record::at(log::Level::Warn, "log-unreachable").field("error", error).emit();
            sink.open_or_stand_in()
        }
        opened => opened,
    };
    out.map_err(Error::io("open the log"))
}

/// Opens the master's own sink again after it broke.
pub fn log_again(sink: &LogSink) {
    if let Ok(out) = sink.open_or_stand_in() {
        point(sink, out);
    }
}

/// Points the master's own log at what was opened.
pub fn point(sink: &LogSink, out: OwnedFd) {
    let level = match sink.level(vsmtp_config::Role::Master) {
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    vsmtp_daemon::init_log(out, sink.kind(), "vsmtp", level, sink.facility());
}

/// Keys that are accepted and have no effect are said once, at the start.
pub fn report_warnings(config: &Config) {
    for warning in config.warnings() {
        vsmtp_daemon::Record::at(log::Level::Warn, "configuration-warning")
            .field("key", &warning.path)
            .field("text", &warning.text)
            .emit();
    }
}

/// Makes the folders that the children will find, and takes the lock that keeps a second master away.
fn make_folders(layout: &Layout, accounts: &Accounts, config: &Config) -> Result<Locked, Error> {
    let MasterSlice { spool, mail_root, .. } = config.master();
    folder(&layout.run_dir(), 0o755, None)?;
    let lock = lock(layout)?;
    folder(&layout.state_dir(), 0o755, None)?;
    folder(Path::new(&spool), 0o755, None)?;
    folder(&Path::new(&spool).join("queue"), 0o700, accounts.of(Role::QueueManager))?;
    folder(Path::new(&mail_root), 0o700, accounts.of(Role::DeliverMailbox))?;
    Ok(lock)
}

/// Makes the folders of the tables that rules keep and of the files that they write, if they are not there: filters cannot.
/// Where one cannot be made, rules without such tables, or such files, go on.
pub fn make_folders_of_rules(accounts: &Accounts, config: &Config) {
    let slice = config.filter();
    let folders = [
        (&slice.database_dir, 0o700, "filters whose rules keep tables do not start"),
        (&slice.app_dir, 0o750, "rules that write files fail"),
    ];
    for (path, mode, effect) in folders {
        if let Err(error) = folder(Path::new(path), mode, accounts.of(Role::FilterSession)) {
            vsmtp_daemon::Record::at(log::Level::Warn, "state-unavailable")
                .field("file", path)
                .field("error", error)
                .field("effect", effect)
                .emit();
        }
    }
}

fn lock(layout: &Layout) -> Result<Locked, Error> {
    let path = layout.lock();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(Error::path("open", &path))?;
    match disk::lock_exclusive(file).map_err(Error::path("lock", &path))? {
        Lock::Held(locked) => Ok(locked),
        Lock::Busy => Err(Error::System(format!("another vsmtp holds {}: stop it first", path.display()))),
    }
}

/// Makes a folder if it is not there. One that is given away or protected may be behind a link only if nobody else can have made
/// that: where others may write beside it, somebody could have what the link leads to.
fn folder(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), Error> {
    if !path.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::path("make", path))?;
    }
    if owner.is_none() && mode == 0o755 {
        return Ok(());
    }
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    let open = |path: &Path| OpenOptions::new().read(true).custom_flags(flags).open(path);
    let is_link = path.symlink_metadata().is_ok_and(|entry| entry.is_symlink());
    let opened = if is_link { links::follow(path).and_then(|real| open(&real)) } else { open(path) };
    let opened = opened.map_err(Error::path("open, not through a link of others, the folder", path))?;
    if let Some((uid, gid)) = owner {
        fchown(&opened, Some(uid), Some(gid)).map_err(Error::path("give away", path))?;
    }
    if mode != 0o755 {
        let permissions = fs::Permissions::from_mode(mode);
        opened.set_permissions(permissions).map_err(Error::path("protect", path))?;
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, Error> {
    std::path::absolute(path).map_err(Error::path("find", path))
}

/// This machine among all, for queue ids: from the machine id where there is one, otherwise by chance.
fn node() -> Result<u32, Error> {
    let machine_id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let from_id = machine_id.get(..6).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    match from_id {
        Some(node) => Ok(node),
        None => Ok(random::random_u64().map_err(Error::io("read random bytes"))? as u32 & 0xff_ffff),
    }
}

fn write_out(out: &mut impl Write, text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::io("write to standard output"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_folder_is_made_and_protected_and_what_a_link_of_others_leads_to_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let own = place.path().join("a/own");
        for _ in 0..2 {
            folder(&own, 0o750, None).unwrap();
            assert_eq!(mode(&own), 0o750);
        }
        let open = place.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let (others, link) = (place.path().join("others"), open.join("link"));
        fs::create_dir(&others).unwrap();
        fs::set_permissions(&others, fs::Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::symlink(&others, &link).unwrap();
        let us = vsmtp_sys::users::current();
        for owner in [None, Some(us)] {
            let error = folder(&link, 0o700, owner).unwrap_err();
            assert!(error.to_string().contains("not through a link of others"), "{error}");
        }
        assert_eq!(mode(&others), 0o711);
        // One that only we can have made, as to another disk, is the operator's wish.
        let moved = place.path().join("moved");
        std::os::unix::fs::symlink(&others, &moved).unwrap();
        folder(&moved, 0o700, Some(us)).unwrap();
        assert_eq!(mode(&others), 0o700);
        // What is not given away may be wherever the operator has it.
        folder(&link, 0o755, None).unwrap();
    }
}
