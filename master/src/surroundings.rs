//! What processes look at before their jail: files of this machine, those that configuration names, and the addresses of network
//! interfaces. They cannot look again, so whoever reloads notices that it has changed. No file is read here.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vsmtp_config::Config;
use vsmtp_ipc::role::Role;

/// What the resolver reads, see its own `surroundings.rs`.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// Where Debian has the authorities that the system knows.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The roles that look at such things.
const READERS: [Role; 2] = [Role::DeliverSmtp, Role::Resolver];

/// What tells one state of them from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    files: Vec<Option<Stamp>>,
    /// Sorted. Empty for who does not look at them, and where they cannot be known.
    addresses: Vec<IpAddr>,
}

/// A file as it was: device, inode, octets, seconds and nanoseconds of its last change.
type Stamp = (u64, u64, u64, i64, i64);

/// What each role has found when its processes began to be started.
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

    /// The roles that have found something else than there is now.
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
        let mut addresses = Vec::new();
        let files: Vec<String> = match role {
            Role::Resolver => {
                let own = FILES.map(str::to_owned).into_iter();
                own.chain([authorities(config.resolver().ca_file)]).collect()
            }
            Role::DeliverSmtp => {
                let slice = config.deliver();
                addresses = behind_wildcards(&slice.own_addresses, || {
                    vsmtp_sys::interfaces::addresses().unwrap_or_default()
                });
                [authorities(slice.tls.ca_file)].into_iter().chain(slice.credentials_file).collect()
            }
            _ => Vec::new(),
        };
        Surroundings { files: Self::stamps(&files), addresses }
    }

    fn stamps(files: &[impl AsRef<Path>]) -> Vec<Option<Stamp>> {
        let stamp = |file: &Path| {
            let now = std::fs::metadata(file).ok()?;
            Some((now.dev(), now.ino(), now.size(), now.mtime(), now.mtime_nsec()))
        };
        files.iter().map(|file| stamp(file.as_ref())).collect()
    }
}

/// The addresses of the interfaces, if one of these listeners stands for them: then they are ours.
fn behind_wildcards(listeners: &[SocketAddr], interfaces: impl FnOnce() -> Vec<IpAddr>) -> Vec<IpAddr> {
    if !listeners.iter().any(|listener| listener.ip().is_unspecified()) {
        return Vec::new();
    }
    let mut addresses = interfaces();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_moved_or_removed_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("resolv.conf"), folder.path().join("other"));
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        let look = || Surroundings::stamps(&[&file]);
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
    fn addresses_of_interfaces_count_only_behind_a_wildcard() {
        let behind = |listener: &str, addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            behind_wildcards(&["127.0.0.1:24".parse().unwrap(), listener.parse().unwrap()], || addresses)
        };
        for any in ["0.0.0.0:25", "[::]:25"] {
            let before = behind(any, &["127.0.0.1", "192.0.2.1"]);
            assert_eq!(
                before,
                behind(any, &["192.0.2.1", "127.0.0.1", "127.0.0.1"]),
                "their order is nothing new"
            );
            assert_ne!(before, behind(any, &["127.0.0.1", "192.0.2.1", "192.0.2.2"]));
        }
        assert_eq!(behind("192.0.2.1:25", &["192.0.2.1"]), behind("192.0.2.1:25", &["192.0.2.2"]));
    }

    #[test]
    fn a_wildcard_has_deliver_look_at_the_interfaces() {
        use vsmtp_config::{Context, Value};
        use vsmtp_mail::Domain;

        let look = |listener: &str| {
            let mut tree = Value::map();
            tree.set("server.interfaces.addr", Value::List(vec![Value::Text(listener.to_owned())]));
            let hostname = Domain::parse("mail.src.test").unwrap();
            let context = Context { hostname, cores: 1, config_dir: "/etc".to_owned(), root: String::new() };
            Surroundings::look(Role::DeliverSmtp, &Config::build(&context, &tree).unwrap())
        };
        assert!(look("0.0.0.0:25").addresses.contains(&IpAddr::from([127, 0, 0, 1])));
        assert_eq!(look("127.0.0.1:25").addresses, Vec::<IpAddr>::new());
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
