//! Values that are right by themselves and do not go together.

mod folders;
mod listeners;
mod services;

use crate::backend::AuthBackend;
use crate::config::Config;
use crate::error::{ConfigError, Problem, Warning};
use crate::keys::TargetChoice;
use crate::kind::Suites;
use crate::slices::{ClientCertificate, SecurityLevel};

/// Whether something must not be, the key to blame, and what is wrong with it.
type Rule = (bool, &'static str, String);

/// The conflicts of a configuration; none if it may be used.
pub(crate) fn conflicts(config: &Config) -> Vec<ConfigError> {
    let rules = server(config).into_iter().chain(security(config)).chain(sending(config));
    let broken = rules.filter(|(broken, ..)| *broken).map(|(_, path, text)| (path, text));
    broken
        .chain(services::conflicts(config))
        .chain(listeners::conflicts(config))
        .chain(folders::conflict(config))
        .map(|(path, text)| ConfigError { path: path.to_owned(), problem: Problem::Conflict(text) })
        .collect()
}

/// What is allowed and does not do what one might expect.
pub(crate) fn remarks(config: &Config) -> Vec<Warning> {
    services::remarks(config)
}

fn server(config: &Config) -> [Rule; 5] {
    let (server, smtp) = (&config.server, &config.smtp);
    let both = server.relay_domains.iter().find(|domain| server.domains.contains(domain));
    let literal = server.domains.iter().chain(&server.relay_domains).find(|d| d.as_literal().is_some());
    let longest_wait =
        [smtp.timeout_connect, smtp.timeout_helo, smtp.timeout_mail, smtp.timeout_rcpt, smtp.timeout_data]
            .into_iter()
            .max()
            .unwrap_or_default();
    let soft_after_hard = smtp.error_soft.zip(smtp.error_hard).is_some_and(|(soft, hard)| soft > hard);
    [
        (both.is_some(), "server.relay_domains", format!("{} is also in server.domains", shown(both))),
        (literal.is_some(), "server.domains", format!("{} is an address, not a domain", shown(literal))),
        (
            soft_after_hard,
            "server.smtp.error.soft_count",
            "must not exceed server.smtp.error.hard_count".to_owned(),
        ),
        (
            longest_wait > smtp.session_timeout,
            "server.smtp.session_timeout",
            "must not be shorter than any of server.smtp.timeout_client".to_owned(),
        ),
        (
            config.logs.target == TargetChoice::File && config.logs.filename.is_none(),
            "server.logs.filename",
            "must be set when server.logs.target is \"file\"".to_owned(),
        ),
    ]
}

/// TLS and AUTH.
fn security(config: &Config) -> [Rule; 13] {
    let backends = &config.auth.backends;
    let token_keys = backends.iter().filter(|backend| backend.key_file().is_some()).count();
    let terms_lack = config.auth.oauth_issuer.is_none()
        || config.auth.oauth_audience.is_empty()
        || config.auth.oauth_user_claim.is_none();
    let judges_tokens =
        |backend: &AuthBackend| matches!(backend, AuthBackend::Oauth(_) | AuthBackend::Dovecot(_));
    let takes_tokens = ["XOAUTH2", "OAUTHBEARER"].iter().any(|name| config.auth.mechanisms.contains(name));
    let has_terms = config.auth.oauth_issuer.is_some()
        || !config.auth.oauth_audience.is_empty()
        || config.auth.oauth_scope.is_some();
    let takes_passwords = config
        .auth
        .mechanisms
        .iter()
        .any(|name| matches!(*name, "PLAIN" | "LOGIN") || name.starts_with("SCRAM-"));
    let speakers = &config.smtp.xclient_from;
    let stray_proxy = config.auth.proxies.iter().find(|proxy| !speakers.iter().any(|one| one.holds(proxy)));
    let tls = &config.tls;
    let lacks_suites = lacks_suites(&tls.suites, tls.versions.tls12, tls.versions.tls13);
    let nobody_is_asked = tls.client_certificate == ClientCertificate::None
        && config.listener_tls().all(|own| own.client_certificate == ClientCertificate::None);
    [
        (
            tls.certificate.is_none() && tls.private_key.is_some(),
            "server.tls.private_key",
            "needs server.tls.certificate".to_owned(),
        ),
        (
            tls.client_certificate == ClientCertificate::Require && tls.client_ca.is_none(),
            "server.tls.client_certificate",
            "requires certificates that lead to server.tls.client_ca, which is not set".to_owned(),
        ),
        (
            tls.security_level == SecurityLevel::Encrypt && config.keys().pairs.is_empty(),
            "server.tls.security_level",
            "asks for TLS, and there is no server.tls.certificate".to_owned(),
        ),
        (
            lacks_suites,
            "server.tls.cipher_suite",
            "must have a suite for each of server.tls.protocol_version".to_owned(),
        ),
        (
            !config.auth.certificates.is_empty() && nobody_is_asked,
            "server.auth.certificates",
            "needs server.tls.client_certificate to be \"ask\" or \"require\"".to_owned(),
        ),
        (
            config.auth.certificates.iter().any(|(pattern, _)| pattern.is_name()) && tls.client_ca.is_none(),
            "server.auth.certificates",
            "has names, which count in certificates that lead to server.tls.client_ca only, and that is not set".to_owned(),
        ),
        (
            config.auth.mechanisms.contains(&"EXTERNAL") && config.auth.certificates.is_empty(),
            "server.esmtp.auth.mechanisms",
            "has EXTERNAL, and server.auth.certificates has nobody".to_owned(),
        ),
        (
            takes_tokens && !backends.iter().any(judges_tokens),
            "server.esmtp.auth.mechanisms",
            "has XOAUTH2 or OAUTHBEARER, and server.auth.backends has neither oauth: nor dovecot:, which judge tokens".to_owned(),
        ),
        (
            token_keys > 0 && terms_lack,
            "server.auth.backends",
            "has oauth:, which needs server.auth.oauth.issuer, server.auth.oauth.audience and \
             server.auth.oauth.user_claim".to_owned(),
        ),
        (token_keys > 1, "server.auth.backends", "has oauth: more than once".to_owned()),
        (
            token_keys == 0 && has_terms,
            "server.auth.oauth",
            "is for tokens that are verified here, and server.auth.backends has no oauth:".to_owned(),
        ),
        (
            takes_passwords && !backends.is_empty() && !backends.iter().any(AuthBackend::knows_passwords),
            "server.esmtp.auth.mechanisms",
            "has mechanisms for passwords, and none of server.auth.backends knows any".to_owned(),
        ),
        (
            stray_proxy.is_some(),
            "server.auth.proxies",
            format!("{} is not in server.smtp.xclient_from", stray_proxy.map(ToString::to_string).unwrap_or_default()),
        ),
    ]
}

/// The queue, and the way to next hops.
fn sending(config: &Config) -> [Rule; 4] {
    let queue = &config.queue;
    [
        (
            config.delivery_tls.reports_selector.is_some() && config.report_signature().is_none(),
            "delivery.tls.reports.selector",
            "needs delivery.tls.reports.from, and a DKIM key of its domain or of one above it".to_owned(),
        ),
        (
            config.delivery.concurrency_initial > config.delivery.concurrency_max,
            "delivery.concurrency.initial",
            "must not exceed delivery.concurrency.max".to_owned(),
        ),
        (
            queue.backoff_min > queue.backoff_max,
            "queue.backoff.min",
            "must not exceed queue.backoff.max".to_owned(),
        ),
        (
            queue.delay_warning > queue.lifetime,
            "queue.delay_warning",
            "must not exceed queue.lifetime".to_owned(),
        ),
    ]
}

/// True if a version is to be spoken for which there is no suite.
fn lacks_suites(suites: &[u16], tls12: bool, tls13: bool) -> bool {
    let has_suite_of = |tls13: bool| suites.iter().any(|suite| Suites::is_of_tls13(*suite) == tls13);
    (tls12 && !has_suite_of(false)) || (tls13 && !has_suite_of(true))
}

fn shown(domain: Option<&vsmtp_mail::Domain>) -> String {
    domain.map(ToString::to_string).unwrap_or_default()
}
