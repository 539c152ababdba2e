//! Where a folder really is that an operator has put behind a link, as `/var/spool` on another disk. Followed is only what nobody
//! but root, or who runs the master, can have made: who can write where the link or its target stands could put something of others
//! there, which the master would give away.
//!
//! On failure: an error that names what cannot be trusted. What is checked here cannot be changed behind the check by anybody
//! but those who are trusted.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Most links on the way, as the kernel has it.
const MAX_LINKS: u32 = 40;
/// Folders in which one may remove only what is one's own.
const STICKY: u32 = 0o1000;

/// The folder behind a path, without any link. The path is absolute.
///
/// # Errors
/// Somebody else could have made it so, or it cannot be looked at.
pub fn follow(path: &Path) -> io::Result<PathBuf> {
    let (mut real, mut links) = (PathBuf::from("/"), 0);
    let mut left: VecDeque<OsString> = names(path).collect();
    while let Some(name) = left.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let entry = next.symlink_metadata()?;
        if !is_ours(&real.symlink_metadata()?, &entry) {
            return Err(refused(&format!("others than root may change {}", next.display())));
        }
        if !entry.is_symlink() {
            real = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(refused("too many links"));
        }
        let target = next.read_link()?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        names(&target).rev().for_each(|name| left.push_front(name));
    }
    Ok(real)
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|one| match one {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// True if nobody but root and us can put something else in the place of what stands in that folder.
fn is_ours(folder: &Metadata, entry: &Metadata) -> bool {
    let is_trusted = |user: u32| user == 0 || user == vsmtp_sys::users::current().0;
    let group_writes = folder.mode() & 0o020 != 0 && folder.gid() != 0;
    let others_write = group_writes || folder.mode() & 0o002 != 0;
    let keeps_own = folder.mode() & STICKY != 0 && is_trusted(entry.uid());
    is_trusted(folder.uid()) && (!others_write || keeps_own)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder that only we can write, without links on the way to it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().canonicalize().unwrap();
        (place, real)
    }

    #[test]
    fn links_that_only_root_and_we_can_have_made_are_followed_to_their_end() {
        let (_place, place) = place();
        fs::create_dir_all(place.join("disk/spool")).unwrap();
        fs::create_dir(place.join("var")).unwrap();
        symlink(place.join("disk"), place.join("var/disk")).unwrap();
        symlink("../var/./disk/spool", place.join("var/spool")).unwrap();
        assert_eq!(follow(&place.join("var/spool")).unwrap(), place.join("disk/spool"));
        assert_eq!(follow(&place.join("disk/spool")).unwrap(), place.join("disk/spool"));
        symlink("circle", place.join("circle")).unwrap();
        assert_eq!(follow(&place.join("circle")).unwrap_err().to_string(), "too many links");
        assert_eq!(follow(&place.join("nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn no_link_is_followed_that_others_can_change_or_whose_target_they_can() {
        let (_place, place) = place();
        for folder in ["safe/target", "open/target"] {
            fs::create_dir_all(place.join(folder)).unwrap();
        }
        symlink(place.join("safe/target"), place.join("open/link")).unwrap();
        symlink(place.join("open/target"), place.join("safe/link")).unwrap();
        let open = |mode| fs::set_permissions(place.join("open"), Permissions::from_mode(mode)).unwrap();
        for link in ["open/link", "safe/link"] {
            open(0o777);
            let error = follow(&place.join(link)).unwrap_err();
            assert!(error.to_string().contains("others than root may change"), "{link}: {error}");
            // As in /tmp: what is ours there is safe from others.
            open(0o1777);
            assert!(follow(&place.join(link)).is_ok(), "{link}");
        }
    }
}
