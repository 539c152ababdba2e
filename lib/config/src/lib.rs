//! Every configuration key, once: name, type, default, range, doc sentence, and which processes may see it.
//!
//! A script hands over a tree of values ([`Value`]); [`Config::build`] checks it against the table ([`keys`]); each
//! process then receives its slice only ([`ReceiverSlice`] and its kin). Nothing here does input or output, and
//! nothing here knows who evaluates the script.
#![forbid(unsafe_code)]

#[macro_use]
mod table;
mod keys;
mod kind;
mod value;

mod config;
mod cross_check;
mod error;
mod input;
mod legacy;
mod nearest;

mod backend;
mod by_text;
mod certificate;
mod command;
mod database;
mod destination;
mod dnsbl;
mod network;
mod pattern;
mod recipients;
mod routes;
mod slices;
mod tls_policy;
mod wire;

mod document;
mod main_file;
mod show;

pub use backend::AuthBackend;
pub use by_text::{ByText, Textual};
pub use certificate::{CertificateLogins, CertificatePattern};
pub use command::{COMMAND_USER, Command, MAX_ARGUMENT, MAX_ARGUMENTS, MAX_ARGUMENTS_BYTES, are_arguments};
pub use config::{Config, Context, default_tree};
pub use database::{
    Database, DatabaseKind, DatabaseUrl, LdapTls, LdapUrl, MAX_CONNECTIONS, MAX_DATABASES, MemcachedUrl,
    MySqlUrl, Place, RedisUrl,
};
pub use destination::{ByNextHop, DestinationLimits, Rate, SourceAddresses};
pub use dnsbl::DnsblSite;
pub use document::markdown;
pub use error::{ConfigError, MAX_ERRORS, Problem, Warning};
pub use keys::keys;
pub use kind::reply_code;
pub use legacy::{Fate, LEGACY, Legacy, old_names, said};
pub use main_file::main_file;
pub use nearest::nearest_key;
pub use network::Network;
pub use pattern::AddressPattern;
pub use recipients::Recipients;
pub use routes::{DomainPattern, Routes};
pub use show::Row;
pub use slices::{
    Alias, AuthSlice, BareNewline, ClientCertificate, ClientTimeouts, DatabaseSlice, DeliverSlice,
    DeliverTls, Facility, Family, FilterSlice, KeyFile, KeyFileUse, KeyPair, KeysSlice, LimitsSlice,
    ListenerEsmtp, ListenerTls, LogLevel, LogSlice, LogTarget, MailKey, MailboxSlice, MasterSlice,
    NextHopTimeouts, OauthTerms, OnError, OwnReply, QueueSlice, ReceiverSlice, ReportSignature,
    ResolverSlice, RunnerSlice, ScreenAction, ScreenSlice, SecurityLevel, SenderLogin, ServerTls,
    SyslogTransport, TlsReports,
};
pub use table::{Key, Preset, Role};
pub use tls_policy::{TlsDestination, TlsLevel, TlsName, TlsPolicy};
pub use value::{MAX_DEPTH, MAX_ENTRIES, Value};
pub use wire::{MAX_WIRE, WireError, decode, encode};
