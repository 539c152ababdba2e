//! What deliver is told, in its roles `smtp` and `mailbox`.

use std::net::SocketAddr;
use std::time::Duration;

use bincode::{Decode, Encode};
use vsmtp_mail::Domain;

use crate::by_text::ByText;
use crate::config::Config;
use crate::destination::SourceAddresses;
use crate::network::Network;
use crate::tls_policy::{TlsDestination, TlsPolicy};

/// What `deliver --role smtp` is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeliverSlice {
    /// Name in EHLO, and the name by which an MX record means ourselves.
    pub server_name: ByText<Domain>,
    /// Where this server listens; mail for one of these has looped.
    pub own_addresses: Vec<SocketAddr>,
    /// Where others reach this server besides, whatever the port.
    pub public_addresses: Vec<ByText<Network>>,
    /// Connections at once in this process (its share of the whole), at least one.
    pub connections: u32,
    /// Which addresses of remote servers are used.
    pub family: Family,
    /// Our own addresses that connections come from.
    pub source: ByText<SourceAddresses>,
    /// The same for single destinations; ask [`crate::ByNextHop`].
    pub sources: Vec<(ByText<TlsDestination>, ByText<SourceAddresses>)>,
    /// Longest waits for the server.
    pub timeouts: NextHopTimeouts,
    /// Use BDAT where it is offered.
    pub chunking: bool,
    /// Encode what a server does not take as it is.
    pub mime_conversion: bool,
    /// How long an idle connection is kept; `None` for not at all.
    pub reuse_idle: Option<Duration>,
    /// Messages over one connection; `None` for no limit.
    pub reuse_max_messages: Option<u32>,
    /// TLS towards next hops.
    pub tls: DeliverTls,
    /// File with our accounts at next hops, absolute.
    pub credentials_file: Option<String>,
}

/// TLS towards next hops.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeliverTls {
    /// What a next hop needs that has no policy of its own.
    pub level: ByText<TlsPolicy>,
    /// Policies of single next hops.
    pub policies: Vec<(ByText<TlsDestination>, ByText<TlsPolicy>)>,
    /// Hold mail domains to their MTA-STS policies.
    pub mta_sts: bool,
    /// Count sessions for the reports of mail domains.
    pub reports: bool,
    /// PEM file of authorities, absolute; `None` for those of the system.
    pub ca_file: Option<String>,
}

/// Longest waits for a remote server (RFC 5321 4.5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct NextHopTimeouts {
    /// For the TCP connection.
    pub connect: Duration,
    /// For the greeting and the answer to EHLO.
    pub greeting: Duration,
    /// For the answer to MAIL.
    pub mail: Duration,
    /// For the answer to RCPT.
    pub rcpt: Duration,
    /// For the answer to DATA.
    pub data: Duration,
    /// For the server to take a piece of the message.
    pub block: Duration,
    /// For the answer to the end of the data.
    pub dot: Duration,
}

/// Which addresses of remote servers are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Family {
    /// Both families.
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

impl Family {
    pub(crate) const WORDS: &'static [(&'static str, Self)] =
        &[("any", Family::Any), ("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
}

/// What `deliver --role mailbox` is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MailboxSlice {
    /// Folder of the mailboxes, absolute.
    pub mail_root: String,
    /// What divides a user from an extension in a local part; each character does, none if empty.
    pub recipient_delimiter: String,
}

impl Config {
    /// What each `deliver --role smtp` is told.
    pub fn deliver(&self) -> DeliverSlice {
        let delivery = &self.delivery;
        DeliverSlice {
            server_name: self.server.name.clone().into(),
            own_addresses: self.listeners().map(|(address, _)| address).collect(),
            public_addresses: self.server.public_addresses.iter().copied().map(ByText::from).collect(),
            connections: delivery.connections.div_ceil(self.delivers()),
            family: delivery.family,
            source: delivery.source_address.into(),
            sources: self.sources(),
            timeouts: NextHopTimeouts {
                connect: delivery.connect,
                greeting: delivery.greeting,
                mail: delivery.mail,
                rcpt: delivery.rcpt,
                data: delivery.data,
                block: delivery.block,
                dot: delivery.dot,
            },
            chunking: delivery.chunking,
            mime_conversion: delivery.mime_conversion,
            reuse_idle: Some(delivery.reuse_idle).filter(|idle| !idle.is_zero()),
            reuse_max_messages: delivery.reuse_max_messages,
            tls: self.deliver_tls(),
            credentials_file: self.delivery_tls.credentials_file.as_ref().map(|path| self.placed(path)),
        }
    }

    fn sources(&self) -> Vec<(ByText<TlsDestination>, ByText<SourceAddresses>)> {
        let rows =
            self.delivery.destinations.iter().filter(|(_, limits)| limits.source.iter().next().is_some());
        rows.map(|(destination, limits)| (destination.clone().into(), limits.source.into())).collect()
    }

    fn deliver_tls(&self) -> DeliverTls {
        let tls = &self.delivery_tls;
        let row = |(destination, policy): &(TlsDestination, TlsPolicy)| {
            (destination.clone().into(), policy.clone().into())
        };
        DeliverTls {
            level: tls.level.clone().into(),
            policies: tls.policy.iter().map(row).collect(),
            mta_sts: tls.mta_sts,
            reports: tls.reports_from.is_some(),
            ca_file: tls.ca_file.as_ref().map(|path| self.placed(path)),
        }
    }

    /// What `deliver --role mailbox` is told.
    pub fn mailbox(&self) -> MailboxSlice {
        MailboxSlice {
            mail_root: self.placed(&self.delivery.mail_root),
            recipient_delimiter: self.delivery.recipient_delimiter.clone(),
        }
    }
}
