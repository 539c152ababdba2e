//! Programs that an operator named: their streams, and the end of all that they started.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use vsmtp_sys::sandbox::{Domain, Limits, OpenGrants, PathGrant, Rights};
use vsmtp_sys::spawn::{Child, Command, Confinement, SpawnError, Stage};

use crate::support::{leaky, wait};

/// A script in a domain with a fence, and its leash; `None` where the kernel has none.
fn kept(folder: &tempfile::TempDir, script: &str) -> Option<(Child, io::PipeReader, io::PipeWriter)> {
    let all = PathGrant { path: "/".into(), rights: Rights::ReadExecute };
    let null = PathGrant { path: "/dev/null".into(), rights: Rights::ReadWrite };
    let domain = Domain::prepare(&[&OpenGrants::open([all, null]).unwrap()]).unwrap();
    if !domain.has_fence() {
        // Nobody would end what the script starts.
        return None;
    }
    let (theirs, leash) = io::pipe().unwrap();
    let confinement = Confinement { domain: &domain, leash: theirs.as_fd() };
    let (child, output) = started_in(folder, script, "", Some(confinement));
    Some((child, output, leash))
}

#[test]
fn a_keeper_ends_as_its_program_does_and_nothing_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    let fled = "setsid sh -c 'setsid sleep 1000 & exec sleep 1000' & sleep 1000 &";
    for (end, code, signal) in [("exit 7", Some(7), None), ("kill -TERM $$", None, Some(15))] {
        let Some((child, mut output, _leash)) = kept(&folder, &format!("#!/bin/sh\n{fled}\n{end}\n")) else {
            return;
        };
        let status = wait(&child);
        assert_eq!((status.code(), status.signal()), (code, signal));
        // The end of the pipe: nobody who has inherited it is left.
        assert_eq!(output.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn whoever_lets_go_of_the_leash_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\nsetsid sh -c 'echo ready; sleep 1000' &\nsleep 1000\n";
    let Some((child, mut output, leash)) = kept(&folder, script) else { return };
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    drop(leash);
    assert_eq!(wait(&child).signal(), Some(9));
    assert_eq!(output.read(&mut ready).unwrap(), 0);
}

#[test]
fn programs_in_domains_have_their_limits_no_descriptor_of_ours_and_reach_nobody_outside() {
    let folder = tempfile::tempdir().unwrap();
    let strays: Vec<_> = (0..40).map(|_| leaky(File::open("/dev/zero").unwrap())).collect();
    let us = std::process::id();
    let script = format!(
        "#!/bin/sh\nls /proc/self/fd | wc -l\nulimit -f\nkill -0 {us} 2>/dev/null && echo signals\n\
         cat /proc/{us}/environ >/dev/null 2>&1 && echo reads\n\
         kill -KILL $PPID 2>/dev/null && echo free\n( : >{} ) 2>/dev/null && echo writes\nexit 0\n",
        folder.path().join("file").display()
    );
    let Some((child, mut output, _leash)) = kept(&folder, &script) else { return };
    drop(strays);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(wait(&child).success());
    let mut lines = text.lines();
    assert!(lines.next().unwrap().trim().parse::<u32>().unwrap() <= 5, "{text}");
    assert_eq!((lines.next(), lines.next()), (Some("8"), None), "{text}");
}

/// A script below `folder`, which is started with `input`; its output, when all who hold it have closed it.
fn started(folder: &tempfile::TempDir, script: &str, input: &str) -> (Child, io::PipeReader) {
    started_in(folder, script, input, None)
}

fn started_in(
    folder: &tempfile::TempDir,
    script: &str,
    input: &str,
    confinement: Option<Confinement<'_>>,
) -> (Child, io::PipeReader) {
    let path = folder.path().join("script");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut given = tempfile::tempfile().unwrap();
    given.write_all(input.as_bytes()).unwrap();
    io::Seek::rewind(&mut given).unwrap();
    let (output, theirs) = io::pipe().unwrap();
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let command = Command {
        argv: vec![path.clone(), c"one two".into(), c"".into()],
        path,
        env: vec![c"ONLY=this".into()],
        stdin: given.as_fd(),
        stdout: theirs.as_fd(),
        stderr: theirs.as_fd(),
        limits: Limits { fsize: Some(4096), ..Limits::default() },
        confinement,
    };
    (command.spawn().unwrap(), output)
}

#[test]
fn a_script_has_its_input_arguments_and_environment_and_no_descriptor_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let strays: Vec<_> = (0..40).map(|_| leaky(File::open("/dev/zero").unwrap())).collect();
    let script = "#!/bin/sh\nread line\necho \"$line/$1/$2/$#/$ONLY/$PWD\"\nls /proc/self/fd | wc -l\n";
    let (child, mut output) = started(&folder, script, "input\n");
    drop(strays);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(wait(&child).success());
    // `ls` has the folder open that it lists; the shell has its script.
    let (first, open) = text.trim().split_once('\n').unwrap();
    assert_eq!(first, "input/one two//2/this//");
    assert!(open.trim().parse::<u32>().unwrap() <= 5, "{text}");
}

#[test]
fn a_signal_to_the_group_ends_what_the_program_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let (child, mut output) = started(&folder, "#!/bin/sh\nsleep 1000 & sleep 1000 & echo ready\nwait\n", "");
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    child.signal_group(9).unwrap();
    assert_eq!(wait(&child).signal(), Some(9));
    // The end of the pipe: nobody who has inherited it is left.
    assert_eq!(output.read(&mut ready).unwrap(), 0);
}

#[test]
fn a_program_that_is_not_there_is_said_so() {
    let null = File::open("/dev/null").unwrap();
    let command = Command {
        path: c"/nowhere/program".into(),
        argv: vec![c"program".into()],
        env: Vec::new(),
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
        limits: Limits::default(),
        confinement: None,
    };
    let error = command.spawn().unwrap_err();
    assert!(matches!(error, SpawnError::Child(Stage::Execute, _)), "{error}");
    let none = Command { argv: Vec::new(), ..command };
    assert!(matches!(none.spawn(), Err(SpawnError::Refused(_))));
}
