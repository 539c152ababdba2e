//! With a real validating server: Debian's unbound, and a zone that is signed (see `signed/sign.py`). Skipped, by name,
//! where there is no unbound.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Message, Query as DnsQuery};
use hickory_resolver::proto::rr::RecordType;
use vsmtp_ipc::edge::client_resolver::{DnsError, Records};

use crate::dns::name;
use vsmtp_stage::PATIENCE;

use crate::harness::{Resolver, addresses, mx, text, tlsa};

const UNBOUND: &str = "/usr/sbin/unbound";
const SIGNED: &str = include_str!("signed/signed.zone");
const ANCHOR: &str = include_str!("signed/anchor");
const PLAIN: &str = "plain.example. 60 IN SOA ns.plain.example. root.plain.example. 1 2 3 4 60\n\
                     plain.example. 60 IN NS ns.plain.example.\nplain.example. 60 IN MX 1 mx.plain.example.\n";

struct Unbound {
    address: SocketAddr,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Unbound {
    fn start() -> Option<Self> {
        if !Path::new(UNBOUND).exists() {
            assert!(std::env::var_os("CI").is_none(), "there is no {UNBOUND}, and CI must not skip this");
            let _ = writeln!(std::io::stderr(), "skipped: there is no {UNBOUND}");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        for (file, content) in [("signed.zone", SIGNED), ("anchor", ANCHOR), ("plain.zone", PLAIN)] {
            fs::write(directory.path().join(file), content).unwrap();
        }
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fs::write(directory.path().join("conf"), configuration(directory.path(), address)).unwrap();
        let child = Command::new(UNBOUND)
            .args(["-d", "-c"])
            .arg(directory.path().join("conf"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let unbound = Unbound { address, child, _directory: directory };
        unbound.wait();
        Some(unbound)
    }

    /// Until it answers anything.
    fn wait(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        socket.connect(self.address).unwrap();
        let mut question = Message::query();
        question.add_query(DnsQuery::query(name("localhost"), RecordType::A));
        let question = question.to_vec().unwrap();
        let end = Instant::now() + PATIENCE;
        // Until it listens, the port is closed and the socket fails at once or at the next call.
        while socket.send(&question).is_err() || socket.recv(&mut [0; 512]).is_err() {
            assert!(Instant::now() < end, "unbound does not answer");
            std::thread::yield_now();
        }
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(directory: &Path, address: SocketAddr) -> String {
    let directory = directory.display();
    let zone = |name: &str, file: &str| {
        format!(
            "auth-zone:\n name: {name}\n zonefile: {directory}/{file}\n for-downstream: no\n for-upstream: yes\n"
        )
    };
    format!(
        "server:\n interface: 127.0.0.1@{}\n do-ip6: no\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n \
         directory: {directory}\n pidfile: \"\"\n use-syslog: no\n module-config: \"validator iterator\"\n \
         trust-anchor-file: {directory}/anchor\n ede: yes\n num-threads: 1\nremote-control:\n control-enable: no\n{}{}",
        address.port(),
        zone("signed.example", "signed.zone"),
        zone("plain.example", "plain.zone"),
    )
}

#[test]
fn a_validating_server_tells_secure_from_plain_from_forged() {
    let Some(unbound) = Unbound::start() else { return };
    let mut resolver = Resolver::with(&[unbound.address]);
    let mut client = resolver.deliver();

    let answer = client.ask(mx("signed.example"));
    let hosts = [(10, "mx.signed.example"), (20, "mx2.signed.example")].map(|(n, host)| (n, host.to_owned()));
    assert_eq!((answer.result, answer.secure), (Ok(Records::Mx(hosts.to_vec())), true));
    let answer = client.ask(addresses("mx.signed.example"));
    assert_eq!(
        (answer.result, answer.secure),
        (Ok(Records::Addresses(vec!["192.0.2.25".parse().unwrap()])), true)
    );
    let answer = client.ask(tlsa("_25._tcp.mx.signed.example"));
    assert_eq!((answer.result, answer.secure), (Ok(Records::Tlsa(vec![(3, 1, 1, vec![0xab; 32])])), true));
    let answer = client.ask(tlsa("_25._tcp.mx2.signed.example"));
    assert_eq!((answer.result, answer.secure), (Err(DnsError::NoSuchName), true));
    let answer = client.ask(text("mx.signed.example"));
    assert_eq!((answer.result, answer.secure), (Err(DnsError::NoRecords), true));

    // Too long for UDP.
    let answer = client.ask(text("long.signed.example"));
    let Ok(Records::Text(texts)) = answer.result else { panic!("{:?}", answer.result) };
    assert!(texts.len() == 30 && texts.iter().all(|text| text.len() == 203) && answer.secure);

    let answer = client.ask(mx("plain.example"));
    assert_eq!(
        (answer.result, answer.secure),
        (Ok(Records::Mx(vec![(1, "mx.plain.example".to_owned())])), false)
    );
    let answer = client.ask(addresses("forged.signed.example"));
    assert_eq!((answer.result, answer.secure), (Err(DnsError::Bogus), false));
}
