//! MTA-STS policies from a real HTTPS server (Python's) with a certificate of an authority of our own. Port 443 of a
//! loopback address of its own needs root; skipped, by name, where it cannot be had.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::{RData, RecordType, rdata::A};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::NamedTempFile;
use vsmtp_config::ResolverSlice;
use vsmtp_ipc::edge::client_resolver::{DnsError, Query, Records, StsMode};
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_keeper::Files;
use vsmtp_resolver::sts::Policy;
use vsmtp_resolver::sts::snapshot::{self, Kept};
use vsmtp_sys::clock;

use crate::dns::{Asked, Dns, Say, say, txt};
use vsmtp_stage::PATIENCE;

use crate::harness::{Client, Resolver, slice};

/// Nobody else's on this host.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 84, 61);

/// Gives the file that the host is called; `moved` has moved, and `page` is a page.
const SERVER: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.headers["Host"]
        if self.path != "/.well-known/mta-sts.txt" or "/" in host:
            return self.send_error(404)
        if "moved" in host:
            self.send_response(302)
            self.send_header("Location", "https://mta-sts.dst.test/.well-known/mta-sts.txt")
            return self.end_headers()
        body = open(sys.argv[1] + "/" + host, "rb").read()
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if "page" in host else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        if self.headers["Content-Type"] != "application/tlsrpt+gzip":
            return self.send_error(400)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        open(sys.argv[1] + "/posted", "wb").write(body)
        self.send_response(int(self.path.strip("/?a=")))
        self.end_headers()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + "/certificate.pem", sys.argv[1] + "/key.pem")
server = http.server.ThreadingHTTPServer((sys.argv[2], 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// There is one address, so there is one server at a time.
static ONE: Mutex<()> = Mutex::new(());

struct Https {
    child: Option<Child>,
    folder: tempfile::TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Https {
    fn start() -> Option<Self> {
        let mut https = Self::prepare()?;
        https.serve();
        Some(https)
    }

    /// All but the server, which does not listen yet.
    fn prepare() -> Option<Self> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        if TcpListener::bind((HOST, 443)).is_err() || !Path::new("/usr/bin/python3").exists() {
            let what = "needs root and python3: MTA-STS policies by HTTPS";
            assert!(std::env::var_os("CI").is_none(), "{what}, and CI must not skip it");
            let _ = writeln!(std::io::stderr(), "skipped: {what}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let names = ["mta-sts.dst.test", "mta-sts.moved.test", "mta-sts.page.test", "mta-sts.bad.test"];
        certificates(folder.path(), &names);
        for name in [&names[..], &["mta-sts.elsewhere.test"]].concat() {
            fs::write(folder.path().join(name), policy("enforce", "mx.test")).unwrap();
        }
        fs::write(folder.path().join("mta-sts.bad.test"), "version: STSv1\nmode: enforce\n").unwrap();
        Some(Https { child: None, folder, _one: one })
    }

    fn serve(&mut self) {
        let folder = self.folder.path();
        let child = Command::new("python3")
            .arg("-c")
            .arg(SERVER)
            .arg(folder)
            .arg(HOST.to_string())
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_until("the HTTPS server listens", || TcpStream::connect((HOST, 443)).is_ok());
    }

    fn change(&self, mode: &str, mx: &str) {
        fs::write(self.folder.path().join("mta-sts.dst.test"), policy(mode, mx)).unwrap();
    }

    fn slice(&self, dns: &Dns) -> ResolverSlice {
        let ca_file = Some(self.folder.path().join("ca.pem").to_str().unwrap().to_owned());
        // The desk remembers nothing, so that each question is a look-up.
        ResolverSlice { cache_size: 0, ca_file, ..slice(&[dns.address]) }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.stop();
    }
}

fn policy(mode: &str, mx: &str) -> String {
    format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n")
}

/// Writes authority, certificate and key.
fn certificates(folder: &Path, names: &[&str]) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let ca = authority.self_signed(&ca_key).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let issuer = Issuer::from_params(&authority, &ca_key);
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    fs::write(folder.join("certificate.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Every domain has a record with this id, and every host the one address; without an id there is no record.
fn dns(id: &Arc<Mutex<String>>) -> Dns {
    let id = Arc::clone(id);
    Dns::start(move |asked: &Asked| -> Vec<Say> {
        let record = format!("v=STSv1; id={};", id.lock().unwrap());
        let is_known = !id.lock().unwrap().is_empty();
        say(match asked.kind() {
            RecordType::TXT if asked.name().starts_with("_mta-sts.") && is_known => {
                asked.answer([txt(&[record.as_bytes()])])
            }
            RecordType::A => asked.answer([RData::A(A(HOST))]),
            _ => asked.nothing(),
        })
    })
}

fn of(client: &mut Client, domain: &str) -> Result<(StsMode, Vec<String>), DnsError> {
    match client.result(Query::StsPolicy(domain.to_owned()))? {
        Records::StsPolicy { mode, mx, .. } => Ok((mode, mx)),
        other => panic!("{other:?}"),
    }
}

fn enforced(mx: &str) -> Result<(StsMode, Vec<String>), DnsError> {
    Ok((StsMode::Enforce, vec![mx.to_owned()]))
}

#[test]
fn a_policy_is_fetched_remembered_and_fetched_again_when_its_record_changes() {
    let Some(mut https) = Https::start() else { return };
    let id = Arc::new(Mutex::new("1".to_owned()));
    let dns = dns(&id);
    let mut resolver = Resolver::start(&https.slice(&dns));
    let mut client = resolver.deliver();

    assert_eq!(of(&mut client, "dst.test"), enforced("mx.test"));
    https.change("enforce", "*.new.test");
    assert_eq!(of(&mut client, "dst.test"), enforced("mx.test"), "the record has not changed");
    *id.lock().unwrap() = "2".to_owned();
    assert_eq!(of(&mut client, "DST.test"), enforced("*.new.test"));

    // Another certificate, another place, another kind of document, half a policy: no policy.
    for (domain, is_there) in
        [("elsewhere.test", false), ("moved.test", false), ("page.test", false), ("bad.test", true)]
    {
        match client.result(Query::StsPolicy(domain.to_owned())) {
            Ok(Records::StsFault { fetched, .. }) => assert_eq!(fetched, is_there, "{domain}"),
            other => panic!("{domain}: {other:?}"),
        }
        resolver.logged(&format!("event=sts-not-fetched domain={domain}"));
    }

    // What is remembered counts also when nothing can be fetched, or the record is gone.
    https.stop();
    *id.lock().unwrap() = "3".to_owned();
    assert_eq!(of(&mut client, "dst.test"), enforced("*.new.test"));
    id.lock().unwrap().clear();
    assert_eq!(of(&mut client, "dst.test"), enforced("*.new.test"));
    assert_eq!(of(&mut client, "other.test"), Err(DnsError::NoRecords));
}

#[test]
fn a_host_that_is_silent_holds_no_mail_and_is_tried_once_more() {
    let Some(https) = Https::start() else { return };
    let silent = [Ipv4Addr::new(127, 0, 84, 62), Ipv4Addr::new(127, 0, 84, 63)];
    let _listeners = silent.map(|address| TcpListener::bind((address, 443)).unwrap());
    // Whoever asks for the second time is sent to the one that speaks.
    let fetches = AtomicUsize::new(0);
    let dns = Dns::start(move |asked: &Asked| -> Vec<Say> {
        say(match asked.kind() {
            RecordType::TXT => asked.answer([txt(&[b"v=STSv1; id=1;"])]),
            RecordType::A if fetches.fetch_add(1, Ordering::Relaxed) == 0 => {
                asked.answer(silent.map(|address| RData::A(A(address))))
            }
            RecordType::A => asked.answer([RData::A(A(HOST))]),
            _ => asked.nothing(),
        })
    });
    // With a memory: what is in it must not outlive what the second fetch brings.
    let mut resolver = Resolver::start(&ResolverSlice { cache_size: 100, ..https.slice(&dns) });
    let mut client = resolver.deliver();
    let policy = || Query::StsPolicy("dst.test".to_owned());
    // As long as delivery waits: who has heard nothing by then may not deliver, and asks again much later.
    client.say_by(policy(), 20_000);
    let result = client.hear().result;
    assert!(matches!(result, Ok(Records::StsFault { fetched: false, .. })), "{result:?}");
    resolver.logged("event=sts-not-fetched domain=dst.test");

    // More time, and nobody asks: answers come from memory, and there is nothing else that could change them.
    let end = Instant::now() + PATIENCE;
    let found = loop {
        match client.result(policy()) {
            Ok(Records::StsFault { .. }) => assert!(Instant::now() < end, "the second fetch has no effect"),
            other => break other,
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(matches!(&found, Ok(Records::StsPolicy { mx, .. }) if mx == &["mx.test"]), "{found:?}");
}

#[test]
fn a_report_is_posted_to_a_host_that_proves_itself_for_deliver_and_nobody_else() {
    let Some(mut https) = Https::start() else { return };
    let dns = dns(&Arc::new(Mutex::new(String::new())));
    let ca_file = Some(https.folder.path().join("ca.pem").to_str().unwrap().to_owned());
    let mut resolver = Resolver::start(&ResolverSlice { ca_file, ..slice(&[dns.address]) });
    let mut client = resolver.deliver();
    let post = |url: &str| Query::Post { url: url.to_owned(), body: vec![7; 100_000] };
    assert_eq!(client.result(post("https://mta-sts.dst.test/201?a=")), Ok(Records::Posted));
    assert_eq!(fs::read(https.folder.path().join("posted")).unwrap(), vec![7; 100_000]);
    for (url, error) in [
        ("https://mta-sts.dst.test/503", DnsError::Temporary),
        ("https://mta-sts.dst.test/410", DnsError::BadName),
        ("https://mta-sts.dst.test/302", DnsError::BadName),
        // Another's certificate.
        ("https://elsewhere.test/200", DnsError::Temporary),
        ("http://mta-sts.dst.test/200", DnsError::BadName),
    ] {
        assert_eq!(client.result(post(url)), Err(error), "{url}");
    }
    let mut limits = resolver.client(vsmtp_ipc::role::Role::Limits, 0);
    limits.say(post("https://mta-sts.dst.test/200"));
    assert!(limits.closed());
    https.stop();
    assert_eq!(client.result(post("https://mta-sts.dst.test/200")), Err(DnsError::Temporary));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The two files, as the master has them.
fn files() -> [NamedTempFile; 2] {
    [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()]
}

/// Opened for one process.
fn opened(files: &[NamedTempFile; 2]) -> [fs::File; 2] {
    let open = |file: &NamedTempFile| fs::File::options().read(true).write(true).open(file.path()).unwrap();
    [open(&files[0]), open(&files[1])]
}

/// Ends it as a stop or a reload does.
fn end(mut resolver: Resolver) {
    resolver.tell(&ToChild::Drain { deadline_ms: 10_000 });
    assert!(resolver.ended().success());
}

/// Has the files hold what an earlier process has fetched: domain, policy, seconds since then.
fn earlier(files: &[NamedTempFile; 2], policies: &[(&str, &str, u64)]) {
    let now_s = clock::wall_ms() / 1_000;
    let kept = policies.iter().map(|(domain, text, age_s)| Kept {
        domain: (*domain).to_owned(),
        id: "1".to_owned(),
        policy: Arc::new(Policy::parse(text.as_bytes()).unwrap()),
        fetched_s: now_s - age_s,
        asked_s: now_s - age_s,
    });
    let mut taken = Files::new(snapshot::FORMAT);
    opened(files).into_iter().for_each(|file| taken.take(file.into()));
    let octets = snapshot::write(kept.collect::<Vec<_>>().iter());
    taken.open(snapshot::read, |octets, _| octets).unwrap().1.finish(Some(octets));
}

#[test]
fn a_restart_while_nothing_can_be_fetched_forgets_no_policy() {
    let Some(mut https) = Https::start() else { return };
    let id = Arc::new(Mutex::new("1".to_owned()));
    let dns = dns(&id);
    let files = files();
    let mut resolver = Resolver::start_with(&https.slice(&dns), opened(&files));
    assert_eq!(of(&mut resolver.deliver(), "dst.test"), enforced("mx.test"));
    end(resolver);

    https.stop();
    let mut resolver = Resolver::start_with(&https.slice(&dns), opened(&files));
    resolver.logged("event=state-read policies=1");
    let mut client = resolver.deliver();
    assert_eq!(of(&mut client, "dst.test"), enforced("mx.test"));
    *id.lock().unwrap() = "2".to_owned();
    assert_eq!(of(&mut client, "dst.test"), enforced("mx.test"));
    end(resolver);
    // The record is gone too.
    id.lock().unwrap().clear();
    let mut resolver = Resolver::start_with(&https.slice(&dns), opened(&files));
    assert_eq!(of(&mut resolver.deliver(), "dst.test"), enforced("mx.test"));
    // Whoever remembers nothing has no policy.
    let mut resolver = Resolver::start(&https.slice(&dns));
    assert_eq!(of(&mut resolver.deliver(), "dst.test"), Err(DnsError::NoRecords));
}

#[test]
fn damaged_files_are_as_empty_ones_and_are_said() {
    let Some(https) = Https::start() else { return };
    let dns = dns(&Arc::new(Mutex::new("1".to_owned())));
    let files = files();
    for damage in [&b"vSMTgl01"[..], b"x"] {
        // Both files are written.
        (0..2).for_each(|_| earlier(&files, &[("dst.test", &policy("enforce", "old.test"), 0)]));
        let mut resolver = Resolver::start_with(&https.slice(&dns), opened(&files));
        assert_eq!(of(&mut resolver.deliver(), "dst.test"), enforced("old.test"));
        for (file, at) in opened(&files).iter().zip([0, 40]) {
            file.write_all_at(damage, at).unwrap();
        }
        let mut resolver = Resolver::start_with(&https.slice(&dns), opened(&files));
        resolver.logged("event=state-read policies=0");
        assert_eq!(resolver.log().matches("event=state-damaged").count(), 2, "{}", resolver.log());
        assert_eq!(of(&mut resolver.deliver(), "dst.test"), enforced("mx.test"));
        end(resolver);
        let resolver = Resolver::start_with(&https.slice(&dns), opened(&files));
        resolver.logged("event=state-read policies=1");
    }
}

#[test]
fn over_a_reload_neither_process_undoes_what_the_other_has_learnt() {
    let Some(https) = Https::start() else { return };
    let dns = dns(&Arc::new(Mutex::new("1".to_owned())));
    let text = policy("enforce", "mx.test");
    fs::write(https.folder.path().join("mta-sts.bad.test"), &text).unwrap();
    let files = files();
    earlier(&files, &[("first.test", &text, 0)]);
    // The new one has read before the old one has written what it knows.
    let mut old = Resolver::start_with(&https.slice(&dns), opened(&files));
    let mut new = Resolver::start_with(&https.slice(&dns), opened(&files));
    assert_eq!(of(&mut old.deliver(), "dst.test"), enforced("mx.test"));
    end(old);
    assert_eq!(of(&mut new.deliver(), "bad.test"), enforced("mx.test"));
    end(new);
    let next = Resolver::start_with(&https.slice(&dns), opened(&files));
    next.logged("event=state-read policies=3");
}

#[test]
fn policies_are_looked_at_again_though_nobody_asks_and_it_is_said_if_one_cannot_be_had() {
    const DAY: u64 = 86_400;
    let Some(https) = Https::start() else { return };
    let dns = dns(&Arc::new(Mutex::new("1".to_owned())));
    let files = files();
    let old = |days: u64| format!("version: STSv1\nmode: enforce\nmx: old.test\nmax_age: {}\n", days * DAY);
    // Of one so much of its life is over that it is looked at, and not so much that a question would do it; the other one
    // is late, and its host has half a policy only.
    earlier(&files, &[("dst.test", &old(5), 2 * DAY), ("bad.test", &old(5), 3 * DAY)]);
    let mut resolver = Resolver::start_with(&https.slice(&dns), opened(&files));
    let mut client = resolver.deliver();
    resolver.logged("event=sts-not-refreshed domain=bad.test left_s=172");
    let end = Instant::now() + PATIENCE;
    while of(&mut client, "dst.test") != enforced("mx.test") {
        assert!(Instant::now() < end, "it is not fetched anew");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(of(&mut client, "bad.test"), enforced("old.test"));
}
