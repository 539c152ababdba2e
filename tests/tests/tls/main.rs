//! TLS towards clients, against other people's programs, and the private keys on this machine.

mod clients;
mod keys;
mod scan;

use std::path::PathBuf;

use vsmtp_tests::{Mta, Settings, free_port, make_certificate, run_with_input};

/// What every test of TLS configures.
const TLS: &str = "config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\";";

/// An MTA with a certificate, not started.
fn prepare(config: &str, filter: &str) -> Mta {
    let settings = Settings { config: format!("{TLS} {config}"), filter: filter.to_owned() };
    let mta = Mta::prepare(&settings);
    make_certificate(&folder(&mta), "mx", &["mx.local.test"]);
    mta
}

/// A running MTA with a certificate.
fn start(config: &str, filter: &str) -> Mta {
    let mut mta = prepare(config, filter);
    mta.launch();
    mta
}

/// The folder of its configuration.
fn folder(mta: &Mta) -> PathBuf {
    mta.root().join("etc/vsmtp")
}

/// A way to TLS.
#[derive(Debug, Clone, Copy)]
struct Door {
    port: u16,
    /// TLS is there from the first octet.
    implicit: bool,
}

impl Door {
    fn starttls(port: u16) -> Door {
        Door { port, implicit: false }
    }

    /// What openssl says of a handshake with these options, and of a session that ends at once.
    fn handshake(self, options: &[&str]) -> String {
        let server = format!("127.0.0.1:{}", self.port);
        let way: &[&str] = if self.implicit { &[] } else { &["-starttls", "smtp"] };
        let words = [&["s_client", "-connect", &server, "-ign_eof"], way, options].concat();
        let output = run_with_input("openssl", &words, b"QUIT\r\n");
        String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
    }
}

/// An MTA with a certificate, not started, and its doors: the port for servers, and both for submission.
fn prepare_doors(config: &str) -> (Mta, [Door; 3]) {
    let (submission, submissions) = (free_port(), free_port());
    let listeners = format!(
        "config.server.interfaces.addr_submission = [\"127.0.0.1:{submission}\"];\n\
         config.server.interfaces.addr_submissions = [\"127.0.0.1:{submissions}\"];\n\
         config.server.esmtp.auth.mechanisms = [\"PLAIN\"];\n{config}"
    );
    let mta = prepare(&listeners, "#{ authenticate: [ rule \"anybody\" || state::accept() ] }");
    let implicit = Door { port: submissions, implicit: true };
    let doors = [Door::starttls(mta.port()), Door::starttls(submission), implicit];
    (mta, doors)
}
