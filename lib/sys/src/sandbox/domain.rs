//! Landlock for one program and all that it starts, inside the jail of the process that starts it. Programs in two domains
//! cannot look into each other, signal each other, or open each other's files where only one may.
//!
//! Made before the fork, entered by the child. Where the kernel lacks a part, that part is left out and said so.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use landlock::{
    Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope,
};

use super::PathGrant;
use super::landlock::{TESTED, rights};
use crate::retry::check;

/// A domain that no process is in yet.
#[derive(Debug)]
pub struct Domain {
    /// What keeps signals in, for a keeper and all below it (Linux 6.12 and later).
    fence: Option<OwnedFd>,
    /// What may be opened, for the program (Linux 5.13 and later).
    files: Option<OwnedFd>,
}

impl Domain {
    /// A domain in which this and no more may be opened. A path that is not there, or not for us, is left out.
    ///
    /// # Errors
    /// The kernel has Landlock and refuses the domain.
    pub fn prepare(grants: &[PathGrant]) -> io::Result<Domain> {
        // Whoever has no such scopes says so here.
        let fence = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .scope(Scope::Signal | Scope::AbstractUnixSocket)
            .and_then(Ruleset::create)
            .ok()
            .and_then(descriptor);
        let mut files = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(TESTED))
            .and_then(|ruleset| ruleset.scope(Scope::from_all(TESTED)))
            .and_then(Ruleset::create)
            .map_err(io::Error::other)?;
        for grant in grants {
            let Ok(path) = PathFd::new(&grant.path) else { continue };
            let rule = PathBeneath::new(path, rights(grant.rights, grant.path.is_dir()));
            files = files.add_rule(rule).map_err(io::Error::other)?;
        }
        Ok(Domain { fence, files: descriptor(files) })
    }

    /// True if what is in it can signal nobody outside, so that whoever keeps it can end all of it and nobody else.
    pub fn has_fence(&self) -> bool {
        self.fence.is_some()
    }

    pub(crate) fn fence(&self) -> Option<RawFd> {
        self.fence.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub(crate) fn files(&self) -> Option<RawFd> {
        self.files.as_ref().map(AsRawFd::as_raw_fd)
    }
}

fn descriptor(ruleset: RulesetCreated) -> Option<OwnedFd> {
    ruleset.into()
}

/// Puts this thread into the domain of a rule set, for good. It makes one system call, so a forked child may use it before
/// exec. Needs `no_new_privs`.
pub(crate) fn enter(ruleset: RawFd) -> io::Result<()> {
    // SAFETY: takes two integers and touches no memory.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) }).map(|_| ())
}
