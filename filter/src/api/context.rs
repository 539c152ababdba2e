//! `ctx::`: what the client said and where it is. Reading only.

use std::net::IpAddr;

use rhai::{Array, Dynamic, ImmutableString};
use vsmtp_mail::Domain;

use super::registry::{Registry, name};
use crate::object::{Fault, Object};
use crate::stage::Stage;
use crate::transaction::Transaction;

/// Name of a client on the local socket.
const LOCAL_CLIENT: &str = "localhost";
/// Instead of the name of a client that has none, or none that leads back to it.
const NO_NAME: &str = "unknown";

pub(super) fn register(registry: &mut Registry) {
    client(registry);
    server(registry);
    session(registry);
    security(registry);
    let helo = name("ctx", "helo", &["helo"])
        .doc(
            "() -> string",
            "The name that the client gave with HELO or EHLO: a domain, or an address literal in brackets.",
        )
        .example("ctx::helo() == \"client.example\"");
    registry
        .on0(helo, Stage::Helo, |t| t.helo.clone().ok_or_else(|| Fault::new("the client has not said HELO")));
    let sender = name("ctx", "mail_from", &["mail_from"])
        .doc("() -> address", "The sender of the envelope. The null sender is the identifier `null`.")
        .example("ctx::mail_from() == \"john@example.com\" && ctx::mail_from().domain == \"example.com\"");
    registry.on0(sender, Stage::Mail, |t| {
        t.mail_from.clone().ok_or_else(|| Fault::new("the client has not said MAIL"))
    });
    let rcpt = name("ctx", "rcpt", &["rcpt"])
        .doc("() -> address", "The recipient that is judged: the last one that the client named.")
        .example("ctx::rcpt().local_part == \"joe\" && ctx::rcpt() in [\"joe@example.net\"]");
    registry.on0(rcpt, Stage::Rcpt, |t| t.current.clone().ok_or_else(|| Fault::new("there is no recipient")));
    let rcpts = name("ctx", "rcpt_list", &["rcpt_list"])
        .doc("() -> array", "All recipients so far, those that rules added too.")
        .example("ctx::rcpt_list().domains == [\"example.org\", \"example.net\"]");
    registry.on0(rcpts, Stage::Rcpt, |t| Ok(recipients(t)));
    let said = name("ctx", "mail_timestamp", &["mail_timestamp"])
        .doc("() -> string", "When MAIL was said (RFC 3339, UTC).")
        .example("ctx::mail_timestamp() == \"2026-11-22T05:10:50Z\"");
    registry.on0(said, Stage::Mail, |t| {
        let at = t.mail.as_ref().map(|mail| mail.at_ms).unwrap_or_default();
        Ok(timestamp(at))
    });
    let id = name("ctx", "message_id", &["message_id"])
        .doc("() -> string", "The id under which the queue and the log know the message.")
        .example("ctx::message_id().len() == 26");
    registry.on0(id, Stage::Preq, |t| {
        let id = t.id.ok_or_else(|| Fault::new("the message has no id before the stage 'preq'"))?;
        Ok(ImmutableString::from(id.to_string()))
    });
    let utf8 = name("ctx", "is_smtputf8", &[])
        .doc("() -> bool", "The client asked for SMTPUTF8 (RFC 6531).")
        .example("ctx::is_smtputf8() == false");
    registry.on0(utf8, Stage::Mail, |t| Ok(t.mail.as_ref().is_some_and(|mail| mail.smtputf8)));
}

fn client(registry: &mut Registry) {
    let client_ip = name("ctx", "client_ip", &["client_ip"])
        .doc("() -> string", "The client's IP address; empty on the local socket.")
        .example("ctx::client_ip() == \"192.168.1.7\" && ctx::client_ip() in rg4(\"192.168.0.0/16\")");
    registry.on0(client_ip, Stage::Connect, |t| Ok(t.client_ip.clone()));
    let client_port = name("ctx", "client_port", &["client_port"])
        .doc("() -> int", "The client's TCP port; 0 on the local socket.")
        .example("ctx::client_port() == 4321");
    registry.on0(client_port, Stage::Connect, |t| Ok(port(t.peer.client)));
    let client_address = name("ctx", "client_address", &["client_address"])
        .doc("() -> string", "Address and port of the client; IPv6 in brackets.")
        .example("ctx::client_address() == \"192.168.1.7:4321\"");
    registry.on0(client_address, Stage::Connect, |t| Ok(address(t.peer.client)));
    let client_name = name("ctx", "client_name", &[])
        .doc(
            "() -> string",
            "The client's name, if its address has one that leads back to it; otherwise `unknown`. On the local socket `localhost`.",
        )
        .until(Stage::Preq)
        .errors("from `postq` on, where it is not known any more")
        .example("ctx::client_name() != \"\"");
    registry.on0(client_name, Stage::Connect, |t| {
        if t.peer.service.is_none() {
            return Err(Fault::new("the client's name is known before 'postq' only"));
        }
        let own = t.peer.client.is_none().then_some(LOCAL_CLIENT);
        let confirmed = t.peer.client_name.as_ref().map(Domain::as_str);
        Ok(ImmutableString::from(confirmed.or(own).unwrap_or(NO_NAME)))
    });
}

fn server(registry: &mut Registry) {
    let server_ip = name("ctx", "server_ip", &["server_ip"])
        .doc("() -> string", "Our address, as the client reached it.")
        .example("ctx::server_ip() == \"192.0.2.1\"");
    registry.on0(server_ip, Stage::Connect, |t| Ok(ip(t.peer.server)));
    let server_port = name("ctx", "server_port", &["server_port"])
        .doc("() -> int", "Our TCP port.")
        .example("ctx::server_port() == 25");
    registry.on0(server_port, Stage::Connect, |t| Ok(port(t.peer.server)));
    let server_address = name("ctx", "server_address", &["server_address"])
        .doc("() -> string", "Our address and port; IPv6 in brackets.")
        .example("ctx::server_address() == \"192.0.2.1:25\"");
    registry.on0(server_address, Stage::Connect, |t| Ok(address(t.peer.server)));
    let server_name = name("ctx", "server_name", &["server_name"])
        .doc(
            "() -> string",
            "Our name: the one that the client asked for in its TLS handshake, otherwise `server.name`.",
        )
        .example("ctx::server_name() == \"mx.example.com\"");
    registry.on0(server_name, Stage::Connect, |t| {
        // The name under which the client came, where it said one.
        let sni = t.tls.as_ref().and_then(|tls| tls.sni.as_ref());
        Ok(ImmutableString::from(sni.unwrap_or(&t.peer.server_name).as_str()))
    });
}

fn session(registry: &mut Registry) {
    let connected = name("ctx", "connection_timestamp", &["connection_timestamp"])
        .doc("() -> string", "When the session began (RFC 3339, UTC).")
        .example("ctx::connection_timestamp() == \"2026-11-22T05:10:49Z\"");
    registry.on0(connected, Stage::Connect, |t| Ok(timestamp(t.peer.connected_ms)));
    let service = name("ctx", "service", &[])
        .doc(
            "() -> string",
            "What the client came for: `smtp`, `submission`, `submissions`, `lmtp` or `local`.",
        )
        .errors(
            "from `postq` on for our own reports and for what older releases stored, where it is not known",
        )
        .example("ctx::service() == \"submission\"");
    registry.on0(service, Stage::Connect, |t| {
        let service = t.peer.service.ok_or_else(|| Fault::new("the service of this message is not known"))?;
        Ok(ImmutableString::from(service.name()))
    });
    let esmtp = name("ctx", "is_esmtp", &[])
        .doc("() -> bool", "The client said EHLO, not HELO.")
        .example("ctx::is_esmtp() == false");
    registry.on0(esmtp, Stage::Helo, |t| Ok(t.esmtp));
    let local = name("ctx", "is_local", &[])
        .doc("() -> bool", "The client came by the local socket.")
        .example("!ctx::is_local()");
    registry.on0(local, Stage::Connect, |t| Ok(t.peer.client.is_none()));
}

fn security(registry: &mut Registry) {
    let secured = name("ctx", "is_secured", &["is_secured"])
        .doc("() -> bool", "The session is under TLS, or was when the message came. A client that said HELO counts as in clear from `postq` on.")
        .example("!ctx::is_secured()");
    registry.on0(secured, Stage::Connect, |t| Ok(t.tls.is_some() || t.peer.was_secured));
    let protocol = name("ctx", "tls_protocol", &[])
        .doc("() -> string", "`TLSv1.2` or `TLSv1.3`; empty in clear. Better: `tls::protocol()`.")
        .example("ctx::tls_protocol() == \"\"");
    registry.on0(protocol, Stage::Connect, |t| Ok(text(t.tls.as_ref().map(|tls| tls.protocol.as_str()))));
    let cipher = name("ctx", "tls_cipher", &[])
        .doc("() -> string", "IANA name of the cipher suite; empty in clear. Better: `tls::cipher()`.")
        .example("ctx::tls_cipher() == \"\"");
    registry.on0(cipher, Stage::Connect, |t| Ok(text(t.tls.as_ref().map(|tls| tls.cipher.as_str()))));
    let fingerprint = name("ctx", "client_fingerprint", &[])
        .doc("() -> string", "SHA-256 of the client's certificate in hexadecimal; empty if it showed none.")
        .example("ctx::client_fingerprint() == \"\"");
    registry.on0(fingerprint, Stage::Connect, |t| {
        Ok(text(t.tls.as_ref().and_then(|tls| tls.fingerprint.as_deref())))
    });
    let verified = name("ctx", "is_client_verified", &[])
        .doc("() -> bool", "The client's certificate leads to an authority that the configuration trusts.")
        .example("!ctx::is_client_verified()");
    registry.on0(verified, Stage::Connect, |t| Ok(t.tls.as_ref().is_some_and(|tls| tls.is_verified)));
}

pub(super) fn ip(of: Option<(IpAddr, u16)>) -> ImmutableString {
    of.map(|(ip, _)| ip.to_canonical().to_string()).unwrap_or_default().into()
}

fn text(of: Option<&str>) -> ImmutableString {
    of.unwrap_or_default().into()
}

pub(super) fn port(of: Option<(IpAddr, u16)>) -> i64 {
    of.map_or(0, |(_, port)| i64::from(port))
}

fn address(of: Option<(IpAddr, u16)>) -> ImmutableString {
    of.map(|(ip, port)| std::net::SocketAddr::new(ip.to_canonical(), port).to_string())
        .unwrap_or_default()
        .into()
}

/// As RFC 3339, in UTC.
pub(super) fn timestamp(ms: u64) -> ImmutableString {
    vsmtp_mail::Rfc5322Date(ms / 1000).rfc3339().into()
}

fn recipients(t: &mut Transaction) -> Array {
    let object = |address: &vsmtp_mail::Address| Object::Address(std::sync::Arc::new(address.clone()));
    t.recipients.iter().map(|entry| Dynamic::from(object(&entry.spec.address))).collect()
}
