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
