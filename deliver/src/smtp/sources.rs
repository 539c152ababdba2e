//! Which of our own addresses connections come from.

use vsmtp_config::{ByNextHop, DeliverSlice, SourceAddresses};
use vsmtp_daemon::Record;
use vsmtp_mail::NextHop;

use crate::smtp::socket::try_source;

/// By next hop, and for all others.
#[derive(Debug, Default)]
pub struct Sources {
    usual: SourceAddresses,
    by_next_hop: ByNextHop<SourceAddresses>,
    is_any_set: bool,
}

impl Sources {
    /// Sorts what the slice says. An address that this host does not have now is warned of: it may come later, and until
    /// then what should come from it waits.
    pub fn new(slice: &DeliverSlice) -> Self {
        let rows = slice.sources.iter().map(|(_, source)| **source);
        let mut addresses: Vec<_> = rows.chain([*slice.source]).flat_map(SourceAddresses::iter).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let is_any_set = !addresses.is_empty();
        for address in addresses {
            if let Err(error) = try_source(address) {
                Record::at(log::Level::Warn, "source-address-unusable")
                    .field("address", address)
                    .field("error", error)
                    .emit();
            }
        }
        let by_next_hop = ByNextHop::new(&slice.sources, |source: &SourceAddresses| *source);
        Sources { usual: *slice.source, by_next_hop, is_any_set }
    }

    /// True if connections to any next hop come from an address that is set.
    pub fn is_any_set(&self) -> bool {
        self.is_any_set
    }

    /// The addresses for a next hop; of a family that its row does not name, the usual one.
    pub fn of(&self, next_hop: &NextHop) -> SourceAddresses {
        // What is near is reached as it always was, unless it is named.
        let usual =
            if matches!(next_hop, NextHop::Smtp { .. }) { self.usual } else { SourceAddresses::default() };
        match self.by_next_hop.of(next_hop) {
            Some(own) => SourceAddresses { v4: own.v4.or(usual.v4), v6: own.v6.or(usual.v6) },
            None => usual,
        }
    }
}
