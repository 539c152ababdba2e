//! TLS by address: what differs there from the keys that hold for all.

use std::net::SocketAddr;

use super::list::{fields, row, rows_by_address};
use super::scalar::{Flag, OneOf};
use super::server_tls::{Spoken, Suites, Versions};
use super::{Kind, Listeners};
use crate::slices::{ClientCertificate, SecurityLevel};
use crate::value::Value;

const LEVEL: OneOf<SecurityLevel> = OneOf { of: SecurityLevel::WORDS };
const CERTIFICATE: OneOf<ClientCertificate> = OneOf { of: ClientCertificate::WORDS };

/// TLS by the address that is listened on.
#[derive(Debug)]
pub(crate) struct TlsByListener;

/// What an address has of its own; what is not there is as everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OwnTls {
    pub(crate) versions: Option<Spoken>,
    pub(crate) suites: Option<Vec<u16>>,
    pub(crate) own_order: Option<bool>,
    pub(crate) security_level: Option<SecurityLevel>,
    pub(crate) client_certificate: Option<ClientCertificate>,
}

impl OwnTls {
    fn read(value: &Value) -> Result<OwnTls, String> {
        let mut own = OwnTls::default();
        fields(value, |name, value| {
            match name {
                "protocol_version" => own.versions = Some(Versions.read(value)?),
                "cipher_suite" => own.suites = Some(Suites.read(value)?),
                "preempt_cipherlist" => own.own_order = Some(Flag.read(value)?),
                "security_level" => own.security_level = Some(LEVEL.read(value)?),
                "client_certificate" => own.client_certificate = Some(CERTIFICATE.read(value)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(own)
    }

    fn write(&self) -> Value {
        row([
            ("protocol_version", self.versions.map(|versions| Versions.write(&versions))),
            ("cipher_suite", self.suites.as_ref().map(|suites| Suites.write(suites))),
            ("preempt_cipherlist", self.own_order.map(|own_order| Flag.write(&own_order))),
            ("security_level", self.security_level.map(|level| LEVEL.write(&level))),
            ("client_certificate", self.client_certificate.map(|wanted| CERTIFICATE.write(&wanted))),
        ])
    }
}

impl Kind for TlsByListener {
    type Out = Vec<(SocketAddr, OwnTls)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        rows_by_address(value, OwnTls::read)
    }

    fn write(&self, out: &Self::Out) -> Value {
        Value::Map(out.iter().map(|(address, own)| (address.to_string(), own.write())).collect())
    }

    fn expected(&self) -> String {
        format!(
            "a map of addresses ({}) to maps of protocol_version, cipher_suite, preempt_cipherlist, security_level \
             and client_certificate",
            Listeners::EXAMPLE
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str, fields: &[(&str, Value)]) -> Result<OwnTls, String> {
        let mut row = Value::map();
        for (name, value) in fields {
            row.set(name, value.clone());
        }
        TlsByListener
            .read(&Value::Map([(address.to_owned(), row)].into()))
            .map(|mut rows| rows.pop().unwrap().1)
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn what_is_said_of_an_address_comes_back_and_the_rest_is_left_open() {
        assert_eq!(read("127.0.0.1:25", &[]), Ok(OwnTls::default()));
        let all = [
            ("protocol_version", text("TLSv1.3")),
            ("cipher_suite", text("TLS_AES_128_GCM_SHA256")),
            ("preempt_cipherlist", Value::Bool(true)),
            ("security_level", text("encrypt")),
            ("client_certificate", text("ask")),
        ];
        let own = read("[::]:465", &all).unwrap();
        assert_eq!(own.versions, Some(Spoken { tls12: false, tls13: true }));
        assert_eq!(own.suites, Some(vec![0x1301]));
        assert_eq!((own.own_order, own.security_level), (Some(true), Some(SecurityLevel::Encrypt)));
        assert_eq!(own.client_certificate, Some(ClientCertificate::Ask));
        let rows = vec![("[::]:465".parse().unwrap(), own)];
        assert_eq!(TlsByListener.read(&TlsByListener.write(&rows)), Ok(rows));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(read("mx.test:25", &[]), Err("\"mx.test:25\"".to_owned()));
        assert_eq!(read("127.0.0.1", &[]), Err("\"127.0.0.1\"".to_owned()));
        let colour = read("127.0.0.1:25", &[("colour", text("red"))]);
        assert_eq!(colour, Err("\"colour\" for \"127.0.0.1:25\"".to_owned()));
        let old = read("127.0.0.1:25", &[("protocol_version", text("TLSv1.1"))]);
        assert_eq!(old, Err("\"TLSv1.1\" for \"127.0.0.1:25\"".to_owned()));
    }
}
