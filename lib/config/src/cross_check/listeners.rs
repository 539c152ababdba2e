//! Addresses with TLS or ESMTP of their own: that somebody listens there, and that what is asked for can be had.

use vsmtp_mail::Service;

use super::lacks_suites;
use crate::config::Config;
use crate::slices::ClientCertificate;

/// What is wrong with them, by key.
pub(super) fn conflicts(config: &Config) -> Vec<(&'static str, String)> {
    let mut found = of_esmtp(config);
    let has_certificate = !config.keys().pairs.is_empty();
    for (own, (address, said)) in config.listener_tls().zip(&config.tls.listeners) {
        let service = config.listeners().find(|(at, _)| at == address).map(|(_, service)| service);
        let rules = [
            (service.is_none(), "is not listened on"),
            (!has_certificate, "needs server.tls.certificate"),
            (
                said.security_level.is_some() && service.is_some_and(|service| service != Service::Smtp),
                "has a security_level, which those of server.interfaces.addr have only",
            ),
            (
                own.client_certificate == ClientCertificate::Require && config.tls.client_ca.is_none(),
                "requires certificates that lead to server.tls.client_ca, which is not set",
            ),
            (
                lacks_suites(&own.suites, own.tls12, own.tls13),
                "must have a cipher_suite for each protocol_version",
            ),
        ];
        let broken = rules.into_iter().find(|(broken, _)| *broken);
        found.extend(broken.map(|(_, text)| ("server.tls.listeners", format!("{address} {text}"))));
    }
    found
}

fn of_esmtp(config: &Config) -> Vec<(&'static str, String)> {
    let broken = config.smtp.listeners.iter().filter_map(|(address, own)| {
        let service = config.listeners().find(|(at, _)| at == address).map(|(_, service)| service);
        let text = match (service, own.auth) {
            (None, _) => "is not listened on",
            (Some(Service::Smtp), Some(false)) if config.auth.required => {
                "turns AUTH off, and server.esmtp.auth.must_be_authenticated asks for it"
            }
            (Some(Service::Smtp), _) | (_, None) => return None,
            (Some(_), Some(_)) => "has auth, which those of server.interfaces.addr have only",
        };
        Some(("server.esmtp.listeners", format!("{address} {text}")))
    });
    broken.collect()
}
