//! TLS of this process: what the key holder told, and on which terms handshakes are made at each place. Owns no session
//! and no private key.
//!
//! Without certificates, or while too many handshakes wait for their signature, there is no TLS: STARTTLS is answered with
//! 454, and connections that begin with TLS are closed.

mod desk;
mod pool;
mod turns;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vsmtp_config::{ClientCertificate, ListenerTls, ServerTls};
use vsmtp_daemon::{Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::receiver_keys::{self as edge, Answer, MAX_CERTIFICATES};
use vsmtp_ipc::role::ProcessName;
use vsmtp_mail::Service;
use vsmtp_tls::server::{
    Certificate, Certificates, ClientCertificates, Finished, Oracle, Policy, Secret, Terms, Tickets, Work,
};
use vsmtp_tls::{Version, warm_up};

use desk::Desk;
use pool::Pool;
use turns::Turns;

/// Places whose terms are remembered: pairs of a service and an address of ours.
const MAX_PLACES: usize = 1024;

/// TLS of this process.
pub struct Tls {
    policy: Option<Policy>,
    /// What differs at single addresses, by the number of their row.
    own: Vec<Policy>,
    /// Longest handshake, in milliseconds.
    pub handshake_ms: u64,
    desk: Arc<Desk>,
    keys: Option<ProcessName>,
    /// Why its edge failed while something was sent.
    failed: Option<ChannelError>,
    certificates: Option<Arc<Certificates>>,
    secrets: Vec<Secret>,
    terms: HashMap<Place, Option<Terms>>,
    pool: Option<Pool>,
    /// Whose handshake goes on in this turn of the loop.
    pub turns: Turns,
    /// When the log said last that there are too many handshakes.
    busy_ms: Option<u64>,
}

/// How often the log says at most that there are too many handshakes, in milliseconds.
const BUSY_MS: u64 = 60_000;

/// A service at an address of ours, and the row of the listener: tickets of one are worth nothing at another.
type Place = (Service, Option<(IpAddr, u16)>, Option<u16>);

impl Tls {
    /// By the configuration; `None` for no TLS at all.
    pub fn new(slice: Option<&ServerTls>) -> Self {
        Tls {
            policy: slice.map(policy),
            own: slice.map_or_else(Vec::new, |tls| tls.listeners.iter().map(own_policy).collect()),
            handshake_ms: slice
                .map_or(0, |tls| u64::try_from(tls.handshake_timeout.as_millis()).unwrap_or(u64::MAX)),
            desk: Arc::default(),
            keys: None,
            failed: None,
            certificates: None,
            secrets: Vec::new(),
            terms: HashMap::new(),
            pool: None,
            turns: Turns::default(),
            busy_ms: None,
        }
    }

    /// Before the jail: the library looks at the machine.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn prepare(&self) -> io::Result<()> {
        if self.policy.is_some() { warm_up() } else { Ok(()) }
    }

    /// Inside the jail: starts the threads in which handshakes wait for their signatures.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(&mut self, reactor: &Reactor) -> io::Result<()> {
        if self.policy.is_some() {
            self.pool = Some(Pool::start(reactor.waker())?);
        }
        Ok(())
    }

    /// True if there is to be TLS and nobody has told the certificates yet.
    pub fn is_coming(&self) -> bool {
        self.policy.is_some() && self.certificates.is_none()
    }

    /// True if the key holder is there, so that handshakes can be signed.
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// What handshakes go by at a place, where the listener has that row of its own if any; `None` if there is no TLS now.
    pub fn terms(
        &mut self,
        service: Service,
        server: Option<(IpAddr, u16)>,
        row: Option<u16>,
    ) -> Option<Terms> {
        let (general, certificates) = (self.policy.as_ref()?, self.certificates.as_ref()?);
        let policy = match row {
            Some(row) => self.own.get(usize::from(row))?,
            None => general,
        };
        if self.terms.len() >= MAX_PLACES {
            self.terms.clear();
        }
        let make = || {
            let mut place = service.to_string();
            for part in [
                server.map(|(address, port)| format!(" {address} {port}")),
                row.map(|row| format!(" #{row}")),
            ] {
                place.push_str(part.as_deref().unwrap_or_default());
            }
            match Terms::new(policy, certificates, Tickets::new(&place, &self.secrets)) {
                Ok(terms) => Some(terms),
                Err(error) => {
                    Record::at(log::Level::Error, "tls-unusable").field("error", error).emit();
                    None
                }
            }
        };
        self.terms.entry((service, server, row)).or_insert_with(make).clone()
    }

    /// Takes the edge to the key holder, instead of an older one.
    ///
    /// # Errors
    /// The loop does not take it.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
    ) -> io::Result<()> {
        if self.policy.is_none() {
            // It belongs to a configuration that is not ours.
            return Ok(());
        }
        self.desk.open(reactor, socket, token)?;
        self.keys = Some(name);
        self.failed = None;
        Ok(())
    }

    /// Hears one thing that the key holder has to say; `None` if there is no more for now.
    ///
    /// # Errors
    /// The edge is to be dropped.
    pub fn hear(&mut self) -> Result<Option<()>, ChannelError> {
        self.desk.hear()?.map(|answer| self.take(answer)).transpose()
    }

    /// Drops the edge: its name, if it was there, and how many signatures will not come. What the key holder told stays
    /// true; signatures must wait for the next one.
    pub fn remove(&mut self) -> Option<(ProcessName, usize)> {
        let waiting = self.desk.close();
        self.keys.take().map(|name| (name, waiting))
    }

    /// Sends what could not be sent at once.
    pub fn flush(&mut self) {
        if let Err(error) = self.desk.flush() {
            self.failed = Some(error);
        }
    }

    /// Why the edge failed while something was sent, if it did.
    pub fn take_failed(&mut self) -> Option<ChannelError> {
        self.failed.take()
    }

    /// Has a step of a session's handshake done. False if there are too many already, and its client was not told to begin.
    pub fn work(&self, session: u64, work: Work, promised: bool) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.run(session, work, promised))
    }

    /// True if the log is to say that there are too many handshakes: not for each of them.
    pub fn says_busy(&mut self, now_ms: u64) -> bool {
        let says = self.busy_ms.is_none_or(|busy_ms| now_ms >= busy_ms + BUSY_MS);
        if says {
            self.busy_ms = Some(now_ms);
        }
        says
    }

    /// True if there are so many handshakes that no client is to be told to begin one.
    pub fn is_busy(&self) -> bool {
        self.pool.as_ref().is_some_and(Pool::is_busy)
    }

    /// A step that was done, and for whom.
    pub fn finished(&self) -> Option<(u64, Finished)> {
        self.pool.as_ref()?.finished()
    }

    fn take(&mut self, answer: Answer) -> Result<(), ChannelError> {
        match answer {
            Answer::Certificates { certificates, client_authorities } => {
                if certificates.len() > MAX_CERTIFICATES {
                    return Err(ChannelError::Misbehaved("told too many certificates".to_owned()));
                }
                let oracle: Arc<dyn Oracle> = Arc::clone(&self.desk) as _;
                let list: Vec<Certificate> = certificates.into_iter().map(certificate).collect();
                self.certificates = Some(Arc::new(Certificates::new(&list, &oracle)));
                for policy in self.policy.iter_mut().chain(&mut self.own) {
                    policy.client_authorities.clone_from(&client_authorities);
                }
            }
            Answer::Tickets(secrets) => {
                self.secrets = secrets.into_iter().map(|secret| Secret(secret.0)).collect();
            }
            // The desk has given it to whoever waits for it.
            Answer::Signed { .. } => return Ok(()),
        }
        self.terms.clear();
        Ok(())
    }
}

fn policy(slice: &ServerTls) -> Policy {
    let ServerTls { tls12, tls13, own_order, client_certificate, .. } = *slice;
    made([tls12, tls13], &slice.suites, own_order, client_certificate)
}

fn own_policy(slice: &ListenerTls) -> Policy {
    let ListenerTls { tls12, tls13, own_order, client_certificate, .. } = *slice;
    made([tls12, tls13], &slice.suites, own_order, client_certificate)
}

fn made(spoken: [bool; 2], suites: &[u16], own_order: bool, client_certificate: ClientCertificate) -> Policy {
    let versions = [Version::Tls12, Version::Tls13].into_iter().zip(spoken);
    Policy {
        versions: versions.filter(|(_, spoken)| *spoken).map(|(version, _)| version).collect(),
        suites: suites.to_vec(),
        own_order,
        client_certificates: match client_certificate {
            ClientCertificate::None => ClientCertificates::None,
            ClientCertificate::Ask => ClientCertificates::Ask,
            ClientCertificate::Require => ClientCertificates::Require,
        },
        client_authorities: Vec::new(),
    }
}

fn certificate(told: edge::Certificate) -> Certificate {
    Certificate {
        key: told.key,
        chain: told.chain,
        names: told.names,
        schemes: told.schemes,
        is_default: told.is_default,
    }
}

#[cfg(test)]
mod tests {
    use vsmtp_config::{Config, Context, Value};
    use vsmtp_mail::Domain;
    use vsmtp_tls::SUITES;

    /// The configuration has a table of its own, since its crate knows no TLS.
    #[test]
    fn the_suites_of_the_configuration_are_those_of_the_library() {
        let hostname = Domain::parse("mx.test").unwrap();
        let context = Context { hostname, cores: 1, config_dir: "/etc".to_owned(), root: String::new() };
        let mut tree = Value::map();
        tree.set("server.tls.certificate", Value::Text("/chain.pem".to_owned()));
        tree.set("server.tls.private_key", Value::Text("/key.pem".to_owned()));
        let names = SUITES.iter().map(|(name, _)| Value::Text((*name).to_owned()));
        let mut named = tree.clone();
        named.set("server.tls.cipher_suite", Value::List(names.collect()));
        for tree in [tree, named] {
            let slice = Config::build(&context, &tree).unwrap().receiver();
            assert_eq!(slice.tls.unwrap().suites, SUITES.map(|(_, number)| number));
        }
    }
}
