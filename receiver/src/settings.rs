//! The receiver's slice of the configuration in the form in which sessions use it. Pure; built once, before the jail.

mod dialogues;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use vsmtp_config::{self as config, ByText, CertificateLogins, CertificatePattern, Network, ReceiverSlice};
use vsmtp_ipc::edge::master_child::Listener;
use vsmtp_ipc::edge::receiver_auth;
use vsmtp_mail::Service;
use vsmtp_smtp::{self as smtp, Privileges};
use vsmtp_tls::{self as tls, Name, PeerCertificate};

use dialogues::Dialogues;

/// What sessions go by.
#[derive(Debug)]
pub struct Settings {
    /// What is said where nothing else is configured.
    dialogues: Dialogues,
    /// What is said at addresses that have some of it of their own, in the order of the slice.
    own_dialogues: Vec<(SocketAddr, Dialogues)>,
    /// Longest waits for the client.
    pub timeouts: Timeouts,
    /// Names of clients are looked up.
    pub client_names: bool,
    /// Most sessions at once in this process.
    pub sessions: u32,
    /// Clients without limits and tests.
    exempt: Vec<Network>,
    /// Certificates that are a login, by their SHA-256.
    certificates: CertificateLogins,
    /// Where balancers knock.
    proxied: Vec<SocketAddr>,
    /// Addresses with TLS of their own, in the order of the slice, and whether mail waits for TLS there.
    secured: Vec<(SocketAddr, bool)>,
    /// The balancers.
    proxies: Vec<Network>,
    xclient_from: Vec<Network>,
    /// Of these, whose word about a login counts.
    login_from: Vec<Network>,
    xforward_from: Vec<Network>,
}

/// What is particular to one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// A balancer's header begins each connection.
    pub proxied: bool,
    /// The row that TLS has for it, if it has one.
    pub tls_row: Option<u16>,
    /// The row that ESMTP has for it, if it has one.
    pub esmtp_row: Option<u16>,
}

/// Longest waits for the client, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the first command.
    pub greeted: u64,
    /// For a command while no transaction is open.
    pub ready: u64,
    /// For a command after MAIL.
    pub mail: u64,
    /// For a command after RCPT.
    pub recipients: u64,
    /// For the next piece of a message.
    pub body: u64,
    /// For the whole session.
    pub session: u64,
    /// How long a reply is held back from a client with many errors.
    pub error_delay: u64,
}

impl Settings {
    /// Reads the slice. `descriptors` is how many this process may have open.
    pub fn new(slice: &ReceiverSlice, descriptors: u64) -> Self {
        let room = u32::try_from(descriptors / 2).unwrap_or(u32::MAX);
        let mut settings = Settings {
            dialogues: Dialogues::new(slice),
            own_dialogues: slice
                .listeners
                .iter()
                .map(|own| (own.address, Dialogues::at(slice, own)))
                .collect(),
            certificates: CertificateLogins::new(&slice.certificates),
            timeouts: Timeouts::new(slice),
            client_names: slice.client_names,
            // Half of the descriptors is for bodies, edges and listeners.
            sessions: slice.client_count_max.unwrap_or(u32::MAX).min(room),
            exempt: networks(&slice.exempt),
            proxied: slice.proxied.clone(),
            secured: slice.tls.as_ref().map_or_else(Vec::new, |tls| {
                let must = |level| level == config::SecurityLevel::Encrypt;
                tls.listeners.iter().map(|own| (own.address, must(own.security_level))).collect()
            }),
            proxies: networks(&slice.proxies),
            xclient_from: networks(&slice.xclient_from),
            login_from: networks(&slice.login_from),
            xforward_from: networks(&slice.xforward_from),
        };
        settings.offer(&certain(slice));
        settings
    }

    /// The dialogue of a service, where the listener has these rows.
    pub fn dialogue(&self, service: Service, manner: Manner) -> &Arc<smtp::Settings> {
        self.dialogues_at(manner).of(service)
    }

    /// The same for clients that are watched: no PIPELINING.
    pub fn watched(&self, manner: Manner) -> &Arc<smtp::Settings> {
        self.dialogues_at(manner).watched()
    }

    fn dialogues_at(&self, manner: Manner) -> &Dialogues {
        let own = manner.esmtp_row.and_then(|row| self.own_dialogues.get(usize::from(row)));
        own.map_or(&self.dialogues, |(_, own)| own)
    }

    /// From now on these mechanisms are offered to new sessions.
    pub fn offer(&mut self, names: &[String]) {
        self.dialogues.offer(names);
        self.own_dialogues.iter_mut().for_each(|(_, own)| own.offer(names));
    }

    /// True if this certificate is a login.
    pub fn is_login(&self, certificate: &PeerCertificate) -> bool {
        self.certificates.login(&certificate.fingerprint, &names_of(certificate)).is_some()
    }

    /// True if no limits hold for this client.
    pub fn exempts(&self, client: IpAddr) -> bool {
        is_in(&self.exempt, client)
    }

    /// What is particular to this listener.
    pub fn manner(&self, listener: &Listener) -> Manner {
        let Listener::Smtp { address, .. } = listener else { return Manner::default() };
        let Ok(address) = address.parse::<SocketAddr>() else { return Manner::default() };
        let number = |row: Option<usize>| row.and_then(|row| u16::try_from(row).ok());
        Manner {
            proxied: self.proxied.contains(&address),
            tls_row: number(self.secured.iter().position(|(own, _)| *own == address)),
            esmtp_row: number(self.own_dialogues.iter().position(|(own, _)| *own == address)),
        }
    }

    /// True if clients of this service must begin TLS before they send mail, where the listener has these rows.
    pub fn requires_tls(&self, service: Service, manner: Manner) -> bool {
        let own = manner.tls_row.and_then(|row| self.secured.get(usize::from(row)));
        match own.filter(|_| service == Service::Smtp) {
            Some((_, must)) => *must,
            None => self.dialogue(service, manner).tls_required,
        }
    }

    /// True if it is a balancer.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        is_in(&self.proxies, peer)
    }

    /// What a connection's peer may say of the clients behind it.
    pub fn privileges(&self, peer: IpAddr, service: Service) -> Privileges {
        let has_logins = !matches!(service, Service::Lmtp | Service::Local);
        Privileges {
            xclient: is_in(&self.xclient_from, peer),
            login: has_logins && is_in(&self.login_from, peer),
            xforward: is_in(&self.xforward_from, peer),
        }
    }
}

fn networks(texts: &[ByText<Network>]) -> Vec<Network> {
    texts.iter().map(|network| **network).collect()
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

impl Timeouts {
    fn new(slice: &ReceiverSlice) -> Self {
        let waits = &slice.timeouts;
        Timeouts {
            greeted: milliseconds(waits.connect),
            ready: milliseconds(waits.helo),
            mail: milliseconds(waits.mail_from),
            recipients: milliseconds(waits.rcpt_to),
            body: milliseconds(waits.data),
            session: milliseconds(slice.session_timeout),
            error_delay: milliseconds(slice.error_delay),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Until the helper has said what can be had, what any can do is offered.
fn certain(slice: &ReceiverSlice) -> Vec<String> {
    let is_certain = |name: &&String| matches!(name.as_str(), "PLAIN" | "LOGIN");
    slice.auth_mechanisms.iter().filter(is_certain).cloned().collect()
}

// All that are read can be told, whole and behind their kind.
const _: () = assert!(tls::MAX_NAMES <= receiver_auth::MAX_NAMES);
const _: () = assert!("email:".len() + tls::MAX_NAME <= receiver_auth::MAX_NAME);

/// The names in a certificate that count: those of one that leads to a trusted authority.
pub fn names_of(certificate: &PeerCertificate) -> Vec<CertificatePattern> {
    if !certificate.is_verified {
        return Vec::new();
    }
    let pattern = |name| match name {
        Name::Email(address) => CertificatePattern::parse(&format!("email:{address}")),
        Name::Host(host) => CertificatePattern::parse(&format!("dns:{host}")),
    };
    tls::names(&certificate.der).into_iter().filter_map(pattern).collect()
}
