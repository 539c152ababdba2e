//! One connection: its socket, its dialogue, the message it carries, its clock. It moves bytes and says what happened;
//! what that means for leases and destinations is decided elsewhere.

mod body;
mod clock;
mod securing;

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use mio::Interest;
use vsmtp_daemon::Reactor;
use vsmtp_smtp::{Awaiting, ClientStep, Dialogue, Extension, HostError, Outcome};
use vsmtp_tls::client::TlsFailure;

use crate::lease::{Lease, LeaseKey};
use crate::mime::Converter;
use crate::smtp::accounts::Account;
use crate::smtp::destination::Waiting;
use crate::smtp::dial::Dial;
use crate::smtp::hints::Subject;
use crate::smtp::route::Site;
use crate::smtp::sasl::Exchange;
use crate::smtp::socket::Socket;
use crate::smtp::transaction::{self, How};
use crate::smtp::way::Way;

/// Octets read from a server at once; its replies are short.
const READ: usize = 8 * 1024;
/// Most reads for one event; a server that says more is not answering us.
const MAX_READS: usize = 64;
/// Longest transaction, whatever the server does to keep us waiting.
pub const MAX_TRANSACTION_MS: u64 = 60 * 60_000;

/// One connection.
pub struct Connection {
    /// Where it goes.
    pub site: Site,
    /// What it is doing.
    pub stage: Stage,
    /// The way that it works for, or did last.
    pub serves: Rc<Way>,
    /// Messages that went over it, or tried to.
    pub messages: u32,
    /// A timer is pending for this time.
    pub timer_ms: u64,
    /// Why its handshake failed.
    pub tls_failure: Option<TlsFailure>,
    socket: Socket,
    tls: Rc<vsmtp_tls::client::Client>,
    /// As whom we are known there.
    account: Option<Rc<Account>>,
    exchange: Option<Exchange>,
    /// Replies that came before TLS began.
    answers_in_clear: u64,
    connected: bool,
    dialogue: Dialogue,
    /// Until then the present wait may last.
    deadline_ms: u64,
    waiting_for: (Awaiting, u64),
    /// Counts what makes a wait a new one although its kind is the same.
    progress: u64,
}

/// What a connection is doing.
pub enum Stage {
    /// Connecting, greeting, EHLO; more places may be tried after this one.
    Dialing(Dial),
    /// A message is on its way.
    Busy(Work),
    /// Open and free.
    Idle,
    /// QUIT was said.
    Quitting,
}

/// A message on its way.
pub struct Work {
    /// The lease.
    pub lease: Box<Lease>,
    /// See [`Waiting`].
    pub retries: u8,
    /// How long the connection took that was made for it.
    pub connecting_ms: u32,
    /// When the transaction began.
    pub started_ms: u64,
    offset: u64,
    /// Makes of the message what the server takes; gone when it has said its last.
    converter: Option<Box<Converter>>,
}

/// A transaction that could not begin: the lease comes back.
pub struct NotBegun {
    /// The lease.
    pub lease: Box<Lease>,
    /// Why.
    pub why: String,
}

enum Wrote {
    All,
    Blocked,
    /// The connection is broken, and the dialogue knows.
    Lost,
}

/// What came of driving a connection.
pub enum Happened {
    /// Nothing for others to know: it waits.
    Waits,
    /// A server let us in, or is free again.
    Free,
    /// The transaction is over; then drive again.
    Done(Vec<Outcome>),
    /// It is of no more use.
    Closed(Option<HostError>),
}

impl Connection {
    /// Takes a socket that is connecting.
    pub fn new(
        socket: Socket,
        (tls, account): (Rc<vsmtp_tls::client::Client>, Option<Rc<Account>>),
        site: Site,
        dialogue: Dialogue,
        serves: Rc<Way>,
        dial: Dial,
    ) -> Self {
        Connection {
            site,
            tls_failure: None,
            tls,
            account,
            exchange: None,
            answers_in_clear: 0,
            serves,
            stage: Stage::Dialing(dial),
            messages: 0,
            timer_ms: u64::MAX,
            socket,
            connected: false,
            dialogue,
            deadline_ms: u64::MAX,
            waiting_for: (Awaiting::Nothing, u64::MAX),
            progress: 0,
        }
    }

    /// Has the loop watch the socket for both directions: edge-triggered, so that costs nothing while nothing changes.
    pub fn register(&self, reactor: &Reactor, token: usize) -> io::Result<()> {
        reactor.register(self.socket.as_fd(), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// The socket can be read or written. An error means that it never was, or is no more, connected.
    pub fn on_ready(&mut self, readable: bool, writable: bool, closed: bool) -> io::Result<()> {
        if !self.connected {
            if !(readable || writable) || !self.socket.connected()? {
                return Ok(());
            }
            self.connected = true;
            self.progress += 1;
        }
        // While TLS begins, what comes belongs to the handshake.
        if readable && !self.socket.is_starting_tls() {
            self.read(closed);
        }
        Ok(())
    }

    /// Reads until the kernel has no more. It has none if it gave less than there was room for, unless the peer has
    /// closed; that saves a system call per reply. TLS gives what it has got in pieces of its own.
    fn read(&mut self, to_the_end: bool) {
        let mut buffer = [0; READ];
        for _ in 0..MAX_READS {
            match self.socket.read(&mut buffer) {
                Ok(None) => return,
                Ok(Some(0)) => return self.dialogue.on_lost(),
                Ok(Some(got)) => {
                    self.dialogue.on_bytes(buffer.get(..got).unwrap_or_default());
                    if got < READ && !to_the_end && self.socket.secured().is_none() {
                        return;
                    }
                }
                Err(error) => {
                    log::debug!("event=read-failed remote={} error=\"{error}\"", self.site);
                    return self.dialogue.on_lost();
                }
            }
        }
        // The bound: whoever says so much is not answering us.
        self.dialogue.on_lost();
    }

    /// Begins a transaction on a free connection.
    pub fn begin(
        &mut self,
        waiting: Waiting,
        how: How,
        connecting_ms: u32,
        now_ms: u64,
    ) -> Result<(), NotBegun> {
        let Waiting { lease, retries, .. } = waiting;
        let offered = self.dialogue.capabilities();
        let (transaction, converter) = match transaction::of_lease(&lease, offered, self.is_proven(), how) {
            Ok(both) => both,
            Err(error) => return Err(NotBegun { lease, why: format!("message cannot be read: {error}") }),
        };
        if self.dialogue.start(transaction).is_err() {
            return Err(NotBegun { lease, why: "connection is not free".to_owned() });
        }
        self.messages += 1;
        self.progress += 1;
        let converter = converter.map(Box::new);
        self.stage =
            Stage::Busy(Work { lease, retries, connecting_ms, started_ms: now_ms, offset: 0, converter });
        Ok(())
    }

    /// True if the server offers this.
    pub fn offers(&self, extension: Extension) -> bool {
        self.dialogue.capabilities().has(extension)
    }

    /// True if a connection that had worked before ended before the server said a word about this message, of which
    /// nothing was sent: it may go over another one. Where nothing was awaited any more, the server had said all: its last
    /// reply and the end of the connection came at once, and to send such a message again would duplicate it.
    pub fn ended_unheard(&mut self) -> bool {
        let unheard = |error: &HostError| matches!(error.phase, Awaiting::Reset | Awaiting::Mail);
        self.messages > 1
            && matches!(self.dialogue.step(), ClientStep::Closed(Some(error)) if unheard(&error))
    }

    /// Whom the words of the last transaction were about.
    pub fn subject(&self) -> Subject {
        if self.dialogue.refused_mail() { Subject::Host } else { Subject::Recipient }
    }

    /// Says goodbye.
    pub fn quit(&mut self) {
        self.dialogue.quit();
        self.stage = Stage::Quitting;
    }

    /// Does all that can be done now.
    pub fn drive(&mut self) -> Happened {
        if !self.connected {
            return Happened::Waits;
        }
        loop {
            match self.dialogue.step() {
                ClientStep::StartTls => {
                    if !self.secure() {
                        return Happened::Waits;
                    }
                }
                ClientStep::Authenticate => self.authenticate(),
                ClientStep::Challenge(words) => self.respond(&words),
                ClientStep::Authenticated => self.authenticated(),
                ClientStep::NeedInput if !self.dialogue.output().is_empty() => match self.write() {
                    Wrote::All if !self.wants_body() => return Happened::Waits,
                    Wrote::All | Wrote::Lost => {}
                    Wrote::Blocked => return Happened::Waits,
                },
                ClientStep::NeedInput => {
                    // What TLS still holds: a failure will show when the connection is read.
                    let _ = self.socket.flush();
                    return Happened::Waits;
                }
                ClientStep::WantBody => {
                    // A full buffer is written before more is read: a slow server costs one chunk of memory.
                    if !self.dialogue.output().is_empty() && self.body_left() > 0 {
                        match self.write() {
                            Wrote::All => {}
                            Wrote::Blocked => return Happened::Waits,
                            Wrote::Lost => continue,
                        }
                    }
                    self.feed();
                }
                ClientStep::Done(outcomes) => return Happened::Done(outcomes),
                ClientStep::Idle => return Happened::Free,
                ClientStep::Closed(error) => {
                    self.socket.close();
                    return Happened::Closed(error);
                }
            }
        }
    }

    fn write(&mut self) -> Wrote {
        while !self.dialogue.output().is_empty() {
            match self.socket.write(self.dialogue.output()) {
                Ok(Some(count)) => self.dialogue.sent(count),
                Ok(None) => return Wrote::Blocked,
                Err(error) => return self.write_failed(&error),
            }
        }
        match self.socket.flush() {
            Ok(true) => {}
            Ok(false) => return Wrote::Blocked,
            Err(error) => return self.write_failed(&error),
        }
        self.progress += 1;
        Wrote::All
    }

    fn write_failed(&mut self, error: &io::Error) -> Wrote {
        log::debug!("event=write-failed remote={} error=\"{error}\"", self.site);
        // A server that closes after a 421 has often said so before our write failed.
        self.read(true);
        self.dialogue.on_lost();
        Wrote::Lost
    }

    /// The lease that it carries.
    pub fn lease(&self) -> Option<LeaseKey> {
        match &self.stage {
            Stage::Busy(work) => Some(work.lease.key),
            Stage::Dialing(_) | Stage::Idle | Stage::Quitting => None,
        }
    }

    /// True if the server may have accepted the message.
    pub fn is_sent(&self) -> bool {
        self.dialogue.awaiting() == Awaiting::Dot
    }

    /// True until the TCP connection stands.
    pub fn is_connecting(&self) -> bool {
        !self.connected
    }
}
