//! vsmtpctl's side of the queue. Who may speak is decided by the peer's credentials before a byte is read; one request at a
//! time per connection; whatever concerns many messages is done a slice at a time between other events.

pub mod listing;
mod work;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use mio::Interest;
use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::ctl_queue::{Answer, Request};
use vsmtp_ipc::{ChannelError, EdgeId, Received};
use vsmtp_sys::{unix, users};

use crate::content;
use crate::ledger::{Clock, Ended, Ledger, Tell};
use crate::metrics;
use crate::trace;

pub use work::Work;

/// Most connections at once. Of more, the one that has been silent for longest gives way, so that nobody who is connected and
/// asks nothing keeps others off.
const MAX_CONNECTIONS: usize = 32;
/// The group of operators.
const ADMIN_GROUP: &str = "vsmtp-admin";

/// Who may give orders.
#[derive(Debug, Default)]
pub struct Operators {
    uids: Vec<u32>,
    gid: Option<u32>,
}

impl Operators {
    /// Root, our own user, and the admin group. Reads the user database, so before the jail.
    pub fn look_up() -> Self {
        let mut uids = vec![0, users::current().0];
        let gid = users::group(ADMIN_GROUP).ok().flatten();
        let members = gid.and_then(|gid| users::group_members(gid).ok()).unwrap_or_default();
        uids.extend(members.iter().filter_map(|name| users::user(name).ok().flatten()).map(|user| user.uid));
        Operators { uids, gid }
    }

    fn may(&self, peer: &unix::Peer) -> bool {
        self.uids.contains(&peer.uid) || self.gid == Some(peer.gid)
    }
}

/// The listening socket and the open connections.
#[derive(Default)]
pub struct Control {
    operators: Operators,
    listener: Option<(usize, OwnedFd)>,
    connections: HashMap<usize, Connection>,
    /// Counts connections and requests.
    turn: u64,
}

struct Connection {
    uid: u32,
    /// The turn of its last request, or of its beginning.
    heard: u64,
    link: Link<Answer, Request>,
    talk: Talk,
}

/// What is under way for one operator.
#[derive(Default)]
pub struct Talk {
    work: Option<Work>,
}

impl Control {
    /// Nobody is connected yet.
    pub fn new(operators: Operators) -> Self {
        Control { operators, ..Control::default() }
    }

    /// Takes the listening socket.
    pub fn listen(&mut self, reactor: &Reactor, socket: OwnedFd, token: usize) {
        match reactor.register(socket.as_fd(), token, Interest::READABLE) {
            Ok(()) => self.listener = Some((token, socket)),
            Err(error) => trace::trouble("control-not-registered", &error),
        }
    }

    /// True if the token is the listener's.
    pub fn is_listener(&self, token: usize) -> bool {
        self.listener.as_ref().is_some_and(|(own, _)| *own == token)
    }

    /// True if the token is a connection's.
    pub fn has(&self, token: usize) -> bool {
        self.connections.contains_key(&token)
    }

    /// Takes the connections that wait.
    pub fn accept(&mut self, reactor: &Reactor, next_token: &mut usize) {
        let Some((_, listener)) = &self.listener else { return };
        // Bounded by the kernel's backlog.
        while let Ok(Some(socket)) = unix::accept_unix(listener.as_fd()) {
            let Ok(peer) = unix::peer_credentials(&socket) else { continue };
            if !self.operators.may(&peer) {
                trace::operator_refused(peer.uid, &"not an operator");
                continue;
            }
            if !make_place(&mut self.connections) {
                trace::operator_refused(peer.uid, &"too many requests are being answered");
                continue;
            }
            let token = *next_token;
            *next_token += 1;
            if let Ok(link) = Link::new(reactor, socket, EdgeId::CtlQueue, token) {
                self.turn += 1;
                let (uid, heard) = (peer.uid, self.turn);
                self.connections.insert(token, Connection { uid, heard, link, talk: Talk::default() });
            }
        }
    }

    /// Takes what one operator has asked.
    pub fn hear(&mut self, token: usize, ledger: &mut Ledger, clock: Clock) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        self.turn += 1;
        connection.heard = self.turn;
        if let Err(error) = connection.hear(token, ledger, clock) {
            self.disconnect(token, &error);
        }
    }

    /// A commit has ended that an operator waits for.
    pub fn answer(&mut self, ended: &Ended) {
        let Tell::Operator { connection } = ended.tell else { return };
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.talk.committed(ended.result.is_ok());
        }
    }

    /// Goes on with what is under way. True if there is more to do at once.
    pub fn work(&mut self, ledger: &mut Ledger, clock: Clock) -> bool {
        let (mut more, mut failed) = (false, Vec::new());
        for (token, connection) in &mut self.connections {
            let result = connection.talk.go_on(*token, connection.uid, ledger, clock);
            more |= connection.talk.has_more();
            // The next request may have come while this one was under way.
            let heard = match result {
                Some(answer) => connection
                    .link
                    .send(&answer, Vec::new())
                    .and_then(|()| connection.hear(*token, ledger, clock)),
                None => Ok(()),
            };
            if let Err(error) = heard {
                failed.push((*token, error));
            }
        }
        for (token, error) in failed {
            self.disconnect(token, &error);
        }
        more
    }

    /// Sends what was answered in this turn.
    pub fn flush(&mut self, reactor: &Reactor) {
        let failed: Vec<(usize, ChannelError)> = self
            .connections
            .iter_mut()
            .filter_map(|(token, connection)| {
                connection.link.flush(reactor).err().map(|error| (*token, error))
            })
            .collect();
        for (token, error) in failed {
            self.disconnect(token, &error);
        }
    }

    fn disconnect(&mut self, token: usize, error: &ChannelError) {
        let Some(connection) = self.connections.remove(&token) else { return };
        if !matches!(error, ChannelError::Closed) {
            trace::operator_refused(connection.uid, error);
        }
    }
}

/// True if one more has a place, which the connection that has been silent for longest gives up if need be. False while all
/// wait for answers.
fn make_place(connections: &mut HashMap<usize, Connection>) -> bool {
    if connections.len() < MAX_CONNECTIONS {
        return true;
    }
    let silent = connections.iter().filter(|(_, connection)| !connection.talk.is_busy());
    let longest = silent.min_by_key(|(_, connection)| connection.heard).map(|(token, _)| *token);
    longest.is_some_and(|token| connections.remove(&token).is_some())
}

impl Connection {
    fn hear(&mut self, token: usize, ledger: &mut Ledger, clock: Clock) -> Result<(), ChannelError> {
        // While a request is under way the next one waits in the socket: `work` comes back here.
        while !self.talk.is_busy() {
            let Some(received) = self.link.receive()? else { return Ok(()) };
            if let Some((answer, descriptors)) = self.talk.take(received, token, self.uid, ledger, clock) {
                self.link.send(&answer, descriptors)?;
            }
        }
        Ok(())
    }
}

impl Talk {
    /// True while an answer is due.
    pub fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    /// Takes a request. What can be answered at once is.
    pub fn take(
        &mut self,
        received: Received<Request>,
        token: usize,
        uid: u32,
        ledger: &mut Ledger,
        clock: Clock,
    ) -> Option<(Answer, Vec<OwnedFd>)> {
        let answer = match received.message {
            Request::List { state, after, limit } => {
                listing::page(ledger, state, after.map(Into::into), limit, clock)
            }
            Request::Show(id) => listing::show(ledger, id.into(), clock),
            Request::Cat(id) => return Some(cat(ledger, id.into())),
            Request::Destinations { after, limit } => listing::destinations(ledger, after, limit, clock),
            Request::Stats => Answer::Stats(metrics::figures(ledger)),
            other => match Work::new(other, ledger, clock) {
                Ok(work) => {
                    self.work = Some(work);
                    self.go_on(token, uid, ledger, clock)?
                }
                Err(why) => Answer::Failed(why),
            },
        };
        Some((answer, Vec::new()))
    }

    /// Goes on with what is under way; an answer when it is done.
    pub fn go_on(&mut self, token: usize, uid: u32, ledger: &mut Ledger, clock: Clock) -> Option<Answer> {
        let answer = self.work.as_mut()?.go_on(token, uid, ledger, clock)?;
        self.work = None;
        Some(answer)
    }

    /// True if `go_on` has something to do though nothing has happened.
    pub fn has_more(&self) -> bool {
        self.work.as_ref().is_some_and(Work::has_more)
    }

    fn committed(&mut self, done: bool) {
        if let Some(work) = &mut self.work {
            work.committed(done);
        }
    }
}

fn cat(ledger: &Ledger, id: vsmtp_mail::QueueId) -> (Answer, Vec<OwnedFd>) {
    let outgoing = match ledger.outgoing(id) {
        Ok(outgoing) => outgoing,
        Err(error) => return (Answer::Failed(error.to_string()), Vec::new()),
    };
    match content::to_descriptor(&outgoing.parts) {
        Ok(fd) => (Answer::Body(content::len(&outgoing.parts)), vec![fd]),
        Err(error) => (Answer::Failed(error.to_string()), Vec::new()),
    }
}
