//! Which programs there are: a question is held against what the configuration declares, and a name is looked for.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use vsmtp_config::{Command, are_arguments};
use vsmtp_ipc::edge::filter_runner::{Declared, Refused};

/// Where a program without a path is looked for, in this order. It is also what programs find in `PATH`.
pub const PLACES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Anybody may execute it, or its owner, or its group: the kernel will say whether we may.
const EXECUTABLE: u32 = 0o111;

/// The arguments that a question leads to, if it may be put.
pub fn permit(
    declared: &[Command],
    asked: Declared,
    arguments: Option<Vec<String>>,
) -> Result<(Command, Vec<String>), Refused> {
    let is_it = |command: &&Command| {
        let Command { program, arguments, timeout, fixed } = *command;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        (program, arguments, timeout_ms, *fixed)
            == (&asked.program, &asked.arguments, asked.timeout_ms, asked.fixed)
    };
    let command = declared.iter().find(is_it).ok_or(Refused::NotDeclared)?;
    match arguments {
        None => Ok((command.clone(), command.arguments.clone())),
        Some(own) if !command.fixed && are_arguments(&own) => Ok((command.clone(), own)),
        Some(_) => Err(Refused::NotDeclared),
    }
}

/// The file of a program.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(program.into());
    }
    let is_there = |path: &PathBuf| {
        path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & EXECUTABLE != 0)
    };
    PLACES.iter().map(|place| Path::new(place).join(program)).find(is_there)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn command(program: &str, fixed: bool) -> Command {
        Command {
            program: program.to_owned(),
            arguments: vec!["-".to_owned()],
            timeout: Duration::from_secs(5),
            fixed,
        }
    }

    fn declared(program: &str, fixed: bool) -> Declared {
        let Command { program, arguments, .. } = command(program, fixed);
        Declared { program, arguments, timeout_ms: 5000, fixed }
    }

    #[test]
    fn only_what_is_declared_may_run_and_with_arguments_of_its_own_if_it_says_so() {
        let known = [command("/a", false), command("/b", true)];
        let own = Some(vec!["x".to_owned(), "y".to_owned()]);
        let permitted = |asked, arguments| permit(&known, asked, arguments).map(|(_, arguments)| arguments);
        assert_eq!(permitted(declared("/a", false), None), Ok(vec!["-".to_owned()]));
        assert_eq!(permitted(declared("/a", false), own.clone()), Ok(own.clone().unwrap()));
        assert_eq!(permitted(declared("/b", true), None), Ok(vec!["-".to_owned()]));
        let refused = Err(Refused::NotDeclared);
        assert_eq!(permitted(declared("/b", true), own.clone()), refused);
        assert_eq!(permitted(declared("/b", false), own.clone()), refused);
        assert_eq!(permitted(declared("/c", false), own), refused);
        assert_eq!(permitted(Declared { timeout_ms: 6000, ..declared("/a", false) }, None), refused);
        assert_eq!(permitted(Declared { arguments: Vec::new(), ..declared("/a", false) }, None), refused);
        assert_eq!(permitted(declared("/a", false), Some(vec!["a\0".to_owned()])), refused);
    }

    #[test]
    fn a_name_is_a_program_of_the_system() {
        assert!(find("sh").unwrap().ends_with("sh"));
        assert_eq!(find("/nowhere"), Some("/nowhere".into()));
        assert_eq!(find("no-such-program-surely"), None);
    }
}
