//! What a process holds besides descriptors: limits, capabilities, the right to gain more. Only ever less of it.

use std::fs;
use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Limits;
use crate::retry::{check, invalid};

/// Capability numbers are below this; the kernel has 41 of them today.
const MAX_CAPABILITIES: libc::c_ulong = 64;

/// Sets the limits, never above a hard limit that is there; core files are off. System calls only.
pub(crate) fn limit(limits: &Limits) -> io::Result<()> {
    let wanted = [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_NOFILE, limits.nofile),
        (Resource::RLIMIT_FSIZE, limits.fsize),
        (Resource::RLIMIT_AS, limits.address_space),
        (Resource::RLIMIT_DATA, limits.data),
        (Resource::RLIMIT_NPROC, limits.nproc),
        (Resource::RLIMIT_MEMLOCK, limits.memlock),
    ];
    for (resource, value) in wanted {
        if let Some(value) = value {
            let (_, hard) = getrlimit(resource)?;
            let value = value.min(hard);
            setrlimit(resource, value, value)?;
        }
    }
    Ok(())
}

/// Nothing this process executes can gain a privilege.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// No core file, and no process of the same user can attach or read this one's memory.
pub(super) fn not_dumpable() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// Empties all capability sets of this thread.
pub(super) fn drop_capabilities() -> io::Result<()> {
    drop_bounding_set()?;
    clear_own()
}

/// Empties the bounding set, where permitted, and the ambient set, and sees to it that a change of user keeps nothing.
///
/// Like everything here that is visible outside, it makes system calls only, so a forked child may use it before exec.
pub(crate) fn drop_bounding_set() -> io::Result<()> {
    prctl::set_keepcaps(false)?;
    for capability in 0..MAX_CAPABILITIES {
        // SAFETY: takes integers and touches no memory; a number the kernel does not have gives EINVAL.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => {}
            // The end of the kernel's list; or no CAP_SETPCAP, and the set stays, which no_new_privs makes worthless.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => break,
            Err(error) => return Err(error),
        }
    }
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    // SAFETY: takes integers and touches no memory.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) })?;
    Ok(())
}

/// Version 3 of the kernel's interface: two 32-bit words per set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties this thread's effective, permitted and inheritable sets.
pub(crate) fn clear_own() -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let nothing = [CapabilityWords { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both pointers are to live values of the layout that version 3 of the interface prescribes; the kernel
    // only reads them, since the version is one it knows.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, nothing.as_ptr()) }).map(|_| ())
}

/// The number of threads, after making sure that none of them holds a capability (each thread has its own).
pub(super) fn threads_without_capabilities() -> io::Result<usize> {
    let mut threads = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let status = match fs::read_to_string(task?.path().join("status")) {
            Ok(status) => status,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        let permitted = permitted.ok_or_else(|| invalid("no CapPrm line in /proc"))?;
        if permitted.trim().bytes().any(|digit| digit != b'0') {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another thread holds capabilities"));
        }
        threads += 1;
    }
    Ok(threads)
}

/// Whether a thread ended between being listed and being looked at.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
