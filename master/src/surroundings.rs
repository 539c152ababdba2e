//! Files of this machine that the resolver reads before its jail. It cannot read them again, so whoever reloads notices that
//! they have changed. Nothing of them is read here.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the resolver reads, see its own `surroundings.rs`.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What tells one state of the files from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings(Vec<Option<Stamp>>);

/// A file as it was: device, inode, octets, seconds and nanoseconds of its last change.
type Stamp = (u64, u64, u64, i64, i64);

impl Surroundings {
    /// As they are now. A file that cannot be looked at counts as missing.
    pub fn look() -> Self {
        Self::of(&FILES)
    }

    fn of(files: &[impl AsRef<Path>]) -> Self {
        let stamp = |file: &Path| {
            let now = std::fs::metadata(file).ok()?;
            Some((now.dev(), now.ino(), now.size(), now.mtime(), now.mtime_nsec()))
        };
        Surroundings(files.iter().map(|file| stamp(file.as_ref())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_moved_or_removed_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("resolv.conf"), folder.path().join("other"));
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        let look = || Surroundings::of(&[&file]);
        let first = look();
        assert_eq!(first, look());
        std::fs::write(&file, "nameserver 192.0.2.11\n").unwrap();
        let second = look();
        assert_ne!(first, second);
        std::fs::write(&other, "nameserver 192.0.2.12\n").unwrap();
        std::fs::rename(&other, &file).unwrap();
        let third = look();
        assert_ne!(second, third);
        std::fs::remove_file(&file).unwrap();
        assert_ne!(third, look());
        assert_eq!(look(), look());
    }
}
