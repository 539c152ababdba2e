//! MTA-STS through the whole MTA: a policy that was fetched once holds over a restart, whatever is blocked then.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use vsmtp_tests::{Client, Mta, NameServer, Settings, Sink, needs_programs, needs_root, wait_until};

use crate::Certificates;

const POLICY: &str = "version: STSv1\nmode: enforce\nmx: elsewhere.test\nmax_age: 86400\n";
/// Gives everybody who asks the document that it is told.
const SERVER: &str = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Type', 'text/plain')
        self.send_header('Content-Length', str(len(sys.argv[4])))
        self.end_headers()
        self.wfile.write(sys.argv[4].encode())
    def log_message(self, *words):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server = http.server.ThreadingHTTPServer((sys.argv[1], 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

/// An address of this host that nobody else has, though other tests run beside these.
fn host() -> [u8; 4] {
    let [low, high, ..] = std::process::id().to_le_bytes();
    [127, 84, high, low]
}

/// The host of the policy. It ends when it is dropped.
struct Https(Child);

impl Https {
    fn start(certificates: &Certificates) -> Https {
        let address = host().map(|octet| octet.to_string()).join(".");
        let (certificate, key) = (certificates.path("certificate.pem"), certificates.path("key.pem"));
        let child = Command::new("python3")
            .args(["-c", SERVER, &address, &certificate, &key, POLICY])
            .stdin(Stdio::null())
            .spawn()
            .expect("start the HTTPS server");
        let https = Https(child);
        wait_until("the HTTPS server listens", || TcpStream::connect((address.as_str(), 443)).is_ok());
        https
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends one message, and answers what the log says of its first attempt.
fn send(mta: &Mta, to: &str) -> String {
    let code = Client::hello(mta.port()).mail("a@src.test", &[to], "Subject: x\r\n\r\nx").code();
    assert_eq!(code, 250);
    let line = || {
        let is_it = |line: &&str| {
            line.contains(to)
                && ["event=delivered ", "event=deferred "].iter().any(|event| line.contains(event))
        };
        mta.log().lines().find(is_it).map(str::to_owned)
    };
    wait_until("the first attempt is over", || line().is_some());
    line().unwrap_or_default()
}

#[test]
fn a_restart_while_the_policy_is_out_of_reach_sends_no_mail_past_it() {
    let test = "a_restart_while_the_policy_is_out_of_reach_sends_no_mail_past_it";
    if !needs_programs(test, &["openssl", "python3"]) || !needs_root(test) {
        return;
    }
    let certificates = Certificates::for_names("DNS:mta-sts.dst.test");
    let https = Https::start(&certificates);
    let names = [("dst.test", [127, 0, 0, 1]), ("mta-sts.dst.test", host())];
    let dns = NameServer::serve_both(&names, &[("_mta-sts.dst.test", "v=STSv1; id=1;")]);
    let sink = Sink::start();
    let settings = |dns: &NameServer| {
        let config = format!(
            "{}config.delivery.transport = #{{ \"dst.test\": \"dst.test:{}\" }};\n\
             config.delivery.tls.ca_file = \"ca.pem\";\n",
            dns.config(),
            sink.port()
        );
        Settings { config, ..Settings::default() }
    };
    let mut mta = Mta::prepare(&settings(&dns));
    std::fs::copy(certificates.path("ca.pem"), mta.root().join("etc/vsmtp/ca.pem")).expect("copy the CA");
    mta.launch();
    let held_back = |line: &str| line.contains("event=deferred") && line.contains("does not list");
    let line = send(&mta, "first@dst.test");
    assert!(held_back(&line), "{line}");
    mta.stop();

    // Neither the record nor the policy can be had any more.
    drop(https);
    let dns = NameServer::serve_both(&names, &[]);
    mta.write_configuration(&settings(&dns));
    mta.launch();
    let line = send(&mta, "second@dst.test");
    assert!(held_back(&line) && sink.count() == 0, "{line}");
    mta.stop();

    // It is the memory that held the mail back.
    std::fs::remove_dir_all(mta.root().join("var/lib/vsmtp/resolver")).expect("forget");
    mta.launch();
    let line = send(&mta, "third@dst.test");
    assert!(line.contains("event=delivered"), "{line}");
}
