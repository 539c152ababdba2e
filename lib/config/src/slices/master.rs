//! What the master uses itself.

use std::net::SocketAddr;

use bincode::{Decode, Encode};
use vsmtp_mail::Service;

use super::LogSlice;
use crate::by_text::ByText;
use crate::config::Config;

/// What the master uses itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MasterSlice {
    /// How it logs, and its children.
    pub log: LogSlice,
    /// Sockets to bind for clients, each address once, and what each is for.
    pub listeners: Vec<(SocketAddr, ByText<Service>)>,
    /// Receiver processes to start, at least one.
    pub receivers: u32,
    /// `deliver --role smtp` processes to start, at least one.
    pub delivers: u32,
    /// Folder of the queue's own folder, absolute; the queue-manager's is `queue` below it.
    pub spool: String,
    /// Folder of virtual users' mailboxes, absolute.
    pub mail_root: String,
    /// True if clients can authenticate.
    pub auth: bool,
    /// Files of passwords, absolute: for the auth helper.
    pub password_files: Vec<String>,
    /// Files of keys for tokens, absolute: for the same.
    pub token_keys: Vec<String>,
    /// First uid of the range to use where the package's users do not exist; `None`: refuse.
    pub uid_range: Option<u32>,
}

impl MasterSlice {
    /// What the auth helper is handed.
    pub fn auth_files(&self) -> Vec<String> {
        [&self.password_files[..], &self.token_keys].concat()
    }
}

impl Config {
    /// What the master uses itself.
    pub fn master(&self) -> MasterSlice {
        MasterSlice {
            log: self.log(),
            listeners: self.listeners().map(|(address, service)| (address, service.into())).collect(),
            receivers: self.receivers(),
            delivers: self.delivers(),
            spool: self.placed(&self.server.spool),
            mail_root: self.placed(&self.delivery.mail_root),
            auth: self.has_auth(),
            password_files: self.password_files(),
            token_keys: self.token_keys(),
            uid_range: Some(self.server.uid_range).filter(|uid| *uid > 0),
        }
    }

    /// Where clients are served, and with what.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (SocketAddr, Service)> {
        let server = &self.server;
        let doors = [
            (&server.addr, Service::Smtp),
            (&server.addr_submission, Service::Submission),
            (&server.addr_submissions, Service::Submissions),
            (&server.addr_lmtp, Service::Lmtp),
        ];
        doors.into_iter().flat_map(|(addresses, service)| addresses.iter().map(move |at| (*at, service)))
    }

    /// Receiver processes, where 0 stands for one per two cores: they need less than half of the work of a message.
    pub(crate) fn receivers(&self) -> u32 {
        let count = self.server.receivers;
        if count == 0 { self.context.cores.div_ceil(2).max(1) } else { count }
    }

    /// Deliver processes, where 0 stands for one per core.
    pub(crate) fn delivers(&self) -> u32 {
        self.per_core(self.server.delivers)
    }

    fn per_core(&self, count: u32) -> u32 {
        if count == 0 { self.context.cores.max(1) } else { count }
    }
}
