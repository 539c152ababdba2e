//! Where domains publish their MTA-STS policies. It ends when it is dropped.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use vsmtp_tests::wait_until;

use crate::Certificates;

/// Gives everybody who asks for `mta-sts.DOMAIN` the policy that it is told for the domain.
const SERVER: &str = "
import http.server, json, ssl, sys
policies = json.loads(sys.argv[4])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = (self.headers.get('Host') or '').partition(':')[0]
        policy = policies.get(host.removeprefix('mta-sts.'))
        if policy is None or self.path != '/.well-known/mta-sts.txt':
            return self.send_error(404)
        self.send_response(200)
        self.send_header('Content-Type', 'text/plain')
        self.send_header('Content-Length', str(len(policy)))
        self.end_headers()
        self.wfile.write(policy.encode())
    def log_message(self, *words):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server = http.server.ThreadingHTTPServer((sys.argv[1], 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

/// A running one.
pub struct Https {
    child: Child,
    host: [u8; 4],
}

impl Https {
    /// Serves these policies by domain. The number tells this server from others of this program.
    pub fn start(number: u8, certificates: &Certificates, policies: &[(&str, &str)]) -> Https {
        // An address of this host that nobody else has, though other tests run beside these.
        let [low, high, ..] = std::process::id().to_le_bytes();
        let host = [127, 84 + number, high, low];
        let address = host.map(|octet| octet.to_string()).join(".");
        let (certificate, key) = (certificates.path("certificate.pem"), certificates.path("key.pem"));
        let policies: serde_json::Value = policies
            .iter()
            .map(|(domain, policy)| ((*domain).to_owned(), (*policy).into()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let child = Command::new("python3")
            .args(["-c", SERVER, &address, &certificate, &key, &policies.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("start the HTTPS server");
        let https = Https { child, host };
        wait_until("the HTTPS server listens", || TcpStream::connect((address.as_str(), 443)).is_ok());
        https
    }

    /// Its address.
    pub fn host(&self) -> [u8; 4] {
        self.host
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
