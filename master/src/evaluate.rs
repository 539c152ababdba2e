//! Has the configuration evaluated by the sandboxed oneshot filter: the master itself never reads a script. What comes
//! back is a flat list of values, which is checked here again before anything follows it.

use std::os::fd::AsRawFd;
use std::time::Duration;

use vsmtp_config::{Config, Context, Value};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::master_child::{Evaluate, ToMaster};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_mail::Domain;
use vsmtp_sys::{clock, spawn};

use crate::child::Child;
use crate::error::Error;
use crate::launch::Launcher;
use crate::layout::Layout;

/// A configuration that takes longer is refused, in milliseconds.
const DEADLINE_MS: u64 = 30_000;
/// How often a start looks whether the answer came, in milliseconds.
const LOOK_MS: u64 = 100;

/// An evaluation under way.
pub struct Evaluation {
    child: Child,
    context: Context,
    deadline_ms: u64,
}

impl Evaluation {
    /// Starts the oneshot process.
    pub fn start(launcher: &mut Launcher, layout: &Layout, context: Context) -> Result<Self, Error> {
        let slice = Evaluate {
            config_path: layout.config().display().to_string(),
            hostname: context.hostname.to_string(),
            cores: context.cores,
            root: context.root.clone(),
        };
        let slice = vsmtp_ipc::encode(&slice).map_err(|error| Error::System(error.to_string()))?;
        let name = ProcessName { role: Role::FilterOneshot, instance: 0 };
        let child = launcher.start(name, 0, slice)?;
        Ok(Evaluation { child, context, deadline_ms: clock::monotonic_ms() + DEADLINE_MS })
    }

    /// The result, if it is there; `None`: not yet.
    pub fn look(&mut self) -> Option<Result<Config, Error>> {
        loop {
            match self.child.channel.receive().map(|got| got.map(|received| received.message)) {
                Ok(Some(ToMaster::Evaluated(answer))) => return Some(self.check(answer)),
                Ok(Some(ToMaster::Fatal(text))) => return Some(Err(Error::Config(text))),
                Ok(Some(_)) => {}
                Ok(None) if clock::monotonic_ms() >= self.deadline_ms => {
                    let _ = spawn::kill(self.child.process.pid, 9);
                    return Some(Err(Error::Config(
                        "the configuration took longer than 30 s to evaluate".to_owned(),
                    )));
                }
                Ok(None) => return None,
                Err(ChannelError::Closed) => {
                    return Some(Err(Error::Config(
                        "the process that evaluates the configuration died".to_owned(),
                    )));
                }
                Err(error) => return Some(Err(Error::Config(error.to_string()))),
            }
        }
    }

    /// Ends it without a result.
    pub fn abandon(self) {
        // It may have ended by itself. Whether or not, it is reaped with the others.
        let _ = spawn::kill(self.child.process.pid, 9);
    }

    /// For the loop's poll.
    pub fn fd(&self) -> i32 {
        self.child.channel.socket().as_raw_fd()
    }

    /// Waits for the result. Only before there are children to look after.
    pub fn wait(mut self) -> Result<Config, Error> {
        let mut poll = mio::Poll::new().map_err(Error::io("make a poll"))?;
        let mut events = mio::Events::with_capacity(4);
        poll.registry()
            .register(&mut mio::unix::SourceFd(&self.fd()), mio::Token(0), mio::Interest::READABLE)
            .map_err(Error::io("register the oneshot process"))?;
        loop {
            if let Some(result) = self.look() {
                return result;
            }
            // An interrupted wait is as good as a finished one: the next look decides.
            let _ = poll.poll(&mut events, Some(Duration::from_millis(LOOK_MS)));
        }
    }

    fn check(&self, answer: Result<Vec<u8>, String>) -> Result<Config, Error> {
        // The last of its lines ends as the others do.
        let bytes = answer.map_err(|lines| Error::Config(lines.trim_end().to_owned()))?;
        let tree = Value::from_bytes(&bytes).map_err(|error| Error::Config(error.to_string()))?;
        Config::build(&self.context, &tree).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Error::Config(lines.join("\n"))
        })
    }
}

/// What configuration defaults depend on.
pub fn context(layout: &Layout, root: Option<&std::path::Path>) -> Context {
    let hostname =
        nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let hostname = Domain::parse(&hostname).or_else(|_| Domain::parse("localhost"));
    Context {
        hostname: hostname.unwrap_or_else(|_| Domain::literal(std::net::Ipv4Addr::LOCALHOST.into())),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        config_dir: layout.config_dir().display().to_string(),
        root: root.map_or_else(String::new, |root| root.display().to_string()),
    }
}
