//! Clients behind a load balancer, until its header has told who they are (the PROXY protocol). Nothing is said to them
//! and no session exists meanwhile. The header is looked at where it lies, so that what follows it stays in the socket,
//! for the dialogue or for the TLS handshake.
//!
//! On failure (no header, a broken one, none in time, too many who wait) the connection is closed.

use std::os::fd::AsFd;

use mio::Interest;
use vsmtp_daemon::{Reactor, Record};
use vsmtp_smtp::{MAX_PROXY_HEADER, ProxyHeader};

use crate::intake::Arrival;
use crate::sessions::Who;
use crate::socket::Moved;

/// The loop's timer for those who wait too long.
pub const LOBBY_TIMER: u64 = 6;
/// How long a header may take, in milliseconds; a balancer sends it at once.
const HEADER_MS: u64 = 5_000;
/// Most connections that wait.
pub const MAX_WAITING: usize = 4_096;

/// All who wait.
#[derive(Default)]
pub struct Lobby {
    places: Vec<Option<Guest>>,
    count: usize,
    timer_is_set: bool,
}

struct Guest {
    arrival: Arrival,
    until_ms: u64,
}

impl Lobby {
    /// Takes a connection; `first_token` plus its place is its token.
    pub fn enter(&mut self, reactor: &mut Reactor, arrival: Arrival, first_token: usize) {
        let place = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        let fd = arrival.socket.as_fd();
        if place >= MAX_WAITING || reactor.register(fd, first_token + place, Interest::READABLE).is_err() {
            return refuse(arrival.who, "too many wait");
        }
        let until_ms = reactor.now_ms() + HEADER_MS;
        if !std::mem::replace(&mut self.timer_is_set, true) {
            reactor.set_timer(until_ms, LOBBY_TIMER);
        }
        if place == self.places.len() {
            self.places.push(None);
        }
        if let Some(free) = self.places.get_mut(place) {
            *free = Some(Guest { arrival, until_ms });
            self.count += 1;
        }
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Something has come at that place: the client, if it is known now.
    pub fn look(&mut self, reactor: &Reactor, place: usize) -> Option<Arrival> {
        let guest = self.places.get_mut(place)?.as_mut()?;
        let mut buffer = [0; MAX_PROXY_HEADER];
        let header = match guest.arrival.socket.peek(&mut buffer) {
            Moved::Some(count) => ProxyHeader::parse(buffer.get(..count).unwrap_or_default()),
            Moved::Blocked => ProxyHeader::Partial,
            Moved::Ended(_) => ProxyHeader::Malformed,
        };
        match header {
            ProxyHeader::Partial => None,
            ProxyHeader::Malformed => {
                refuse(self.leave(place)?.who, "no header");
                None
            }
            ProxyHeader::Complete { used, addresses } => {
                let mut arrival = self.leave(place)?;
                reactor.deregister(arrival.socket.as_fd()).ok()?;
                // It was there a moment ago, so all of it can be read.
                match arrival.socket.read(buffer.get_mut(..used)?) {
                    Moved::Some(count) if count == used => {}
                    _ => return None,
                }
                if let Some((client, server)) = addresses {
                    arrival.who = Who::Network {
                        client: (client.ip(), client.port()),
                        server: Some((server.ip(), server.port())),
                    };
                }
                Some(arrival)
            }
        }
    }

    /// The timer has fired: who has waited too long goes.
    pub fn expire(&mut self, reactor: &mut Reactor) {
        let now = reactor.now_ms();
        for place in 0..self.places.len() {
            let late = self.places.get(place).and_then(Option::as_ref).is_some_and(|g| g.until_ms <= now);
            if late && let Some(arrival) = self.leave(place) {
                refuse(arrival.who, "no header in time");
            }
        }
        let next = self.places.iter().flatten().map(|guest| guest.until_ms).min();
        self.timer_is_set = next.is_some();
        if let Some(next) = next {
            reactor.set_timer(next, LOBBY_TIMER);
        }
    }

    fn leave(&mut self, place: usize) -> Option<Arrival> {
        let guest = self.places.get_mut(place)?.take()?;
        self.count -= 1;
        while self.places.last().is_some_and(Option::is_none) {
            self.places.pop();
        }
        Some(guest.arrival)
    }
}

/// Tells the operator why a connection to an address behind a balancer is closed.
pub fn refuse(who: Who, reason: &str) {
    Record::new("proxy-refused").field("client", who).field("reason", reason).emit();
}
