//! The doors: that there is one, that each has one purpose, and that what it needs is there.

use std::collections::BTreeSet;

use vsmtp_mail::Service;

use crate::config::Config;
use crate::error::Warning;

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
    let stray = config.server.proxied.iter().find(|address| !seen.contains(address));
    if let Some(address) = stray {
        found.push(("server.interfaces.proxied", format!("{address} is not listened on")));
    }
    if !config.server.proxied.is_empty() && config.server.proxies.is_empty() {
        found.push((
            "server.interfaces.proxies",
            "must name those who reach the proxied addresses".to_owned(),
        ));
    }
    let listens = |wanted: Service| config.listeners().any(|(_, service)| service == wanted);
    for service in [Service::Submission, Service::Submissions].into_iter().filter(|service| listens(*service))
    {
        if service.begins_with_tls() && config.keys().pairs.is_empty() {
            found.push((key(service), "needs server.tls.certificate".to_owned()));
        }
    }
    if config.auth.required && !config.has_auth() {
        let text = "needs AUTH: set server.auth.backends, or name mechanisms in server.esmtp.auth.mechanisms";
        found.push(("server.esmtp.auth.must_be_authenticated", text.to_owned()));
    }
    found
}

/// Doors that are open and let nobody through.
pub(super) fn remarks(config: &Config) -> Vec<Warning> {
    let needs_login = |service: &Service| {
        let mut doors = config.listeners();
        service.needs_login() && doors.any(|(_, one)| one == *service)
    };
    let in_vain = [Service::Submission, Service::Submissions].into_iter().filter(needs_login);
    let warning = |service| Warning {
        path: key(service).to_owned(),
        text:
            "takes no mail, since nobody can authenticate: set server.auth.backends, or name mechanisms in \
               server.esmtp.auth.mechanisms"
                .to_owned(),
    };
    if config.has_auth() { Vec::new() } else { in_vain.map(warning).collect() }
}

fn key(service: Service) -> &'static str {
    match service {
        Service::Smtp | Service::Local => "server.interfaces.addr",
        Service::Submission => "server.interfaces.addr_submission",
        Service::Submissions => "server.interfaces.addr_submissions",
        Service::Lmtp => "server.interfaces.addr_lmtp",
    }
}
