//! Whoever knows whose a token is (RFC 7662). It ends when it is dropped.

use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::{free_port, program, signal, wait_until};

/// Only "goodtoken" is anybody's: tim's.
const SERVER: &str = "
import http.server, json, sys, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0)).decode()
        token = urllib.parse.parse_qs(body).get('token', [''])[0]
        answer = {'active': True, 'username': 'tim'} if token == 'goodtoken' else {'active': False}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

/// A running one.
pub struct Introspection {
    child: Child,
    port: u16,
}

impl Introspection {
    /// Starts it; needs python3.
    pub fn start() -> Introspection {
        let port = free_port();
        let child = program("python3").args(["-c", SERVER, &port.to_string()]).stdout(Stdio::null()).spawn();
        let introspection = Introspection { child: child.expect("start python"), port };
        wait_until("tokens can be looked at", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        introspection
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Introspection {
    fn drop(&mut self) {
        signal(&[self.child.id()], "TERM");
        let _ = self.child.wait();
    }
}
