//! `vsmtpctl sandbox`: what the kernel says about each running process, and beside it, marked as declared, what no kernel
//! interface reports (Landlock rules, dumpable, the system calls allowed): that is the process's own word.

use serde_json::{Value, json};
use vsmtp_ipc::edge::ctl_master::Request;
use vsmtp_sys::report::Report;
use vsmtp_sys::users;

use crate::failure::Failure;
use crate::output::Output;
use crate::status::{Master, processes};

/// Shown as facts of each process, in this order.
const HEAD: [&str; 9] =
    ["PROCESS", "PID", "USER", "SECCOMP", "NO_NEW_PRIVS", "CAPABILITIES", "NETWORK", "FILES", "FDS"];
/// What stands below the table, since no kernel interface reports it.
const DECLARED: &str = "declared, not reported by the kernel: Landlock rules, dumpable=0 and the list of system calls; \
                        the sandbox tests prove them with a probe under the same table (--declared prints them)";

/// Shows all processes.
pub fn sandbox(master: &mut Master, declared: bool, out: &mut Output<'_>) -> Result<(), Failure> {
    let processes = processes(master, &Request::Processes)?;
    let own_network = Report::of(own_pid()).ok().and_then(|report| network(&report));
    let mut rows = Vec::new();
    let mut jails = Vec::new();
    for process in processes.iter().filter(|process| process.pid > 0) {
        // It may have ended since the master listed it.
        let Some(report) = i32::try_from(process.pid).ok().and_then(|pid| Report::of(pid).ok()) else {
            continue;
        };
        let name = process.name.to_string();
        if out.is_json() {
            out.object(&object(&name, &report, &process.declared))?;
        } else {
            rows.push(row(&name, &report, own_network));
            jails.push(format!("{name} declares: {}", process.declared));
        }
    }
    if out.is_json() {
        return Ok(());
    }
    out.table(&HEAD, &rows)?;
    out.line("")?;
    out.line(DECLARED)?;
    for line in jails.iter().filter(|_| declared).flat_map(|jail| jail.lines()) {
        out.line(line)?;
    }
    Ok(())
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

fn row(name: &str, report: &Report, own_network: Option<u64>) -> Vec<String> {
    let unknown = || "?".to_owned();
    vec![
        name.to_owned(),
        report.pid.to_string(),
        user(report),
        match report.seccomp {
            Some(0) => "NONE".to_owned(),
            Some(1) => "strict".to_owned(),
            Some(2) => format!("filter x{}", report.seccomp_filters.unwrap_or(1)),
            _ => unknown(),
        },
        report.no_new_privs.map_or_else(unknown, |on| if on { "yes".to_owned() } else { "NO".to_owned() }),
        capabilities(report),
        match (network(report), own_network) {
            (Some(theirs), Some(ours)) if theirs == ours => "host".to_owned(),
            (Some(_), Some(_)) => "own".to_owned(),
            _ => unknown(),
        },
        limit(report, "Max open files").unwrap_or_else(unknown),
        report.descriptors.as_ref().map_or_else(unknown, |fds| fds.len().to_string()),
    ]
}

/// The name of the real uid; more than one uid is a finding and is shown as it is.
fn user(report: &Report) -> String {
    match report.uids.as_slice() {
        [first, rest @ ..] if rest.iter().all(|uid| uid == first) => {
            users::user_by_id(*first).ok().flatten().map_or_else(|| first.to_string(), |user| user.name)
        }
        uids => uids.iter().map(u32::to_string).collect::<Vec<_>>().join("/"),
    }
}

/// `none` only if every set but the bounding one is empty.
fn capabilities(report: &Report) -> String {
    let sets = report.capabilities;
    let held = [sets.inheritable, sets.permitted, sets.effective, sets.ambient];
    match held.into_iter().collect::<Option<Vec<u64>>>() {
        None => "?".to_owned(),
        Some(held) if held.iter().all(|set| *set == 0) => "none".to_owned(),
        Some(held) => format!("{:x}", held.into_iter().fold(0, |all, set| all | set)),
    }
}

fn network(report: &Report) -> Option<u64> {
    report.namespaces.iter().find(|(name, _)| *name == "net").map(|(_, inode)| *inode)
}

fn limit(report: &Report, name: &str) -> Option<String> {
    report.limits.iter().find(|(limit, ..)| limit == name).map(|(_, soft, _)| soft.clone())
}

fn object(name: &str, report: &Report, declared: &str) -> Value {
    let sets = report.capabilities;
    let limits =
        report.limits.iter().map(|(name, soft, hard)| json!({ "limit": name, "soft": soft, "hard": hard }));
    let namespaces = report.namespaces.iter().map(|(name, inode)| ((*name).to_owned(), Value::from(*inode)));
    let descriptors = report.descriptors.as_ref();
    json!({
        "process": name,
        "pid": report.pid,
        "comm": report.name,
        "uids": report.uids,
        "gids": report.gids,
        "groups": report.groups,
        "seccomp": report.seccomp,
        "seccomp_filters": report.seccomp_filters,
        "no_new_privs": report.no_new_privs,
        "capabilities": {
            "inheritable": sets.inheritable, "permitted": sets.permitted, "effective": sets.effective,
            "bounding": sets.bounding, "ambient": sets.ambient,
        },
        "threads": report.threads,
        "rss_anonymous_kib": report.rss_anonymous_kib,
        "namespaces": namespaces.collect::<serde_json::Map<_, _>>(),
        "limits": limits.collect::<Vec<_>>(),
        "descriptors": descriptors.map(|fds| {
            fds.iter().map(|(number, target)| json!({ "fd": number, "target": target })).collect::<Vec<_>>()
        }),
        "declared": declared.lines().collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::edge::ctl_master::Answer;
    use vsmtp_ipc::role::Role;

    use super::*;
    use crate::status::tests::{master, printed, process};

    #[test]
    fn reports_what_the_kernel_says_of_a_process_that_runs() {
        let answer = || {
            let gone = process(Role::Resolver, u32::MAX - 1);
            let waiting = process(Role::FilterPost, 0);
            Answer::Processes(vec![process(Role::Receiver, std::process::id()), gone, waiting])
        };
        let (mut line, asked) = master(vec![answer(), answer()]);
        let (text, failure) = printed(false, |out| sandbox(&mut line, true, out));
        assert!(failure.is_none());
        assert_eq!(text.lines().filter(|line| line.starts_with("receiver.0  ")).count(), 1, "{text}");
        assert!(
            !text.contains("resolver") && text.contains("host") && text.contains("system calls:"),
            "{text}"
        );
        let (text, _) = printed(true, |out| sandbox(&mut line, false, out));
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["pid"], std::process::id());
        assert!(object["limits"].as_array().is_some_and(|limits| !limits.is_empty()));
        asked.join().unwrap();
    }

    #[test]
    fn a_capability_is_never_called_none() {
        let mut report = Report::default();
        assert_eq!(capabilities(&report), "?");
        report.capabilities.inheritable = Some(0);
        report.capabilities.permitted = Some(0x400);
        report.capabilities.effective = Some(0);
        report.capabilities.ambient = Some(0);
        assert_eq!(capabilities(&report), "400");
        report.uids = vec![1, 1, 0, 1];
        assert_eq!(user(&report), "1/1/0/1");
    }
}
