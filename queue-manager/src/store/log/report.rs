//! What goes into the log and what comes out of it: prepared transactions, places, reports.

use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::super::disk::DiskFile;
use super::super::header::Seed;
use super::super::janitor::Found;
use super::super::layout::Kind;
use super::super::record::{Draft, Location};
use super::super::sidecar::SidecarWriter;
use super::super::transaction::{Alarm, CommitError, Ticket, Urgency};

/// A transaction whose octets are ready.
#[derive(Debug)]
pub(in crate::store) struct Prepared {
    pub ticket: Ticket,
    pub urgency: Urgency,
    /// It may not take the reserve.
    pub accepts: bool,
    pub drafts: Vec<Draft>,
    /// The last batch whose report had been read when this was prepared.
    pub seen: u64,
    /// Its report has been given, though it was not synced.
    pub(super) reported: bool,
}

impl Prepared {
    pub(in crate::store) fn new(
        ticket: Ticket,
        urgency: Urgency,
        accepts: bool,
        drafts: Vec<Draft>,
        seen: u64,
    ) -> Self {
        Prepared { ticket, urgency, accepts, drafts, seen, reported: false }
    }

    /// Somebody knows the latest record of some messages, and has read the reports up to this batch.
    pub(in crate::store) fn know(&mut self, seen: u64, latest: impl Fn(QueueId) -> Option<Location>) {
        self.seen = seen;
        for draft in &mut self.drafts {
            let known = latest(draft.id);
            draft.follow(known);
        }
    }

    pub(super) fn span(&self) -> u64 {
        self.drafts.iter().map(Draft::span).sum()
    }

    pub(in crate::store) fn weight(&self) -> usize {
        self.drafts.iter().map(Draft::weight).sum()
    }
}

/// A record that has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Placed {
    pub kind: Kind,
    pub id: QueueId,
    pub at: Location,
    pub span: u64,
}

/// What the log tells the main loop.
#[derive(Debug)]
pub(in crate::store) enum Report {
    Done {
        ticket: Ticket,
        batch: u64,
        result: Result<Vec<Placed>, CommitError>,
    },
    /// Records that were reported before, now elsewhere.
    Moved {
        batch: u64,
        placed: Vec<Placed>,
    },
    /// Records that follow are in this segment.
    Opened {
        epoch: u32,
        number: u64,
        file: Arc<dyn DiskFile>,
        size: u64,
    },
    Alarm(Alarm),
    Found(Found),
    /// Some seconds have passed.
    Tick,
}

/// Where a log begins to be written.
#[derive(Debug)]
pub(in crate::store) struct LogStart {
    pub next_epoch: u32,
    pub next_sequence: u64,
    /// All records up to this sequence are durable; higher ones that are not do not exist.
    pub durable: u64,
    pub tail: u32,
    pub previous: (u32, u64),
    pub active: Option<Active>,
    /// The spool's own number.
    pub spool: u64,
}

/// The segment that is being written.
#[derive(Debug)]
pub(in crate::store) struct Active {
    pub epoch: u32,
    pub number: u64,
    pub salt: u64,
    pub file: Arc<dyn DiskFile>,
    pub sidecar: SidecarWriter,
    /// Where the next record begins.
    pub end: u64,
    /// Everything before is durable.
    pub synced: u64,
    /// Records end here at the latest.
    pub limit: u64,
}

impl Active {
    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.salt, self.epoch)
    }
}
