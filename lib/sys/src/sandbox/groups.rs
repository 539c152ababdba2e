//! Lines that several tables share. A daemon's own needs are in that daemon's table.

use super::rule::{
    Allow, AllowIf, BY_DESCRIPTOR, NAMES_ONLY, NO_NEW_PRIVILEGES, NO_SIGNALS, NOT_EXECUTABLE,
    OWN_LIMITS_READ, PLAIN_IOCTLS, Rule, SELF_ONLY, THIS_THREAD, THREAD_ONLY,
};

/// What every daemon needs: memory, one event loop, edges it was handed, clocks, logging to an inherited descriptor,
/// and an orderly or disorderly end. Opens nothing, connects nothing, starts nothing.
pub const BASE: &[Rule] = &[
    // Bytes through descriptors that are open.
    Allow("read", "eventfds, timers, inherited descriptors"),
    Allow("readv", "inherited descriptors"),
    Allow("write", "log lines, eventfds, memory files"),
    Allow("writev", "log lines, memory files"),
    Allow("close", "descriptors that peers sent or that ended"),
    Allow("recvmsg", "packets and descriptors on edges"),
    Allow("sendmsg", "packets and descriptors on edges"),
    Allow("recvfrom", "sockets already open"),
    Allow("sendto", "sockets already open, the log's among them"),
    Allow("shutdown", "ending a connection in one direction"),
    Allow("lseek", "the standard library, on handed files"),
    Allow("fstat", "length and kind of a received descriptor"),
    AllowIf("newfstatat", BY_DESCRIPTOR, "fstat, as older C libraries make it"),
    AllowIf("fcntl", NO_SIGNALS, "seals, close-on-exec, non-blocking mode, duplicates"),
    AllowIf("ioctl", PLAIN_IOCTLS, "non-blocking mode, as the standard library sets it"),
    // The event loop.
    Allow("epoll_create1", "the event loop"),
    Allow("epoll_ctl", "the event loop"),
    Allow("epoll_wait", "the event loop"),
    Allow("epoll_pwait", "the event loop, where epoll_wait does not exist"),
    Allow("eventfd2", "waking the loop from another thread"),
    Allow("poll", "waiting for one descriptor"),
    Allow("ppoll", "the same, where poll does not exist"),
    Allow("timerfd_create", "timers in the loop"),
    Allow("timerfd_settime", "timers in the loop"),
    // Memory.
    AllowIf("mmap", NOT_EXECUTABLE, "the allocator, thread stacks, received bodies"),
    AllowIf("mprotect", NOT_EXECUTABLE, "the allocator, guard pages"),
    Allow("munmap", "the allocator"),
    Allow("mremap", "growing large blocks"),
    Allow("brk", "the allocator"),
    Allow("madvise", "the allocator gives memory back"),
    // Time and chance.
    Allow("clock_gettime", "clocks, where the vDSO cannot answer"),
    Allow("clock_getres", "clocks, where the vDSO cannot answer"),
    Allow("gettimeofday", "clocks, where the vDSO cannot answer"),
    Allow("time", "clocks, where the vDSO cannot answer"),
    Allow("clock_nanosleep", "waiting"),
    Allow("nanosleep", "waiting"),
    Allow("restart_syscall", "a wait that a stop interrupted"),
    Allow("getrandom", "ids, jitter, hash seeds"),
    // Threads that are there already.
    Allow("futex", "locks and channels"),
    Allow("sched_yield", "spinning locks"),
    Allow("sched_getaffinity", "the number of processors"),
    AllowIf("sched_setscheduler", THIS_THREAD, "gathering messages, or not, as the host is busy"),
    Allow("gettid", "log lines, abort"),
    // Signals and the end.
    Allow("rt_sigaction", "ignoring SIGPIPE, abort"),
    Allow("rt_sigprocmask", "starting and ending threads, abort"),
    Allow("rt_sigreturn", "the return from every handler"),
    Allow("sigaltstack", "the standard library's stack overflow message"),
    AllowIf("tgkill", SELF_ONLY, "abort"),
    Allow("exit", "the end of a thread"),
    Allow("exit_group", "the end of the process"),
    // Who am I.
    Allow("getpid", "log lines, abort"),
    Allow("getppid", "noticing that the master is gone"),
    Allow("getuid", "reports"),
    Allow("geteuid", "reports"),
    Allow("getgid", "reports"),
    Allow("getegid", "reports"),
    Allow("getrusage", "processor time, for the figures"),
    AllowIf("prlimit64", OWN_LIMITS_READ, "reading our own limits"),
    AllowIf("prctl", NAMES_ONLY, "names of threads and mappings"),
];

/// For a daemon that starts threads after its table is in force.
pub const THREADS: &[Rule] = &[
    AllowIf("clone", THREAD_ONLY, "starting a thread; never a process"),
    Allow("set_robust_list", "the first act of a thread"),
    Allow("rseq", "the first act of a thread"),
    Allow("membarrier", "lock-free structures"),
];

/// For a daemon that makes or reads bodies.
pub const BODIES: &[Rule] = &[
    Allow("memfd_create", "a body's memory file"),
    Allow("pread64", "reading a body"),
    Allow("preadv", "reading a body"),
    Allow("pwrite64", "filling a body"),
];

/// For a daemon that loads native plugins: their code becomes part of the process. What the files are is Landlock's to bound.
pub const PLUGINS: &[Rule] = &[
    Allow("mmap", "the code of plugins and of the libraries that they need"),
    Allow("openat", "the files of plugins and of the libraries that they need"),
];

/// For a daemon that closes a narrower jail later on (`tighten`): each of these can only take power away.
pub const NARROWING: &[Rule] = &[
    Allow("landlock_create_ruleset", "the narrower jail"),
    Allow("landlock_add_rule", "the narrower jail"),
    Allow("landlock_restrict_self", "the narrower jail"),
    Allow("seccomp", "the narrower jail"),
    AllowIf("prctl", NO_NEW_PRIVILEGES, "the narrower jail, which asks for it again"),
];
