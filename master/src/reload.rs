//! A new configuration without a dropped session: new receivers and filters beside the old ones, which keep their edges
//! until their sessions end. Deliver and resolver processes are replaced only if their slice or a file of it changed; the queue-manager,
//! the limiter and the key holder are never doubled and take their new slices while they run.

use std::os::fd::OwnedFd;

use vsmtp_config::Config;
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::role::{ProcessName, Role};

use crate::child::{Child, State};
use crate::family::{Family, Life, Slot};
use crate::launch::settings_role;
use crate::log_sink::LogSink;

/// Old sessions may go on this long, in milliseconds; then 421.
pub const OLD_SESSIONS_MS: u64 = 600_000;
/// So many generations of old processes may have something to finish at a time.
const MAX_OLD: u32 = 24;
/// Those before them may go on this long, in milliseconds.
const CROWDED_MS: u64 = 10_000;
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
        Role::Limits => vsmtp_config::encode(&config.limits()),
        Role::Auth => vsmtp_config::encode(&config.auth()),
        Role::Keys => vsmtp_config::encode(&config.keys()),
        Role::Runner => vsmtp_config::encode(&config.runner()),
        Role::Database => vsmtp_config::encode(&config.database()),
    }
}

/// How many processes of a role a configuration wants.
pub fn count(config: &Config, role: Role) -> u32 {
    match role {
        Role::Receiver => config.master().receivers,
        Role::DeliverSmtp => config.master().delivers,
        Role::Auth => u32::from(config.master().auth),
        Role::Keys => u32::from(!config.keys().files().is_empty()),
        Role::Runner => u32::from(!config.runner().commands.is_empty()),
        Role::Database => u32::from(!config.database().databases.is_empty()),
        _ => 1,
    }
}

/// Makes places for the new generation and sends the old one into retirement. The new places are started by the loop.
///
/// `moved`: the roles that have read files before their jails which are not what stands there now. `key_files` are those
/// of the key holder, open.
pub fn turn_over(
    family: &mut Family,
    old: &Config,
    new: &Config,
    generation: u32,
    moved: &[Role],
    mut key_files: Vec<(String, OwnedFd)>,
) {
    for role in Role::DAEMONS {
        let unchanged =
            slice(old, role).ok() == slice(new, role).ok() && count(old, role) == count(new, role);
        match role {
            // Never doubled, and what they hold in memory must outlive a reload.
            Role::QueueManager | Role::Limits => {
                if let (false, Ok(bytes)) = (unchanged, slice(new, role)) {
                    family.say_to(
                        |child| child.name.role == role,
                        || ToChild::Reconfigure(bytes.clone()),
                        false,
                    );
                }
            }
            Role::Keys if count(old, role) == count(new, role) => {
                renew_keys(family, new, std::mem::take(&mut key_files));
            }
            // Rules may have changed though the slice did not; runner and database are their own.
            Role::Receiver | Role::FilterSession | Role::FilterPost => replace(family, role, new, generation),
            Role::Runner | Role::Database => {
                if let Ok(slice) = slice(old, role) {
                    family.keep(role, generation, &slice);
                }
                replace(family, role, new, generation);
            }
            role if moved.contains(&role) => replace(family, role, new, generation),
            _ if unchanged => {}
            _ => replace(family, role, new, generation),
        }
    }
}

/// Every process gets the log opened anew: its place may have changed, or its file have been moved away. The kinds that are
/// kept over a reload would write to the old one for ever.
pub fn hand_out_log(family: &mut Family, log: &LogSink) {
    for child in family.children() {
        // One that gets none keeps what it has.
        if let Ok(sink) = log.open_or_stand_in() {
            child.say(&log.message(settings_role(child.name.role)), Some(sink));
        }
    }
}

/// The key holder is never doubled. It is told what is new and handed all files again, because what is in them may have
/// changed; if they are bad, it keeps what it had.
fn renew_keys(family: &mut Family, new: &Config, files: Vec<(String, OwnedFd)>) {
    let (Ok(bytes), Some(child)) = (slice(new, Role::Keys), family.staying(Role::Keys)) else { return };
    child.say(&ToChild::Reconfigure(bytes), None);
    for (path, file) in files {
        child.say(&ToChild::File(path), Some(file));
    }
}

fn replace(family: &mut Family, role: Role, new: &Config, generation: u32) {
    family.retire(role, generation);
    for place in 0..count(new, role) {
        family.add(role, place, generation);
    }
}

/// Called when a process of the new generation is ready: its predecessors can go. Those whom old sessions
/// ask are no concern of this: they go with those who ask them, see [`release_filters`].
pub fn release_old(family: &mut Family, generation: u32, ready: Role) {
    let all_ready = family
        .slots()
        .filter(|(name, slot)| name.role == ready && slot.generation == generation)
        .all(|(_, slot)| matches!(&slot.life, Life::Running(child) if child.state != State::Starting));
    if !all_ready {
        return;
    }
    let deadline_ms = match ready {
        Role::Receiver => OLD_SESSIONS_MS,
        Role::FilterSession | Role::Auth | Role::Keys | Role::Runner | Role::Database => return,
        _ => OLD_ATTEMPTS_MS,
    };
    drain_retiring(family, ready, deadline_ms);
}

/// However often the configuration is read, and whatever clients stay, there are so many processes and no more.
pub fn hurry_oldest(family: &mut Family, generation: u32) {
    // The others end with those who ask them.
    const FIRST_TO_GO: [Role; 5] =
        [Role::Receiver, Role::FilterPost, Role::DeliverSmtp, Role::DeliverMailbox, Role::Resolver];
    let first = generation.saturating_sub(MAX_OLD);
    let oldest: Vec<ProcessName> = family
        .slots()
        .filter(|(name, slot)| FIRST_TO_GO.contains(&name.role) && slot.retiring && slot.generation < first)
        .map(|(name, _)| name)
        .collect();
    family.say_to(|child| oldest.contains(&child.name), || ToChild::StopAccepting, false);
    family.say_to(|child| oldest.contains(&child.name), || ToChild::Drain { deadline_ms: CROWDED_MS }, true);
}

/// Called when a process has ended: old session filters end with the last receiver of their generation, runners and those
/// who ask databases with the last receiver and filter of theirs, auth helpers and key holders with the last for whom they
/// were the newest; those that are not wanted any more at all end with the last old receiver.
pub fn release_filters(family: &mut Family, generation: u32) {
    let served = generations(family, &[Role::Receiver]);
    let asking = generations(family, &[Role::Receiver, Role::FilterSession, Role::FilterPost]);
    let is_over = |name: ProcessName, slot: &Slot| {
        matches!(name.role, Role::Runner | Role::Database) && !asking.contains(&slot.generation)
    };
    family.release(is_over);
    drain(family, OLD_ATTEMPTS_MS, is_over);
    drain(family, OLD_ATTEMPTS_MS, |name, slot| {
        name.role == Role::FilterSession && !served.contains(&slot.generation)
    });
    let none_is_old = !family.any_before(Role::Receiver, generation);
    for role in [Role::Auth, Role::Keys] {
        // They stay over reloads that change nothing for them, so whoever asks may be of a later generation.
        let theirs = generations(family, &[role]);
        let newest_for = |asks: &u32| theirs.iter().copied().filter(|one| one <= asks).max();
        let needed: Vec<u32> = asking.iter().filter_map(newest_for).collect();
        drain(family, OLD_ATTEMPTS_MS, |name, slot| {
            name.role == role && (none_is_old || !needed.contains(&slot.generation))
        });
    }
}

/// The generations of which a process of one of these roles has a place.
fn generations(family: &Family, roles: &[Role]) -> Vec<u32> {
    family.slots().filter(|(name, _)| roles.contains(&name.role)).map(|(_, slot)| slot.generation).collect()
}

fn drain_retiring(family: &mut Family, role: Role, deadline_ms: u64) {
    drain(family, deadline_ms, |name, _| name.role == role);
}

/// Only places that were replaced: a process that was kept over a reload is of an old generation too, and stays.
fn drain(family: &mut Family, deadline_ms: u64, wanted: impl Fn(ProcessName, &Slot) -> bool) {
    let retiring: Vec<ProcessName> = family
        .slots()
        .filter(|(name, slot)| slot.retiring && wanted(*name, slot))
        .map(|(name, _)| name)
        .collect();
    let old = |child: &Child| retiring.contains(&child.name) && child.state != State::Draining;
    family.say_to(old, || ToChild::StopAccepting, false);
    family.say_to(old, || ToChild::Drain { deadline_ms }, true);
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::EdgeId;
    use vsmtp_ipc::edge::master_child::{ChildEnd, MasterEnd};
    use vsmtp_sys::{seqpacket, spawn};

    use super::*;

    /// Of no process that there can be: one may be ended here.
    fn pid(name: ProcessName) -> i32 {
        let role = Role::DAEMONS.iter().position(|role| *role == name.role).unwrap();
        i32::MAX - (role as i32 * 1_000 + name.instance as i32)
    }

    /// A place with a process that is ready, and the other end of its edge.
    fn ready(family: &mut Family, role: Role, generation: u32) -> (ProcessName, ChildEnd) {
        let name = family.add(role, 0, generation);
        let pid = pid(name);
        let (ours, theirs) = seqpacket::pair().unwrap();
        family.born(Child {
            name,
            process: spawn::Child { pid, pidfd: std::fs::File::open("/dev/null").unwrap().into() },
            channel: MasterEnd::new(ours, EdgeId::MasterChild),
            state: State::Ready,
            served: true,
            started_ms: 0,
            heard_ms: 0,
            figures: Vec::new(),
            declared: String::new(),
            accusations: 0,
        });
        (name, ChildEnd::new(theirs, EdgeId::MasterChild))
    }

    fn state(family: &mut Family, name: ProcessName) -> State {
        family.child(name).unwrap().state
    }

    #[test]
    fn who_was_kept_over_a_reload_is_not_drained_when_it_is_started_again() {
        let mut family = Family::default();
        let (queue, _queue_end) = ready(&mut family, Role::QueueManager, 0);
        let (resolver, _resolver_end) = ready(&mut family, Role::Resolver, 0);
        for role in [Role::QueueManager, Role::Resolver] {
            release_old(&mut family, 1, role);
        }
        assert_eq!(state(&mut family, queue), State::Ready);
        assert_eq!(state(&mut family, resolver), State::Ready);
    }

    #[test]
    fn new_certificates_go_to_the_key_holder_that_stays() {
        let mut family = Family::default();
        let (_, mut old) = ready(&mut family, Role::Keys, 0);
        // TLS was switched off and on again while old sessions go on.
        family.retire(Role::Keys, 1);
        let (_, mut new) = ready(&mut family, Role::Keys, 2);
        let context = vsmtp_config::Context {
            hostname: vsmtp_mail::Domain::parse("mx.test").unwrap(),
            cores: 1,
            config_dir: "/etc/vsmtp".to_owned(),
            root: String::new(),
        };
        let config = Config::build(&context, &vsmtp_config::Value::map()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        renew_keys(&mut family, &config, vec![("/etc/cert.pem".to_owned(), file.into())]);
        family.children().for_each(|child| drop(child.channel.flush()));
        let mut heard = Vec::new();
        while let Ok(Some(received)) = new.receive() {
            heard.push(received.message);
        }
        assert!(matches!(heard.as_slice(), [ToChild::Reconfigure(_), ToChild::File(_)]), "{heard:?}");
        assert!(matches!(old.receive(), Ok(None)), "the one that goes keeps what its sessions began with");
    }

    #[test]
    fn a_runner_that_dies_is_replaced_as_long_as_old_sessions_need_it() {
        let mut family = Family::default();
        let (old, _receiver) = ready(&mut family, Role::Receiver, 0);
        let (runner, _runner) = ready(&mut family, Role::Runner, 0);
        family.retire(Role::Receiver, 1);
        family.keep(Role::Runner, 1, b"old slice");
        family.retire(Role::Runner, 1);
        assert!(matches!(family.died(pid(runner), false, 0), Some((_, Some(_)))), "it comes back");
        let slot = family.slot(runner).unwrap();
        assert_eq!((slot.generation, slot.kept.as_deref()), (0, Some(&b"old slice"[..])));
        // A second reload changes nothing of that.
        family.keep(Role::Runner, 2, b"new slice");
        family.retire(Role::Runner, 2);
        assert_eq!(family.slot(runner).unwrap().kept.as_deref(), Some(&b"old slice"[..]));
        release_filters(&mut family, 2);
        assert!(family.slot(runner).is_some(), "an old receiver is there");
        family.died(pid(old), false, 0);
        assert!(family.slot(old).is_none());
        release_filters(&mut family, 2);
        assert!(family.slot(runner).is_none(), "nobody needs it");
    }

    #[test]
    fn only_a_process_that_is_past_its_start_can_be_silent() {
        let mut family = Family::default();
        let (name, _end) = ready(&mut family, Role::Resolver, 0);
        let child = family.child(name).unwrap();
        assert!(!child.is_silent(crate::child::SILENCE_MS));
        assert!(child.is_silent(crate::child::SILENCE_MS + 1));
        child.state = State::Starting;
        assert!(!child.is_silent(u64::MAX));
    }

    #[test]
    fn a_filter_whose_start_never_ends_is_silent() {
        let mut family = Family::default();
        let (name, _end) = ready(&mut family, Role::FilterPost, 0);
        let child = family.child(name).unwrap();
        child.state = State::Starting;
        assert!(!child.is_silent(crate::child::SILENCE_MS));
        assert!(child.is_silent(crate::child::SILENCE_MS + 1));
    }

    #[test]
    fn old_receivers_go_when_the_new_ones_are_ready_and_their_filter_after_them() {
        let mut family = Family::default();
        let (old, _old_end) = ready(&mut family, Role::Receiver, 0);
        let (filter, _filter_end) = ready(&mut family, Role::FilterSession, 0);
        family.retire(Role::Receiver, 1);
        family.retire(Role::FilterSession, 1);
        let (new, _new_end) = ready(&mut family, Role::Receiver, 1);
        family.child(new).unwrap().state = State::Starting;
        release_old(&mut family, 1, Role::Receiver);
        assert_eq!(state(&mut family, old), State::Ready, "its successor is not");
        family.child(new).unwrap().state = State::Ready;
        release_old(&mut family, 1, Role::Receiver);
        assert_eq!(state(&mut family, old), State::Draining);
        release_filters(&mut family, 1);
        assert_eq!(state(&mut family, filter), State::Ready, "an old receiver still asks it");
        family.died(pid(old), false, 0);
        release_filters(&mut family, 1);
        assert_eq!(state(&mut family, filter), State::Draining);
        assert_eq!(state(&mut family, new), State::Ready);
    }

    #[test]
    fn a_filter_goes_with_the_last_receiver_of_its_own_generation() {
        let mut family = Family::default();
        let (_oldest, _oldest_end) = ready(&mut family, Role::Receiver, 0);
        let (first, _first_end) = ready(&mut family, Role::FilterSession, 0);
        // Of the second generation, no receiver is left.
        let (second, _second_end) = ready(&mut family, Role::FilterSession, 1);
        let (newest, _newest_end) = ready(&mut family, Role::FilterSession, 2);
        family.retire(Role::Receiver, 2);
        family.retire(Role::FilterSession, 2);
        release_filters(&mut family, 2);
        assert_eq!(state(&mut family, first), State::Ready, "a receiver still asks it");
        assert_eq!(state(&mut family, second), State::Draining);
        assert_eq!(state(&mut family, newest), State::Ready);
    }

    #[test]
    fn one_client_that_stays_keeps_only_what_its_own_generation_asks() {
        const RELOADS: u32 = 30;
        const ROLES: [Role; 6] = [
            Role::Receiver,
            Role::FilterSession,
            Role::FilterPost,
            Role::Runner,
            Role::Database,
            // Its slice changes each time.
            Role::Auth,
        ];
        let mut family = Family::default();
        let mut ends: Vec<ChildEnd> = Vec::new();
        for generation in 0..=RELOADS {
            for role in ROLES {
                if matches!(role, Role::Runner | Role::Database) {
                    family.keep(role, generation, b"slice");
                }
                family.retire(role, generation);
                ends.push(ready(&mut family, role, generation).1);
                release_old(&mut family, generation, role);
            }
            // Whoever was told to ends, but for the receiver of the client that stays.
            let stays = |name: &ProcessName| name.role == Role::Receiver && name.instance == 0;
            loop {
                let draining = family.children().filter(|child| child.state == State::Draining);
                let Some(ends) = draining.map(|child| child.name).find(|name| !stays(name)) else { break };
                family.died(pid(ends), false, 0);
                release_filters(&mut family, generation);
            }
        }
        for role in ROLES {
            let left: Vec<u32> = generations(&family, &[role]);
            // No session asks this one: it went when the next was ready.
            let wanted = if role == Role::FilterPost { vec![RELOADS] } else { vec![0, RELOADS] };
            assert_eq!(left, wanted, "{role}");
        }
    }

    #[test]
    fn who_stays_over_a_reload_goes_with_the_last_for_whom_it_was_the_newest() {
        let mut family = Family::default();
        let (auth, _auth_end) = ready(&mut family, Role::Auth, 0);
        // Two reloads changed nothing for it, the third did.
        let (receiver, _receiver_end) = ready(&mut family, Role::Receiver, 2);
        family.retire(Role::Auth, 3);
        family.retire(Role::Receiver, 3);
        let (_, _new_auth) = ready(&mut family, Role::Auth, 3);
        let (_, _new_receiver) = ready(&mut family, Role::Receiver, 3);
        release_filters(&mut family, 3);
        assert_eq!(state(&mut family, auth), State::Ready, "an old receiver asks it");
        family.died(pid(receiver), false, 0);
        release_filters(&mut family, 3);
        assert_eq!(state(&mut family, auth), State::Draining);
    }

    #[test]
    fn there_are_never_too_many_generations() {
        let mut family = Family::default();
        let mut ends = Vec::new();
        let mut receivers = Vec::new();
        for generation in 0..=MAX_OLD + 1 {
            family.retire(Role::Receiver, generation);
            let (name, end) = ready(&mut family, Role::Receiver, generation);
            receivers.push(name);
            ends.push(end);
        }
        hurry_oldest(&mut family, MAX_OLD + 1);
        family.children().for_each(|child| drop(child.channel.flush()));
        let mut heard = Vec::new();
        while let Ok(Some(received)) = ends[0].receive() {
            heard.push(received.message);
        }
        let [ToChild::StopAccepting, ToChild::Drain { deadline_ms: CROWDED_MS }] = heard.as_slice() else {
            panic!("{heard:?}")
        };
        assert!(matches!(ends[1].receive(), Ok(None)), "it has its time");
        assert_eq!(state(&mut family, receivers[1]), State::Ready);
    }
}
