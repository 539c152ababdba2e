//! Which record of a message is its latest, where the main loop cannot know it yet. A record that names the wrong
//! predecessor would lose what lies between.

use std::collections::{HashMap, VecDeque};

use vsmtp_mail::QueueId;

use super::super::layout::Kind;
use super::super::record::Location;
use super::Placed;

/// Locations that the main loop has not heard of yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    latest: HashMap<QueueId, Location>,
    /// What was told, and in the reports of which batch.
    told: VecDeque<(u64, QueueId, Location)>,
}

impl Recent {
    /// Returns what was known before.
    pub(super) fn insert(&mut self, id: QueueId, at: Location) -> Option<Location> {
        self.latest.insert(id, at)
    }

    /// The main loop is told of these records in the reports of this batch.
    pub(super) fn tell(&mut self, placed: &[Placed], batch: u64) {
        let told = placed.iter().filter(|one| moves_latest(one.kind));
        self.told.extend(told.map(|one| (batch, one.id, one.at)));
    }

    /// The latest record of a message, if the main loop may not know it.
    pub(super) fn lookup(&self, id: QueueId) -> Option<Location> {
        self.latest.get(&id).copied()
    }

    /// A record does not count: what was there before it does, if there was anything.
    pub(super) fn restore(&mut self, id: QueueId, before: Option<Location>, batch: u64) {
        match before {
            Some(at) => {
                self.latest.insert(id, at);
                self.told.push_back((batch, id, at));
            }
            None => drop(self.latest.remove(&id)),
        }
    }

    /// The main loop has read the reports up to this batch.
    pub(super) fn prune(&mut self, seen: u64) {
        while let Some((_, id, at)) = self.told.front().copied().filter(|(batch, ..)| *batch <= seen) {
            self.told.pop_front();
            if self.latest.get(&id) == Some(&at) {
                self.latest.remove(&id);
            }
        }
    }
}

/// True for records that a later record of the same message must name as the one before.
pub(super) fn moves_latest(kind: Kind) -> bool {
    matches!(kind, Kind::Copy | Kind::Revision | Kind::Outcome | Kind::State)
}
