//! The edge of a program of the package that vsmtpctl has started for itself, without a master: descriptor 3, and nothing else.
//! The order of such a process is: request, preparation, sandbox, answer.
//!
//! On failure: the edge closes without an answer, and the reason is on standard error.

use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Flushed, Message};
use vsmtp_sys::sandbox::Profile;
use vsmtp_sys::{fds, sandbox, signals};

/// The descriptor of the edge.
const EDGE_FD: i32 = 3;
/// Longest wait for the first request, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// The edge of a process that works for vsmtpctl.
pub struct Errand<Said, Asked> {
    channel: Channel<Said, Asked>,
    poll: Poll,
    events: Events,
}

impl<Said: Message, Asked: Message> Errand<Said, Asked> {
    /// Takes the edge over; the first thing that the process does.
    ///
    /// # Errors
    /// There is no such descriptor, or the kernel refuses.
    pub fn begin(edge: EdgeId) -> io::Result<Self> {
        signals::ignore_sigpipe_and_xfsz()?;
        let channel = Channel::new(fds::inherited(EDGE_FD)?, edge);
        let poll = Poll::new()?;
        // Both directions at once: what is not wanted at the moment only costs a look.
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&channel.socket().as_raw_fd()), Token(0), interest)?;
        Ok(Errand { channel, poll, events: Events::with_capacity(2) })
    }

    /// Waits for the only request, for a bounded time.
    ///
    /// # Errors
    /// None came, or what came is none.
    pub fn request(&mut self) -> io::Result<Asked> {
        let request = self.receive(Some(Instant::now() + PATIENCE))?;
        request.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Waits for a request as long as there is somebody who may make one: people think. `None`: nobody is there any more.
    ///
    /// # Errors
    /// What came is no request.
    pub fn another(&mut self) -> io::Result<Option<Asked>> {
        self.receive(None)
    }

    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Option<Asked>> {
        loop {
            match self.channel.receive() {
                Ok(Some(received)) => return Ok(Some(received.message)),
                Ok(None) => self.a_while(deadline)?,
                Err(ChannelError::Closed) => return Ok(None),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Answers, and waits until that is on its way.
    ///
    /// # Errors
    /// Nobody takes it in time.
    pub fn answer(&mut self, answer: &Said) -> io::Result<()> {
        let deadline = Some(Instant::now() + PATIENCE);
        self.channel.send(answer, Vec::new()).map_err(io::Error::other)?;
        while self.channel.flush().map_err(io::Error::other)? == Flushed::Blocked {
            self.a_while(deadline)?;
        }
        Ok(())
    }

    fn a_while(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self.poll.poll(&mut self.events, left) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

/// What is left to do in the jail.
pub type Answering<Said> = Box<dyn FnOnce() -> Said>;

/// The whole main of a program that answers one request: `prepare` looks at what the jail will forbid to look at, and says how
/// the jail is and what follows in it.
pub fn answer_once<Said: Message, Asked: Message>(
    name: &str,
    edge: EdgeId,
    prepare: impl FnOnce(Asked) -> io::Result<(Profile, Answering<Said>)>,
) -> ExitCode {
    exit_code(name, once(edge, prepare))
}

/// The exit status of such a program; what went wrong is said on standard error.
pub fn exit_code(name: &str, done: io::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn once<Said: Message, Asked: Message>(
    edge: EdgeId,
    prepare: impl FnOnce(Asked) -> io::Result<(Profile, Answering<Said>)>,
) -> io::Result<()> {
    let mut errand: Errand<Said, Asked> = Errand::begin(edge)?;
    let (profile, answering) = prepare(errand.request()?)?;
    sandbox::apply(&profile)?;
    errand.answer(&answering())
}
