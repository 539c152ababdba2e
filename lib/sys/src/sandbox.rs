//! Giving up power for good: limits, privileges, files (Landlock), system calls (seccomp), from one reasoned table.
//!
//! Fails closed: an error of `apply` means that the process must exit. There is no switch to leave it out.

pub(crate) mod domain;
mod filter;
mod groups;
mod landlock;
mod number;
pub(crate) mod power;
pub mod probe;
mod rule;

use std::fmt::Write;
use std::io;
use std::path::PathBuf;

pub use domain::{Domain, OpenGrants};
pub use groups::{BASE, BODIES, NARROWING, PLUGINS, THREADS};
pub use rule::*;

/// All that a daemon may still do once it handles other people's bytes.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The daemon (and role) this is for, in messages and descriptions.
    pub daemon: &'static str,
    /// Tables of system calls; a call is allowed if any line of any of them allows it.
    pub syscalls: Vec<&'static [Rule]>,
    /// What happens to a call without a line.
    pub on_denied: Denied,
    /// What may still be opened below which paths. Empty: nothing.
    pub landlock: Vec<PathGrant>,
    /// What may be done with TCP, where the kernel can tell (Landlock ABI 4).
    pub landlock_tcp: Tcp,
    /// Resource limits.
    pub limits: Limits,
}

/// What Landlock leaves of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// No port may be bound or connected to.
    None,
    /// Any port may be connected to, from one that the kernel chooses.
    OutOnly,
    /// It is not asked.
    Any,
}

/// What a denied call does. Unknown numbers answer ENOSYS either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It fails with EPERM. For processes with third-party code, which may ask for much that it can do without.
    Errno,
    /// It kills the process. Only the few calls that the C library tries on its own fail with EPERM.
    Kill,
}

/// Rights below one path, for Landlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGrant {
    /// A directory (and all below) or a file. It must exist when the profile is applied.
    pub path: PathBuf,
    /// What may be done there.
    pub rights: Rights,
}

/// What may be done below a path, beyond which ordinary permissions still count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Open files and directories for reading.
    Read,
    /// The same, and execute files.
    ReadExecute,
    /// Open existing files for reading and writing.
    ReadWrite,
    /// The same, and create, rename, link and remove files, directories and sockets.
    Manage,
    /// List directories and create some; create, write, replace and remove files. No file can be read.
    Deposit,
    /// Remove empty directories; nothing can be opened.
    RemoveEmpty,
}

/// Resource limits, soft and hard alike. `None` leaves what was inherited; core files are always off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open descriptors; also how many this user may have in flight on sockets when this process sends one.
    pub nofile: Option<u64>,
    /// Bytes of the largest file, memory files included. Not for who writes to the log, which may be a file, too.
    pub fsize: Option<u64>,
    /// Bytes of address space.
    pub address_space: Option<u64>,
    /// Bytes of memory that can be written and is nobody else's: heaps and stacks of threads.
    pub data: Option<u64>,
    /// Threads and processes of this user, in all.
    pub nproc: Option<u64>,
    /// Bytes of locked memory.
    pub memlock: Option<u64>,
}

/// What `apply` has achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How much of the Landlock part is in force. The rest of a profile always is.
    pub landlock: Landlock,
    /// Whether Landlock holds for every thread; on kernels before ABI 8 only if there was one.
    pub landlock_all_threads: bool,
    /// Threads when the profile was applied; 0 if nobody counted. All other parts hold for all of them.
    pub threads: usize,
    /// Instructions of the seccomp filter.
    pub instructions: usize,
}

/// How far the kernel can keep a Landlock rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// All that the profile asks for.
    Full,
    /// As much as this kernel knows.
    Partial,
    /// Nothing: the kernel has no Landlock, or it is not enabled.
    None,
}

/// Puts the profile in force for this process, all its threads, and all that it ever starts.
///
/// In this order: limits, no new privileges, not dumpable, no capabilities, Landlock as far as the kernel has it,
/// seccomp. Fails, with an error that names the step, if any part but Landlock cannot be had, and if another thread
/// still holds a capability: then the process must not go on.
pub fn apply(profile: &Profile) -> io::Result<Applied> {
    let program = step(profile, "seccomp table", filter::compile(profile))?;
    step(profile, "limits", power::limit(&profile.limits))?;
    step(profile, "no_new_privs", power::no_new_privileges())?;
    step(profile, "dumpable", power::not_dumpable())?;
    step(profile, "capabilities", power::drop_capabilities())?;
    let threads = step(profile, "threads", power::threads_without_capabilities())?;
    let (landlock, all_threads) = step(profile, "landlock", landlock::restrict(profile))?;
    step(profile, "seccomp", filter::install(&program))?;
    Ok(Applied {
        landlock,
        landlock_all_threads: all_threads || threads == 1,
        threads,
        instructions: program.len(),
    })
}

/// Narrows a jail that `apply` has closed and that has [`NARROWING`]: what this profile forbids is forbidden as well. Limits,
/// capabilities and the like stay as they are. Fails as `apply` does.
///
/// A call then passes both tables. Files are narrowed for threads that are there already from Landlock's ABI 8 on only, and
/// system calls for all of them.
pub fn tighten(profile: &Profile) -> io::Result<Applied> {
    let program = step(profile, "seccomp table", filter::compile(profile))?;
    let (landlock, landlock_all_threads) = step(profile, "landlock", landlock::restrict(profile))?;
    step(profile, "seccomp", filter::install(&program))?;
    Ok(Applied { landlock, landlock_all_threads, threads: 0, instructions: program.len() })
}

fn step<T>(profile: &Profile, what: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| {
        io::Error::new(error.kind(), format!("sandbox of {}: {what}: {error}", profile.daemon))
    })
}

/// The profile as a table for people: what `vsmtpctl sandbox` calls "declared".
pub fn describe(profile: &Profile) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_description(&mut text, profile);
    text
}

fn write_description(out: &mut String, profile: &Profile) -> std::fmt::Result {
    let denied = match profile.on_denied {
        Denied::Errno => "EPERM",
        Denied::Kill => "kills the process",
    };
    writeln!(out, "{}: a call not listed: {denied}; an unknown number: ENOSYS", profile.daemon)?;
    writeln!(out, "  limits: {}", describe_limits(&profile.limits))?;
    let net = match profile.landlock_tcp {
        Tcp::None => "no TCP",
        Tcp::OutOnly => "TCP from no port of its choice",
        Tcp::Any => "TCP not restricted",
    };
    writeln!(out, "  landlock: {net}; {}", if profile.landlock.is_empty() { "no path" } else { "paths:" })?;
    for grant in &profile.landlock {
        writeln!(out, "    {:?} {}", grant.rights, grant.path.display())?;
    }
    writeln!(out, "  system calls:")?;
    let mut rules: Vec<&Rule> = profile.syscalls.iter().copied().flatten().collect();
    rules.sort_by_key(|rule| rule.name());
    for rule in rules {
        writeln!(out, "    {:<18} {}{}", rule.name(), rule.reason(), describe_condition(rule))?;
    }
    Ok(())
}

fn describe_limits(limits: &Limits) -> String {
    let named = [
        ("nofile", limits.nofile),
        ("fsize", limits.fsize),
        ("as", limits.address_space),
        ("data", limits.data),
        ("nproc", limits.nproc),
        ("memlock", limits.memlock),
    ];
    let mut text = "core 0".to_owned();
    for (name, value) in named {
        if let Some(value) = value {
            text.push_str(&format!(", {name} {value}"));
        }
    }
    text
}

fn describe_condition(rule: &Rule) -> String {
    let AllowIf(_, alternatives, _) = rule else { return String::new() };
    let join = |tests: &&[Test]| tests.iter().map(Test::to_string).collect::<Vec<_>>().join(" and ");
    format!(" [if {}]", alternatives.iter().map(join).collect::<Vec<_>>().join(", or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_part() {
        let profile = Profile {
            daemon: "tester",
            syscalls: vec![&[Allow("read", "reading"), AllowIf("kill", SELF_ONLY, "abort")]],
            on_denied: Denied::Errno,
            landlock: vec![PathGrant { path: "/var/mail".into(), rights: Rights::Manage }],
            landlock_tcp: Tcp::None,
            limits: Limits { nofile: Some(100), ..Limits::default() },
        };
        let text = describe(&profile);
        for part in
            ["tester", "EPERM", "core 0, nofile 100", "no TCP", "Manage /var/mail", "read  ", "reading"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("abort [if arg0 = own pid]"), "{text}");
    }
}
