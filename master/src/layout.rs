//! Where things are: the paths of section 8 of the architecture, below `--root` if there is one.

use std::path::{Path, PathBuf};

/// All paths that the master itself uses.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    config: PathBuf,
}

impl Layout {
    /// `config` overrides the path of `vsmtp.vsl`; `root` is put before all others.
    pub fn new(root: Option<&Path>, config: Option<&Path>) -> Self {
        let root = root.unwrap_or(Path::new("/")).to_owned();
        let config = config.map_or_else(|| Self::usual_config(&root), Path::to_owned);
        Layout { root, config }
    }

    /// `vsmtp.vsl`; where only the file of vSL 1.x is there, that.
    fn usual_config(root: &Path) -> PathBuf {
        let directory = root.join("etc/vsmtp");
        vsmtp_config::main_file(&directory)
    }

    /// The entry point of the configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The directory of the configuration; imports cannot leave it.
    pub fn config_dir(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }

    /// An absolute path of the configuration, as it lies below the root.
    pub fn below(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Sockets and the lock.
    pub fn run_dir(&self) -> PathBuf {
        self.below("/run/vsmtp")
    }

    /// vsmtpctl to the master.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir().join("control")
    }

    /// vsmtpctl to the queue-manager.
    pub fn queue_socket(&self) -> PathBuf {
        self.run_dir().join("queue")
    }

    /// SMTP over a local socket.
    pub fn submit_socket(&self) -> PathBuf {
        self.run_dir().join("submit")
    }

    /// Held while a master runs.
    pub fn lock(&self) -> PathBuf {
        self.run_dir().join("lock")
    }

    /// State that outlives a restart.
    pub fn state_dir(&self) -> PathBuf {
        self.below("/var/lib/vsmtp")
    }

    /// What the limiter keeps.
    pub fn limits_dir(&self) -> PathBuf {
        self.state_dir().join("limits")
    }

    /// What the resolver keeps.
    pub fn resolver_dir(&self) -> PathBuf {
        self.state_dir().join("resolver")
    }
}

/// Where installed daemons lie when they are not beside the master.
const LIBEXEC: &str = "/usr/libexec/vsmtp";

/// The path of a daemon's binary: beside the master's own binary first, then in the package's directory.
pub fn binary(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(|dir| dir.join(name)));
    beside.into_iter().chain([Path::new(LIBEXEC).join(name)]).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_moves_below_the_root() {
        let layout = Layout::new(Some(Path::new("/r")), None);
        assert_eq!(layout.config(), Path::new("/r/etc/vsmtp/vsmtp.vsl"));
        assert_eq!(layout.below("/var/spool/vsmtp"), Path::new("/r/var/spool/vsmtp"));
        assert_eq!(Layout::new(None, None).control_socket(), Path::new("/run/vsmtp/control"));
    }

    #[test]
    fn the_old_configuration_is_used_where_there_is_no_new_one() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/vsmtp");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("vsmtp.toml"), "").unwrap();
        assert_eq!(Layout::new(Some(root.path()), None).config(), directory.join("vsmtp.toml"));
        std::fs::write(directory.join("vsmtp.vsl"), "").unwrap();
        assert_eq!(Layout::new(Some(root.path()), None).config(), directory.join("vsmtp.vsl"));
        let named = Layout::new(Some(root.path()), Some(Path::new("/x/old.toml")));
        assert_eq!(named.config(), Path::new("/x/old.toml"));
    }
}
