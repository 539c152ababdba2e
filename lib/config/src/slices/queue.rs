//! What the queue-manager is told.

use std::time::Duration;

use bincode::{Decode, Encode};
use vsmtp_mail::{Address, Domain, NextHop};

use super::Alias;
use crate::by_text::ByText;
use crate::config::Config;
use crate::destination::{DestinationLimits, Rate, SourceAddresses};
use crate::routes::DomainPattern;
use crate::tls_policy::TlsDestination;

/// What the queue-manager is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct QueueSlice {
    /// Its own folder, absolute: `queue` below `server.queues.dirpath`.
    pub spool: String,
    /// The reporting MTA of bounces.
    pub server_name: ByText<Domain>,
    /// Who gets double bounces.
    pub postmaster: ByText<Address>,
    /// The server's own domains. This and the next four: where reports go, which no filter routes.
    pub domains: Vec<ByText<Domain>>,
    /// Whose mail goes elsewhere; ask [`crate::Recipients`].
    pub aliases: Vec<Alias>,
    /// What divides a user from an extension in a local part.
    pub recipient_delimiter: String,
    /// How mail for `domains` is delivered.
    pub local: ByText<NextHop>,
    /// Where mail for other domains goes; `None` for their own MX.
    pub relayhost: Option<ByText<NextHop>>,
    /// Next hops by the recipient's domain; ask [`crate::Routes`].
    pub transport: Vec<(ByText<DomainPattern>, ByText<NextHop>)>,
    /// How long delivery is tried.
    pub lifetime: Duration,
    /// How long delivery of a bounce is tried.
    pub bounce_lifetime: Duration,
    /// When the sender is told of a delay; `None` for never.
    pub delay_warning: Option<Duration>,
    /// First wait between attempts.
    pub backoff_min: Duration,
    /// Longest wait between attempts, at least `backoff_min`.
    pub backoff_max: Duration,
    /// Connections to one destination, to begin with.
    pub concurrency_initial: u32,
    /// Connections to one destination, at most; at least `concurrency_initial`.
    pub concurrency_max: u32,
    /// Messages to one destination in a time.
    pub rates: Vec<ByText<Rate>>,
    /// What single destinations bear; ask [`crate::ByNextHop`].
    pub destinations: Vec<(ByText<TlsDestination>, ByText<DestinationLimits>)>,
    /// Octets of one file of the log.
    pub segment_size: u64,
    /// Octets of free space below which nothing is accepted.
    pub min_free: u64,
    /// Octets of warm messages in memory.
    pub cache_size: u64,
    /// Octets of a message that a bounce returns.
    pub bounce_size_limit: u64,
    /// Largest message, in octets.
    pub message_size_limit: u64,
    /// Daily reports about TLS.
    pub tls_reports: TlsReports,
}

/// Daily reports about TLS to mail domains (RFC 8460).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TlsReports {
    /// Their sender; `None`: there are none.
    pub from: Option<ByText<Address>>,
    /// Who reports, in words; `None` for the server's name.
    pub organization: Option<String>,
    /// Who can be asked; `None` for the sender.
    pub contact: Option<ByText<Address>>,
    /// The hour (UTC) from which on those of the day before are sent.
    pub hour: u32,
    /// The post-queue filter has them signed.
    pub signed: bool,
}

impl Config {
    /// What the queue-manager is told.
    pub fn queue(&self) -> QueueSlice {
        let (server, queue) = (&self.server, &self.queue);
        QueueSlice {
            spool: format!("{}/queue", self.placed(&server.spool).trim_end_matches('/')),
            server_name: server.name.clone().into(),
            postmaster: self.postmaster.clone().into(),
            domains: server.domains.iter().cloned().map(ByText::from).collect(),
            aliases: self.aliases(),
            recipient_delimiter: self.delivery.recipient_delimiter.clone(),
            local: self.delivery.local.clone().into(),
            relayhost: self.delivery.relayhost.clone().map(ByText::from),
            transport: self.transport(),
            lifetime: queue.lifetime,
            bounce_lifetime: queue.bounce_lifetime,
            delay_warning: Some(queue.delay_warning).filter(|delay| !delay.is_zero()),
            backoff_min: queue.backoff_min,
            backoff_max: queue.backoff_max,
            concurrency_initial: self.delivery.concurrency_initial,
            concurrency_max: self.delivery.concurrency_max,
            rates: self.delivery.rate.iter().map(|rate| (*rate).into()).collect(),
            destinations: self.destinations(),
            segment_size: queue.segment_size,
            min_free: queue.min_free,
            cache_size: queue.cache_size,
            bounce_size_limit: queue.bounce_size_limit,
            message_size_limit: server.message_size_limit,
            tls_reports: TlsReports {
                from: self.delivery_tls.reports_from.clone().map(ByText::from),
                organization: self.delivery_tls.reports_organization.clone(),
                contact: self.delivery_tls.reports_contact.clone().map(ByText::from),
                hour: self.delivery_tls.reports_hour,
                signed: self.report_signature().is_some(),
            },
        }
    }

    fn destinations(&self) -> Vec<(ByText<TlsDestination>, ByText<DestinationLimits>)> {
        let limits = |limits: &DestinationLimits| DestinationLimits {
            source: SourceAddresses::default(),
            ..limits.clone()
        };
        let rows = self.delivery.destinations.iter().map(|(destination, row)| (destination, limits(row)));
        let said = rows.filter(|(_, limits)| *limits != DestinationLimits::default());
        said.map(|(destination, limits)| (destination.clone().into(), limits.into())).collect()
    }
}
