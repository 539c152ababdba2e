//! What the queue-manager may still do once it handles other people's bytes: files below the spool, and nothing else. No
//! socket can be made, no program started, no name resolved. The same table in debug, test and release.

use std::path::Path;

use vsmtp_sys::sandbox::{
    Allow, BASE, BODIES, Denied, Limits, PathGrant, Profile, Rights, Rule, THREADS, Tcp,
};

/// Descriptors: staging files of sessions in flight, bodies of leases in flight, segments, edges.
const DESCRIPTORS: u64 = 65_536;

const SPOOL: &[Rule] = &[
    Allow("openat", "listing the spool's folders"),
    Allow("openat2", "files of the spool, never through a link"),
    Allow("getdents64", "listing the spool's folders"),
    Allow("newfstatat", "length and links of the spool's files"),
    Allow("statx", "length and links of the spool's files"),
    Allow("fstatfs", "free space of the spool's disk"),
    Allow("statfs", "free space of the spool's disk"),
    Allow("fallocate", "the blocks of a new segment"),
    Allow("ftruncate", "the length of a new segment"),
    Allow("pwritev", "records"),
    Allow("fdatasync", "the promise behind a 250"),
    Allow("fsync", "names of new files, and folders"),
    Allow("rename", "a staged body gets its name"),
    Allow("renameat", "the same"),
    Allow("renameat2", "the same"),
    Allow("unlink", "segments, bodies and staging files that are done with"),
    Allow("unlinkat", "the same"),
    Allow("flock", "the lock on the spool"),
    Allow("copy_file_range", "setting damaged parts aside"),
];

const CONTROL: &[Rule] = &[
    Allow("accept4", "operators, on the socket that the master has bound"),
    Allow("getsockopt", "who an operator is"),
];

/// The jail.
pub fn profile(spool: &Path) -> Profile {
    Profile {
        daemon: "queue-manager",
        syscalls: vec![BASE, THREADS, BODIES, SPOOL, CONTROL],
        on_denied: Denied::Kill,
        landlock: vec![PathGrant { path: spool.to_owned(), rights: Rights::Manage }],
        landlock_tcp: Tcp::None,
        limits: Limits { nofile: Some(DESCRIPTORS), ..Limits::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_makes_a_socket_or_starts_a_program() {
        let profile = profile(Path::new("/x"));
        for table in &profile.syscalls {
            for rule in *table {
                let forbidden = [
                    "socket",
                    "socketpair",
                    "connect",
                    "bind",
                    "listen",
                    "execve",
                    "execveat",
                    "fork",
                    "vfork",
                    "ptrace",
                ];
                assert!(!forbidden.contains(&rule.name()), "{}", rule.name());
                assert!(!rule.reason().is_empty(), "{}", rule.name());
            }
        }
        assert_eq!(profile.landlock.len(), 1);
    }
}
