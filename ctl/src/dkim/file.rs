//! Files of private keys: written for their owner alone and never half, read within bounds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vsmtp_ipc::edge::ctl_keys::MAX_KEY_FILE;
use vsmtp_mail::Domain;
use vsmtp_mail::dkim::encode_base64;
use vsmtp_sys::random::random_u64;

use crate::failure::Failure;

/// Nobody else may read it; the server refuses it otherwise.
const MODE: u32 = 0o600;
/// Octets of a line (RFC 7468 2).
const LINE: usize = 64;

/// A private key (PKCS #8) in PEM.
pub fn pem(der: &[u8]) -> String {
    let text = encode_base64(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // The text is ASCII.
        let (line, behind) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = behind;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

/// Refuses a file that is there, before a key is made for it. Who writes looks again.
pub fn may_be_written(path: &Path, force: bool) -> Result<(), Failure> {
    if !force && path.symlink_metadata().is_ok() { Err(is_there(path)) } else { Ok(()) }
}

fn is_there(path: &Path) -> Failure {
    Failure::Refused(format!("{} exists; --force puts a new key in its place", path.display()))
}

/// Writes it, on the disk before this returns. A file that is there is replaced whole, or not at all.
pub fn write(path: &Path, octets: &[u8], force: bool) -> Result<(), Failure> {
    let beside = beside(path).map_err(|error| refused(path, &error))?;
    let mut file = create(&beside).map_err(|error| refused(&beside, &error))?;
    let written = file.write_all(octets).and_then(|()| file.sync_all());
    let written = written.map_err(|error| refused(&beside, &error)).and_then(|()| put(&beside, path, force));
    if !(force && written.is_ok()) {
        // It was made here; a renaming leaves nothing of it.
        let _ = fs::remove_file(&beside);
    }
    written.and_then(|()| sync_folder(path).map_err(|error| refused(path, &error)))
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    Failure::Refused(format!("{}: {error}", path.display()))
}

/// A name of our own in the same folder, which nobody can know before.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.new", random_u64()?));
    Ok(path.with_file_name(name))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// A link does not replace what is there, a renaming does.
fn put(beside: &Path, path: &Path, force: bool) -> Result<(), Failure> {
    if force {
        return fs::rename(beside, path).map_err(|error| refused(path, &error));
    }
    fs::hard_link(beside, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(path),
        _ => refused(path, &error),
    })
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Reads a file with a key.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |text: &dyn std::fmt::Display| Failure::NotChecked(format!("{}: {text}", path.display()));
    let mut octets = Vec::new();
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let read = file.take(MAX_KEY_FILE as u64 + 1).read_to_end(&mut octets);
    read.map_err(|error| wrong(&error))?;
    if octets.len() > MAX_KEY_FILE { Err(wrong(&"is too large for a key")) } else { Ok(octets) }
}

/// What is left to do with a new key.
pub fn advice(path: &Path, selector: &Domain, domain: &Domain) -> Vec<String> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let owner = fs::metadata(&path).map_or_else(|_| String::new(), |file| format!(", owner {}", file.uid()));
    vec![
        format!(
            "private key: {} (mode 0600{owner}); whoever starts vsmtp, usually root, must own it",
            path.display()
        ),
        format!("publish the record below, name the file in dkim.private_key of {domain} (server.virtual),"),
        format!("sign with selector {selector}, and ask: vsmtpctl dkim check --selector {selector} {domain}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64() {
        let text = pem(&[0; 100]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            (lines[0], lines[lines.len() - 1]),
            ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----")
        );
        assert_eq!(lines[1..lines.len() - 1].iter().map(|line| line.len()).collect::<Vec<_>>(), [64, 64, 8]);
    }

    #[test]
    fn a_key_is_its_owners_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        write(&path, b"one", false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(may_be_written(&path, false).unwrap_err().status(), 1);
        let failure = write(&path, b"two", false).unwrap_err();
        assert!(failure.to_string().contains("exists; --force"), "{failure}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        may_be_written(&path, true).unwrap();
        write(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // Nothing else is left.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_an_interrupted_program_has_left_stops_nobody_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        let left = folder.path().join(format!("k.pem.{}.new", std::process::id()));
        fs::write(&left, b"of another").unwrap();
        write(&path, b"one", false).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&left).unwrap()),
            (b"one".into(), b"of another".into())
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_something_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(may_be_written(&path, false).unwrap_err().status(), 1);
        assert_eq!(write(&path, b"one", false).unwrap_err().status(), 1);
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        fs::write(&path, vec![b'x'; MAX_KEY_FILE + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().status(), 2);
        assert_eq!(read(&folder.path().join("none")).unwrap_err().status(), 2);
    }
}
