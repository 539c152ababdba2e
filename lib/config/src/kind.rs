//! The types that a key can have: how each reads a value, writes its canonical form, and says what it expects.

mod auth;
mod commands;
mod databases;
mod destination;
mod list;
mod listener_esmtp;
mod listener_tls;
mod replies;
mod routes;
mod scalar;
mod server_tls;
mod text;
mod tls;

use std::fmt;

pub(crate) use auth::{Audiences, Backends, CertificateLogins, MaybeClaim, Mechanisms, SenderLogins};
pub(crate) use commands::Commands;
pub(crate) use databases::Databases;
pub(crate) use destination::{LimitsByNextHop, Rates, Sources};
pub(crate) use list::{
    Aliases, DnsblSites, Domains, Keywords, Levels, Listeners, NameServers, Networks, Patterns,
};
pub(crate) use listener_esmtp::{EsmtpByListener, OwnEsmtp};
pub(crate) use listener_tls::TlsByListener;
pub(crate) use replies::OwnReplies;
pub use replies::reply_code;
pub(crate) use routes::{HopsByDomain, HopsBySender};
pub(crate) use scalar::{Bytes, Count, DAY, Flag, HOUR, Limit, MINUTE, OneOf, Period, SECOND};
pub(crate) use text::{
    DomainName, FilePath, MaybeAddress, MaybeLine, MaybePath, MaybeRelay, MaybeSelector, RecipientDelimiter,
    ServerAddress, Target,
};

pub(crate) use server_tls::{Suites, Versions, VirtualDomains};
pub(crate) use tls::{Tls, TlsByNextHop};

use crate::value::Value;

/// One type of key.
pub(crate) trait Kind: fmt::Debug + Sync {
    /// What the daemons get.
    type Out;

    /// Reads a value; the error is what was found, as it follows "found" in a message.
    fn read(&self, value: &Value) -> Result<Self::Out, String>;

    /// The canonical form, which reads back to the same setting.
    fn write(&self, out: &Self::Out) -> Value;

    /// What is accepted, as it follows "expected" in a message.
    fn expected(&self) -> String;

    /// How people see a canonical value.
    fn shown(&self, value: &Value) -> String {
        plain(value)
    }

    /// What of a value that can be read is accepted without effect, as it follows the key's name in a warning.
    fn remarks(&self, _: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// A kind without its Rust type, for the table.
pub(crate) trait AnyKind: fmt::Debug + Sync {
    fn canonical(&self, value: &Value) -> Result<Value, String>;
    fn expected(&self) -> String;
    fn shown(&self, value: &Value) -> String;
}

impl<K: Kind> AnyKind for K {
    fn canonical(&self, value: &Value) -> Result<Value, String> {
        self.read(value).map(|out| self.write(&out))
    }

    fn expected(&self) -> String {
        Kind::expected(self)
    }

    fn shown(&self, value: &Value) -> String {
        Kind::shown(self, value)
    }
}

/// A value as a script would write it.
pub(crate) fn plain(value: &Value) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.escape_debug());
    match value {
        Value::Null => "()".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let rows: Vec<_> =
                map.iter().map(|(name, value)| format!("{}: {}", quoted(name), plain(value))).collect();
            format!("#{{{}}}", rows.join(", "))
        }
        Value::Other(kind) => kind.clone(),
    }
}
