//! One exchange with one client, from AUTH to the grant or the refusal.

mod refusals;

use vsmtp_config::CertificatePattern;
use vsmtp_daemon::Record;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::receiver_auth::{
    Answer, Ask, Begin, CREDITS, Denied, MAX_EXCHANGES, MAX_MESSAGE, MAX_NAME, MAX_NAMES, Tls, Vouch,
};
use vsmtp_ipc::wire::{Blob, Grant};

use super::grants::Granted;
use super::{Act, Desk, Due, Edge, Outcome, PENDING_MS, Place, Purpose, Receiver, Work, misbehaved};
use crate::backend::dovecot;
use crate::mechanism::{self, Mechanism, Step, Surroundings, Talk};
use crate::secret::{Bearer, Credentials, user};

/// Octets of our half of a SCRAM nonce, before they are written as text.
const NONCE: usize = 18;

/// One exchange. As many as a receiver likes wait for their clients, so that what is kept of each is small.
pub struct Exchange {
    mechanism: Mechanism,
    place: Place,
    /// The `tls-exporter` channel binding, if the TLS session has one.
    exporter: Option<[u8; 32]>,
    /// Whose the client's certificate is, for EXTERNAL. Its names are not kept.
    certificate: Option<String>,
    state: State,
}

/// What it waits for.
enum State {
    /// The client.
    Talking(Talk),
    /// The client, for Dovecot; true if that has refused a token already, and the client may say anything.
    Relaying(dovecot::Exchange, bool),
    /// The work of that number; 0 while a step is being taken.
    Working(u64),
    /// The client, which has heard what is wrong with its token and may say anything.
    Told,
}

impl State {
    /// True if the receiver waits for an answer.
    fn is_open(&self) -> bool {
        matches!(self, State::Working(_))
    }
}

impl Desk {
    /// A receiver speaks.
    ///
    /// # Errors
    /// It said what nobody may say: its edge is to be closed.
    pub fn ask(&mut self, now_ms: u64, edge: Edge, ask: Ask) -> Result<Vec<Act>, ChannelError> {
        let receiver = self.receivers.get_mut(&edge).ok_or_else(|| misbehaved("speaks without an edge"))?;
        match ask {
            Ask::Begin(begin) => {
                receiver.admit(begin.exchange)?;
                check_length(begin.initial.as_ref())?;
                check_names(begin.tls.as_ref())?;
                receiver.open += 1;
                Ok(self.begin(now_ms, edge, begin))
            }
            Ask::Vouch(vouch) => {
                receiver.admit(vouch.exchange)?;
                let login = user(vouch.login.as_bytes()).ok_or_else(|| misbehaved("named nobody"))?;
                receiver.open += 1;
                Ok(self.vouch(now_ms, edge, &vouch, login))
            }
            Ask::Continue { exchange, response } => {
                check_length(Some(&response))?;
                if receiver.open >= CREDITS {
                    return Err(misbehaved("more questions than credits"));
                }
                let found = receiver.exchanges.get_mut(&exchange);
                let found = found.ok_or_else(|| misbehaved("went on with what had not begun"))?;
                match std::mem::replace(&mut found.state, State::Working(0)) {
                    State::Talking(talk) => {
                        receiver.open += 1;
                        Ok(self.go_on(now_ms, edge, exchange, talk, &response))
                    }
                    State::Relaying(relay, _) => {
                        receiver.open += 1;
                        let work = Work::GoOn(relay, response.0.clone());
                        Ok(self.work_on(now_ms, edge, exchange, None, work))
                    }
                    State::Told => {
                        receiver.open += 1;
                        Ok(self.answer_denied(edge, exchange, Denied::Credentials))
                    }
                    State::Working(_) => Err(misbehaved("two questions of one exchange at once")),
                }
            }
            Ask::Cancel { exchange } => {
                let Some(removed) = receiver.exchanges.remove(&exchange) else { return Ok(Vec::new()) };
                if removed.state.is_open() {
                    receiver.open = receiver.open.saturating_sub(1);
                    let why = Denied::Temporary;
                    return Ok(vec![Act::Answer(edge, Answer::Denied { exchange, why, wait_ms: 0 })]);
                }
                self.given_up(now_ms, &removed);
                Ok(Vec::new())
            }
            Ask::End { grant } => {
                self.grants.end(edge, grant);
                Ok(Vec::new())
            }
        }
    }

    fn begin(&mut self, now_ms: u64, edge: Edge, begin: Begin) -> Vec<Act> {
        let Begin { exchange, mechanism, initial, client, server, tls } = begin;
        let secured = tls.is_some() || self.in_clear;
        let place = Place { client: client.map(|ip| ip.to_canonical()), server, secured };
        let offered = Mechanism::parse(&mechanism).filter(|found| self.offered().contains(found));
        let Some(mechanism) = offered else { return self.answer_denied(edge, exchange, Denied::Unsupported) };
        if mechanism.shows_secret() && !secured {
            return self.answer_denied(edge, exchange, Denied::NeedsTls);
        }
        let exporter = tls.as_ref().and_then(|tls| tls.exporter);
        let certificate =
            tls.filter(|_| mechanism == Mechanism::External).and_then(|tls| self.login_of(&tls));
        let new = Exchange { mechanism, place, exporter, certificate, state: State::Working(0) };
        let Some(receiver) = self.receivers.get_mut(&edge) else { return Vec::new() };
        receiver.exchanges.insert(exchange, new);
        if self.brakes.stops_client(now_ms, self.counted(place)) {
            return self.deny(now_ms, edge, exchange, Denied::Throttled, None);
        }
        if self.is_relayed(mechanism) {
            let Some(seat) = self.seats.take() else {
                return self.deny(now_ms, edge, exchange, Denied::Temporary, None);
            };
            let work = Work::Relay(mechanism, initial.map(|blob| blob.0.clone()), place, seat);
            return self.work_on(now_ms, edge, exchange, None, work);
        }
        let initial = initial.as_ref().map(|blob| blob.0.as_slice());
        let step = self.surrounded(edge, exchange, |around| mechanism::begin(mechanism, initial, around));
        match step.flatten() {
            Some(step) => self.take_step(now_ms, edge, exchange, step),
            None => self.deny(now_ms, edge, exchange, Denied::Unsupported, None),
        }
    }

    /// A proxy has said who its client is. Who may is configured here too; that it was such a proxy, and what it said, is on the
    /// receiver's word.
    fn vouch(&mut self, now_ms: u64, edge: Edge, vouch: &Vouch, login: String) -> Vec<Act> {
        let Vouch { exchange, proxy, client, .. } = *vouch;
        let place = Place { client: client.map(|ip| ip.to_canonical()), server: None, secured: true };
        let mechanism = Mechanism::XClient;
        let new = Exchange { mechanism, place, exporter: None, certificate: None, state: State::Working(0) };
        let Some(receiver) = self.receivers.get_mut(&edge) else { return Vec::new() };
        receiver.exchanges.insert(exchange, new);
        if !self.proxies.iter().any(|network| network.contains(proxy.to_canonical())) {
            return self.deny(now_ms, edge, exchange, Denied::Unsupported, Some(login));
        }
        self.grant(now_ms, edge, exchange, login, None)
    }

    /// Whose the client's certificate is.
    fn login_of(&self, tls: &Tls) -> Option<String> {
        let names: Vec<CertificatePattern> =
            tls.names.iter().filter_map(|name| CertificatePattern::parse(name)).collect();
        self.certificates.login(&tls.certificate?, &names).map(str::to_owned)
    }

    fn go_on(&mut self, now_ms: u64, edge: Edge, exchange: u64, talk: Talk, message: &Blob) -> Vec<Act> {
        match self.surrounded(edge, exchange, |around| talk.step(&message.0, around)) {
            Some(step) => self.take_step(now_ms, edge, exchange, step),
            None => self.deny(now_ms, edge, exchange, Denied::Temporary, None),
        }
    }

    /// Lets a mechanism act with what it may ask for. `None` if there is no randomness.
    fn surrounded<T>(
        &self,
        edge: Edge,
        exchange: u64,
        act: impl FnOnce(&Surroundings<'_>) -> T,
    ) -> Option<T> {
        let found = self.receivers.get(&edge)?.exchanges.get(&exchange)?;
        let mut octets = [0; NONCE];
        (self.random)(&mut octets).ok()?;
        let nonce = data_encoding::BASE64.encode(&octets);
        let exporter = found.exporter.as_ref().map(|octets| octets.as_slice());
        let plus_offered = exporter.is_some() && self.offered().contains(&Mechanism::ScramSha256Plus);
        Some(act(&Surroundings {
            secret: &|name| self.backends.scram_secret(name),
            nonce: &nonce,
            exporter,
            plus_offered,
            certificate: found.certificate.as_deref(),
        }))
    }

    fn take_step(&mut self, now_ms: u64, edge: Edge, exchange: u64, step: Step) -> Vec<Act> {
        match step {
            Step::Challenge(talk, message) => self.challenge(edge, exchange, State::Talking(talk), message),
            Step::Check(credentials) => self.check(now_ms, edge, exchange, credentials),
            Step::Bearer(bearer) => self.judge(now_ms, edge, exchange, bearer),
            Step::Granted(user) => self.grant(now_ms, edge, exchange, user, None),
            Step::Wrong(user) => self.refuse(now_ms, edge, exchange, user, true),
            Step::Malformed => self.deny(now_ms, edge, exchange, Denied::Malformed, None),
        }
    }

    fn check(&mut self, now_ms: u64, edge: Edge, exchange: u64, credentials: Credentials) -> Vec<Act> {
        if self.brakes.stops_account(now_ms, &credentials.user) {
            return self.deny(now_ms, edge, exchange, Denied::Throttled, Some(credentials.user));
        }
        if self.backends.is_empty() {
            return self.grant(now_ms, edge, exchange, credentials.user.clone(), Some(credentials));
        }
        let place = self.exchange(edge, exchange).map(|found| found.place);
        let Some(place) = place else { return Vec::new() };
        let user = Some(credentials.user.clone());
        self.work_on(now_ms, edge, exchange, user, Work::Check(credentials, place))
    }

    fn judge(&mut self, now_ms: u64, edge: Edge, exchange: u64, bearer: Bearer) -> Vec<Act> {
        let user = bearer.user.clone();
        self.work_on(now_ms, edge, exchange, user, Work::Judge(bearer))
    }

    fn work_on(
        &mut self,
        now_ms: u64,
        edge: Edge,
        exchange: u64,
        user: Option<String>,
        work: Work,
    ) -> Vec<Act> {
        let (number, acts) = self.work(now_ms, Purpose::Exchange { edge, exchange, user }, work);
        if let Some(found) = self.exchange_mut(edge, exchange) {
            found.state = State::Working(number);
        }
        acts
    }

    /// A thread has found something about an exchange.
    pub(super) fn found(
        &mut self,
        now_ms: u64,
        edge: Edge,
        exchange: u64,
        number: u64,
        named: Option<String>,
        outcome: Outcome,
    ) -> Vec<Act> {
        // It may have been given up, and begun anew by the same name: then this is about another password.
        let is_it = |found: &Exchange| matches!(found.state, State::Working(working) if working == number);
        if !self.exchange(edge, exchange).is_some_and(is_it) {
            return Vec::new();
        }
        match outcome {
            Outcome::Yes(user) => self.grant(now_ms, edge, exchange, user, None),
            Outcome::No(user) => self.refuse(now_ms, edge, exchange, user.or(named), true),
            Outcome::NoGuess => self.refuse(now_ms, edge, exchange, named, false),
            Outcome::Unknown | Outcome::Mechanisms(_) => {
                self.deny(now_ms, edge, exchange, Denied::Temporary, named)
            }
            Outcome::Challenge(relay, message) => {
                // Whoever has been brought a token says more only of one that it refuses (RFC 7628 3.2.2).
                let bears =
                    |found: &Exchange| matches!(found.mechanism, Mechanism::XOauth2 | Mechanism::OauthBearer);
                let refused = !message.is_empty() && self.exchange(edge, exchange).is_some_and(bears);
                self.challenge(edge, exchange, State::Relaying(relay, refused), message)
            }
        }
    }

    fn challenge(&mut self, edge: Edge, exchange: u64, state: State, message: Vec<u8>) -> Vec<Act> {
        self.wait_for_client(edge, exchange, state);
        vec![Act::Answer(edge, Answer::Challenge { exchange, challenge: Blob(message) })]
    }

    /// The question is answered, and the exchange is not over.
    fn wait_for_client(&mut self, edge: Edge, exchange: u64, state: State) {
        let Some(receiver) = self.receivers.get_mut(&edge) else { return };
        let Some(found) = receiver.exchanges.get_mut(&exchange) else { return };
        found.state = state;
        receiver.open = receiver.open.saturating_sub(1);
    }

    /// The client is who it says. With `pending`, nobody but the rules can tell.
    fn grant(
        &mut self,
        now_ms: u64,
        edge: Edge,
        exchange: u64,
        user: String,
        pending: Option<Credentials>,
    ) -> Vec<Act> {
        let guessed = self.exchange(edge, exchange).is_some_and(|found| self.is_guessed(found.mechanism));
        if guessed && self.brakes.stops_account(now_ms, &user) {
            return self.deny(now_ms, edge, exchange, Denied::Throttled, Some(user));
        }
        let mut octets = [0; 16];
        let random = (self.random)(&mut octets);
        let Some(receiver) = self.receivers.get_mut(&edge) else { return Vec::new() };
        let Some(found) = receiver.exchanges.get(&exchange) else { return Vec::new() };
        let (grant, waits) = (Grant(octets), pending.is_some());
        let granted = Granted {
            edge,
            receiver: receiver.name,
            user: user.clone(),
            mechanism: found.mechanism,
            client: found.place.client,
            vouched: pending.is_none(),
            settled: false,
            pending,
        };
        if random.is_err() || !self.grants.add(grant, granted) {
            return self.deny(now_ms, edge, exchange, Denied::Temporary, Some(user));
        }
        let mechanism = found.mechanism;
        let client = found.place.client;
        receiver.exchanges.remove(&exchange);
        receiver.open = receiver.open.saturating_sub(1);
        self.tally.granted += 1;
        if !waits {
            Record::new("authenticated")
                .field("user", &user)
                .field("mechanism", mechanism.name())
                .maybe("client", client)
                .field("receiver", receiver.name)
                .emit();
        }
        let mut acts = vec![Act::Answer(edge, Answer::Granted { exchange, grant, identity: user })];
        if waits {
            acts.push(self.timer(now_ms + PENDING_MS, Due::Forget(grant)));
        }
        acts
    }

    /// True if Dovecot must lead this mechanism.
    fn is_relayed(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::XOauth2 | Mechanism::OauthBearer => !self.backends.judges_tokens(),
            Mechanism::ScramSha256 => !self.backends.has_scram(),
            _ => false,
        }
    }

    /// The client whose failures count; those that are trusted may speak for many users.
    fn counted(&self, place: Place) -> Option<std::net::IpAddr> {
        place.client.filter(|client| !self.trusted.iter().any(|network| network.contains(*client)))
    }

    fn exchange(&self, edge: Edge, exchange: u64) -> Option<&Exchange> {
        self.receivers.get(&edge)?.exchanges.get(&exchange)
    }

    fn exchange_mut(&mut self, edge: Edge, exchange: u64) -> Option<&mut Exchange> {
        self.receivers.get_mut(&edge)?.exchanges.get_mut(&exchange)
    }
}

impl Receiver {
    /// Whether a new exchange may begin.
    fn admit(&self, exchange: u64) -> Result<(), ChannelError> {
        if self.exchanges.contains_key(&exchange) {
            return Err(misbehaved("began an exchange twice"));
        }
        if self.exchanges.len() >= MAX_EXCHANGES || self.open >= CREDITS {
            return Err(misbehaved("more questions than credits"));
        }
        Ok(())
    }
}

fn check_length(message: Option<&Blob>) -> Result<(), ChannelError> {
    match message {
        Some(blob) if blob.0.len() > MAX_MESSAGE => Err(misbehaved("a SASL message is too long")),
        _ => Ok(()),
    }
}

fn check_names(tls: Option<&Tls>) -> Result<(), ChannelError> {
    let names = tls.map_or(&[][..], |tls| &tls.names);
    if names.len() > MAX_NAMES {
        return Err(misbehaved("told too many names"));
    }
    if names.iter().any(|name| name.len() > MAX_NAME) {
        return Err(misbehaved("a name of a certificate is too long"));
    }
    Ok(())
}
