//! Where the control sockets and the other programs of the package are.

use std::path::{Path, PathBuf};

/// Where the package puts daemons.
const LIBEXEC: &str = "/usr/libexec/vsmtp";
/// Where the package puts the master.
const SBIN: &str = "/usr/sbin";

/// Paths below the root of one instance.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// The instance below `root`, or the system's own.
    pub fn below(root: Option<&Path>) -> Self {
        Place { root: root.unwrap_or(Path::new("/")).to_owned() }
    }

    /// The master's control socket.
    pub fn master(&self) -> PathBuf {
        self.root.join("run/vsmtp/control")
    }

    /// The queue-manager's control socket.
    pub fn queue(&self) -> PathBuf {
        self.root.join("run/vsmtp/queue")
    }
}

/// A program of the package: beside this one first, so that a build tree uses its own, then where it is installed.
pub fn program(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    let installed = [SBIN, LIBEXEC].map(|dir| Path::new(dir).join(name));
    beside.into_iter().chain(installed).find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_move_with_the_root() {
        assert_eq!(Place::below(None).master(), Path::new("/run/vsmtp/control"));
        assert_eq!(Place::below(Some(Path::new("/tmp/x"))).queue(), Path::new("/tmp/x/run/vsmtp/queue"));
    }
}
