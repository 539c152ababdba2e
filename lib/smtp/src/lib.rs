//! SMTP and LMTP as pure state machines, for both sides of the wire.
//!
//! Bytes come in, bytes and questions go out: no socket, no clock, no file, no thread is known here. Everything a peer
//! sends is hostile input; each buffer, list and count has a named bound.
#![forbid(unsafe_code)]

mod auth;
mod client;
mod command;
mod data;
mod extension;
mod line;
mod proxy;
mod received;
mod reply;
mod scan;
mod secret;
mod server;
mod settings;
mod xclient;
mod xtext;

pub use auth::{AUTH_LINE_LIMIT, AuthRequest, AuthSettings, AuthVerdict, Mechanism, Needs, TlsFacts};
pub use client::{
    Awaiting, Capabilities, ClientSettings, ClientStep, Dialogue, DotStuffer, HostError, HostFault, NotIdle,
    Outcome, ParsedReply, RemoteRecipient, ReplyFault, ReplyParser, RequireTls, Transaction, UseTls, Why,
};
pub use command::{HeloName, MailRequest, RcptRequest, SyntaxFault, Verb};
pub use data::{BodyFault, BodyLimits, DataDecoder, MessageFacts, Progress};
pub use extension::{Extension, Extensions};
pub use line::{BareNewline, LINE_LIMIT, PATH_LINE_LIMIT};
pub use proxy::{MAX_PROXY_HEADER, ProxyHeader};
pub use received::{Origin, Trace, WithProtocol};
pub use reply::{Own, Replies};
pub use secret::Secret;
pub use server::{Dropped, Hello, NoQuestion, Question, Session, Step, Verdict, Waiting};
pub use settings::{EarlyTalk, Limits, Protocol, Settings};
pub use xclient::{Privileges, ProxyName, XClient, XForward};
pub use xtext::{decode as decode_xtext, encode as encode_xtext};
