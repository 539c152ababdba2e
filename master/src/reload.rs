//! A new configuration without a dropped session: new receivers and filters beside the old ones, which keep their edges
//! until their sessions end. Deliver and resolver processes are replaced only if their slice changed; the queue-manager is
//! never doubled and takes its new slice while it runs.

use vsmtp_config::Config;
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::role::Role;

use crate::family::Family;

/// Old sessions may go on this long, in milliseconds; then 421.
pub const OLD_SESSIONS_MS: u64 = 600_000;
/// Old deliver processes may finish this long, in milliseconds.
const OLD_ATTEMPTS_MS: u64 = 120_000;

/// The encoded slice of a role.
pub fn slice(config: &Config, role: Role) -> Result<Vec<u8>, vsmtp_config::WireError> {
    match role {
        Role::Receiver => vsmtp_config::encode(&config.receiver()),
        Role::FilterSession | Role::FilterPost | Role::FilterOneshot => {
            vsmtp_config::encode(&config.filter())
        }
        Role::QueueManager => vsmtp_config::encode(&config.queue()),
        Role::DeliverSmtp => vsmtp_config::encode(&config.deliver()),
        Role::DeliverMailbox => vsmtp_config::encode(&config.mailbox()),
        Role::Resolver => vsmtp_config::encode(&config.resolver()),
    }
}

/// How many processes of a role a configuration wants.
pub fn count(config: &Config, role: Role) -> u32 {
    match role {
        Role::Receiver => config.master().receivers,
        Role::DeliverSmtp => config.master().delivers,
        _ => 1,
    }
}

/// Makes places for the new generation and sends the old one into retirement. The new places are started by the loop.
pub fn turn_over(family: &mut Family, old: &Config, new: &Config, generation: u32) {
    for role in Role::DAEMONS {
        let unchanged =
            slice(old, role).ok() == slice(new, role).ok() && count(old, role) == count(new, role);
        match role {
            Role::QueueManager => {
                if let (false, Ok(bytes)) = (unchanged, slice(new, role)) {
                    family.say_to(
                        |child| child.name.role == role,
                        || ToChild::Reconfigure(bytes.clone()),
                        false,
                    );
                }
            }
            // Rules may have changed though the slice did not.
            Role::Receiver | Role::FilterSession | Role::FilterPost => replace(family, role, new, generation),
            _ if unchanged => {}
            _ => replace(family, role, new, generation),
        }
    }
}

fn replace(family: &mut Family, role: Role, new: &Config, generation: u32) {
    family.retire(role, generation);
    for place in 0..count(new, role) {
        family.add(role, place, generation);
    }
}

/// Called when a process of the new generation is ready: its predecessors can go. Old session filters stay until the last
/// old receiver has gone, because its sessions ask them.
pub fn release_old(family: &mut Family, generation: u32, ready: Role) {
    let all_ready = family
        .slots()
        .filter(|(name, slot)| name.role == ready && slot.generation == generation)
        .all(|(_, slot)| matches!(&slot.life, crate::family::Life::Running(c) if c.state != crate::child::State::Starting));
    if !all_ready {
        return;
    }
    let deadline_ms = match ready {
        Role::Receiver => OLD_SESSIONS_MS,
        Role::FilterSession => return,
        _ => OLD_ATTEMPTS_MS,
    };
    drain_old(family, ready, generation, deadline_ms);
}

/// Called when a process has ended: old session filters end with the last old receiver.
pub fn release_filters(family: &mut Family, generation: u32) {
    if !family.any_before(Role::Receiver, generation) {
        drain_old(family, Role::FilterSession, generation, OLD_ATTEMPTS_MS);
    }
}

fn drain_old(family: &mut Family, role: Role, generation: u32, deadline_ms: u64) {
    let old = |child: &crate::child::Child| {
        child.name.role == role
            && child.generation < generation
            && child.state != crate::child::State::Draining
    };
    family.say_to(old, || ToChild::StopAccepting, false);
    family.say_to(old, || ToChild::Drain { deadline_ms }, true);
}
