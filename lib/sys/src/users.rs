//! Names of users and groups, looked up in the system's databases. For the master: this may load name service modules
//! and wait for them, which no sandboxed process can.

use std::io;
use std::path::PathBuf;

/// A user of this system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

impl From<nix::unistd::User> for User {
    fn from(user: nix::unistd::User) -> User {
        User {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            shell: user.shell,
        }
    }
}

/// The user with this name; `None` if there is none.
pub fn user(name: &str) -> io::Result<Option<User>> {
    Ok(nix::unistd::User::from_name(name)?.map(User::from))
}

/// The user with this id; `None` if there is none.
pub fn user_by_id(uid: u32) -> io::Result<Option<User>> {
    Ok(nix::unistd::User::from_uid(uid.into())?.map(User::from))
}

/// The id of the group with this name; `None` if there is none.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// The names of a group's listed members (not those who have it as their primary group); empty if there is no such group.
pub fn group_members(gid: u32) -> io::Result<Vec<String>> {
    Ok(nix::unistd::Group::from_gid(gid.into())?.map(|group| group.mem).unwrap_or_default())
}

/// The effective user and group of this process.
pub fn current() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_everywhere_and_nobody_has_a_silly_name() {
        let root = user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(user_by_id(0).unwrap().unwrap(), root);
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(user("no such user, surely").unwrap(), None);
        assert_eq!(group("no such group, surely").unwrap(), None);
        assert_eq!(user_by_id(4_000_000_123).unwrap(), None);
        assert!(group_members(4_000_000_123).unwrap().is_empty());
    }

    #[test]
    fn we_are_who_the_kernel_says() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let effective = |line: &str| {
            let line = status.lines().find(|found| found.starts_with(line)).unwrap();
            line.split_whitespace().nth(2).unwrap().parse::<u32>().unwrap()
        };
        assert_eq!(current(), (effective("Uid:"), effective("Gid:")));
        assert_eq!(is_root(), current().0 == 0);
    }
}
