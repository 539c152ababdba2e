//! Which files are plugins, and which of these may be loaded: before the jail, without running anything of them.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most plugins of one configuration.
pub const MAX_PLUGINS: usize = 64;
/// Largest file, in octets.
pub const MAX_FILE: u64 = 256 << 20;
/// What their names end in.
const EXTENSION: &str = "so";
/// Bits of a mode: others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;
/// In this folder nobody can replace what is somebody else's.
const STICKY: u32 = 0o1000;
/// Not to wait for whoever writes into a named pipe.
const O_NONBLOCK: i32 = 0o4000;
/// Not to follow a link that took the file's place.
const O_NOFOLLOW: i32 = 0o400_000;

/// A file of the folder of plugins.
#[derive(Debug)]
pub struct Found {
    /// Its name, without the extension: what scripts import it by.
    pub name: String,
    /// The file itself, without links; where it was looked for if it is not there.
    pub path: PathBuf,
    /// Open for reading, or why it may not be loaded.
    pub file: Result<File, String>,
}

/// All plugins of a folder, in the order of their names. None if there is no such folder.
///
/// # Errors
/// The folder cannot be read, or has more than [`MAX_PLUGINS`].
pub fn find(folder: &Path) -> Result<Vec<Found>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) else { continue };
        if found.len() == MAX_PLUGINS {
            return Err(format!("has more than {MAX_PLUGINS} plugins"));
        }
        // A link into nothing, as a package leaves one behind, is no plugin.
        let Ok(real) = path.canonicalize() else { continue };
        let file = open(folder, &real);
        found.push(Found { name, path: real, file });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Opens a file that nobody could have written but root, and whoever writes the configuration.
fn open(folder: &Path, real: &Path) -> Result<File, String> {
    let shown = real.display();
    let cannot = |error: io::Error| format!("{shown} cannot be opened: {error}");
    // Who may write the folder above may put any configuration there.
    let configuration = folder.parent().unwrap_or(folder);
    let owner = fs::metadata(configuration).map_err(cannot)?.uid();
    let linked = folder.canonicalize().map_err(cannot)?;
    for above in linked.ancestors().chain(real.ancestors().skip(1)) {
        let metadata = fs::metadata(above).map_err(cannot)?;
        check_folder(&metadata, owner).map_err(|why| format!("the folder {} {why}", above.display()))?;
    }
    if !fs::metadata(real).map_err(cannot)?.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(real);
    let file = opened.map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    check_file(&metadata, owner).map_err(|why| format!("{shown} {why}"))?;
    Ok(file)
}

fn check_folder(of: &Metadata, owner: u32) -> Result<(), String> {
    check_owner(of, owner)?;
    if of.mode() & OTHERS_WRITE != 0 && of.mode() & STICKY == 0 {
        return Err("can be written by others than its owner; chmod go-w it".to_owned());
    }
    Ok(())
}

fn check_file(of: &Metadata, owner: u32) -> Result<(), String> {
    if !of.is_file() {
        return Err("is not a file".to_owned());
    }
    check_owner(of, owner)?;
    if of.mode() & OTHERS_WRITE != 0 {
        return Err("can be written by others than its owner; chmod go-w it".to_owned());
    }
    if of.len() > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} octets"));
    }
    Ok(())
}

fn check_owner(of: &Metadata, owner: u32) -> Result<(), String> {
    if of.uid() == 0 || of.uid() == owner {
        return Ok(());
    }
    Err(format!("belongs to the user {}; it must be root's, or of whoever has the configuration", of.uid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Place(tempfile::tempdir().unwrap());
            fs::create_dir_all(place.plugins()).unwrap();
            mode(&place.plugins(), 0o755);
            place
        }

        fn plugins(&self) -> PathBuf {
            self.0.path().join("plugins")
        }

        fn put(&self, name: &str) -> PathBuf {
            let path = self.plugins().join(name);
            fs::write(&path, "x").unwrap();
            mode(&path, 0o644);
            path
        }

        fn only(&self) -> Found {
            let mut found = find(&self.plugins()).unwrap();
            assert_eq!(found.len(), 1);
            found.remove(0)
        }

        fn refused(&self, part: &str) {
            let why = self.only().file.unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn libraries_are_found_by_name_through_links() {
        let place = Place::new();
        let elsewhere = place.0.path().join("lib.so");
        fs::write(&elsewhere, "x").unwrap();
        mode(&elsewhere, 0o644);
        symlink(&elsewhere, place.plugins().join("b.so")).unwrap();
        place.put("a.so");
        place.put("README");
        symlink("/nowhere/c.so", place.plugins().join("c.so")).unwrap();
        let found = find(&place.plugins()).unwrap();
        assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(found.iter().all(|found| found.file.is_ok()), "{found:?}");
        assert_eq!(found[1].path, elsewhere.canonicalize().unwrap());
        assert!(find(&place.0.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let place = Place::new();
        let path = place.put("a.so");
        for bits in [0o664, 0o646] {
            mode(&path, bits);
            place.refused("a.so can be written by others");
        }
        mode(&path, 0o644);
        mode(&place.plugins(), 0o775);
        place.refused("plugins can be written by others");
        mode(&place.plugins(), 0o1777);
        assert!(place.only().file.is_ok(), "nobody can replace it there");
    }

    #[test]
    fn what_is_no_file_of_bounded_size_is_refused() {
        let place = Place::new();
        fs::create_dir(place.plugins().join("a.so")).unwrap();
        place.refused("is not a file");
        fs::remove_dir(place.plugins().join("a.so")).unwrap();
        let path = place.put("a.so");
        File::options().write(true).open(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        place.refused("is larger than");
        fs::remove_file(&path).unwrap();
        symlink("/dev/null", &path).unwrap();
        place.refused("is not a file");
    }

    #[test]
    fn only_root_and_the_owner_of_the_configuration_may_own_it() {
        let metadata = fs::metadata("/").unwrap();
        assert_eq!(metadata.uid(), 0);
        assert!(check_owner(&metadata, 12_345).is_ok());
        let place = Place::new();
        let metadata = fs::metadata(place.put("a.so")).unwrap();
        assert!(check_owner(&metadata, metadata.uid()).is_ok());
        if metadata.uid() == 0 {
            // Only root can make a file of somebody else.
            std::os::unix::fs::chown(place.plugins().join("a.so"), Some(12_345), None).unwrap();
            place.refused("belongs to the user 12345");
        } else {
            assert!(check_owner(&metadata, metadata.uid() + 1).unwrap_err().contains("belongs to"));
        }
    }

    #[test]
    fn too_many_are_an_error() {
        let place = Place::new();
        for number in 0..=MAX_PLUGINS {
            place.put(&format!("p{number}.so"));
        }
        assert!(find(&place.plugins()).unwrap_err().contains("more than 64"));
    }
}
