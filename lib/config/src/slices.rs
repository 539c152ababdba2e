//! What each process is told: one plain struct per process, with what it needs and nothing more.
//!
//! Slices cross the `master_child` edge as bytes ([`crate::encode`], [`crate::decode`]). Names and addresses in them are
//! parsed again on arrival. Relations between keys are resolved here, so that no daemon repeats them.

mod auth;
mod database;
mod deliver;
mod filter;
mod keys;
mod limits;
mod log;
mod master;
mod queue;
mod receiver;
mod resolver;
mod runner;

pub use auth::{AuthSlice, OauthTerms, SenderLogin};
pub use database::DatabaseSlice;
pub use deliver::{DeliverSlice, DeliverTls, Family, MailboxSlice, NextHopTimeouts};
pub use filter::{Alias, FilterSlice, OnError, ReportSignature};
pub use keys::{KeyFile, KeyFileUse, KeyPair, KeysSlice, MailKey};
pub use limits::{LimitsSlice, ScreenAction, ScreenSlice};
pub use log::{Facility, LogLevel, LogSlice, LogTarget, SyslogTransport};
pub use master::MasterSlice;
pub use queue::{QueueSlice, TlsReports};
pub use receiver::{
    BareNewline, ClientCertificate, ClientTimeouts, ListenerEsmtp, ListenerTls, OwnReply, ReceiverSlice,
    SecurityLevel, ServerTls,
};
pub use resolver::ResolverSlice;
pub use runner::RunnerSlice;
