//! What the resolver learns before its jail: name servers, whether they are trusted, names of this machine. Read once; a
//! change of these files counts from the next start, which a reload brings.
//!
//! A file that is missing or makes no sense leaves its part empty, with a warning, and never keeps the process from starting:
//! without name servers every answer is temporary.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;

use vsmtp_config::ResolverSlice;
use vsmtp_daemon::Record;

use crate::local::Local;
use crate::resolv_conf::{MAX_SERVERS, ResolvConf};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// Octets read of either file.
const MAX_FILE: u64 = 1024 * 1024;

/// What was learnt.
pub struct Surroundings {
    /// Whom to ask.
    pub servers: Vec<SocketAddr>,
    /// Their AD bit is believed wherever they are.
    pub trust_ad: bool,
    /// What needs no server.
    pub local: Local,
}

impl Surroundings {
    /// Those that the configuration gives, or else those of this machine. Names of the hosts file belong to the latter.
    pub fn of(slice: &ResolverSlice) -> Self {
        match &slice.servers {
            Some(servers) => Surroundings {
                servers: servers.iter().take(MAX_SERVERS).copied().collect(),
                trust_ad: slice.trust_ad,
                local: Local::default(),
            },
            None => {
                let conf = ResolvConf::parse(&read_start(RESOLV_CONF));
                Surroundings {
                    servers: conf.servers,
                    trust_ad: slice.trust_ad || conf.trust_ad,
                    local: Local::with_hosts(&read_start(HOSTS)),
                }
            }
        }
    }
}

/// The name servers of this machine.
pub fn servers_of_machine() -> Vec<SocketAddr> {
    ResolvConf::parse(&read_start(RESOLV_CONF)).servers
}

/// The text of a file as far as it is allowed to count; empty, with a warning, if it cannot be read.
fn read_start(path: &str) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        File::open(path)?.take(MAX_FILE).read_to_end(&mut octets)?;
        Ok(octets)
    };
    match read() {
        Ok(octets) => String::from_utf8_lossy(&octets).into_owned(),
        Err(error) => {
            Record::at(log::Level::Warn, "unreadable").field("file", path).field("error", error).emit();
            String::new()
        }
    }
}
