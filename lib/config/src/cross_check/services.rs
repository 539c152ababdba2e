//! The doors: that there is one, that each has one purpose, and that what it needs is there.

use std::collections::BTreeSet;

use vsmtp_mail::Service;

use crate::config::Config;

/// Keys of services that cannot work yet, and what they lack. Open without it, they would let anybody in.
pub(crate) const LACKING: [(&str, &str); 1] =
    [("server.interfaces.addr_submissions", "needs TLS, which is not supported yet")];

/// What is wrong with the doors, by key.
pub(super) fn conflicts(config: &Config) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (address, service) in config.listeners() {
        if !seen.insert(address) {
            found.push((key(service), format!("{address} is listened on twice")));
        }
    }
    if seen.is_empty() {
        found.push((key(Service::Smtp), "at least one address is needed".to_owned()));
    }
    if !config.server.addr_submission.is_empty() && !config.has_auth() {
        let text = "needs AUTH: set server.auth.backends, or name mechanisms in server.esmtp.auth.mechanisms";
        found.push((key(Service::Submission), text.to_owned()));
    }
    for (name, lack) in LACKING {
        if config.listeners().any(|(_, service)| key(service) == name) {
            found.push((name, lack.to_owned()));
        }
    }
    found
}

fn key(service: Service) -> &'static str {
    match service {
        Service::Smtp | Service::Local => "server.interfaces.addr",
        Service::Submission => "server.interfaces.addr_submission",
        Service::Submissions => "server.interfaces.addr_submissions",
        Service::Lmtp => "server.interfaces.addr_lmtp",
    }
}
