//! One connection: its socket, its dialogue, the message it carries, its clock. It moves bytes and says what happened;
//! what that means for leases and destinations is decided elsewhere.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use mio::Interest;
use vsmtp_config::NextHopTimeouts;
use vsmtp_daemon::Reactor;
use vsmtp_ipc::edge::queue_deliver::{Advice, SessionFailure, TlsResult};
use vsmtp_smtp::{Awaiting, ClientStep, Dialogue, Extension, HostError, HostFault, Outcome};
use vsmtp_tls::client::{TlsFailure, TlsFault};

use crate::lease::{Lease, LeaseKey, Verdict};
use crate::mime::Converter;
use crate::smtp::accounts::Account;
use crate::smtp::destination::Waiting;
use crate::smtp::hints::Subject;
use crate::smtp::route::{Endpoint, Site};
use crate::smtp::sasl::Exchange;
use crate::smtp::socket::Socket;
use crate::smtp::tally;
use crate::smtp::transaction::{self, How};
use crate::smtp::way::Way;

/// Octets of a message read and written at once.
const CHUNK: usize = 64 * 1024;
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

/// The search for a server that lets us in.
pub struct Dial {
    /// Places not tried yet, the next one last.
    pub left: Vec<Site>,
    /// Since when.
    pub started_ms: u64,
    /// What the last place did, and whether every one so far has refused us for good.
    pub refused: Option<(Site, Verdict)>,
    /// What the places asked for, or what is known of those that are left alone.
    pub advice: Advice,
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

    /// Goes on with the TLS handshake; true when there is something new to be done.
    fn secure(&mut self) -> bool {
        match self.try_secure() {
            Ok(false) => false,
            Ok(true) => {
                self.dialogue.tls_started();
                self.progress += 1;
                // The server's first words may have come together with the end of the handshake.
                self.read(false);
                true
            }
            Err(failure) => {
                self.dialogue.tls_failed(&failure.text);
                self.tls_failure = Some(failure);
                true
            }
        }
    }

    fn try_secure(&mut self) -> Result<bool, TlsFailure> {
        if !self.socket.is_starting_tls() {
            let no_tls = || TlsFailure::new(TlsFault::Local, "there is no TLS in this policy");
            let session = self.site.security.session(&self.tls).ok_or_else(no_tls)??;
            self.socket.start_tls(session);
        }
        self.socket.handshake()
    }

    /// Begins to say who we are.
    fn authenticate(&mut self) {
        let offered = &self.dialogue.capabilities().auth;
        let exchange = self.account.as_ref().and_then(|account| Exchange::choose(offered, account));
        match exchange {
            Some(mut exchange) => {
                let initial = exchange.initial();
                self.dialogue.auth_begin(exchange.name(), initial.as_deref());
                self.exchange = Some(exchange);
            }
            None => self.dialogue.auth_failed("server offers no SASL mechanism that we can use"),
        }
    }

    fn respond(&mut self, challenge: &[u8]) {
        let response = self.exchange.as_mut().map(|exchange| exchange.respond(challenge));
        match response {
            Some(Ok(words)) => self.dialogue.auth_respond(&words),
            Some(Err(fault)) => self.dialogue.auth_failed(&fault.to_string()),
            None => self.dialogue.auth_failed("server asks for nothing that was begun"),
        }
    }

    fn authenticated(&mut self) {
        if self.exchange.take().is_some_and(|exchange| exchange.is_proven()) {
            self.dialogue.auth_accepted();
        } else {
            self.dialogue.auth_failed("server did not prove that it knows our password");
        }
    }

    /// True if the server has proved who it is.
    fn is_proven(&self) -> bool {
        self.socket.secured().is_some() && self.site.security.is_proof()
    }

    /// What a session that came to be lacks, in the words of reports; `None` if it is as its policy wants it.
    pub fn shortfall(&self) -> Option<SessionFailure> {
        match (self.socket.secured(), self.socket.doubt()) {
            (None, _) => Some(self.failed_by(TlsResult::StartTlsNotSupported, "")),
            (Some(_), Some(doubt)) => {
                tally::result_of(doubt).map(|result| self.failed_by(result, &doubt.text))
            }
            (Some(_), None) => None,
        }
    }

    /// Why there is no session, in the words of reports; `None` if it was not for TLS.
    pub fn no_session(&self, error: &HostError) -> Option<SessionFailure> {
        if error.phase == Awaiting::Handshake {
            let failure = self.tls_failure.as_ref();
            let result = failure.map_or(Some(TlsResult::ValidationFailure), tally::result_of)?;
            return Some(self.failed_by(result, &error.to_string()));
        }
        let refused = error.fault == HostFault::Insecure;
        refused.then(|| self.failed_by(TlsResult::StartTlsNotSupported, ""))
    }

    fn failed_by(&self, result: TlsResult, why: &str) -> SessionFailure {
        let remote = match &self.site.endpoint {
            Endpoint::Tcp(address) => Some(address.ip()),
            Endpoint::Unix(_) => None,
        };
        tally::failure(result, &self.site.host, (self.socket.local_ip(), remote), why)
    }

    /// What TLS has reached, for the log.
    pub fn security(&self) -> String {
        self.site.security.describe(self.socket.secured())
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
        let Waiting { lease, retries } = waiting;
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

    fn wants_body(&self) -> bool {
        self.dialogue.awaiting() == Awaiting::Block
    }

    fn body_left(&self) -> u64 {
        match &self.stage {
            Stage::Busy(work) => work.lease.content.len().saturating_sub(work.offset),
            _ => 0,
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

    /// Gives the dialogue the next piece of the message, or its end.
    fn feed(&mut self) {
        let Stage::Busy(work) = &mut self.stage else {
            return self.dialogue.body_failed("there is no message");
        };
        if work.offset >= work.lease.content.len() {
            if let Some(converter) = work.converter.take() {
                let mut rest = Vec::new();
                match converter.finish(&mut rest) {
                    Ok(()) => self.dialogue.body(&rest),
                    Err(why) => return self.dialogue.body_failed(why.0),
                }
            }
            return self.dialogue.body_end();
        }
        if let (crate::content::Content::Memory(bytes), None) = (&work.lease.content, &work.converter) {
            work.offset = bytes.len() as u64;
            self.dialogue.body(bytes);
            return;
        }
        let left = work.lease.content.len().saturating_sub(work.offset);
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        match work.lease.content.read_at(&mut chunk, work.offset) {
            Ok(got) => {
                work.offset += got as u64;
                let read = chunk.get(..got).unwrap_or_default();
                let Some(converter) = &mut work.converter else { return self.dialogue.body(read) };
                let mut converted = Vec::with_capacity(got);
                match converter.push(read, &mut converted) {
                    Ok(()) => self.dialogue.body(&converted),
                    Err(why) => self.dialogue.body_failed(why.0),
                }
            }
            Err(error) => self.dialogue.body_failed(&format!("message cannot be read: {error}")),
        }
    }

    /// Renews the deadline if the connection waits for something new. Answers when a timer must be set, if one must.
    pub fn watch(&mut self, timeouts: &NextHopTimeouts, idle: Duration, now_ms: u64) -> Option<u64> {
        let awaiting = if self.connected { self.dialogue.awaiting() } else { Awaiting::Connect };
        let waiting_for = (awaiting, self.progress);
        if waiting_for != self.waiting_for {
            self.waiting_for = waiting_for;
            let usual = patience(awaiting, timeouts, idle);
            // What the operator has said of a service is about its answers, not about a connection that is kept.
            let own = self.serves.service.filter(|_| awaiting != Awaiting::Nothing);
            self.deadline_ms = now_ms.saturating_add(millis(own.unwrap_or(usual)));
            if let Stage::Busy(work) = &self.stage {
                self.deadline_ms = self.deadline_ms.min(work.started_ms.saturating_add(MAX_TRANSACTION_MS));
            }
        }
        if self.deadline_ms < self.timer_ms {
            self.timer_ms = self.deadline_ms;
            return Some(self.deadline_ms);
        }
        None
    }

    /// The timer fired. True if the wait is over, and the dialogue was told so; an idle connection is the caller's.
    pub fn on_timer(&mut self, now_ms: u64) -> bool {
        self.timer_ms = u64::MAX;
        if now_ms < self.deadline_ms {
            return false;
        }
        if !matches!(self.stage, Stage::Idle) {
            self.dialogue.on_timeout();
        }
        true
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

fn patience(awaiting: Awaiting, timeouts: &NextHopTimeouts, idle: Duration) -> Duration {
    match awaiting {
        Awaiting::Connect => timeouts.connect,
        Awaiting::Greeting | Awaiting::Hello | Awaiting::StartTls | Awaiting::Handshake | Awaiting::Auth => {
            timeouts.greeting
        }
        Awaiting::Mail => timeouts.mail,
        Awaiting::Rcpt => timeouts.rcpt,
        Awaiting::Data => timeouts.data,
        Awaiting::Block => timeouts.block,
        Awaiting::Dot => timeouts.dot,
        Awaiting::Nothing => idle,
        Awaiting::Reset | Awaiting::Quit => awaiting.patience(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
