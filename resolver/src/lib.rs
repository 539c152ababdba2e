//! The resolver: DNS for all other processes, and the MTA-STS policies of mail domains.
//!
//! Clients ask over edges; one desk answers from memory or has a question looked up; one thread with tokio looks up. It
//! never trusts a server's word that an answer is authentic unless configuration or the server's place says so, it never
//! lets a dead domain delay another, and every question is answered once, in its time.
#![forbid(unsafe_code)]

mod event;

mod clients;
mod desk;
pub mod finding;
mod local;
mod name;

mod client_name;
mod dmarc;
pub mod judge;
mod key_record;
mod lookup;
pub mod post;
pub mod spf;
pub mod sts;
mod upstream;
mod worker;
pub mod zone;

mod resolv_conf;
mod surroundings;

pub mod sandbox;
pub mod tool;

pub use event::Resolver;
