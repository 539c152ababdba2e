//! All children: which there are, which must come back and when, and who is introduced to whom.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_sys::{seqpacket, spawn};

use crate::child::{Child, State};
use crate::pace::Pace;
use crate::wiring;

/// SIGKILL, the one signal that the master sends: everything else is said over the edge.
const SIGKILL: i32 = 9;
/// The master looks after its children at least every second. If it has not done so for so long, it stood still itself, in
/// milliseconds: the machine or all of us were stopped.
const STOOD_STILL_MS: u64 = 5_000;
/// A child that accuses its peers more often is at fault itself.
const MAX_ACCUSATIONS: u32 = 3;

/// A place for one process, alive or waiting to be started again.
pub struct Slot {
    /// Its place among those of its role and generation, from 0.
    pub place: u32,
    /// Generation of its configuration.
    pub generation: u32,
    /// Not to be started again, unless somebody still needs it.
    pub retiring: bool,
    /// What it is started with, though it retires, as long as those of its generation need it; `None`: it is started with the
    /// configuration in force, or not at all.
    pub kept: Option<Vec<u8>>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it is now.
    pub life: Life,
    pace: Pace,
}

/// A process or the wait for one.
pub enum Life {
    /// Start it at this monotonic time.
    Waiting {
        /// Milliseconds.
        at_ms: u64,
    },
    /// It runs.
    Running(Box<Child>),
}

/// The children.
#[derive(Default)]
pub struct Family {
    slots: BTreeMap<ProcessName, Slot>,
    next_instance: BTreeMap<Role, u32>,
    /// When it was last looked whether any is silent, in monotonic milliseconds; 0 before the first time.
    looked_ms: u64,
}

impl Family {
    /// Makes a place for a new process, to be started at once.
    pub fn add(&mut self, role: Role, place: u32, generation: u32) -> ProcessName {
        let instance = self.next_instance.entry(role).or_default();
        let name = ProcessName { role, instance: *instance };
        *instance = instance.wrapping_add(1);
        let slot = Slot {
            place,
            generation,
            retiring: false,
            kept: None,
            restarts: 0,
            pace: Pace::default(),
            life: Life::Waiting { at_ms: 0 },
        };
        self.slots.insert(name, slot);
        name
    }

    /// All places, by name.
    pub fn slots(&self) -> impl Iterator<Item = (ProcessName, &Slot)> {
        self.slots.iter().map(|(name, slot)| (*name, slot))
    }

    /// One place.
    pub fn slot(&self, name: ProcessName) -> Option<&Slot> {
        self.slots.get(&name)
    }

    /// All running children.
    pub fn children(&mut self) -> impl Iterator<Item = &mut Child> {
        self.slots.values_mut().filter_map(|slot| match &mut slot.life {
            Life::Running(child) => Some(&mut **child),
            Life::Waiting { .. } => None,
        })
    }

    /// A running child of a role that is to stay: one that retires has no further use for what is new.
    pub fn staying(&mut self, role: Role) -> Option<&mut Child> {
        self.slots.iter_mut().filter(|(name, slot)| name.role == role && !slot.retiring).find_map(
            |(_, slot)| match &mut slot.life {
                Life::Running(child) => Some(&mut **child),
                Life::Waiting { .. } => None,
            },
        )
    }

    /// One running child.
    pub fn child(&mut self, name: ProcessName) -> Option<&mut Child> {
        match &mut self.slots.get_mut(&name)?.life {
            Life::Running(child) => Some(child),
            Life::Waiting { .. } => None,
        }
    }

    /// Names of the places that are due to be started.
    pub fn due(&self, now_ms: u64) -> Vec<ProcessName> {
        let is_due = |slot: &Slot| matches!(slot.life, Life::Waiting { at_ms } if at_ms <= now_ms);
        self.slots.iter().filter(|(_, slot)| is_due(slot)).map(|(name, _)| *name).collect()
    }

    /// When the next place is due, in monotonic milliseconds.
    pub fn next_due(&self) -> Option<u64> {
        self.slots
            .values()
            .filter_map(|slot| match slot.life {
                Life::Waiting { at_ms } => Some(at_ms),
                Life::Running(_) => None,
            })
            .min()
    }

    /// Puts a started child into its place and introduces it to its living peers.
    pub fn born(&mut self, child: Child) {
        let name = child.name;
        if let Some(slot) = self.slots.get_mut(&name) {
            slot.life = Life::Running(Box::new(child));
            self.introduce(name, seqpacket::pair);
        }
    }

    /// A start that failed counts as an early death.
    pub fn stillborn(&mut self, name: ProcessName, now_ms: u64) -> u64 {
        match self.slots.get_mut(&name) {
            Some(slot) => {
                let wait_ms = slot.pace.after_death(false, now_ms);
                slot.life = Life::Waiting { at_ms: now_ms + wait_ms };
                wait_ms
            }
            None => 0,
        }
    }

    /// Notes a death. `None` if the process was none of ours; otherwise its name and how long it will be missing
    /// (`None`: for ever).
    pub fn died(&mut self, pid: i32, stopping: bool, now_ms: u64) -> Option<(ProcessName, Option<u64>)> {
        let of_pid = |slot: &Slot| matches!(&slot.life, Life::Running(child) if child.process.pid == pid);
        let name = *self.slots.iter().find(|(_, slot)| of_pid(slot))?.0;
        let slot = self.slots.get_mut(&name)?;
        let is_needed = slot.kept.is_some()
            && matches!(&slot.life, Life::Running(child) if child.state != State::Draining);
        if stopping || slot.retiring && !is_needed {
            self.slots.remove(&name);
            return Some((name, None));
        }
        let served = matches!(&slot.life, Life::Running(child) if child.served);
        let wait_ms = slot.pace.after_death(served, now_ms);
        slot.restarts = slot.restarts.saturating_add(1);
        slot.life = Life::Waiting { at_ms: now_ms + wait_ms };
        Some((name, Some(wait_ms)))
    }

    /// Removes places that wait and are not wanted any more.
    pub fn forget_waiting(&mut self, mut unwanted: impl FnMut(&Slot) -> bool) {
        self.slots.retain(|_, slot| !(matches!(slot.life, Life::Waiting { .. }) && unwanted(slot)));
    }

    /// Marks the places of a role up to a generation as not to be started again.
    pub fn retire(&mut self, role: Role, before_generation: u32) -> Vec<ProcessName> {
        let mut retired = Vec::new();
        for (name, slot) in &mut self.slots {
            if name.role == role && slot.generation < before_generation && !slot.retiring {
                slot.retiring = true;
                retired.push(*name);
            }
        }
        self.forget_waiting(|slot| slot.retiring && slot.kept.is_none());
        retired
    }

    /// Processes of a role up to a generation are to be started again, with this slice, even when they retire: others of
    /// their generation ask nobody else. Until [`Family::release`].
    pub fn keep(&mut self, role: Role, before_generation: u32, slice: &[u8]) {
        let old = |name: &ProcessName, slot: &Slot| {
            name.role == role && slot.generation < before_generation && slot.kept.is_none()
        };
        for (_, slot) in self.slots.iter_mut().filter(|(name, slot)| old(name, slot)) {
            slot.kept = Some(slice.to_vec());
        }
    }

    /// Nobody needs these any more, if they retire.
    pub fn release(&mut self, unneeded: impl Fn(ProcessName, &Slot) -> bool) {
        for (_, slot) in self.slots.iter_mut().filter(|(name, slot)| slot.retiring && unneeded(**name, slot))
        {
            slot.kept = None;
        }
        self.forget_waiting(|slot| slot.retiring && slot.kept.is_none());
    }

    /// True if any process of that role still has a place, of any generation before this one.
    pub fn any_before(&self, role: Role, generation: u32) -> bool {
        self.slots.iter().any(|(name, slot)| name.role == role && slot.generation < generation)
    }

    /// True if any place of one of these roles is left.
    pub fn any_of(&self, roles: &[Role]) -> bool {
        self.slots.keys().any(|name| roles.contains(&name.role))
    }

    /// Ends a process that said what nobody may say; it is then started again like any other dead child. One that accuses
    /// too often is ended itself.
    pub fn accuse(&mut self, accuser: ProcessName, accused: ProcessName) {
        let Some(child) = self.child(accuser) else { return };
        child.accusations += 1;
        let too_often = child.accusations > MAX_ACCUSATIONS;
        if !wiring::are_peers(accuser.role, accused.role) {
            return;
        }
        Record::at(log::Level::Error, "peer-misbehaved")
            .field("accused", accused)
            .field("by", accuser)
            .emit();
        self.kill(accused);
        if too_often {
            self.kill(accuser);
        }
    }

    /// Ends processes that hang; they are then started again like any other dead child.
    pub fn kill_silent(&mut self, now_ms: u64) {
        for name in self.silent(now_ms) {
            Record::at(log::Level::Error, "silent").field("process", name).emit();
            self.kill(name);
            // One that the disk holds up ends when the disk lets it, and is not spoken of again every moment until then.
            if let Some(child) = self.child(name) {
                child.heard_ms = now_ms;
            }
        }
    }

    /// Those that hang. While we stood still nobody was heard, and perhaps all others stood still too: silence counts anew
    /// from there.
    fn silent(&mut self, now_ms: u64) -> Vec<ProcessName> {
        let looked_ms = std::mem::replace(&mut self.looked_ms, now_ms);
        if looked_ms != 0 && now_ms.saturating_sub(looked_ms) > STOOD_STILL_MS {
            self.children().for_each(|child| child.heard_ms = now_ms);
        }
        self.children().filter(|child| child.is_silent(now_ms)).map(|child| child.name).collect()
    }

    /// Ends all processes of a role now.
    pub fn kill_all(&mut self, role: Role) {
        let all: Vec<ProcessName> =
            self.children().map(|child| child.name).filter(|name| name.role == role).collect();
        all.into_iter().for_each(|name| self.kill(name));
    }

    /// Ends a process now.
    pub fn kill(&mut self, name: ProcessName) {
        if let Some(child) = self.child(name)
            && let Err(error) = spawn::kill(child.process.pid, SIGKILL)
        {
            Record::at(log::Level::Warn, "kill-failed").field("process", name).field("error", error).emit();
        }
    }

    /// Says something to all children of some roles.
    pub fn say_to(
        &mut self,
        mut wanted: impl FnMut(&Child) -> bool,
        message: impl Fn() -> ToChild,
        drains: bool,
    ) {
        for child in self.children().filter(|child| wanted(child)) {
            if drains {
                child.state = State::Draining;
            }
            child.say(&message(), None);
        }
    }

    /// Makes the edges between a new child and its living peers. One that cannot have all of them would be of no use for ever:
    /// it is ended, and started again like any other dead child.
    fn introduce(&mut self, name: ProcessName, pair: impl Fn() -> io::Result<(OwnedFd, OwnedFd)>) {
        let Some(generation) = self.slot(name).map(|slot| slot.generation) else { return };
        let peers: Vec<ProcessName> = self
            .slots
            .iter()
            .filter(|(peer, slot)| {
                wiring::are_peers(name.role, peer.role)
                    && matches!(slot.life, Life::Running(_))
                    && (!wiring::same_generation_only(name.role, peer.role) || slot.generation == generation)
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in peers {
            match pair() {
                Ok((one, other)) => {
                    self.hand_over(name, peer, one);
                    self.hand_over(peer, name, other);
                }
                Err(error) => {
                    Record::at(log::Level::Error, "no-edge")
                        .field("process", name)
                        .field("error", error)
                        .emit();
                    return self.kill(name);
                }
            }
        }
    }

    fn hand_over(&mut self, to: ProcessName, peer: ProcessName, end: OwnedFd) {
        if let Some(child) = self.child(to) {
            child.say(&ToChild::Peer(peer), Some(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::EdgeId;
    use vsmtp_ipc::edge::master_child::MasterEnd;

    use super::*;
    use crate::child::SILENCE_MS;

    /// A running child that never says anything; the other end of its edge.
    fn child(name: ProcessName, pid: u32) -> (Child, OwnedFd) {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let pidfd = std::fs::File::open("/dev/null").unwrap().into();
        let child = Child {
            name,
            process: spawn::Child { pid: pid as i32, pidfd },
            channel: MasterEnd::new(ours, EdgeId::MasterChild),
            state: State::Ready,
            served: true,
            started_ms: 1_000,
            heard_ms: 1_000,
            figures: Vec::new(),
            declared: String::new(),
            accusations: 0,
        };
        (child, theirs)
    }

    #[test]
    fn who_cannot_be_joined_to_its_peers_is_started_again() {
        use std::os::unix::process::ExitStatusExt;
        let mut family = Family::default();
        let queue = family.add(Role::QueueManager, 0, 0);
        let (peer, _its_end) = child(queue, u32::MAX >> 1);
        family.born(peer);
        let name = family.add(Role::DeliverSmtp, 0, 0);
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (new, _end) = child(name, process.id());
        family.born(new);
        family.introduce(name, || Err(io::ErrorKind::OutOfMemory.into()));
        assert_eq!(process.wait().unwrap().signal(), Some(SIGKILL));
    }

    #[test]
    fn nobody_is_taken_to_hang_because_all_of_us_stood_still() {
        let mut family = Family::default();
        let name = family.add(Role::Resolver, 0, 0);
        let (silent, _end) = child(name, u32::MAX >> 1);
        family.born(silent);
        assert_eq!(family.silent(1_000), []);
        // A virtual machine that was put aside for a day.
        let after_ms = 86_400_000;
        assert_eq!(family.silent(after_ms), []);
        // Whoever says nothing from then on hangs.
        let mut looks = (1..).map(|second| after_ms + second * 1_000);
        let found = looks.find(|now_ms| !family.silent(*now_ms).is_empty());
        assert_eq!(found, Some(after_ms + SILENCE_MS + 1_000));
    }
}
