//! Which user each process runs as.

use vsmtp_ipc::role::Role;
use vsmtp_sys::users;

use crate::error::Error;

/// User and group id of a process.
pub type Ids = (u32, u32);

/// First of the ids that a private instance uses when the package's users do not exist on this machine.
const UNUSED_FIRST: u32 = 64_710;

/// The users of the package, in the order of their stand-in ids.
const USERS: [&str; 11] = [
    "vsmtp-receiver",
    "vsmtp-filter",
    "vsmtp-queue",
    "vsmtp-deliver",
    "vsmtp-mail",
    "vsmtp-resolver",
    "vsmtp-limits",
    "vsmtp-auth",
    "vsmtp-keys",
    "vsmtp-runner",
    "vsmtp-database",
];
/// Whose members may use vsmtpctl.
const ADMIN_GROUP: &str = "vsmtp-admin";

/// Who runs what.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// `None`: not started as root, so everything runs as the calling user.
    ids: Option<[Ids; USERS.len()]>,
    admin_gid: u32,
}

impl Accounts {
    /// Looks the users up. Below `--root` (`private`) unused ids stand in for users that do not exist; `range` is where
    /// to take them from on any machine, if the configuration says so.
    pub fn resolve(private: bool, range: Option<u32>) -> Result<Self, Error> {
        let lookup = || Error::io("look up users and groups");
        if !users::is_root() {
            return Ok(Accounts { ids: None, admin_gid: users::current().1 });
        }
        let first = range.or(private.then_some(UNUSED_FIRST));
        let admin_gid = users::group(ADMIN_GROUP).map_err(lookup())?.unwrap_or(0);
        let mut ids = [(0, 0); USERS.len()];
        for (at, (slot, name)) in ids.iter_mut().zip(USERS).enumerate() {
            let found = users::user(name).map_err(lookup())?.map(|user| (user.uid, user.gid));
            *slot = match (found, first) {
                (Some((0, _)), _) => return Err(Error::System(format!("user {name} must not have uid 0"))),
                (Some(ids), _) => ids,
                (None, Some(first)) => unused(first.saturating_add(at as u32))?,
                (None, None) => return Err(missing(name)),
            };
        }
        Ok(Accounts { ids: Some(ids), admin_gid })
    }

    /// True if every process has a user of its own.
    pub fn are_separate(&self) -> bool {
        self.ids.is_some()
    }

    /// The ids of a role; `None` to stay who we are.
    pub fn of(&self, role: Role) -> Option<Ids> {
        let at = match role {
            Role::Receiver => 0,
            Role::FilterSession | Role::FilterPost | Role::FilterOneshot => 1,
            Role::QueueManager => 2,
            Role::DeliverSmtp => 3,
            Role::DeliverMailbox => 4,
            Role::Resolver => 5,
            Role::Limits => 6,
            Role::Auth => 7,
            Role::Keys => 8,
            Role::Runner => 9,
            Role::Database => 10,
        };
        self.ids.as_ref().map(|ids| ids[at])
    }

    /// Owner of the control sockets.
    pub fn admin(&self) -> Option<Ids> {
        self.are_separate().then_some((0, self.admin_gid))
    }

    /// The group whose members may use vsmtpctl, beside root and our own user.
    pub fn admin_gid(&self) -> u32 {
        self.admin_gid
    }
}

fn missing(name: &str) -> Error {
    Error::System(format!(
        "user {name} does not exist: the package creates it, or run 'useradd --system {name}'"
    ))
}

fn unused(id: u32) -> Result<Ids, Error> {
    let taken = users::user_by_id(id).map_err(Error::io("look up users"))?;
    match taken {
        None => Ok((id, id)),
        Some(user) => Err(Error::System(format!(
            "uid {id} belongs to {}: create the users of the package instead",
            user.name
        ))),
    }
}
