//! What is said at a listener: one dialogue for each service, and one for clients that are watched. Pure.

use std::sync::Arc;

use vsmtp_config::{self as config, ListenerEsmtp, ReceiverSlice};
use vsmtp_mail::Service;
use vsmtp_smtp::{
    self as smtp, AuthSettings, BodyLimits, EarlyTalk, Extension, Extensions, Limits, Mechanism, Needs,
    Protocol,
};

use crate::replies;

/// Octets that are read after a message broke a rule, in search of its end, beyond the size limit.
const DRAIN_BEYOND_LIMIT: u64 = 16 * 1024 * 1024;

/// The dialogues of one listener, or of all that have nothing of their own.
#[derive(Debug)]
pub(super) struct Dialogues {
    /// That of each service, at the place of its number; shared by all sessions.
    services: [Arc<smtp::Settings>; Service::ALL.len()],
    /// That of clients that are watched: no PIPELINING.
    watched: Arc<smtp::Settings>,
    /// AUTH is offered, if there are mechanisms.
    has_auth: bool,
    /// Mechanisms that show the password are offered in clear.
    auth_in_clear: bool,
}

impl Dialogues {
    /// Those of the whole configuration; nothing is offered yet to log in by.
    pub fn new(slice: &ReceiverSlice) -> Self {
        Dialogues {
            services: Service::ALL.map(|service| Arc::new(dialogue(slice, service))),
            watched: Arc::new(watched(slice)),
            has_auth: true,
            auth_in_clear: slice.auth_in_clear,
        }
    }

    /// Those of an address that has some of its own.
    pub fn at(slice: &ReceiverSlice, own: &ListenerEsmtp) -> Self {
        let slice = ReceiverSlice { discard: own.discard.clone(), ..slice.clone() };
        Dialogues { has_auth: own.auth, ..Dialogues::new(&slice) }
    }

    /// The dialogue of a service.
    pub fn of(&self, service: Service) -> &Arc<smtp::Settings> {
        let [smtp, submission, submissions, lmtp, local] = &self.services;
        match service {
            Service::Smtp => smtp,
            Service::Submission => submission,
            Service::Submissions => submissions,
            Service::Lmtp => lmtp,
            Service::Local => local,
        }
    }

    /// That of clients that are watched.
    pub fn watched(&self) -> &Arc<smtp::Settings> {
        &self.watched
    }

    /// From now on these mechanisms are offered to new sessions.
    pub fn offer(&mut self, names: &[String]) {
        if !self.has_auth {
            return;
        }
        let mechanisms: Vec<Mechanism> =
            names.iter().map(|name| mechanism(name, self.auth_in_clear)).collect();
        let [smtp, submission, submissions, _, _] = &mut self.services;
        for dialogue in [smtp, submission, submissions, &mut self.watched] {
            let auth = AuthSettings { mechanisms: mechanisms.clone(), ..dialogue.auth.clone() };
            *dialogue = Arc::new(smtp::Settings { auth, ..(**dialogue).clone() });
        }
    }
}

/// What clients hear that are watched: a client that was not offered PIPELINING has no right to it.
fn watched(slice: &ReceiverSlice) -> smtp::Settings {
    dialogue(&ReceiverSlice { pipelining: false, ..slice.clone() }, Service::Smtp)
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
    // BODY= is 8BITMIME's, and lines of any length come in chunks only.
    if !extensions.has(Extension::Chunking) || !extensions.has(Extension::EightBitMime) {
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
