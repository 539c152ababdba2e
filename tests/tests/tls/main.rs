//! TLS towards clients, against other people's programs, and the private keys on this machine.

mod clients;
mod keys;
mod scan;

use std::path::PathBuf;

use vsmtp_tests::{Mta, Settings, make_certificate};

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
