//! The files of a profile, for Landlock: as much as the kernel has. Nothing else may depend on more than it gives.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    RestrictSelfAttr, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{Landlock, Profile, Rights, Tcp};

/// The newest interface this was tested with; what a kernel lacks of it is left out.
pub(super) const TESTED: ABI = ABI::V7;

/// Restricts this thread, and the others too from ABI 8 on. Returns how far it went, and whether for all threads.
pub(super) fn restrict(profile: &Profile) -> io::Result<(Landlock, bool)> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TESTED))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(TESTED)))
        .map_err(io::Error::other)?;
    let denied: BitFlags<AccessNet> = match profile.landlock_tcp {
        Tcp::None => AccessNet::from_all(TESTED),
        Tcp::OutOnly => AccessNet::BindTcp.into(),
        Tcp::Any => BitFlags::EMPTY,
    };
    if !denied.is_empty() {
        ruleset = ruleset.handle_access(denied).map_err(io::Error::other)?;
    }
    let mut created = ruleset.create().map_err(io::Error::other)?;
    if profile.landlock_tcp == Tcp::OutOnly {
        // Port 0 is the one that the kernel chooses.
        created = created.add_rule(NetPort::new(0, AccessNet::BindTcp)).map_err(io::Error::other)?;
    }
    for grant in &profile.landlock {
        let path = PathFd::new(&grant.path).map_err(io::Error::other)?;
        let rule = PathBeneath::new(path, rights(grant.rights, grant.path.is_dir()));
        created = created.add_rule(rule).map_err(io::Error::other)?;
    }
    let status = created
        .all_threads(true)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)?;
    let level = match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::None,
    };
    Ok((level, status.all_threads))
}

pub(super) fn rights(rights: Rights, directory: bool) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    let entries = AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::RemoveDir
        | AccessFs::MakeSock
        | AccessFs::Refer;
    let wanted = match rights {
        Rights::Read => read,
        Rights::ReadExecute => read | AccessFs::Execute,
        Rights::ReadWrite => read | write,
        Rights::Manage => read | write | entries,
        Rights::Deposit => {
            let entries = AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::MakeDir;
            write | entries | AccessFs::ReadDir
        }
        Rights::RemoveEmpty => AccessFs::RemoveDir.into(),
    };
    if directory { wanted } else { wanted & AccessFs::from_file(TESTED) }
}
