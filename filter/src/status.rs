//! What a rule decided. A status says only what is wanted; `session` decides what the client is told.

use std::fmt;
use std::sync::Arc;

use vsmtp_mail::{EnhancedCode, Reply};

use crate::service::SmtpService;

/// The value that a rule returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Go on with the next directive.
    Next,
    /// Leave this stage, content.
    Accept(Option<Reply>),
    /// Leave this and all later stages of the transaction, content.
    FinalAccept(Option<Reply>),
    /// Refuse this command; the session goes on.
    Reject(Reply),
    /// Refuse and close the connection.
    Deny(Reply),
    /// Take the message, but keep it aside under this name.
    Quarantine(Box<str>),
    /// Have a service see it, and go on at a directive then. Nothing a rule can return.
    Delegated(Box<Delegated>),
}

/// Which directive delegates, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// Its name.
    pub directive: Box<str>,
    /// The service.
    pub service: Arc<SmtpService>,
}

impl Status {
    /// What `deny()` without a code says.
    pub fn deny_default() -> Self {
        Status::Deny(Reply::fixed(554, EnhancedCode(5, 7, 1), "Transaction refused by local policy"))
    }

    /// What `reject()` without a code says.
    pub fn reject_default() -> Self {
        Status::Reject(Reply::fixed(451, EnhancedCode(4, 7, 1), "Refused by local policy, try again later"))
    }

    /// The same refusal in other words, with another enhanced code if there is one.
    #[must_use]
    pub fn saying(self, enhanced: Option<EnhancedCode>, text: &str) -> Self {
        let other = |reply: &Reply| Reply::new(reply.code(), enhanced.or(reply.enhanced()), text);
        match &self {
            Status::Deny(reply) => other(reply).map_or(self, Status::Deny),
            Status::Reject(reply) => other(reply).map_or(self, Status::Reject),
            _ => self,
        }
    }

    /// The name that scripts and logs see.
    pub const fn name(&self) -> &'static str {
        match self {
            Status::Next => "next",
            Status::Accept(_) => "accept",
            Status::FinalAccept(_) => "faccept",
            Status::Reject(_) => "reject",
            Status::Deny(_) => "deny",
            Status::Quarantine(_) => "quarantine",
            Status::Delegated(_) => "delegated",
        }
    }

    /// True if later stages of the transaction must not run (faccept, deny, quarantine).
    pub const fn is_sticky(&self) -> bool {
        matches!(self, Status::FinalAccept(_) | Status::Deny(_) | Status::Quarantine(_))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
