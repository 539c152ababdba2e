//! ESMTP by address: what differs there from the keys that hold for all.

use std::net::SocketAddr;

use super::list::{fields, row, rows_by_address};
use super::scalar::Flag;
use super::{Keywords, Kind, Listeners};
use crate::value::Value;

/// ESMTP by the address that is listened on.
#[derive(Debug)]
pub(crate) struct EsmtpByListener;

/// What an address has of its own; what is not there is as everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OwnEsmtp {
    pub(crate) auth: Option<bool>,
    pub(crate) discard: Option<Vec<&'static str>>,
}

impl OwnEsmtp {
    fn read(value: &Value) -> Result<OwnEsmtp, String> {
        let mut own = OwnEsmtp::default();
        fields(value, |name, value| {
            match name {
                "auth" => own.auth = Some(Flag.read(value)?),
                "discard" => own.discard = Some(Keywords.read(value)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(own)
    }

    fn write(&self) -> Value {
        row([
            ("auth", self.auth.map(|auth| Flag.write(&auth))),
            ("discard", self.discard.as_ref().map(|words| Keywords.write(words))),
        ])
    }
}

impl Kind for EsmtpByListener {
    type Out = Vec<(SocketAddr, OwnEsmtp)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        rows_by_address(value, OwnEsmtp::read)
    }

    fn write(&self, out: &Self::Out) -> Value {
        Value::Map(out.iter().map(|(address, own)| (address.to_string(), own.write())).collect())
    }

    fn expected(&self) -> String {
        format!("a map of addresses ({}) to maps of auth and discard", Listeners::EXAMPLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str, fields: &[(&str, Value)]) -> Result<Vec<(SocketAddr, OwnEsmtp)>, String> {
        let mut row = Value::map();
        for (name, value) in fields {
            row.set(name, value.clone());
        }
        EsmtpByListener.read(&Value::Map([(address.to_owned(), row)].into()))
    }

    #[test]
    fn what_is_said_of_an_address_comes_back_and_the_rest_is_left_open() {
        assert_eq!(read("127.0.0.1:25", &[]).unwrap()[0].1, OwnEsmtp::default());
        let words = Value::List(vec![Value::Text("chunking".to_owned())]);
        let rows = read("[::]:25", &[("auth", Value::Bool(false)), ("discard", words)]).unwrap();
        assert_eq!(rows[0].1, OwnEsmtp { auth: Some(false), discard: Some(vec!["CHUNKING"]) });
        assert_eq!(EsmtpByListener.read(&EsmtpByListener.write(&rows)), Ok(rows));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(read("mx.test:25", &[]), Err("\"mx.test:25\"".to_owned()));
        let colour = read("127.0.0.1:25", &[("colour", Value::Bool(true))]);
        assert_eq!(colour, Err("\"colour\" for \"127.0.0.1:25\"".to_owned()));
        // STARTTLS is not a word that can be left out.
        let word = Value::List(vec![Value::Text("STARTTLS".to_owned())]);
        assert!(read("127.0.0.1:25", &[("discard", word)]).is_err());
    }
}
