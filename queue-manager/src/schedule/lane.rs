//! Lanes: the deliver processes, each with its credits. A next hop always goes to the same one of those that are up, so
//! that connections can be used again.

use vsmtp_ipc::Credits;
use vsmtp_mail::NextHop;

use super::flow::{FlowList, RankedList};

/// Which kind of deliver process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LaneKind {
    /// SMTP and LMTP.
    Smtp,
    /// Mailboxes of virtual users.
    Mailbox,
}

impl LaneKind {
    fn of(hop: &NextHop) -> Self {
        match hop {
            NextHop::Smtp { .. } | NextHop::Lmtp(_) => LaneKind::Smtp,
            NextHop::Mailbox(_) => LaneKind::Mailbox,
        }
    }
}

/// One deliver process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Its kind.
    pub kind: LaneKind,
    /// Which of its kind.
    pub instance: u32,
    /// Counts the processes that had this place.
    pub life: u32,
}

/// A lane that is up.
#[derive(Debug)]
pub(super) struct Open {
    pub lane: Lane,
    pub credits: Credits,
    /// Flows that wait for a credit.
    pub parked: RankedList,
    /// Gets no more leases, and finishes those that it has.
    pub retired: bool,
}

/// All lanes, and the flows that wait for one to come up.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    open: Vec<Open>,
    pub stranded: FlowList,
}

impl Lanes {
    /// The place of the lane for a next hop, among those that are up.
    pub fn choose(&self, hop: &NextHop, hash: u64) -> Option<usize> {
        let kind = LaneKind::of(hop);
        let of_kind =
            || self.open.iter().enumerate().filter(move |(_, open)| open.lane.kind == kind && !open.retired);
        let count = of_kind().count() as u64;
        of_kind().nth(usize::try_from(hash.checked_rem(count)?).ok()?).map(|(at, _)| at)
    }

    pub fn open(&mut self, lane: Lane, credits: u32) {
        self.open.push(Open {
            lane,
            credits: Credits::new(credits),
            parked: RankedList::default(),
            retired: false,
        });
        self.open.sort_by_key(|open| open.lane);
    }

    pub fn close(&mut self, lane: Lane) -> Option<Open> {
        self.position(lane).map(|at| self.open.remove(at))
    }

    pub fn at(&mut self, at: usize) -> &mut Open {
        &mut self.open[at]
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.open.iter_mut()
    }

    pub fn find(&mut self, lane: Lane) -> Option<&mut Open> {
        self.position(lane).map(|at| &mut self.open[at])
    }

    fn position(&self, lane: Lane) -> Option<usize> {
        self.open.iter().position(|open| open.lane == lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_keeps_its_lane_and_kinds_do_not_mix() {
        let smtp = NextHop::parse("smtp:dst.test").unwrap();
        let maildir = NextHop::parse("maildir").unwrap();
        let mut lanes = Lanes::default();
        assert_eq!(lanes.choose(&smtp, 7), None);
        for instance in [1, 0, 2] {
            lanes.open(Lane { kind: LaneKind::Smtp, instance, life: 0 }, 1);
        }
        assert_eq!(lanes.choose(&maildir, 7), None);
        let chosen = lanes.choose(&smtp, 7).unwrap();
        assert_eq!(lanes.at(chosen).lane.instance, 1);
        lanes.close(Lane { kind: LaneKind::Smtp, instance: 1, life: 0 });
        let chosen = lanes.choose(&smtp, 7).unwrap();
        assert_eq!(lanes.at(chosen).lane.instance, 2);
    }
}
