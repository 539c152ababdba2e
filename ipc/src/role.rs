//! Who a process is.

use std::fmt;

use bincode::{Decode, Encode};

/// The job of a process. With an instance number it names one process of the running system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Role {
    /// Talks to clients.
    Receiver,
    /// Judges sessions and messages before they are accepted.
    FilterSession,
    /// Judges messages after they are accepted.
    FilterPost,
    /// Evaluates the configuration once.
    FilterOneshot,
    /// Owns the spool.
    QueueManager,
    /// Sends by SMTP and LMTP.
    DeliverSmtp,
    /// Writes mailboxes.
    DeliverMailbox,
    /// Asks the DNS.
    Resolver,
    /// Counts what clients use up, and tests them before they are greeted.
    Limits,
    /// Checks passwords.
    Auth,
    /// Holds private keys and signs with them.
    Keys,
    /// Runs the commands that the configuration declares.
    Runner,
    /// Asks databases for rules.
    Database,
}

impl Role {
    /// All roles that stay for the life of the system, in the order in which they are started.
    pub const DAEMONS: [Role; 12] = [
        Role::Keys,
        Role::Resolver,
        Role::Limits,
        Role::Auth,
        Role::Runner,
        Role::Database,
        Role::QueueManager,
        Role::DeliverMailbox,
        Role::DeliverSmtp,
        Role::FilterPost,
        Role::FilterSession,
        Role::Receiver,
    ];

    /// The word used in logs, tables and `--role`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Receiver => "receiver",
            Role::FilterSession => "filter-session",
            Role::FilterPost => "filter-post",
            Role::FilterOneshot => "filter-oneshot",
            Role::QueueManager => "queue-manager",
            Role::DeliverSmtp => "deliver-smtp",
            Role::DeliverMailbox => "deliver-mailbox",
            Role::Resolver => "resolver",
            Role::Limits => "limits",
            Role::Auth => "auth",
            Role::Keys => "keys",
            Role::Runner => "runner",
            Role::Database => "database",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One process of the running system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct ProcessName {
    /// Its job.
    pub role: Role,
    /// Which of several with the same job, from 0.
    pub instance: u32,
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.role.name(), self.instance)
    }
}
