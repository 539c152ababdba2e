//! The jail of whoever asks databases: connections to them, and nothing else of the network; no file but those that say
//! how names become addresses, where a database has a name, and those of the folders in which files of SQLite lie, for
//! reading; nothing is started. The same in every build.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use vsmtp_config::{Database, DatabaseUrl, MAX_CONNECTIONS};
use vsmtp_sys::sandbox::{
    Allow, AllowIf, BASE, BODIES, Denied, Limits, PathGrant, Profile, Rights, Rule, TCP_UDP_ONLY, THREADS,
    Tcp, Test, UNIX_ONLY,
};

use crate::crew::MAX_WAITING_BYTES;

/// Descriptors: a socket for each connection, one for a name that is looked up for it, edges.
const DESCRIPTORS: u64 = 256 + 2 * MAX_CONNECTIONS as u64;

/// Octets of memory, beside what each connection and each database may take. What databases say must not take the host's: the
/// address space is not what is bounded, of which the C library sets much aside for each thread and uses little.
const MEMORY: u64 = 256 << 20;
/// Octets of memory for each connection: the stack of its thread, a packet as it comes and as it is read, an answer.
const MEMORY_OF_CONNECTION: u64 = 4 << 20;

/// Where the C library reads how names become addresses; what is not there is left out.
const NAMES_FROM: [&str; 5] =
    ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

const CONNECT: &[Rule] = &[
    AllowIf("socket", TCP_UDP_ONLY, "connections to databases; questions to name servers"),
    AllowIf("socket", UNIX_ONLY, "databases of this host"),
    Allow("connect", "databases; name servers"),
    AllowIf("setsockopt", WAITS_AND_DELAYS, "every wait for a database ends; small questions at once"),
    Allow("getsockopt", "how a connection attempt ended"),
    Allow("getsockname", "the standard library, on new sockets; which address the C library prefers"),
    Allow("getpeername", "the standard library, on connected sockets"),
];

const WAITS_AND_DELAYS: &[&[Test]] = &[
    &[Test::Is(1, nix::libc::SOL_SOCKET as u32), Test::Is(2, nix::libc::SO_RCVTIMEO as u32)],
    &[Test::Is(1, nix::libc::SOL_SOCKET as u32), Test::Is(2, nix::libc::SO_SNDTIMEO as u32)],
    &[Test::Is(1, nix::libc::SOL_SOCKET as u32), Test::Is(2, nix::libc::SO_KEEPALIVE as u32)],
    &[Test::Is(1, nix::libc::IPPROTO_TCP as u32), Test::Is(2, nix::libc::TCP_NODELAY as u32)],
    // The C library, on sockets to name servers.
    &[Test::Is(1, nix::libc::IPPROTO_IP as u32), Test::Is(2, nix::libc::IP_RECVERR as u32)],
    &[Test::Is(1, nix::libc::IPPROTO_IPV6 as u32), Test::Is(2, nix::libc::IPV6_RECVERR as u32)],
];

/// Neither for writing, nor to make or empty a file.
const READING: &[&[Test]] = &[&[Test::Bits(2, WRITING, 0)]];
const WRITING: u32 =
    (nix::libc::O_ACCMODE | nix::libc::O_CREAT | nix::libc::O_TRUNC | nix::libc::O_APPEND) as u32;

/// How the C library finds the address of a database that has a name.
const NAMES: &[Rule] = &[
    AllowIf("openat", READING, "how names become addresses; Landlock says which files"),
    Allow("newfstatat", "whether the files that say so have changed"),
    Allow("statx", "whether the files that say so have changed"),
    Allow("sendmmsg", "questions to name servers"),
    Allow("uname", "the domain that short names are completed with"),
    AllowIf("ioctl", &[&[Test::Is(1, nix::libc::FIONREAD as u32)]], "how long an answer of a name server is"),
];

/// Reading files of SQLite, with its locks.
const FILES: &[Rule] = &[
    AllowIf("openat", READING, "files of SQLite; Landlock says where"),
    Allow("pread64", "files of SQLite"),
    Allow("newfstatat", "whether another file has taken their place"),
    Allow("statx", "whether another file has taken their place"),
    Allow("access", "whether somebody has been interrupted while writing"),
    Allow("faccessat", "whether somebody has been interrupted while writing"),
    Allow("faccessat2", "whether somebody has been interrupted while writing"),
    Allow("readlink", "files that are links"),
    Allow("readlinkat", "files that are links"),
    Allow("lstat", "files that are links"),
    Allow("stat", "whether another file has taken their place"),
    Allow("getcwd", "SQLite makes paths absolute"),
];

/// What must be done before the jail: the C library loads what it needs to find names.
pub fn prepare(databases: &[Database]) {
    if databases.iter().any(has_name) {
        // Which addresses it has does not matter here.
        let _ = ("localhost", 0).to_socket_addrs();
    }
}

/// Files of SQLite whose folders are not there: the jail cannot let them be read.
pub fn missing(databases: &[Database]) -> impl Iterator<Item = (&Database, std::io::Error)> {
    databases.iter().filter_map(|database| {
        let DatabaseUrl::Sqlite(path) = &database.url else { return None };
        Path::new(path).parent()?.read_dir().err().map(|error| (database, error))
    })
}

/// The jail of a process that asks these.
pub fn profile(databases: &[Database]) -> Profile {
    let needs_names = databases.iter().any(has_name);
    let read = |path: PathBuf| PathGrant { path, rights: Rights::Read };
    let files = NAMES_FROM.iter().filter(|_| needs_names).filter_map(|path| found(Path::new(path)));
    let folders = databases.iter().filter_map(folder);
    let has_files = databases.iter().any(|database| matches!(database.url, DatabaseUrl::Sqlite(_)));
    Profile {
        daemon: "database",
        syscalls: [BASE, THREADS, BODIES, CONNECT]
            .into_iter()
            .chain(needs_names.then_some(NAMES))
            .chain(has_files.then_some(FILES))
            .collect(),
        // The client library is not ours, and may try what it can do without.
        on_denied: Denied::Errno,
        landlock: files.chain(folders).map(read).collect(),
        landlock_tcp: Tcp::Any,
        limits: Limits {
            nofile: Some(DESCRIPTORS),
            memlock: Some(0),
            data: Some(memory(databases)),
            ..Limits::default()
        },
    }
}

/// The most memory that it may take, in octets.
fn memory(databases: &[Database]) -> u64 {
    let connections: u64 = databases.iter().map(|database| u64::from(database.connections)).sum();
    MEMORY + connections * MEMORY_OF_CONNECTION + databases.len() as u64 * MAX_WAITING_BYTES as u64
}

/// The file itself: `/etc/resolv.conf` is often a link.
fn found(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

/// True if its address is to be found.
fn has_name(database: &Database) -> bool {
    database.url.host_name().is_some()
}

/// The folder in which a file of SQLite lies: another file may take its place, and beside it lie its journals.
fn folder(database: &Database) -> Option<PathBuf> {
    let DatabaseUrl::Sqlite(path) = &database.url else { return None };
    let path = Path::new(path);
    let file = found(path).unwrap_or_else(|| path.to_owned());
    file.parent().and_then(found)
}
