//! The vocabulary of mail: what an address, a domain, an envelope, a queue id, a reply and a header are.
//!
//! Every type here can only be made from input that passed its check (parse, don't validate): a newline, a NUL or an
//! over-long name dies in the constructor. Nothing here does input or output, and nothing here panics on outside data.
#![forbid(unsafe_code)]

mod address;
mod date;
mod delegation;
pub mod dkim;
mod domain;
mod envelope;
mod header;
mod mailboxes;
mod next_hop;
mod queue_id;
mod reply;
mod service;
mod terms;

pub use address::{Address, AddressError, MAX_LOCAL_PART, MAX_PATH, ReversePath, fold_local_part};
pub use date::{Rfc5322Date, parse_duration, parse_rfc3339};
pub use delegation::{DELEGATION_FIELD, DelegationTicket, MAX_DELEGATE_NAME, Token};
pub use domain::{Domain, DomainError, MAX_DOMAIN};
pub use envelope::{
    BodyType, Demands, Envelope, Expanded, MAX_ENVID, MAX_RECIPIENTS, Notify, OriginalRecipient, Recipient,
    RecipientClass, Ret,
};
pub use header::{Field, HeaderBlock, MAX_HEADER_FIELDS, header_end};
pub use mailboxes::{Listed, MAX_MAILBOXES, MailboxList};
pub use next_hop::{LmtpTarget, MailboxFormat, NextHop, NextHopError};
pub use queue_id::{QueueId, QueueIdError, QueueIdMint};
pub use reply::{EnhancedCode, Reply, ReplyError, escape_text};
pub use service::Service;
pub use terms::{
    DeliverBy, MAX_BY_S, MAX_LIFETIME_S, MAX_REPORT_TEXT, MAX_WAIT_S, Priority, Release, RulesOf, Terms,
    Wishes,
};
