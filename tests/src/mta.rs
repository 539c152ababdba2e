//! A private MTA: its own directory, its own ports, the built binaries. It ends when it is dropped.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How long a start may take on a loaded machine.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take by the contract, with room for a loaded machine.
const STOP: Duration = Duration::from_secs(30);
/// How often the log is read again at most, and how long before each time.
const LOG_READS: u32 = 50;
const LOG_PAUSE: Duration = Duration::from_millis(20);

/// What a test wants of its MTA.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Lines of `on_config`, behind the defaults of tests.
    pub config: String,
    /// The whole of filter.vsl; empty for no policy.
    pub filter: String,
}

/// One process as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Role and number.
    pub name: String,
    /// 0 while it waits to be started again.
    pub pid: u32,
    /// It works.
    pub is_ready: bool,
    /// It finishes its work for a successor.
    pub is_draining: bool,
    /// How often it was started again.
    pub restarts: u64,
}

/// A running MTA.
pub struct Mta {
    folder: tempfile::TempDir,
    port: u16,
    master: Option<Child>,
    limits: Vec<String>,
    /// A program with its words that makes itself the master.
    wrapper: Vec<String>,
}

impl Mta {
    /// Starts with the defaults of tests: domain local.test with Maildirs for everybody, relay for loopback.
    pub fn start(settings: &Settings) -> Mta {
        let mut mta = Mta::prepare(settings);
        mta.launch();
        mta
    }

    /// As `start`, and starts nothing.
    pub fn prepare(settings: &Settings) -> Mta {
        let folder = tempfile::Builder::new().prefix("vsmtp-test.").tempdir().expect("make a folder");
        let mta = Mta { folder, port: free_port(), master: None, limits: Vec::new(), wrapper: Vec::new() };
        mta.write_configuration(settings);
        mta
    }

    /// Writes the configuration; a reload or a restart takes it up.
    pub fn write_configuration(&self, settings: &Settings) {
        let etc = self.root().join("etc/vsmtp");
        fs::create_dir_all(&etc).expect("make etc");
        open_up(self.root());
        let config = format!(
            "fn on_config(config) {{\n\
             config.server.name = \"mx.local.test\";\n\
             config.server.domains = [\"local.test\", \"mx.local.test\"];\n\
             config.server.interfaces.addr = [\"127.0.0.1:{}\"];\n\
             config.delivery.mailboxes = [\"*\"];\n\
             config.delivery.local = \"maildir\";\n\
             config.delivery.mail_root = \"/mail\";\n\
             config.server.logs.filename = \"/var/log/vsmtp.log\";\n\
             {}\nconfig\n}}\n",
            self.port, settings.config
        );
        fs::write(etc.join("vsmtp.vsl"), config).expect("write vsmtp.vsl");
        let filter = if settings.filter.is_empty() { "#{}" } else { &settings.filter };
        fs::write(etc.join("filter.vsl"), filter).expect("write filter.vsl");
    }

    /// Starts the master on the spool that is there and waits until all processes are up.
    pub fn launch(&mut self) {
        if let Err(said) = self.try_launch() {
            panic!("vsmtp did not come up: {said}\n{}", self.log());
        }
    }

    /// As `launch`; what the master said if it ended instead.
    pub fn try_launch(&mut self) -> Result<(), String> {
        let before = self.log().matches("event=up").count();
        self.master = Some(self.master_command().stderr(Stdio::piped()).spawn().expect("start vsmtp"));
        let deadline = Instant::now() + START;
        while self.log().matches("event=up").count() == before {
            let gone = self.master.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if gone || Instant::now() > deadline {
                let mut said = String::new();
                if let Some(child) = self.master.as_mut() {
                    let _ = child.kill();
                    let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
                }
                self.master = None;
                return Err(said);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Limits for the next start, as words of prlimit(1); they hold for all processes.
    pub fn set_limits(&mut self, limits: &[&str]) {
        self.limits = limits.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The command that starts a master on this root.
    pub fn master_command(&self) -> Command {
        let mut command = match (self.wrapper.split_first(), self.limits.is_empty()) {
            (Some((program, words)), _) => {
                let mut command = Command::new(program);
                command.args(words).arg(binary("vsmtp"));
                command
            }
            (None, false) => {
                let mut command = Command::new("prlimit");
                command.args(&self.limits).arg(binary("vsmtp"));
                command
            }
            (None, true) => Command::new(binary("vsmtp")),
        };
        command.arg("--root").arg(self.root()).arg("run");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Has the MTA, and nobody else, see this file in the place of one of the machine's, from the next start on. Needs root.
    pub fn overlay(&mut self, file: &Path, place: &str) {
        let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
        let words = ["--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"];
        self.wrapper = std::iter::once("unshare").chain(words).map(str::to_owned).collect();
        self.wrapper.extend([file.display().to_string(), place.to_owned()]);
    }

    /// Stops by SIGTERM and waits; how long it took.
    pub fn stop(&mut self) -> Duration {
        let began = Instant::now();
        if let Some(mut child) = self.master.take() {
            signal(&[child.id()], "TERM");
            while matches!(child.try_wait(), Ok(None)) {
                assert!(began.elapsed() < STOP, "vsmtp did not stop: {}", self.log());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        began.elapsed()
    }

    /// Kills every process of this MTA at once, as a crash of the machine would, and waits until they are gone.
    pub fn crash(&mut self) {
        let Some(mut master) = self.master.take() else { return };
        let mut pids = children_of(master.id());
        pids.push(master.id());
        signal(&pids, "KILL");
        let _ = master.wait();
        wait_until("all processes are gone", || !pids.iter().any(|pid| is_alive(*pid)));
    }

    /// Stops every process where it is. Only `crash` makes sense after this.
    pub fn freeze(&self) {
        let master = self.master_pid();
        let mut pids = vec![master];
        pids.extend(children_of(master));
        signal(&pids, "STOP");
        wait_until("all processes have stopped", || {
            pids.iter().all(|pid| state(*pid).is_none_or(|state| "Tt".contains(state)))
        });
    }

    /// Kills the master alone. Its children end by themselves; their pids.
    pub fn kill_master(&mut self) -> Vec<u32> {
        let Some(mut master) = self.master.take() else { return Vec::new() };
        let children = children_of(master.id());
        signal(&[master.id()], "KILL");
        let _ = master.wait();
        children
    }

    /// Sends SIGHUP to the master.
    pub fn hang_up(&self) {
        signal(&[self.master_pid()], "HUP");
    }

    /// What the master says about each process but itself, as long as it answers.
    pub fn processes(&self) -> Vec<Process> {
        let output = self.ctl(&["status", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let rows = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        rows.map(|row| Process {
            name: row["process"].as_str().unwrap_or("").to_owned(),
            pid: row["pid"].as_u64().unwrap_or(0) as u32,
            is_ready: row["state"] == "ready",
            is_draining: row["state"] == "draining",
            restarts: row["restarts"].as_u64().unwrap_or(0),
        })
        .collect()
    }

    /// Pid of the first process whose name begins so.
    pub fn pid_of(&self, name: &str) -> u32 {
        let found =
            self.processes().into_iter().find(|process| process.name.starts_with(name) && process.pid != 0);
        found.unwrap_or_else(|| panic!("no process {name}")).pid
    }

    /// Pid of the master.
    pub fn master_pid(&self) -> u32 {
        self.master.as_ref().expect("a running master").id()
    }

    /// Runs vsmtpctl.
    pub fn ctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binary("vsmtpctl"));
        command.arg("--root").arg(self.root()).args(words).stdin(Stdio::null());
        command.output().expect("run vsmtpctl")
    }

    /// Runs vsmtpctl with --json and parses the one object that it prints.
    pub fn ctl_json(&self, words: &[&str]) -> serde_json::Value {
        let rows = self.ctl_rows(words);
        assert_eq!(rows.len(), 1, "vsmtpctl {words:?}: {rows:?}");
        rows.into_iter().next().unwrap_or_default()
    }

    /// Runs vsmtpctl with --json and parses the objects that it prints, one a line.
    pub fn ctl_rows(&self, words: &[&str]) -> Vec<serde_json::Value> {
        let output = self.ctl(&[words, &["--json"]].concat());
        assert!(output.status.success(), "vsmtpctl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("vsmtpctl prints UTF-8");
        let parse = |line| serde_json::from_str(line);
        text.lines()
            .map(parse)
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("vsmtpctl {words:?}: {error}: {text}"))
    }

    /// How many messages are in the queue.
    pub fn queued(&self) -> u64 {
        self.ctl_json(&["queue", "stats"])["messages"].as_u64().expect("messages in queue stats")
    }

    /// The SMTP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The private directory.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// All log lines so far. A process writes them at the end of its turn, a moment after what they tell of can be seen
    /// elsewhere: so the log is read again until it stays as it is. On a machine that is busy a line can be missing all the
    /// same: what must be there is waited for with [`Mta::logged`].
    pub fn log(&self) -> String {
        let read = || fs::read_to_string(self.root().join("var/log/vsmtp.log")).unwrap_or_default();
        let mut log = read();
        for _ in 0..LOG_READS {
            std::thread::sleep(LOG_PAUSE);
            let later = read();
            if later.len() == log.len() {
                break;
            }
            log = later;
        }
        log
    }

    /// Waits until the log holds this text; all of it then.
    pub fn logged(&self, text: &str) -> String {
        self.logged_often(text, 1)
    }

    /// Waits until the log holds this text so often at least; all of it then.
    pub fn logged_often(&self, text: &str, count: usize) -> String {
        let deadline = Instant::now() + START;
        loop {
            let log = self.log();
            let found = log.matches(text).count();
            if found >= count {
                return log;
            }
            assert!(Instant::now() < deadline, "the log says {found} times, not {count}: {text}\n{log}");
        }
    }

    /// The messages in a Maildir's new/, oldest name first.
    pub fn maildir(&self, domain: &str, local: &str) -> Vec<String> {
        self.mail_files(domain, local).into_iter().map(|(_, mail)| mail).collect()
    }

    /// The messages in a Maildir's new/ as they are on disk, oldest name first.
    pub fn maildir_octets(&self, domain: &str, local: &str) -> Vec<Vec<u8>> {
        let new = self.root().join("mail").join(domain).join(local).join("new");
        let mut files: Vec<PathBuf> = fs::read_dir(new)
            .map_or_else(|_| Vec::new(), |found| found.flatten().map(|e| e.path()).collect());
        files.sort();
        files.iter().filter_map(|file| fs::read(file).ok()).collect()
    }

    /// The messages in a Maildir's new/ and when each was written, oldest name first.
    pub fn mail_files(&self, domain: &str, local: &str) -> Vec<(SystemTime, String)> {
        let new = self.root().join("mail").join(domain).join(local).join("new");
        let mut files: Vec<PathBuf> = fs::read_dir(new)
            .map_or_else(|_| Vec::new(), |found| found.flatten().map(|e| e.path()).collect());
        files.sort();
        let read = |file: &PathBuf| {
            let written = fs::metadata(file).and_then(|meta| meta.modified()).ok()?;
            Some((written, String::from_utf8_lossy(&fs::read(file).ok()?).into_owned()))
        };
        files.iter().filter_map(read).collect()
    }

    /// How many messages are in a Maildir's new/.
    pub fn mail_count(&self, domain: &str, local: &str) -> usize {
        let new = self.root().join("mail").join(domain).join(local).join("new");
        fs::read_dir(new).map_or(0, Iterator::count)
    }

    /// Waits until a Maildir holds so many messages and answers them.
    pub fn wait_for_mail(&self, domain: &str, local: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + START;
        loop {
            let found = self.maildir(domain, local);
            if found.len() >= count {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {count} messages for {local}\n{}",
                found.len(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Mta {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines: Vec<String> = self.log().lines().rev().take(40).map(str::to_owned).collect();
            for line in lines.iter().rev() {
                let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
            }
            if std::env::var_os("VSMTP_KEEP").is_some() {
                self.folder.disable_cleanup(true);
                say(&format!("kept: {}", self.root().display()));
            }
        }
        let Some(mut master) = self.master.take() else { return };
        let mut pids = children_of(master.id());
        pids.push(master.id());
        signal(&[master.id()], "TERM");
        // Those that a test has frozen.
        signal(&pids, "CONT");
        let deadline = Instant::now() + STOP;
        while matches!(master.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if matches!(master.try_wait(), Ok(None)) {
            signal(&pids, "KILL");
        }
        let _ = master.wait();
    }
}

/// Polls until something holds, for a bounded time.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + START;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A TCP port that nothing listens on now, below those that the kernel gives to outgoing connections: one of these
/// could take it before the test does.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    /// Test programs that run at once begin so far apart.
    const STRIDE: u32 = 97;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let step =
            std::process::id().wrapping_mul(STRIDE).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + step % COUNT).expect("below 30,000");
        // A connection tells what a bind does not: listeners that share their port.
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpStream::connect(("127.0.0.1", port)).is_err()
        {
            return port;
        }
    }
    panic!("no port is free")
}

/// True if the tests run as root.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("run id");
    id.stdout.starts_with(b"0")
}

/// For tests that need root: says by name that the test is skipped. In CI, which runs as root, that is a failure.
pub fn needs_root(test: &str) -> bool {
    if is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} needs root, and CI must not skip it");
    say(&format!("skipped, needs root: {test}"));
    false
}

/// Tells whoever runs the tests, also of those that pass.
pub fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}

/// A built binary: in VSMTP_BIN, or beside the running test.
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("VSMTP_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("the test's own path");
        test.parent().and_then(Path::parent).expect("target folder").to_owned()
    });
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not built; run make test", path.display());
    path
}

/// Sends a signal, named without SIG, to all of them in one go.
pub fn signal(pids: &[u32], name: &str) {
    let pids = pids.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
}

/// Pids of a process's children.
pub fn children_of(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// True if the process runs.
pub fn is_alive(pid: u32) -> bool {
    // A zombie is dead: its parent, or init, has not looked yet.
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// A process's state, as proc(5) has it.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Other users must be able to reach what they must below the private directory.
fn open_up(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("open the folder up");
}
