//! Landlock for one program and all that it starts, inside the jail of the process that starts it. Programs in two domains
//! cannot look into each other, signal each other, or open each other's files where only one may.
//!
//! Made before the fork, entered by the child. What the kernel lacks is left out and said so; what it has and refuses is an
//! error, since a domain that is weaker than the kernel allows would go unnoticed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use landlock::{
    Access, AccessFs, BitFlags, CompatLevel, Compatible, CreateRulesetError, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
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

/// Paths that are open, to be granted. To open them may wait for whoever serves their file systems; to grant them does not.
#[derive(Debug, Default)]
pub struct OpenGrants {
    opened: Vec<(OwnedFd, BitFlags<AccessFs>)>,
}

impl OpenGrants {
    /// Opens what is to be granted. A path that cannot be opened is left out: it is not there, not for us, or broken, so it
    /// would be of no use to who is in the domain.
    ///
    /// # Errors
    /// We lack a descriptor or memory: that says nothing of the path.
    pub fn open(grants: impl IntoIterator<Item = PathGrant>) -> io::Result<OpenGrants> {
        let mut opened = Vec::new();
        for grant in grants {
            match open(&grant) {
                Ok(one) => opened.push(one),
                Err(error) if is_ours(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(OpenGrants { opened })
    }
}

fn open(grant: &PathGrant) -> io::Result<(OwnedFd, BitFlags<AccessFs>)> {
    let path = File::options().read(true).custom_flags(libc::O_PATH).open(&grant.path)?;
    let rights = rights(grant.rights, path.metadata()?.is_dir());
    Ok((path.into(), rights))
}

/// True if it is we who lack something.
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

impl Domain {
    /// A domain in which this and no more may be opened.
    ///
    /// # Errors
    /// The kernel has Landlock and refuses the domain, for want of a descriptor or of memory.
    pub fn prepare(grants: &[&OpenGrants]) -> io::Result<Domain> {
        let mut files = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(TESTED))
            .and_then(|ruleset| ruleset.scope(Scope::from_all(TESTED)))
            .and_then(Ruleset::create)
            .map_err(reason)?;
        for (path, rights) in grants.iter().flat_map(|some| &some.opened) {
            files = files.add_rule(PathBeneath::new(path.as_fd(), *rights)).map_err(reason)?;
        }
        Ok(Domain { fence: fence()?, files: descriptor(files) })
    }

    /// True if what is in it can signal nobody outside, so that whoever keeps it can end all of it and nobody else.
    pub fn has_fence(&self) -> bool {
        self.fence.is_some()
    }

    /// True if what is in it can open nothing but what is granted, and look into no process outside.
    pub fn has_files(&self) -> bool {
        self.files.is_some()
    }

    pub(crate) fn fence(&self) -> Option<RawFd> {
        self.fence.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub(crate) fn files(&self) -> Option<RawFd> {
        self.files.as_ref().map(AsRawFd::as_raw_fd)
    }
}

fn fence() -> io::Result<Option<OwnedFd>> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    match ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket) {
        Ok(ruleset) => ruleset.create().map(descriptor).map_err(reason),
        // The kernel has no such scopes.
        Err(_) => Ok(None),
    }
}

fn descriptor(ruleset: RulesetCreated) -> Option<OwnedFd> {
    ruleset.into()
}

/// What the kernel has said, as its error number where it has said one.
fn reason(error: RulesetError) -> io::Error {
    match error {
        RulesetError::CreateRuleset(CreateRulesetError::CreateRulesetCall { source, .. }) => source,
        other => io::Error::other(other),
    }
}

/// Puts this thread into the domain of a rule set, for good. It makes one system call, so a forked child may use it before
/// exec. Needs `no_new_privs`.
pub(crate) fn enter(ruleset: RawFd) -> io::Result<()> {
    // SAFETY: takes two integers and touches no memory.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) }).map(|_| ())
}
