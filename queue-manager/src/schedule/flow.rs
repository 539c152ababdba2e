//! A flow is what one class of senders has of one rank for one next hop. Picking goes round the classes, round the flows of
//! a class, and round the jobs of a flow, so neither a bulk sender nor a message with thousands of recipients stops the
//! others. Ranks do not take turns alike, but each has its turns.

use vsmtp_mail::Priority;

use super::slab::{NONE, Slab};

/// Classes of senders; a sender's class is a seeded hash.
pub(super) const CLASSES: usize = 128;

/// How urgent the messages of a flow are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rank {
    Urgent,
    #[default]
    Usual,
    Patient,
}

impl Rank {
    const ALL: [Rank; 3] = [Rank::Urgent, Rank::Usual, Rank::Patient];
}

impl From<Priority> for Rank {
    fn from(priority: Priority) -> Self {
        match priority.number() {
            1.. => Rank::Urgent,
            0 => Rank::Usual,
            _ => Rank::Patient,
        }
    }
}

/// Whose turn it is, where all ranks have something to do: of thirteen turns, nine are for what is urgent and one is for
/// what is patient. That one is the bound for its waiting.
const TURNS: [Rank; 13] = {
    use Rank::{Patient, Urgent, Usual};
    [Urgent, Urgent, Usual, Urgent, Urgent, Urgent, Usual, Urgent, Urgent, Patient, Urgent, Usual, Urgent]
};

/// Where something stands in [`TURNS`].
#[derive(Debug, Default)]
struct Turn(u8);

impl Turn {
    /// The rank whose turn it is; one that has nothing leaves its turn to the most urgent that has.
    fn take(&mut self, has: impl Fn(Rank) -> bool) -> Option<Rank> {
        let next = TURNS.get(usize::from(self.0)).copied().unwrap_or_default();
        let taken = std::iter::once(next).chain(Rank::ALL).find(|rank| has(*rank))?;
        self.0 = (self.0 + 1) % TURNS.len() as u8;
        Some(taken)
    }
}

/// One class of senders at one next hop, with what it has of one rank.
#[derive(Debug)]
pub(super) struct Flow {
    /// `NONE` in an empty slot.
    pub destination: u32,
    /// Jobs that belong to it.
    pub jobs: u32,
    /// Its queue of jobs with something to try now.
    pub head: u32,
    pub tail: u32,
    /// Next flow in the list in which it stands.
    pub link: u32,
    /// The job made last: more recipients of the same message go there.
    pub newest: u32,
    pub class: u8,
    pub rank: Rank,
    /// Stands in the list of a class, a destination or a lane.
    pub listed: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Flow {
            destination: NONE,
            jobs: 0,
            head: NONE,
            tail: NONE,
            link: NONE,
            newest: NONE,
            class: 0,
            rank: Rank::Usual,
            listed: false,
        }
    }
}

/// Flows that wait for the same thing, in order; linked through the flows.
#[derive(Debug)]
pub(super) struct FlowList {
    head: u32,
    tail: u32,
}

impl Default for FlowList {
    fn default() -> Self {
        FlowList { head: NONE, tail: NONE }
    }
}

impl FlowList {
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub fn push(&mut self, flows: &mut Slab<Flow>, flow: u32) {
        flows[flow].link = NONE;
        flows[flow].listed = true;
        match self.tail {
            NONE => self.head = flow,
            tail => flows[tail].link = flow,
        }
        self.tail = flow;
    }

    pub fn pop(&mut self, flows: &mut Slab<Flow>) -> Option<u32> {
        let flow = self.head;
        if flow == NONE {
            return None;
        }
        self.head = std::mem::replace(&mut flows[flow].link, NONE);
        if self.head == NONE {
            self.tail = NONE;
        }
        flows[flow].listed = false;
        Some(flow)
    }
}

/// Flows of all ranks that wait for the same thing.
#[derive(Debug, Default)]
pub(super) struct RankedList {
    lists: [FlowList; Rank::ALL.len()],
    turn: Turn,
}

impl RankedList {
    pub fn push(&mut self, flows: &mut Slab<Flow>, flow: u32) {
        self.lists[flows[flow].rank as usize].push(flows, flow);
    }

    pub fn pop(&mut self, flows: &mut Slab<Flow>) -> Option<u32> {
        let rank = self.turn.take(|rank| !self.lists[rank as usize].is_empty())?;
        self.lists[rank as usize].pop(flows)
    }
}

/// The rings of all ranks.
#[derive(Debug, Default)]
pub(super) struct Ring {
    rings: [ClassRing; Rank::ALL.len()],
    turn: Turn,
}

impl Ring {
    pub fn is_empty(&self) -> bool {
        self.rings.iter().all(|ring| ring.turn.is_empty())
    }

    /// Puts a flow at the end of its class.
    pub fn push(&mut self, flows: &mut Slab<Flow>, flow: u32) {
        self.rings[flows[flow].rank as usize].push(flows, flow);
    }

    /// Takes the flow whose turn it is; its class goes to the end of the ring.
    pub fn pop(&mut self, flows: &mut Slab<Flow>) -> Option<u32> {
        let rank = self.turn.take(|rank| !self.rings[rank as usize].turn.is_empty())?;
        self.rings[rank as usize].pop(flows)
    }
}

/// The ring of sender classes that have a flow to be looked at.
#[derive(Debug)]
struct ClassRing {
    classes: Vec<FlowList>,
    turn: std::collections::VecDeque<u8>,
}

impl Default for ClassRing {
    fn default() -> Self {
        ClassRing {
            classes: (0..CLASSES).map(|_| FlowList::default()).collect(),
            turn: std::collections::VecDeque::with_capacity(CLASSES),
        }
    }
}

impl ClassRing {
    fn push(&mut self, flows: &mut Slab<Flow>, flow: u32) {
        let class = flows[flow].class;
        let list = &mut self.classes[usize::from(class)];
        if list.is_empty() {
            self.turn.push_back(class);
        }
        list.push(flows, flow);
    }

    fn pop(&mut self, flows: &mut Slab<Flow>) -> Option<u32> {
        let class = self.turn.pop_front()?;
        let list = &mut self.classes[usize::from(class)];
        let flow = list.pop(flows);
        if !list.is_empty() {
            self.turn.push_back(class);
        }
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_take_turns_whatever_they_have() {
        let (mut flows, mut ring) = (Slab::default(), Ring::default());
        for class in [1, 1, 1, 2] {
            let flow = flows.insert(Flow { class, ..Flow::default() }).unwrap();
            ring.push(&mut flows, flow);
        }
        let order: Vec<u32> = std::iter::from_fn(|| ring.pop(&mut flows)).collect();
        assert_eq!(order, [0, 3, 1, 2]);
        assert!(ring.is_empty());
    }

    #[test]
    fn each_rank_has_its_turns_and_leaves_those_that_it_does_not_need() {
        let mut turn = Turn::default();
        let mut count = |ranks: &[Rank]| {
            let taken: Vec<Rank> =
                (0..TURNS.len() * 2).filter_map(|_| turn.take(|r| ranks.contains(&r))).collect();
            Rank::ALL.map(|rank| taken.iter().filter(|taken| **taken == rank).count())
        };
        assert_eq!(count(&[Rank::Urgent, Rank::Usual, Rank::Patient]), [18, 6, 2]);
        assert_eq!(count(&[Rank::Usual, Rank::Patient]), [0, 24, 2]);
        assert_eq!(count(&[Rank::Patient]), [0, 0, 26]);
        assert_eq!(count(&[]), [0, 0, 0]);
    }

    #[test]
    fn a_priority_is_of_one_of_three_ranks() {
        let rank = |number| Rank::from(Priority::new(number).unwrap());
        assert_eq!([1, 9].map(rank), [Rank::Urgent; 2]);
        assert_eq!([-1, -9].map(rank), [Rank::Patient; 2]);
        assert_eq!(rank(0), Rank::Usual);
    }
}
