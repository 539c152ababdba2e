//! Programs that an operator named: their streams, and the end of all that they started.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use vsmtp_sys::spawn::{Child, Command, SpawnError, Stage};

use crate::support::{leaky, wait};

/// A script below `folder`, which is started with `input`; its output, when all who hold it have closed it.
fn started(folder: &tempfile::TempDir, script: &str, input: &str) -> (Child, io::PipeReader) {
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
    };
    let error = command.spawn().unwrap_err();
    assert!(matches!(error, SpawnError::Child(Stage::Execute, _)), "{error}");
    let none = Command { argv: Vec::new(), ..command };
    assert!(matches!(none.spawn(), Err(SpawnError::Refused(_))));
}
