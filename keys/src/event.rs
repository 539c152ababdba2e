//! The daemon: what wakes it, and what it does then.

use std::os::fd::OwnedFd;

use vsmtp_config::KeysSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Edges, Event, FIRST_TOKEN, Flow, Reactor, Record};
use vsmtp_ipc::edge::filter_keys as mail;
use vsmtp_ipc::edge::receiver_keys::{Answer, Ask, MAX_SIGNED};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_sys::sandbox::Profile;

use crate::files::Expected;
use crate::ring::{Ring, Set};
use crate::rotation::Rotation;
use crate::sandbox;

/// Most edges to receivers at once; more are refused.
const MAX_RECEIVERS: usize = 4096;
/// The same to filters.
const MAX_FILTERS: usize = 256;
/// The loop's timer for the next secret.
const ROTATE_TIMER: u64 = 1;
/// How soon a failed rotation is tried again, in milliseconds.
const TRY_AGAIN_MS: u64 = 60_000;

/// The daemon.
pub struct Keys {
    slice: KeysSlice,
    /// Files that are coming.
    expected: Expected,
    ring: Ring,
    receivers: Edges<Answer, Ask>,
    filters: Edges<mail::Answer, mail::Ask>,
    /// Edges of both kinds that there have been.
    met: usize,
    /// From the jail on.
    rotation: Option<Rotation>,
    signatures: u64,
    refused: u64,
    draining: bool,
}

impl Daemon for Keys {
    const NAME: &'static str = "vsmtp-keys";
    type Slice = KeysSlice;
    /// A handshake waits for each signature, and the client for the handshake.
    const GATHERS: bool = false;

    fn before_jail(boot: Boot<KeysSlice>) -> Result<Self, BootError> {
        warm_up()?;
        Ok(Keys {
            expected: Expected::new(boot.slice.files()),
            slice: boot.slice,
            ring: Ring::default(),
            receivers: Edges::new(EdgeId::ReceiverKeys, MAX_RECEIVERS),
            filters: Edges::new(EdgeId::FilterKeys, MAX_FILTERS),
            met: 0,
            rotation: None,
            signatures: 0,
            refused: 0,
            draining: false,
        })
    }

    fn profile(&self) -> Profile {
        sandbox::profile()
    }

    fn files(&self) -> usize {
        self.expected.count()
    }

    fn take_file(&mut self, file: OwnedFd) {
        self.expected.take(file);
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        self.load().map_err(BootError::Fatal)?;
        let rotation = Rotation::begin(reactor.now_ms());
        let rotation = rotation.map_err(|error| BootError::Io("make a secret", error))?;
        reactor.set_timer(rotation.next_ms(), ROTATE_TIMER);
        self.rotation = Some(rotation);
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) if name.role == Role::Receiver => self.meet(reactor, name, socket),
            Event::Peer(name, socket) if matches!(name.role, Role::FilterSession | Role::FilterPost) => {
                self.meet_filter(reactor, name, socket);
            }
            Event::Ready { token, readable: true, .. } if self.filters.has(token) => {
                self.hear_filter(reactor, token);
            }
            Event::Ready { token, readable: true, .. } => self.hear(reactor, token),
            Event::Timer(ROTATE_TIMER) => self.rotate(reactor),
            Event::Reconfigure(slice) => self.reconfigure(&slice),
            Event::File(_, file) => self.file(reactor, file),
            Event::Drain { .. } => self.draining = true,
            Event::TurnEnd => return self.turn_end(reactor),
            _ => {}
        }
        Flow::Continue
    }
}

/// Has the library look at its surroundings now: the jail forbids it later.
pub(crate) fn warm_up() -> Result<(), BootError> {
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut [0; 32]);
    random.map_err(|_| BootError::Io("find randomness", std::io::Error::other("no random bytes")))
}

impl Keys {
    /// Puts the files in force that have come.
    fn load(&mut self) -> Result<(), String> {
        let files = std::mem::replace(&mut self.expected, Expected::new(Vec::new())).read()?;
        let set = Set::read(&self.slice, &files)?;
        for (domain, certificate) in set.misnamed() {
            Record::at(log::Level::Warn, "certificate-misnamed")
                .field("domain", domain)
                .field("certificate", certificate)
                .emit();
        }
        self.ring.replace(set);
        Record::new("certificates-loaded")
            .field("certificates", self.ring.len())
            .field("mail_keys", self.ring.mail().len())
            .emit();
        Ok(())
    }

    fn reconfigure(&mut self, slice: &[u8]) {
        match vsmtp_ipc::decode::<KeysSlice>(slice) {
            Ok(slice) => {
                self.expected = Expected::new(slice.files());
                self.slice = slice;
            }
            Err(error) => {
                Record::at(log::Level::Error, "certificates-refused").field("error", error).emit();
            }
        }
    }

    /// A file of a new configuration. When all are here, they count; if one is bad, what was in force stays so.
    fn file(&mut self, reactor: &mut Reactor, file: OwnedFd) {
        // Without a slice that says what it is, a file is nothing.
        if self.expected.count() == 0 {
            return;
        }
        self.expected.take(file);
        if !self.expected.is_complete() {
            return;
        }
        if let Err(error) = self.load() {
            return Record::at(log::Level::Error, "certificates-refused").field("error", error).emit();
        }
        for token in self.receivers.tokens() {
            self.tell_certificates(reactor, token);
        }
    }

    /// A token that no edge has had.
    fn next_token(&mut self) -> usize {
        self.met += 1;
        FIRST_TOKEN + self.met - 1
    }

    fn meet(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        let token = self.next_token();
        match self.receivers.introduce(reactor, name, socket, token) {
            Ok(_) => {
                self.tell_certificates(reactor, token);
                self.tell_secrets(reactor, token);
            }
            Err(error) => {
                Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit()
            }
        }
    }

    fn tell_certificates(&mut self, reactor: &mut Reactor, token: usize) {
        let answer = Answer::Certificates {
            certificates: self.ring.certificates(),
            client_authorities: self.ring.authorities().to_vec(),
        };
        self.say(reactor, token, &answer);
    }

    fn tell_secrets(&mut self, reactor: &mut Reactor, token: usize) {
        if let Some(secrets) = self.rotation.as_ref().map(Rotation::secrets) {
            self.say(reactor, token, &Answer::Tickets(secrets));
        }
    }

    fn hear(&mut self, reactor: &mut Reactor, token: usize) {
        loop {
            let heard = match self.receivers.hear(token) {
                Ok(Some(ask)) => self.answer(reactor, token, &ask.message),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return self.receivers.close(reactor, token, &error);
            }
        }
    }

    fn answer(&mut self, reactor: &mut Reactor, token: usize, ask: &Ask) -> Result<(), ChannelError> {
        let Ask::Sign { ticket, key, scheme, message } = ask;
        if message.len() > MAX_SIGNED {
            return Err(ChannelError::Misbehaved("asked for a signature of too much".to_owned()));
        }
        let signature = self.ring.sign(*key, *scheme, message).map_err(|why| {
            self.refused += 1;
            ChannelError::Misbehaved(why.to_owned())
        })?;
        self.signatures += 1;
        reactor.served();
        self.receivers.say(token, &Answer::Signed { ticket: *ticket, signature })
    }

    fn meet_filter(&mut self, reactor: &Reactor, name: ProcessName, socket: OwnedFd) {
        let token = self.next_token();
        if let Err(error) = self.filters.introduce(reactor, name, socket, token) {
            Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit();
        }
    }

    fn hear_filter(&mut self, reactor: &mut Reactor, token: usize) {
        let result = loop {
            let answer = match self.filters.hear(token) {
                Ok(Some(ask)) => self.answer_filter(ask.message),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            reactor.served();
            if let Err(error) = self.filters.say(token, &answer) {
                break Err(error);
            }
        };
        if let Err(error) = result {
            self.filters.close(reactor, token, &error);
        }
    }

    fn answer_filter(&mut self, ask: mail::Ask) -> mail::Answer {
        match ask {
            mail::Ask::Keys { ticket, domain } => {
                mail::Answer::Keys { ticket, algorithms: self.ring.mail().algorithms(&domain) }
            }
            mail::Ask::Sign { ticket, domain, number, data } => {
                let signature = self.ring.mail().sign(&domain, number, &data);
                self.signatures += u64::from(signature.is_some());
                self.refused += u64::from(signature.is_none());
                mail::Answer::Signed { ticket, signature }
            }
        }
    }

    fn say(&mut self, reactor: &mut Reactor, token: usize, answer: &Answer) {
        if let Err(error) = self.receivers.say(token, answer) {
            self.receivers.close(reactor, token, &error);
        }
    }

    fn rotate(&mut self, reactor: &mut Reactor) {
        let now = reactor.now_ms();
        let Some(rotation) = &mut self.rotation else { return };
        match rotation.turn(now) {
            Ok(turned) => {
                reactor.set_timer(rotation.next_ms(), ROTATE_TIMER);
                if turned {
                    for token in self.receivers.tokens() {
                        self.tell_secrets(reactor, token);
                    }
                }
            }
            Err(error) => {
                Record::at(log::Level::Error, "rotation-failed").field("error", error).emit();
                reactor.set_timer(now + TRY_AGAIN_MS, ROTATE_TIMER);
            }
        }
    }

    fn turn_end(&mut self, reactor: &mut Reactor) -> Flow {
        for (token, error) in self.filters.flush(reactor) {
            self.filters.close(reactor, token, &error);
        }
        for (token, error) in self.receivers.flush(reactor) {
            self.receivers.close(reactor, token, &error);
        }
        reactor.figure("certificates", self.ring.len() as u64);
        reactor.figure("signatures", self.signatures);
        reactor.figure("signatures_refused", self.refused);
        if self.draining { Flow::Exit } else { Flow::Continue }
    }
}
