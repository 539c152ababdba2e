//! A disk of its own for a test, whose power can fail. Needs root, mkfs.ext4 and python3.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{program, python, run, said, wait_until};

/// Its size in octets. The file has holes.
const SIZE: u64 = 512 << 20;
/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: from here on nothing reaches the disk, not even the journal.
const SHUT_DOWN: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A mounted ext4 in a file. It is unmounted when dropped.
pub struct Disk {
    image: tempfile::NamedTempFile,
    folder: PathBuf,
}

impl Disk {
    /// Makes the folder and mounts.
    pub fn mount(folder: &Path) -> Disk {
        let image = image();
        image.as_file().set_len(SIZE).expect("give it a length");
        said(&run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.path().as_os_str()]));
        fs::create_dir_all(folder).expect("make the mount point");
        let disk = Disk { image, folder: folder.to_owned() };
        disk.mount_image();
        disk
    }

    /// The power fails: what was not synced is gone. Whoever uses the disk gets errors from now on.
    pub fn forget(&self) {
        said(&python(SHUT_DOWN, &[&self.folder.to_string_lossy()]));
    }

    /// The power is back. Nobody may use the disk any more.
    pub fn mount_again(&mut self) {
        wait_until("the disk is free", || run("umount", &[&self.folder]).status.success());
        // A file system is one and the same, and off, for as long as anybody has it mounted, and whoever makes himself a view
        // of the mounts of this machine meanwhile has it in there: so the power comes back for a copy.
        let copy = image();
        said(&run(
            "cp",
            &["--sparse=always".as_ref(), self.image.path().as_os_str(), copy.path().as_os_str()],
        ));
        self.image = copy;
        self.mount_image();
    }

    fn mount_image(&self) {
        let mut mount = program("mount");
        mount.args(["-o", "loop"]).arg(self.image.path()).arg(&self.folder);
        said(&mount.output().expect("run mount"));
    }
}

fn image() -> tempfile::NamedTempFile {
    tempfile::NamedTempFile::new().expect("make an image")
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l".as_ref(), self.folder.as_os_str()]);
    }
}
