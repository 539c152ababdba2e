//! Files that processes read before their jail: of this machine, and those that configuration names. They cannot read them
//! again, so whoever reloads notices that they have changed. Nothing of them is read here.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vsmtp_config::Config;
use vsmtp_ipc::role::Role;

/// What the resolver reads, see its own `surroundings.rs`.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// Where Debian has the authorities that the system knows.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The roles that read such files.
const READERS: [Role; 2] = [Role::DeliverSmtp, Role::Resolver];

/// What tells one state of the files from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings(Vec<Option<Stamp>>);

/// A file as it was: device, inode, octets, seconds and nanoseconds of its last change.
type Stamp = (u64, u64, u64, i64, i64);

/// The files of each role as they were when its processes began to be started.
#[derive(Debug, Default)]
pub struct Readings(Vec<(Role, u32, Surroundings)>);

impl Readings {
    /// A process of that generation is being started.
    pub fn note(&mut self, role: Role, generation: u32, config: &Config) {
        if !READERS.contains(&role) || self.0.iter().any(|(known, of, _)| (*known, *of) == (role, generation))
        {
            return;
        }
        self.0.retain(|(known, ..)| *known != role);
        self.0.push((role, generation, Surroundings::look(role, config)));
    }

    /// The roles whose files are not what they have read.
    pub fn moved(&self, config: &Config) -> Vec<Role> {
        let has_moved =
            |(role, _, was): &&(Role, u32, Surroundings)| *was != Surroundings::look(*role, config);
        self.0.iter().filter(has_moved).map(|(role, ..)| *role).collect()
    }
}

impl Surroundings {
    /// What a role reads, as it is now. A file that cannot be looked at counts as missing.
    fn look(role: Role, config: &Config) -> Self {
        let authorities = |file: Option<String>| file.unwrap_or_else(|| AUTHORITIES.to_owned());
        let files: Vec<String> = match role {
            Role::Resolver => {
                let own = FILES.map(str::to_owned).into_iter();
                own.chain([authorities(config.resolver().ca_file)]).collect()
            }
            Role::DeliverSmtp => {
                let slice = config.deliver();
                [authorities(slice.tls.ca_file)].into_iter().chain(slice.credentials_file).collect()
            }
            _ => Vec::new(),
        };
        Self::of(&files)
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

    #[test]
    fn a_changed_file_of_accounts_moves_deliver_and_one_of_authorities_both() {
        use vsmtp_config::{Context, Value};
        use vsmtp_mail::Domain;

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let mut tree = Value::map();
        tree.set("delivery.tls.ca_file", Value::Text(path("ca.pem")));
        tree.set("delivery.credentials_file", Value::Text(path("credentials")));
        let hostname = Domain::parse("mail.src.test").unwrap();
        let context = Context { hostname, cores: 1, config_dir: "/etc".to_owned(), root: String::new() };
        let config = Config::build(&context, &tree).unwrap();
        let mut readings = Readings::default();
        let started = |readings: &mut Readings, generation| {
            for role in [Role::DeliverSmtp, Role::Resolver, Role::Receiver] {
                readings.note(role, generation, &config);
            }
        };
        started(&mut readings, 0);
        assert_eq!(readings.moved(&config), []);
        std::fs::write(path("credentials"), "x").unwrap();
        assert_eq!(readings.moved(&config), [Role::DeliverSmtp]);
        // One that is started again does not speak for the others of its generation.
        started(&mut readings, 0);
        assert_eq!(readings.moved(&config), [Role::DeliverSmtp]);
        started(&mut readings, 1);
        assert_eq!(readings.moved(&config), []);
        std::fs::write(path("ca.pem"), "x").unwrap();
        assert_eq!(readings.moved(&config), [Role::DeliverSmtp, Role::Resolver]);
    }
}
