//! A small disk of its own for a test. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs. It is unmounted when dropped.
pub struct Tmpfs {
    folder: PathBuf,
}

impl Tmpfs {
    /// Makes the folder and mounts. Options are those of `mount`, such as `size=32m,nr_inodes=50`.
    pub fn mount(folder: &Path, options: &str) -> Tmpfs {
        fs::create_dir_all(folder).expect("make the mount point");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("mode=755,{options}"), "tmpfs"]).arg(folder);
        assert!(command.status().expect("run mount").success(), "mount {}", folder.display());
        Tmpfs { folder: folder.to_owned() }
    }

    /// Takes all room that is left with a file of zeros; removing it gives the room back.
    pub fn fill(&self) -> PathBuf {
        let path = self.folder.join("ballast");
        let mut file = fs::File::create(&path).expect("make the ballast");
        // Ends with no space left on the device.
        let _ = std::io::copy(&mut std::io::repeat(0), &mut file);
        path
    }

    /// Takes all inodes that are left with empty files below the folder that it answers.
    pub fn fill_inodes(&self) -> PathBuf {
        let path = self.folder.join("ballast");
        fs::create_dir(&path).expect("make the ballast");
        let mut count = 0;
        while fs::File::create(path.join(count.to_string())).is_ok() {
            count += 1;
        }
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
