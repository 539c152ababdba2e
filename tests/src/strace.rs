//! System calls of a running process that fail, or kill, as they are told. Needs root and strace.

use std::fs;
use std::process::{Child, Stdio};

use crate::{program, signal, wait_until};

/// A process under strace. It is let go when this is dropped.
pub struct Strace {
    strace: Child,
    folder: tempfile::TempDir,
}

impl Strace {
    /// Each rule is one of strace's `inject=`, such as `fdatasync:error=EIO:when=3+`. Calls are counted from here on.
    pub fn inject(pid: u32, rules: &[&str]) -> Strace {
        let folder = tempfile::tempdir().expect("make a folder");
        let calls: Vec<&str> = rules.iter().filter_map(|rule| rule.split(':').next()).collect();
        let said = fs::File::create(folder.path().join("said")).expect("make a file");
        let mut command = program("strace");
        command.args(["-f", "-q", "-o"]).arg(folder.path().join("calls"));
        command.arg("-e").arg(format!("trace={}", calls.join(",")));
        for rule in rules {
            command.arg("-e").arg(format!("inject={rule}"));
        }
        command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let strace = Strace { strace: command.spawn().expect("start strace"), folder };
        wait_until("strace is attached", || is_traced(pid));
        strace
    }

    /// How often a rule was applied.
    pub fn injected(&self) -> usize {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.matches("(INJECTED)").count() + calls.matches("(DELAYED)").count()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It lets the process go and ends; if the process is dead it has ended already.
        if matches!(self.strace.try_wait(), Ok(None)) {
            signal(&[self.strace.id()], "TERM");
        }
        let _ = self.strace.wait();
    }
}

/// True once all threads are held.
fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        !status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|word| word.trim() == "0"))
    })
}
