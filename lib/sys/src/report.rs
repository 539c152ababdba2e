//! What the kernel says about a running process, from /proc, for `vsmtpctl sandbox`. Believes nothing the process says
//! of itself, and asks it nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most bytes read of one file below /proc.
const MAX_FILE: u64 = 64 * 1024;
/// The most descriptors listed.
const MAX_FDS: usize = 4096;
/// The namespaces reported.
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// One process. What this caller may not see is `None` or empty, with everything else still there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Process id.
    pub pid: i32,
    /// The name shown by ps (comm).
    pub name: String,
    /// Real, effective, saved and file system user id.
    pub uids: Vec<u32>,
    /// Real, effective, saved and file system group id.
    pub gids: Vec<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// How many filters are in force.
    pub seccomp_filters: Option<u32>,
    /// Whether executing can gain nothing.
    pub no_new_privs: Option<bool>,
    /// The capability sets.
    pub capabilities: Capabilities,
    /// How many threads.
    pub threads: Option<u32>,
    /// Resident memory that is the process's own, in KiB.
    pub rss_anonymous_kib: Option<u64>,
    /// Name and inode of each namespace; compare with another process's to see what is shared.
    pub namespaces: Vec<(&'static str, u64)>,
    /// Name, soft and hard value of each limit, as the kernel prints them.
    pub limits: Vec<(String, String, String)>,
    /// Number and target of each open descriptor, by number; `None` if not permitted to see.
    pub descriptors: Option<Vec<(i32, String)>>,
}

/// The five capability sets as bit masks; `None` where the kernel printed none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Passed on through exec.
    pub inheritable: Option<u64>,
    /// What may be made effective.
    pub permitted: Option<u64>,
    /// What counts now.
    pub effective: Option<u64>,
    /// What can ever be gained.
    pub bounding: Option<u64>,
    /// Passed on through exec without file capabilities.
    pub ambient: Option<u64>,
}

impl Report {
    /// Looks at one process. Fails only if it is gone or its status cannot be read.
    pub fn of(pid: i32) -> io::Result<Report> {
        let directory = PathBuf::from("/proc").join(pid.to_string());
        let mut report = Report { pid, ..Report::default() };
        report.read_status(&bounded(&directory.join("status"))?);
        report.namespaces = namespaces(&directory.join("ns"));
        report.limits = bounded(&directory.join("limits")).map(|text| limits(&text)).unwrap_or_default();
        report.descriptors = descriptors(&directory.join("fd")).ok();
        Ok(report)
    }

    fn read_status(&mut self, text: &str) {
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match key {
                "Name" => self.name = value.to_owned(),
                "Uid" => self.uids = numbers(value),
                "Gid" => self.gids = numbers(value),
                "Groups" => self.groups = numbers(value),
                "Seccomp" => self.seccomp = value.parse().ok(),
                "Seccomp_filters" => self.seccomp_filters = value.parse().ok(),
                "NoNewPrivs" => self.no_new_privs = value.parse::<u32>().ok().map(|flag| flag != 0),
                "CapInh" => self.capabilities.inheritable = mask(value),
                "CapPrm" => self.capabilities.permitted = mask(value),
                "CapEff" => self.capabilities.effective = mask(value),
                "CapBnd" => self.capabilities.bounding = mask(value),
                "CapAmb" => self.capabilities.ambient = mask(value),
                "Threads" => self.threads = value.parse().ok(),
                "RssAnon" => self.rss_anonymous_kib = value.trim_end_matches(" kB").parse().ok(),
                _ => {}
            }
        }
    }
}

fn bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn numbers(value: &str) -> Vec<u32> {
    value.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

fn mask(value: &str) -> Option<u64> {
    u64::from_str_radix(value, 16).ok()
}

/// Links such as `net:[4026531840]`.
fn namespaces(directory: &Path) -> Vec<(&'static str, u64)> {
    let inode = |name: &&'static str| {
        let target = fs::read_link(directory.join(name)).ok()?;
        let inode = target.to_str()?.strip_prefix(*name)?.strip_prefix(":[")?.strip_suffix(']')?;
        Some((*name, inode.parse().ok()?))
    };
    NAMESPACES.iter().filter_map(inode).collect()
}

/// Lines such as `Max open files            1024                 4096                 files`.
fn limits(text: &str) -> Vec<(String, String, String)> {
    let columns = |line: &str| {
        let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
        Some((columns.next()?.to_owned(), columns.next()?.to_owned(), columns.next()?.to_owned()))
    };
    text.lines().skip(1).filter_map(columns).collect()
}

fn descriptors(directory: &Path) -> io::Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)?.take(MAX_FDS) {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Closed in the meantime: not open, so not reported.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        found.push((number, target.to_string_lossy().into_owned()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_this_process_as_it_is() {
        let marker = tempfile::NamedTempFile::new().unwrap();
        let report = Report::of(std::process::id() as i32).unwrap();
        let (uid, gid) = crate::users::current();
        assert_eq!((report.uids[1], report.gids[1]), (uid, gid));
        assert_eq!(report.namespaces.len(), NAMESPACES.len());
        assert!(report.threads.unwrap() >= 1);
        assert!(report.capabilities.bounding.is_some() && report.seccomp.is_some());
        let (_, soft, _) = report.limits.iter().find(|(name, ..)| name == "Max open files").unwrap();
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert!(soft == "unlimited" || *soft == limit.0.to_string());
        let path = marker.path().to_str().unwrap();
        assert!(report.descriptors.unwrap().iter().any(|(_, target)| target == path));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert_eq!(Report::of(i32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn status_lines_are_understood_and_strange_ones_passed_over() {
        let mut report = Report::default();
        report.read_status(
            "Name:\tvsmtp: odd:name\nUid:\t1\t2\t3\t4\nGroups:\t\nSeccomp:\t2\nNoNewPrivs:\t1\nCapEff:\t0000000000000003\n\
             CapBnd:\txyz\nRssAnon:\t   12 kB\nSeccomp_filters:\t-1\nno colon\n",
        );
        assert_eq!(report.name, "vsmtp: odd:name");
        assert_eq!(report.uids, [1, 2, 3, 4]);
        assert_eq!((report.groups.len(), report.seccomp, report.no_new_privs), (0, Some(2), Some(true)));
        assert_eq!((report.capabilities.effective, report.capabilities.bounding), (Some(3), None));
        assert_eq!((report.rss_anonymous_kib, report.seccomp_filters), (Some(12), None));
    }

    #[test]
    fn limits_keep_their_columns() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max core file size        0                    unlimited            bytes     \n\
                    broken\n";
        let expected = ("Max core file size".to_owned(), "0".to_owned(), "unlimited".to_owned());
        assert_eq!(limits(text), [expected]);
    }
}
