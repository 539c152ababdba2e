//! What a session needs of its process: the settings, the way to the filter, and what all sessions share. Owns no
//! session, so that a session can use it while it is being driven.

use vsmtp_daemon::Reactor;
use vsmtp_mail::QueueIdMint;

use crate::auth_edge::Helpers;
use crate::deadlines::Deadlines;
use crate::filter_edge::Filters;
use crate::limits::Budget;
use crate::limits_edge::Limiter;
use crate::metrics::Figures;
use crate::names_edge::Names;
use crate::settings::Settings;
use crate::tls::Tls;

/// Octets of the one read buffer that all sessions share.
pub const READ_BUFFER: usize = 64 * 1024;

/// Octets of the buffer for what was read and not decrypted yet.
pub const RAW_BUFFER: usize = 16 * 1024;

/// One per process.
pub struct Services {
    /// From the configuration.
    pub settings: Settings,
    /// The filters.
    pub filters: Filters,
    /// The limiter.
    pub limiter: Limiter,
    /// The resolver, for the names of clients.
    pub names: Names,
    /// The auth helpers.
    pub helpers: Helpers,
    /// When sessions have waited long enough.
    pub deadlines: Deadlines,
    /// TLS, and the key holder.
    pub tls: Tls,
    /// Octets of messages in memory.
    pub budget: Budget,
    /// Makes queue ids.
    pub mint: QueueIdMint,
    /// Counters.
    pub figures: Figures,
    /// The read buffer; taken out while it is in use.
    pub buffer: Vec<u8>,
    /// What was read and not decrypted yet; taken out while it is in use.
    pub raw: Vec<u8>,
    /// Decoded message data; taken out while it is in use.
    pub scratch: Vec<u8>,
    /// Sessions that have more to read and let others go first.
    pub again: Vec<u64>,
    /// Sessions are to end as soon as their command is done.
    pub draining: bool,
}

impl Services {
    /// At the start of a process.
    pub fn new(settings: Settings, tls: Tls, mint: QueueIdMint, budget: Budget) -> Self {
        Services {
            settings,
            filters: Filters::default(),
            limiter: Limiter::default(),
            names: Names::default(),
            helpers: Helpers::default(),
            deadlines: Deadlines::default(),
            tls,
            budget,
            mint,
            figures: Figures::default(),
            buffer: vec![0; READ_BUFFER],
            raw: vec![0; RAW_BUFFER],
            scratch: Vec::new(),
            again: Vec::new(),
            draining: false,
        }
    }
}

/// What is at hand while one event is handled.
pub struct Context<'a> {
    /// The loop.
    pub reactor: &'a mut Reactor,
    /// The process.
    pub services: &'a mut Services,
}
