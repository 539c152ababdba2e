//! From the words of the edge to checked values. What a receiver says of its client is taken on its word; what does not
//! parse is the receiver's fault and costs it the edge.

use std::sync::Arc;

use vsmtp_ipc::edge::filter_auth as auth;
use vsmtp_ipc::edge::receiver_filter::{Ask, Facts};
use vsmtp_ipc::wire::{self, Grant, MailFrom, Origin, RcptTo, Service, WireError, clean};
use vsmtp_mail::{Domain, MAX_RECIPIENTS, Reply, Ret, ReversePath};

use crate::identity::{Identity, MAX_NAME, Verifier};
use crate::judge::Judge;
use crate::transaction::{MailSpec, Peer, RcptSpec, Tls};

/// Longest HELO name, in octets.
const MAX_HELO: usize = 1024;
/// Longest name of a SASL mechanism (RFC 4422 3.1).
const MAX_MECHANISM: usize = 20;
/// Longest name of a version or a cipher suite, in octets.
const MAX_TLS_WORD: usize = 64;

/// The session's facts that rules see.
pub fn peer(judge: &Judge, facts: &Facts) -> Peer {
    Peer {
        service: Some(facts.service.into()),
        client: facts.client,
        // A name that is no domain is as good as none.
        client_name: facts.client_name.as_deref().and_then(|name| Domain::parse(name).ok()),
        server: facts.server,
        uid: facts.uid,
        connected_ms: facts.connected_ms,
        server_name: judge.policy.server_name().clone(),
        identity: None,
        was_authenticated: false,
        was_secured: false,
    }
}

/// The HELO name.
pub fn helo(facts: &Facts) -> Result<Option<&str>, WireError> {
    match facts.helo.as_deref() {
        Some(name) if !clean(name, MAX_HELO) => Err(WireError("helo")),
        other => Ok(other),
    }
}

/// Who stands behind a grant, as the auth helper says it; `None` if it says nonsense.
pub fn identity(wire: &auth::Identity, grant: Grant, verifier: Arc<dyn Verifier>) -> Option<Identity> {
    let fits = !wire.name.is_empty() && clean(&wire.name, MAX_NAME) && clean(&wire.mechanism, MAX_MECHANISM);
    fits.then(|| Identity {
        name: wire.name.as_str().into(),
        mechanism: wire.mechanism.as_str().into(),
        grant,
        verifier: Some(verifier),
    })
}

/// What a question says of its session; nothing for those that only name it.
pub fn of(ask: &Ask) -> Option<&Facts> {
    match ask {
        Ask::Connect(facts) | Ask::Helo(facts) | Ask::Authenticate(facts) | Ask::Mail(facts, _) => {
            Some(facts)
        }
        Ask::Recipients { facts, .. } | Ask::Message { facts, .. } => Some(facts),
        Ask::Chunk { .. } | Ask::Reset { .. } | Ask::Forget { .. } => None,
    }
}

/// What the receiver says of TLS. A name that is no domain is as good as none.
pub fn tls(facts: &Facts) -> Result<Option<Tls>, WireError> {
    let Some(tls) = &facts.tls else { return Ok(None) };
    if !clean(&tls.protocol, MAX_TLS_WORD) || !clean(&tls.cipher, MAX_TLS_WORD) {
        return Err(WireError("tls"));
    }
    Ok(Some(Tls {
        protocol: tls.protocol.clone(),
        cipher: tls.cipher.clone(),
        sni: tls.sni.as_deref().and_then(|name| Domain::parse(name).ok()),
        fingerprint: tls.client.map(|client| hex(&client.fingerprint)),
        is_verified: tls.client.is_some_and(|client| client.is_verified),
    }))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Where a message came from, for the queue.
pub fn origin(facts: &Facts) -> Origin {
    Origin {
        session: facts.session,
        client: facts.client.map(|(ip, _)| ip.to_canonical().to_string()).unwrap_or_default(),
        helo: facts.helo.clone().unwrap_or_default(),
        // RFC 3848.
        protocol: match (facts.service, facts.esmtp, facts.tls.is_some(), facts.grant.is_some()) {
            (Service::Local, ..) => "local",
            (Service::Lmtp, _, false, false) => "LMTP",
            (Service::Lmtp, _, false, true) => "LMTPA",
            (Service::Lmtp, _, true, false) => "LMTPS",
            (Service::Lmtp, _, true, true) => "LMTPSA",
            (_, true, false, false) => "ESMTP",
            (_, true, false, true) => "ESMTPA",
            (_, true, true, false) => "ESMTPS",
            (_, true, true, true) => "ESMTPSA",
            (_, false, ..) => "SMTP",
        }
        .to_owned(),
        uid: facts.uid,
        service: Some(facts.service),
    }
}

/// MAIL FROM.
pub fn mail_spec(mail: &MailFrom, at_ms: u64) -> Result<MailSpec, WireError> {
    Ok(MailSpec {
        reverse_path: ReversePath::parse(&mail.reverse_path).map_err(|_| WireError("reverse path"))?,
        body: mail.body.into(),
        smtputf8: mail.smtputf8,
        ret: mail.ret_full.map(|full| if full { Ret::Full } else { Ret::Headers }),
        envid: wire::envid(mail.envid.as_deref())?,
        demands: mail.demands.into(),
        wishes: mail.wishes.try_into()?,
        at_ms,
    })
}

/// The recipients of one question; those that cannot be addresses come with their reply.
pub fn recipients(
    judge: &Judge,
    peer: &Peer,
    asked: &[RcptTo],
) -> Result<Vec<Result<RcptSpec, Reply>>, WireError> {
    if asked.is_empty() || asked.len() > MAX_RECIPIENTS {
        return Err(WireError("number of recipients"));
    }
    asked
        .iter()
        .map(|rcpt| {
            let original = rcpt.original.as_ref().map(wire::original_recipient).transpose()?;
            let notify = rcpt.notify.map(Into::into).unwrap_or_default();
            let address = judge.policy.recipient(&rcpt.address, peer);
            Ok(address.map(|address| RcptSpec { address, original, notify }))
        })
        .collect()
}
