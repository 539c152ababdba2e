//! A flow is what one class of senders has for one next hop. Picking goes round the classes, round the flows of a class,
//! and round the jobs of a flow, so neither a bulk sender nor a message with thousands of recipients stops the others.

use super::slab::{NONE, Slab};

/// Classes of senders; a sender's class is a seeded hash.
pub(super) const CLASSES: usize = 128;

/// One class of senders at one next hop.
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

/// The ring of sender classes that have a flow to be looked at.
#[derive(Debug)]
pub(super) struct Ring {
    classes: Vec<FlowList>,
    turn: std::collections::VecDeque<u8>,
}

impl Default for Ring {
    fn default() -> Self {
        Ring {
            classes: (0..CLASSES).map(|_| FlowList::default()).collect(),
            turn: std::collections::VecDeque::with_capacity(CLASSES),
        }
    }
}

impl Ring {
    pub fn is_empty(&self) -> bool {
        self.turn.is_empty()
    }

    /// Puts a flow at the end of its class.
    pub fn push(&mut self, flows: &mut Slab<Flow>, flow: u32) {
        let class = flows[flow].class;
        let list = &mut self.classes[usize::from(class)];
        if list.is_empty() {
            self.turn.push_back(class);
        }
        list.push(flows, flow);
    }

    /// Takes the flow whose turn it is; its class goes to the end of the ring.
    pub fn pop(&mut self, flows: &mut Slab<Flow>) -> Option<u32> {
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
}
