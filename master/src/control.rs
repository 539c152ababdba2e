//! vsmtpctl's side of the master: who may speak is decided by the peer's credentials before a byte is read.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use vsmtp_ipc::edge::ctl_master::{Answer, MasterEnd, Request};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_sys::unix::{self, Peer};
use vsmtp_sys::users;

use crate::accounts::Accounts;
use crate::event::Event;

/// Connections of vsmtpctl at the same time. Of more, the one that has been silent for longest gives way, so that nobody who is
/// connected and asks nothing keeps others off.
pub const MAX_CONNECTIONS: usize = 16;

/// The open connections.
#[derive(Default)]
pub struct Connections {
    open: [Option<Connection>; MAX_CONNECTIONS],
    last_serial: u64,
    /// Counts connections and requests.
    turn: u64,
}

struct Connection {
    serial: u64,
    channel: MasterEnd,
    /// The turn of its last request, or of its beginning.
    heard: u64,
    /// It has asked and has no answer yet.
    waits: bool,
    /// Who has its question, of those that answer later.
    asks: Option<ProcessName>,
}

/// Who gets an answer that takes time. Places are used again, serial numbers are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    at: usize,
    serial: u64,
}

impl Connections {
    /// Takes the connections that wait.
    pub fn accept(&mut self, listener: &OwnedFd, accounts: &Accounts, registry: &Registry) {
        while let Ok(Some(socket)) = unix::accept_unix(listener.as_fd()) {
            let allowed = unix::peer_credentials(&socket).is_ok_and(|peer| is_allowed(&peer, accounts));
            if !allowed {
                continue;
            }
            let Some(at) = self.place() else {
                vsmtp_daemon::Record::at(log::Level::Warn, "control-refused")
                    .field("why", format_args!("{MAX_CONNECTIONS} requests are being answered"))
                    .emit();
                continue;
            };
            let channel = MasterEnd::new(socket, EdgeId::CtlMaster);
            let raw = channel.socket().as_raw_fd();
            if registry.register(&mut SourceFd(&raw), Event::Ctl(at).token(), Interest::READABLE).is_ok() {
                self.last_serial += 1;
                self.turn += 1;
                let (serial, heard) = (self.last_serial, self.turn);
                self.open[at] = Some(Connection { serial, channel, heard, waits: false, asks: None });
            }
        }
    }

    /// A free place, or that of the connection that has been silent for longest. None while all wait for answers.
    fn place(&self) -> Option<usize> {
        let silent = |(at, open): (usize, &Option<Connection>)| match open {
            None => Some((0, at)),
            Some(open) if open.waits => None,
            Some(open) => Some((open.heard, at)),
        };
        self.open.iter().enumerate().filter_map(silent).min().map(|(_, at)| at)
    }

    /// The next request of one connection. A bad one closes it.
    pub fn request(&mut self, at: usize) -> Option<Request> {
        let slot = self.open.get_mut(at)?;
        let open = slot.as_mut()?;
        match open.channel.receive() {
            Ok(received) => received.map(|received| {
                self.turn += 1;
                (open.heard, open.waits) = (self.turn, true);
                received.message
            }),
            Err(error) => {
                if !matches!(error, ChannelError::Closed) {
                    vsmtp_daemon::Record::at(log::Level::Warn, "bad-control-request")
                        .field("error", error)
                        .emit();
                }
                *slot = None;
                None
            }
        }
    }

    /// Remembers a connection for an answer that takes time.
    pub fn asker(&self, at: usize) -> Option<Asker> {
        let open = self.open.get(at)?.as_ref()?;
        Some(Asker { at, serial: open.serial })
    }

    /// Answers who asked long ago, if it still waits.
    pub fn answer_late(&mut self, asker: Asker, answer: &Answer) {
        if self.asker(asker.at) == Some(asker) {
            self.answer(asker.at, answer);
        }
    }

    /// A number by which the answer of that process finds this connection.
    pub fn ticket(&mut self, at: usize, asked: ProcessName) -> Option<u64> {
        let open = self.open.get_mut(at)?.as_mut()?;
        open.asks = Some(asked);
        Some(open.serial)
    }

    /// A process has answered. One question in flight per connection: an answer that nobody waits for is dropped.
    pub fn answer_ticket(&mut self, by: ProcessName, ticket: u64, answer: &Answer) {
        let waits = |open: &Connection| open.asks == Some(by) && open.serial == ticket;
        let Some(at) = self.open.iter().position(|open| open.as_ref().is_some_and(waits)) else { return };
        if let Some(open) = self.open.get_mut(at).and_then(Option::as_mut) {
            open.asks = None;
        }
        self.answer(at, answer);
    }

    /// There will be no answers of that process.
    pub fn fail_tickets(&mut self, asked: ProcessName) {
        let waits = |open: &&Connection| open.asks == Some(asked);
        let waiting = self.open.iter().flatten().filter(waits).map(|open| open.serial);
        let failed = Answer::Failed(format!("{asked} has ended"));
        for ticket in waiting.collect::<Vec<_>>() {
            self.answer_ticket(asked, ticket, &failed);
        }
    }

    /// Answers one connection.
    pub fn answer(&mut self, at: usize, answer: &Answer) {
        let Some(slot) = self.open.get_mut(at) else { return };
        let say = |channel: &mut MasterEnd| channel.send(answer, Vec::new()).and_then(|()| channel.flush());
        let sent = slot.as_mut().map(|open| {
            open.waits = false;
            say(&mut open.channel)
        });
        if matches!(sent, Some(Err(_))) {
            *slot = None;
        }
    }
}

/// Root, our own user, and members of the admin group.
fn is_allowed(peer: &Peer, accounts: &Accounts) -> bool {
    if peer.uid == 0 || peer.uid == users::current().0 {
        return true;
    }
    let admin = accounts.admin_gid();
    if admin == 0 || !accounts.are_separate() {
        return false;
    }
    peer.gid == admin
        || match (users::user_by_id(peer.uid), users::group_members(admin)) {
            (Ok(Some(user)), Ok(members)) => members.contains(&user.name),
            _ => false,
        }
}
