//! From a table to a seccomp program: our own first instructions, then what seccompiler makes of the rules.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

use super::number::{GAP, LAST_KNOWN, MACHINE, Number, number};
use super::{Allow, AllowIf, Denied, Profile, Rule, Test};

/// The program's rules: no alternatives means "always".
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What the C library and the standard library try on their own and can do without (malloc reads
/// /proc/sys/vm/overcommit_memory, a panic asks where it is). Where a denied call kills, these fail with EPERM instead.
const TRIED_BY_LIBC: &[&str] =
    &["open", "openat", "access", "faccessat", "readlink", "readlinkat", "getcwd", "statx", "uname"];

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

/// The whole program. `InvalidInput` names a rule that makes no sense.
pub(super) fn compile(profile: &Profile) -> io::Result<BpfProgram> {
    let rules = rules(profile)?;
    let mut program = prefix(profile, &rules);
    let denied = match profile.on_denied {
        Denied::Errno => SeccompAction::Errno(libc::EPERM as u32),
        Denied::Kill => SeccompAction::KillProcess,
    };
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, MACHINE.0);
    let rest: BpfProgram = filter.and_then(BpfProgram::try_from).map_err(io::Error::other)?;
    program.extend(rest);
    Ok(program)
}

/// Installs it for all threads; from here on it cannot be removed, only narrowed.
pub(super) fn install(program: &BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter_all_threads(program).map_err(io::Error::other)
}

/// Everything that is decided before the table: a foreign architecture, numbers that no table line can name.
fn prefix(profile: &Profile, rules: &Rules) -> BpfProgram {
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        // A 32-bit call on a 64-bit machine has other numbers, so none of what follows would be true for it.
        jump(IF_EQUAL, MACHINE.1, 1, 0),
        statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        statement(LOAD, NUMBER),
        // Later kernels, x32 (0x4000_0000 and up), and -1.
        jump(IF_GREATER, LAST_KNOWN, 0, 1),
        statement(RETURN, unknown),
        jump(IF_AT_LEAST, *GAP.start(), 0, 2),
        jump(IF_GREATER, *GAP.end(), 1, 0),
        statement(RETURN, unknown),
        // Its flags are behind a pointer, where no filter sees them; the C library then uses clone.
        jump(IF_EQUAL, libc::SYS_clone3 as u32, 0, 1),
        statement(RETURN, unknown),
    ];
    if profile.on_denied == Denied::Kill {
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        for number in TRIED_BY_LIBC.iter().filter_map(|name| here(name)) {
            if !rules.contains_key(&number) {
                program.push(jump(IF_EQUAL, number as u32, 0, 1));
                program.push(statement(RETURN, refused));
            }
        }
    }
    program
}

fn here(name: &str) -> Option<i64> {
    match number(name) {
        Some(Number::Here(number)) => Some(number),
        _ => None,
    }
}

/// All tables as one; an unconditional line outweighs conditional ones for the same call.
fn rules(profile: &Profile) -> io::Result<Rules> {
    let mut rules = Rules::new();
    for rule in profile.syscalls.iter().copied().flatten() {
        if rule.reason().is_empty() {
            return Err(senseless(rule, "has no reason"));
        }
        let number = match number(rule.name()) {
            Some(Number::Here(number)) => number,
            Some(Number::Elsewhere) => continue,
            None => return Err(senseless(rule, "is no system call")),
        };
        match rule {
            Allow(..) => {
                rules.insert(number, Vec::new());
            }
            AllowIf(_, alternatives, _) => {
                let added = conditions(rule, alternatives)?;
                match rules.get_mut(&number) {
                    None => drop(rules.insert(number, added)),
                    Some(always) if always.is_empty() => {}
                    Some(present) => present.extend(added),
                }
            }
        }
    }
    Ok(rules)
}

fn conditions(rule: &Rule, alternatives: &[&[Test]]) -> io::Result<Vec<SeccompRule>> {
    if alternatives.is_empty() {
        // seccompiler takes an empty list for "always".
        return Err(senseless(rule, "has no condition"));
    }
    let all_of = |tests: &&[Test]| {
        let conditions: Result<Vec<_>, _> = tests.iter().map(condition).collect();
        conditions.and_then(SeccompRule::new).map_err(|error| senseless(rule, &error.to_string()))
    };
    alternatives.iter().map(all_of).collect()
}

fn condition(test: &Test) -> Result<SeccompCondition, seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    let (argument, width, operator, value) = match *test {
        Test::Is(argument, value) => (argument, Dword, SeccompCmpOp::Eq, value.into()),
        Test::IsNot(argument, value) => (argument, Dword, SeccompCmpOp::Ne, value.into()),
        Test::Bits(argument, mask, value) => {
            (argument, Dword, SeccompCmpOp::MaskedEq(mask.into()), value.into())
        }
        Test::Null(argument) => (argument, Qword, SeccompCmpOp::Eq, 0),
        Test::OwnPid(argument) => (argument, Dword, SeccompCmpOp::Eq, std::process::id().into()),
    };
    SeccompCondition::new(argument, width, operator, value)
}

fn senseless(rule: &Rule, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("rule \"{}\" {why}", rule.name()))
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips `if_true` or `if_false` instructions.
fn jump(code: u16, k: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter { code, jt: if_true, jf: if_false, k }
}

#[cfg(test)]
mod tests {
    use super::super::{
        BASE, BODIES, Limits, NO_SIGNALS, NOT_EXECUTABLE, OWN_LIMITS_READ, SELF_ONLY, TCP_ONLY, TCP_UDP_ONLY,
        THREAD_ONLY, THREADS, Tcp, UNIX_ONLY,
    };
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    fn profile(table: &'static [Rule], on_denied: Denied) -> Profile {
        Profile {
            daemon: "tester",
            syscalls: vec![table],
            on_denied,
            landlock: Vec::new(),
            landlock_tcp: Tcp::Any,
            limits: Limits::default(),
        }
    }

    /// What the kernel's interpreter would answer for this call.
    fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = vec![number, architecture, 0, 0];
        data.extend(arguments.iter().flat_map(|&argument| [argument as u32, (argument >> 32) as u32]));
        let (mut at, mut register) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let branch = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match u32::from(step.code) {
                0x20 => register = data[step.k as usize / 4],
                0x06 => return step.k,
                0x05 => at += step.k as usize,
                0x15 => at += branch(register == step.k),
                0x25 => at += branch(register > step.k),
                0x35 => at += branch(register >= step.k),
                0x54 => register &= step.k,
                code => panic!("unexpected instruction {code:#x}"),
            }
        }
    }

    fn answer(table: &'static [Rule], name: &str, arguments: [u64; 6]) -> u32 {
        let program = compile(&profile(table, Denied::Errno)).unwrap();
        run(&program, MACHINE.1, here(name).unwrap() as u32, arguments)
    }

    fn allows(rule: &'static [Rule], arguments: &[u64]) -> bool {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        match answer(rule, rule[0].name(), all) {
            ALLOW => true,
            EPERM => false,
            other => panic!("{other:#x}"),
        }
    }

    #[test]
    fn shared_tables_compile_and_are_far_from_the_kernels_limit() {
        let all = Profile { syscalls: vec![BASE, THREADS, BODIES], ..profile(&[], Denied::Kill) };
        let program = compile(&all).unwrap();
        assert!(program.len() < 4096 / 4, "{}", program.len());
    }

    #[test]
    fn senseless_rules_are_named() {
        let refused = |table| compile(&profile(table, Denied::Errno)).unwrap_err().to_string();
        assert_eq!(refused(&[Allow("reed", "typing")]), "rule \"reed\" is no system call");
        assert_eq!(refused(&[Allow("read", "")]), "rule \"read\" has no reason");
        assert_eq!(refused(&[AllowIf("read", &[], "why")]), "rule \"read\" has no condition");
        assert!(refused(&[AllowIf("read", &[&[]], "why")]).contains("\"read\""));
        assert!(refused(&[AllowIf("read", &[&[Test::Is(6, 0)]], "why")]).contains("\"read\""));
    }

    #[test]
    fn every_number_gets_the_answer_of_its_class() {
        for (denied, expected) in [(Denied::Errno, EPERM), (Denied::Kill, KILL)] {
            let program = compile(&profile(&[Allow("read", "r"), Allow("openat", "o")], denied)).unwrap();
            let of = |name: &str| run(&program, MACHINE.1, here(name).unwrap() as u32, [0; 6]);
            assert_eq!((of("read"), of("openat")), (ALLOW, ALLOW));
            assert_eq!((of("write"), of("execve"), of("mseal")), (expected, expected, expected));
            assert_eq!((of("statx"), of("clone3")), (EPERM, ENOSYS));
            for unknown in [*GAP.start(), *GAP.end(), LAST_KNOWN + 1, 0x4000_0000, 0x4000_0001, u32::MAX] {
                assert_eq!(run(&program, MACHINE.1, unknown, [0; 6]), ENOSYS, "{unknown:#x}");
            }
            for foreign in [0x4000_0003, 0x4000_0028, 0, u32::MAX] {
                assert_eq!(run(&program, foreign, here("read").unwrap() as u32, [0; 6]), KILL);
            }
        }
        assert_eq!(answer(&[], "read", [0; 6]), EPERM);
    }

    #[test]
    fn lines_for_one_call_add_up_and_an_unconditional_one_wins() {
        const THREE: Rule = AllowIf("kill", &[&[Test::Is(0, 3)]], "three");
        const FOUR: Rule = AllowIf("kill", &[&[Test::Is(0, 4)]], "four");
        const ANY: Rule = Allow("kill", "any");
        for (table, three, four, five) in [
            (&[THREE] as &'static [Rule], true, false, false),
            (&[THREE, FOUR], true, true, false),
            (&[THREE, ANY, FOUR], true, true, true),
            (&[ANY, THREE], true, true, true),
        ] {
            let answers = [3, 4, 5].map(|pid| answer(table, "kill", [pid, 0, 0, 0, 0, 0]) == ALLOW);
            assert_eq!(answers, [three, four, five]);
        }
    }

    #[test]
    fn sockets_are_of_the_kinds_named() {
        let (unix, ipv4, ipv6, netlink) = (1, 2, 10, 16);
        let (stream, datagram, raw, flags) = (1, 2, 3, 0o2004000);
        const UNIX: &[Rule] = &[AllowIf("socket", UNIX_ONLY, "x")];
        const TCP: &[Rule] = &[AllowIf("socket", TCP_ONLY, "x")];
        const BOTH: &[Rule] = &[AllowIf("socket", TCP_UDP_ONLY, "x")];
        for (table, family, kind, protocol, expected) in [
            (UNIX, unix, stream, 0, true),
            (UNIX, ipv4, stream, 0, false),
            (TCP, ipv4, stream | flags, 0, true),
            (TCP, ipv6, stream, 6, true),
            (TCP, ipv4, stream, 132, false),
            (TCP, ipv4, stream, 262, false),
            (TCP, ipv4, datagram, 0, false),
            (TCP, unix, stream, 0, false),
            (BOTH, ipv6, datagram | flags, 17, true),
            (BOTH, ipv4, datagram, 136, false),
            (BOTH, ipv4, raw, 1, false),
            (BOTH, ipv4, raw, 0, false),
            (BOTH, netlink, raw, 0, false),
        ] {
            assert_eq!(allows(table, &[family, kind, protocol]), expected, "{family} {kind} {protocol}");
        }
    }

    #[test]
    fn threads_are_allowed_and_processes_and_namespaces_are_not() {
        const CLONE: &[Rule] = &[AllowIf("clone", THREAD_ONLY, "x")];
        let (glibc, musl) = (0x003d_0f00, 0x007d_0f00);
        assert!(allows(CLONE, &[glibc]) && allows(CLONE, &[musl]));
        let fork = libc::SIGCHLD as u64;
        let vfork = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u64;
        assert!(!allows(CLONE, &[fork]) && !allows(CLONE, &[vfork]) && !allows(CLONE, &[0]));
        let namespaces = [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWNS, libc::CLONE_NEWPID];
        for namespace in namespaces {
            assert!(!allows(CLONE, &[glibc | namespace as u64]));
        }
    }

    #[test]
    fn conditions_look_at_the_argument_they_name() {
        const MMAP: &[Rule] = &[AllowIf("mmap", NOT_EXECUTABLE, "x")];
        assert!(allows(MMAP, &[4, 4, 3]) && !allows(MMAP, &[0, 0, 4]) && !allows(MMAP, &[0, 0, 7]));
        const KILLING: &[Rule] = &[AllowIf("tgkill", SELF_ONLY, "x")];
        let own = u64::from(std::process::id());
        assert!(allows(KILLING, &[own, 1, 9]) && !allows(KILLING, &[own + 1, own, own]));
        assert!(!allows(KILLING, &[u64::from(u32::MAX)]) && !allows(KILLING, &[0]));
        const LIMIT: &[Rule] = &[AllowIf("prlimit64", OWN_LIMITS_READ, "x")];
        assert!(allows(LIMIT, &[0, 7, 0, 99]) && allows(LIMIT, &[own, 7, 0, 99]));
        // A pointer with nothing in its low half is a pointer all the same.
        assert!(!allows(LIMIT, &[0, 7, 1 << 32, 99]) && !allows(LIMIT, &[1, 7, 0, 99]));
        const FCNTL: &[Rule] = &[AllowIf("fcntl", NO_SIGNALS, "x")];
        assert!([1030, 1033, 1034, 1, 2, 3, 4].iter().all(|&command| allows(FCNTL, &[9, command])));
        assert!([8, 10, 15, 1024, 1026].iter().all(|&command| !allows(FCNTL, &[9, command])));
        // The kernel takes 32 bits of an int; what is above must not make a difference.
        assert!(!allows(FCNTL, &[9, (1 << 32) | 8]));
    }
}
