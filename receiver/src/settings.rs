//! The receiver's slice of the configuration in the form in which sessions use it. Pure; built once, before the jail.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use vsmtp_config::{self as config, ByText, CertificateLogins, CertificatePattern, Network, ReceiverSlice};
use vsmtp_ipc::edge::master_child::Listener;
use vsmtp_ipc::edge::receiver_auth;
use vsmtp_mail::Service;
use vsmtp_smtp::{
    self as smtp, AuthSettings, BodyLimits, EarlyTalk, Extension, Extensions, Limits, Mechanism, Needs,
    Privileges, Protocol,
};
use vsmtp_tls::{self as tls, Name, PeerCertificate};

use crate::replies;

/// Octets that are read after a message broke a rule, in search of its end, beyond the size limit.
const DRAIN_BEYOND_LIMIT: u64 = 16 * 1024 * 1024;

/// What sessions go by.
#[derive(Debug)]
pub struct Settings {
    /// The dialogue of each service, at the place of its number; shared by all sessions.
    dialogues: [Arc<smtp::Settings>; Service::ALL.len()],
    /// Longest waits for the client.
    pub timeouts: Timeouts,
    /// Names of clients are looked up.
    pub client_names: bool,
    /// Most sessions at once in this process.
    pub sessions: u32,
    /// The same for clients that are watched: no PIPELINING.
    pub watched: Arc<smtp::Settings>,
    /// Clients without limits and tests.
    exempt: Vec<Network>,
    /// Certificates that are a login, by their SHA-256.
    certificates: CertificateLogins,
    /// Mechanisms that show the password are offered in clear.
    auth_in_clear: bool,
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
            dialogues: Service::ALL.map(|service| Arc::new(dialogue(slice, service))),
            certificates: CertificateLogins::new(&slice.certificates),
            auth_in_clear: slice.auth_in_clear,
            timeouts: Timeouts::new(slice),
            client_names: slice.client_names,
            // Half of the descriptors is for bodies, edges and listeners.
            sessions: slice.client_count_max.unwrap_or(u32::MAX).min(room),
            watched: Arc::new(watched(slice)),
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

    /// The dialogue of a service.
    pub fn dialogue(&self, service: Service) -> &Arc<smtp::Settings> {
        let [smtp, submission, submissions, lmtp, local] = &self.dialogues;
        match service {
            Service::Smtp => smtp,
            Service::Submission => submission,
            Service::Submissions => submissions,
            Service::Lmtp => lmtp,
            Service::Local => local,
        }
    }

    /// From now on these mechanisms are offered to new sessions.
    pub fn offer(&mut self, names: &[String]) {
        let mechanisms: Vec<Mechanism> =
            names.iter().map(|name| mechanism(name, self.auth_in_clear)).collect();
        let with = |before: &smtp::Settings| {
            let auth = AuthSettings { mechanisms: mechanisms.clone(), ..before.auth.clone() };
            Arc::new(smtp::Settings { auth, ..before.clone() })
        };
        for service in [Service::Smtp, Service::Submission, Service::Submissions] {
            *self.dialogue_mut(service) = with(self.dialogue(service));
        }
        self.watched = with(&self.watched);
    }

    fn dialogue_mut(&mut self, service: Service) -> &mut Arc<smtp::Settings> {
        let [smtp, submission, submissions, lmtp, local] = &mut self.dialogues;
        match service {
            Service::Smtp => smtp,
            Service::Submission => submission,
            Service::Submissions => submissions,
            Service::Lmtp => lmtp,
            Service::Local => local,
        }
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
        let row = self.secured.iter().position(|(own, _)| *own == address);
        Manner {
            proxied: self.proxied.contains(&address),
            tls_row: row.and_then(|row| u16::try_from(row).ok()),
        }
    }

    /// True if clients of this service must begin TLS before they send mail, where the listener has that row of TLS if any.
    pub fn requires_tls(&self, service: Service, tls_row: Option<u16>) -> bool {
        let own = tls_row.and_then(|row| self.secured.get(usize::from(row)));
        match own.filter(|_| service == Service::Smtp) {
            Some((_, must)) => *must,
            None => self.dialogue(service).tls_required,
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

/// What clients hear that are watched: a client that was not offered PIPELINING has no right to it.
fn watched(slice: &ReceiverSlice) -> smtp::Settings {
    dialogue(&ReceiverSlice { pipelining: false, ..slice.clone() }, Service::Smtp)
}

/// Until the helper has said what can be had, what any can do is offered.
fn certain(slice: &ReceiverSlice) -> Vec<String> {
    let is_certain = |name: &&String| matches!(name.as_str(), "PLAIN" | "LOGIN");
    slice.auth_mechanisms.iter().filter(is_certain).cloned().collect()
}

fn mechanism(name: &str, in_clear: bool) -> Mechanism {
    let needs = match name {
        "EXTERNAL" => Needs::ClientCertificate,
        _ if name.ends_with("-PLUS") => Needs::ChannelBinding,
        _ => Needs::Nothing,
    };
    // Who listens to SCRAM learns nothing that helps.
    let in_clear = in_clear || name.starts_with("SCRAM-");
    Mechanism { in_clear, needs, ..Mechanism::new(name) }
}

fn dialogue(slice: &ReceiverSlice, service: Service) -> smtp::Settings {
    let tls = slice.tls.as_ref().filter(|_| service != Service::Local);
    smtp::Settings {
        name: (*slice.server_name).clone(),
        protocol: if service == Service::Lmtp { Protocol::Lmtp } else { Protocol::Smtp },
        extensions: extensions(slice, service, tls.is_some()),
        tls_required: tls.is_some_and(|tls| match service {
            Service::Smtp => tls.security_level == config::SecurityLevel::Encrypt,
            // Passwords, and whatever else users send, never cross the network in clear.
            Service::Submission | Service::Submissions => true,
            Service::Lmtp | Service::Local => false,
        }),
        auth: AuthSettings {
            mechanisms: Vec::new(),
            required: match service {
                Service::Submission | Service::Submissions => true,
                Service::Smtp => slice.auth_required,
                Service::Lmtp | Service::Local => false,
            },
            failures: slice.auth_attempts.unwrap_or(u32::MAX),
        },
        ehlo: slice.ehlo || service == Service::Local,
        vrfy: slice.vrfy,
        raise_priority: slice.priority_raise,
        limits: limits(slice),
        bare_newline: match slice.bare_newline {
            config::BareNewline::Refuse => smtp::BareNewline::Refuse,
            config::BareNewline::Normalise => smtp::BareNewline::Normalise,
        },
        early_talk: EarlyTalk::default(),
        replies: replies::of(slice),
    }
}

/// What EHLO offers at this service.
fn extensions(slice: &ReceiverSlice, service: Service, has_tls: bool) -> Extensions {
    // The last one only while a session is under TLS.
    let mut extensions =
        Extensions::of(&[Extension::Size, Extension::EnhancedStatusCodes, Extension::RequireTls]);
    for (extension, wanted) in [
        (Extension::Pipelining, slice.pipelining),
        (Extension::EightBitMime, slice.eightbitmime),
        (Extension::Dsn, slice.dsn),
        (Extension::SmtpUtf8, slice.smtputf8),
    ] {
        if wanted {
            extensions = extensions.with(extension);
        }
    }
    if slice.chunking {
        extensions = extensions.with(Extension::Chunking);
        if slice.eightbitmime {
            extensions = extensions.with(Extension::BinaryMime);
        }
    }
    if has_tls {
        extensions = extensions.with(Extension::StartTls);
    }
    extensions = extensions.with(Extension::Limits);
    if service.needs_login() {
        extensions =
            extensions.with(Extension::MtPriority).with(Extension::FutureRelease).with(Extension::DeliverBy);
    }
    for word in slice.discard.iter().filter_map(|word| Extension::from_keyword(word)) {
        extensions = extensions.without(word);
    }
    if !extensions.has(Extension::Chunking) {
        extensions = extensions.without(Extension::BinaryMime);
    }
    // RFC 6531 3.1: who has the one must have the other.
    if !extensions.has(Extension::EightBitMime) {
        extensions = extensions.without(Extension::SmtpUtf8);
    }
    extensions
}

fn limits(slice: &ReceiverSlice) -> Limits {
    Limits {
        recipients: slice.rcpt_count_max,
        soft_errors: slice.error_soft_count.unwrap_or(u32::MAX),
        hard_errors: slice.error_hard_count.unwrap_or(u32::MAX),
        body: BodyLimits {
            size: slice.message_size_limit,
            header: slice.header_size_limit,
            // The key counts the CRLF, the decoder does not.
            line: slice.line_length_max.saturating_sub(2),
            hops: slice.hop_count_max,
            drain: slice.message_size_limit.saturating_add(DRAIN_BEYOND_LIMIT),
        },
        ..Limits::default()
    }
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
