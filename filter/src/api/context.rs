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
    connection(registry);
    registry.on0(name("ctx", "helo", &["helo"]), Stage::Helo, |t| {
        t.helo.clone().ok_or_else(|| Fault::new("the client has not said HELO"))
    });
    registry.on0(name("ctx", "mail_from", &["mail_from"]), Stage::Mail, |t| {
        t.mail_from.clone().ok_or_else(|| Fault::new("the client has not said MAIL"))
    });
    registry.on0(name("ctx", "rcpt", &["rcpt"]), Stage::Rcpt, |t| {
        t.current.clone().ok_or_else(|| Fault::new("there is no recipient"))
    });
    registry.on0(name("ctx", "rcpt_list", &["rcpt_list"]), Stage::Rcpt, |t| Ok(recipients(t)));
    registry.on0(name("ctx", "mail_timestamp", &["mail_timestamp"]), Stage::Mail, |t| {
        let at = t.mail.as_ref().map(|mail| mail.at_ms).unwrap_or_default();
        Ok(timestamp(at))
    });
    registry.on0(name("ctx", "message_id", &["message_id"]), Stage::Mail, |t| {
        let id = t.id.ok_or_else(|| Fault::new("the message has no id before the stage 'preq'"))?;
        Ok(ImmutableString::from(id.to_string()))
    });
}

fn connection(registry: &mut Registry) {
    registry.on0(name("ctx", "client_ip", &["client_ip"]), Stage::Connect, |t| Ok(t.client_ip.clone()));
    registry.on0(name("ctx", "client_port", &["client_port"]), Stage::Connect, |t| Ok(port(t.peer.client)));
    registry.on0(name("ctx", "client_address", &["client_address"]), Stage::Connect, |t| {
        Ok(address(t.peer.client))
    });
    registry.on0(name("ctx", "client_name", &[]), Stage::Connect, |t| {
        if t.peer.service.is_none() {
            return Err(Fault::new("the client's name is known before 'postq' only"));
        }
        let own = t.peer.client.is_none().then_some(LOCAL_CLIENT);
        let confirmed = t.peer.client_name.as_ref().map(Domain::as_str);
        Ok(ImmutableString::from(confirmed.or(own).unwrap_or(NO_NAME)))
    });
    registry.on0(name("ctx", "server_ip", &["server_ip"]), Stage::Connect, |t| Ok(ip(t.peer.server)));
    registry.on0(name("ctx", "server_port", &["server_port"]), Stage::Connect, |t| Ok(port(t.peer.server)));
    registry.on0(name("ctx", "server_address", &["server_address"]), Stage::Connect, |t| {
        Ok(address(t.peer.server))
    });
    registry.on0(name("ctx", "server_name", &["server_name"]), Stage::Connect, |t| {
        // The name under which the client came, where it said one.
        let sni = t.tls.as_ref().and_then(|tls| tls.sni.as_ref());
        Ok(ImmutableString::from(sni.unwrap_or(&t.peer.server_name).as_str()))
    });
    registry.on0(name("ctx", "connection_timestamp", &["connection_timestamp"]), Stage::Connect, |t| {
        Ok(timestamp(t.peer.connected_ms))
    });
    registry.on0(name("ctx", "is_secured", &["is_secured"]), Stage::Connect, |t| Ok(t.tls.is_some()));
    registry.on0(name("ctx", "tls_protocol", &[]), Stage::Connect, |t| {
        Ok(text(t.tls.as_ref().map(|tls| tls.protocol.as_str())))
    });
    registry.on0(name("ctx", "tls_cipher", &[]), Stage::Connect, |t| {
        Ok(text(t.tls.as_ref().map(|tls| tls.cipher.as_str())))
    });
    registry.on0(name("ctx", "client_fingerprint", &[]), Stage::Connect, |t| {
        Ok(text(t.tls.as_ref().and_then(|tls| tls.fingerprint.as_deref())))
    });
    registry.on0(name("ctx", "is_client_verified", &[]), Stage::Connect, |t| {
        Ok(t.tls.as_ref().is_some_and(|tls| tls.is_verified))
    });
    registry.on0(name("ctx", "service", &[]), Stage::Connect, |t| {
        let service = t.peer.service.ok_or_else(|| Fault::new("the service is known before 'postq' only"))?;
        Ok(ImmutableString::from(service.name()))
    });
    registry.on0(name("ctx", "is_esmtp", &[]), Stage::Helo, |t| Ok(t.esmtp));
    registry.on0(name("ctx", "is_local", &[]), Stage::Connect, |t| Ok(t.peer.client.is_none()));
}

fn ip(of: Option<(IpAddr, u16)>) -> ImmutableString {
    of.map(|(ip, _)| ip.to_canonical().to_string()).unwrap_or_default().into()
}

fn text(of: Option<&str>) -> ImmutableString {
    of.unwrap_or_default().into()
}

fn port(of: Option<(IpAddr, u16)>) -> i64 {
    of.map_or(0, |(_, port)| i64::from(port))
}

fn address(of: Option<(IpAddr, u16)>) -> ImmutableString {
    of.map(|(ip, port)| std::net::SocketAddr::new(ip.to_canonical(), port).to_string())
        .unwrap_or_default()
        .into()
}

/// As RFC 3339, in UTC.
fn timestamp(ms: u64) -> ImmutableString {
    vsmtp_mail::Rfc5322Date(ms / 1000).rfc3339().into()
}

fn recipients(t: &mut Transaction) -> Array {
    let object = |address: &vsmtp_mail::Address| Object::Address(std::sync::Arc::new(address.clone()));
    t.recipients.iter().map(|entry| Dynamic::from(object(&entry.spec.address))).collect()
}
