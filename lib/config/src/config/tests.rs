//! The table and its readers, from outside: each key is proved by what it changes.

use std::collections::BTreeSet;

use super::*;
use crate::error::MAX_ERRORS;
use crate::input::is_section;
use crate::keys::{self, key};
use crate::legacy::Fate;
use crate::slices::*;
use crate::table::Role;
use crate::wire::{decode, encode};

mod earlier;
mod logins;
mod replies;
mod wire;

fn context() -> Context {
    Context {
        hostname: Domain::parse("host.example.com").unwrap(),
        cores: 4,
        config_dir: "/etc/vsmtp".to_owned(),
        root: String::new(),
    }
}

fn with(settings: &[(&str, Value)]) -> Result<Config, Vec<ConfigError>> {
    let mut tree = Value::map();
    for (path, value) in settings {
        tree.set(path, value.clone());
    }
    Config::build(&context(), &tree)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// The errors of one setting, as people read them.
fn complaint(path: &str, value: Value) -> String {
    let errors = with(&[(path, value)]).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn slice(config: &Config, role: Role) -> Vec<u8> {
    match role {
        Role::Master => encode(&config.master()),
        Role::Receiver => encode(&config.receiver()),
        Role::Filter => encode(&config.filter()),
        Role::Queue => encode(&config.queue()),
        Role::Deliver => encode(&config.deliver()),
        Role::Mailbox => encode(&config.mailbox()),
        Role::Resolver => encode(&config.resolver()),
        Role::Limits => encode(&config.limits()),
        Role::Auth => encode(&config.auth()),
        Role::Keys => encode(&config.keys()),
        Role::Runner => encode(&config.runner()),
        Role::Database => encode(&config.database()),
    }
    .unwrap()
}

/// Some keys count only beside others.
fn companions(key: &str) -> Vec<(&'static str, Value)> {
    match key {
        "server.dns.config.name_servers" => {
            vec![("server.dns.type", text("custom")), (key_name(key), Value::List(vec![text("192.0.2.1")]))]
        }
        "server.esmtp.auth.must_be_authenticated" => {
            vec![("server.auth.backends", text("shadow"))]
        }
        "server.interfaces.addr_submissions" => vec![
            ("server.auth.backends", text("shadow")),
            ("server.tls.certificate", text("/etc/vsmtp/chain.pem")),
        ],
        "server.logs.syslog.server" => {
            vec![("server.logs.target", text("syslog")), ("server.logs.syslog.type", text("tcp"))]
        }
        "server.auth.certificates" => vec![
            ("server.tls.certificate", text("/etc/vsmtp/chain.pem")),
            ("server.tls.client_certificate", text("ask")),
        ],
        "server.auth.proxies" => vec![("server.smtp.xclient_from", text("192.0.2.0/24"))],
        key if key.starts_with("server.auth.oauth.") => vec![
            ("server.auth.backends", text("oauth:/etc/vsmtp/keys.json")),
            ("server.auth.oauth.issuer", text("https://other.test/")),
            ("server.auth.oauth.audience", text("other")),
        ],
        "delivery.tls.reports.selector" => vec![
            ("delivery.tls.reports.from", text("tls-reports@mail.example.com")),
            ("server.virtual", keys::key("server.virtual").unwrap().example.value(&context())),
        ],
        "server.esmtp.listeners" => {
            vec![("server.interfaces.addr", Value::List(vec![text("0.0.0.0:25")]))]
        }
        "server.tls.certificate" => vec![],
        "server.tls.listeners" => vec![
            ("server.tls.certificate", text("/etc/vsmtp/chain.pem")),
            ("server.interfaces.addr", Value::List(vec![text("0.0.0.0:25")])),
        ],
        key if key.starts_with("server.tls.") => {
            vec![("server.tls.certificate", text("/etc/vsmtp/chain.pem"))]
        }
        "server.interfaces.proxied" => vec![
            ("server.interfaces.addr", Value::List(vec![text("0.0.0.0:25")])),
            ("server.interfaces.proxies", text("192.0.2.7")),
        ],
        key if key.starts_with("server.logs.syslog.") => vec![("server.logs.target", text("syslog"))],
        _ => vec![],
    }
}

fn key_name(name: &str) -> &'static str {
    key(name).unwrap().name
}

#[test]
fn each_key_changes_the_slices_of_its_readers_and_no_other() {
    for key in keys() {
        let mut settings = companions(key.name);
        let before = with(&settings).unwrap();
        settings.push((key.name, key.example.value(&context())));
        let after = with(&settings).unwrap_or_else(|errors| panic!("{}: {errors:?}", key.name));
        let changed: BTreeSet<Role> =
            Role::ALL.into_iter().filter(|role| slice(&before, *role) != slice(&after, *role)).collect();
        assert_eq!(changed, key.readers.iter().copied().collect(), "readers of {}", key.name);
    }
}

#[test]
fn each_key_is_documented_once_and_its_default_and_example_fit() {
    let mut names = BTreeSet::new();
    for key in keys() {
        assert!(names.insert(key.name), "{} stands twice", key.name);
        assert!(
            Legacy::of(key.name).is_none_or(|l| l.section().is_some()),
            "{} is also a legacy key",
            key.name
        );
        assert!(key.doc().ends_with('.') && key.doc().len() > 10, "{}: {:?}", key.name, key.doc());
        let [default, example] = [key.default, key.example].map(|p| key.canonical(&p.value(&context())));
        let (default, example) = (default.unwrap(), example.unwrap());
        assert_ne!(default, example, "{}: the example is the default", key.name);
        for canonical in [default, example] {
            assert_eq!(key.canonical(&canonical).as_ref(), Ok(&canonical), "{}: not canonical", key.name);
        }
    }
    assert!(names.len() > 60);
}

#[test]
fn what_needs_another_key_says_so() {
    let said = complaint("delivery.tls.reports.selector", text("2026"));
    assert!(said.contains("needs delivery.tls.reports.from, and a DKIM key"), "{said}");
    let rows = Value::Map([("dns:relay.example.com".to_owned(), text("relay"))].into());
    let said = with(&[
        ("server.auth.certificates", rows),
        ("server.tls.certificate", text("/etc/vsmtp/chain.pem")),
        ("server.tls.client_certificate", text("ask")),
    ])
    .unwrap_err();
    assert!(said[0].to_string().contains("server.tls.client_ca"), "{said:?}");
}

#[test]
fn no_key_is_a_section_of_another() {
    for key in keys() {
        assert!(!is_section(key.name), "{}", key.name);
    }
}

proptest::proptest! {
    #[test]
    fn whatever_a_script_makes_is_a_configuration_or_an_error(
        at in proptest::sample::select(keys().map(|key| key.name).collect::<Vec<_>>()),
        number in proptest::num::i64::ANY,
        word in ".{0,20}",
        kind in 0..5,
    ) {
        let value = match kind {
            0 => Value::Int(number),
            1 => Value::Text(word),
            2 => Value::List(vec![Value::Text(word), Value::Int(number)]),
            3 => Value::Map([(word.clone(), Value::Text(word))].into()),
            _ => Value::Other(word),
        };
        match with(&[(at, value)]) {
            Ok(config) => {
                // What a configuration shows is what it would be built from again.
                let again: Vec<_> = config.values.iter().map(|(name, (value, _))| (*name, value.clone())).collect();
                let again = with(&again).unwrap();
                for role in Role::ALL {
                    proptest::prop_assert_eq!(slice(&config, role), slice(&again, role));
                }
            }
            Err(errors) => proptest::prop_assert!(!errors.is_empty()),
        }
    }
}

#[test]
fn renamed_keys_lead_to_keys() {
    for legacy in LEGACY {
        if let Fate::Renamed(name) = legacy.fate {
            assert!(key(name).is_some(), "{name}");
        }
    }
}

#[test]
fn messages_name_the_key_what_is_expected_and_what_was_meant() {
    assert_eq!(complaint("server.naem", text("x")), "server.naem: unknown key; did you mean server.name?");
    assert_eq!(
        complaint("server.smtp.rcpt_count_max", text("many")),
        "server.smtp.rcpt_count_max: expected an integer from 1 to 10000, found \"many\""
    );
    assert_eq!(
        complaint("server.smtp.rcpt_count_max", Value::Int(0)),
        "server.smtp.rcpt_count_max: expected an integer from 1 to 10000, found 0"
    );
    assert_eq!(complaint("server.smtp", Value::Int(5)), "server.smtp: expected a map, found 5");
    assert_eq!(complaint("colour", Value::Int(5)), "colour: unknown key");
    assert_eq!(
        complaint("server.smtp.bare_newline", Value::Other("f64".to_owned())),
        "server.smtp.bare_newline: expected one of \"refuse\", \"normalise\", found a value of type \"f64\""
    );
    assert_eq!(
        Config::build(&context(), &Value::Int(1)).unwrap_err()[0].to_string(),
        "configuration: expected a map, found 1"
    );
}

#[test]
fn every_error_is_reported_at_once_and_their_number_is_bounded() {
    let errors = with(&[("server.naem", text("x")), ("queue.lifetime", text("soon")), ("a", Value::Null)])
        .unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:?}");
    let mut tree = Value::map();
    for n in 0..10_000 {
        tree.set(&format!("server.unknown{n}"), Value::Null);
    }
    assert_eq!(Config::build(&context(), &tree).unwrap_err().len(), MAX_ERRORS);
    let mut tree = Value::map();
    tree.set(&"x".repeat(1 << 20), Value::Null);
    assert!(Config::build(&context(), &tree).unwrap_err()[0].path.len() < 200);
}

#[test]
fn values_that_do_not_go_together() {
    let list = |item: &str| Value::List(vec![text(item)]);
    for (path, value) in [
        ("server.relay_domains", list("host.example.com")),
        ("server.domains", list("[192.0.2.1]")),
        ("server.interfaces.addr", Value::List(vec![])),
        ("server.smtp.error.soft_count", Value::Int(21)),
        ("server.smtp.session_timeout", text("4m")),
        ("delivery.concurrency.initial", Value::Int(21)),
        ("server.tls.private_key", text("key.pem")),
        ("server.tls.client_certificate", text("require")),
        ("server.tls.security_level", text("encrypt")),
        ("server.tls.cipher_suite", list("TLS_AES_128_GCM_SHA256")),
        ("queue.backoff.min", text("2h")),
        ("queue.delay_warning", text("6d")),
        ("app.dirpath", text("/")),
        ("app.dirpath", text("/var/spool/vsmtp")),
        ("app.dirpath", text("/var/spool/vsmtp/queue/app")),
        ("app.dirpath", text("/var/lib/vsmtp/databases")),
        ("app.dirpath", text("/var/lib/vsmtp/mail/app")),
        ("app.dirpath", text("/var/lib/vsmtp")),
        ("app.dirpath", text("/var/lib/vsmtp/resolver")),
        ("app.dirpath", text("/var/lib/vsmtp/limits/app")),
        ("app.dirpath", text("/run/vsmtp")),
        ("app.dirpath", text("app")),
        ("app.dirpath", text("/srv/../etc")),
    ] {
        let errors = with(&[(path, value)]).unwrap_err();
        assert!(
            matches!(errors.as_slice(), [ConfigError { path: at, problem: Problem::Conflict(_) }] if at == path),
            "{errors:?}"
        );
    }
    let custom = with(&[("server.dns.type", text("custom"))]).unwrap();
    assert_eq!(custom.resolver().servers, None);
    assert!(custom.warnings()[0].to_string().contains("is empty: those of the system are asked"));
    assert!(with(&[("server.logs.target", text("file"))]).is_err());
}

#[test]
fn an_address_with_tls_of_its_own_is_one_that_can_have_it() {
    let own = |address: &str, name: &str, value: Value| {
        let mut row = Value::map();
        row.set(name, value);
        Value::Map([(address.to_owned(), row)].into())
    };
    let secured = |listeners: Value| {
        with(&[
            ("server.tls.certificate", text("/etc/vsmtp/chain.pem")),
            ("server.interfaces.addr_lmtp", text("127.0.0.1:24")),
            ("server.tls.listeners", listeners),
        ])
    };
    let config = secured(own("127.0.0.1:25", "protocol_version", text("TLSv1.3"))).unwrap();
    let tls = config.receiver().tls.unwrap();
    let row = &tls.listeners[0];
    assert!(tls.tls12 && !row.tls12 && row.tls13, "{row:?}");
    assert_eq!(
        (&row.suites, row.security_level),
        (&tls.suites, tls.security_level),
        "the rest is as everywhere"
    );
    for (listeners, wanted) in [
        (own("127.0.0.1:26", "preempt_cipherlist", Value::Bool(true)), "127.0.0.1:26 is not listened on"),
        (own("127.0.0.1:24", "security_level", text("encrypt")), "has a security_level"),
        (own("127.0.0.1:25", "client_certificate", text("require")), "server.tls.client_ca"),
        (own("127.0.0.1:25", "cipher_suite", text("TLS_AES_128_GCM_SHA256")), "for each protocol_version"),
    ] {
        let said = secured(listeners).unwrap_err();
        assert!(said.len() == 1 && said[0].to_string().contains(wanted), "{said:?}");
    }
    let said = with(&[("server.tls.listeners", own("127.0.0.1:25", "client_certificate", text("ask")))]);
    assert!(said.unwrap_err()[0].to_string().contains("needs server.tls.certificate"));
}

#[test]
fn what_rules_write_is_apart_from_the_log_and_from_keys() {
    let both = |path: &str| {
        with(&[
            ("app.dirpath", text(path)),
            ("server.logs.target", text("file")),
            ("server.logs.filename", text("/srv/log/mail.log")),
            ("server.tls.certificate", text("/srv/tls/chain.pem")),
            ("server.tls.private_key", text("/srv/tls/key.pem")),
        ])
    };
    for path in ["/srv", "/srv/log", "/srv/tls"] {
        let errors = both(path).unwrap_err();
        assert!(errors.iter().all(|error| error.path == "app.dirpath"), "{errors:?}");
    }
    assert!(both("/srv/app").is_ok());
}

#[test]
fn a_replaced_section_keeps_the_defaults_of_what_it_does_not_say() {
    let config = with(&[("server.smtp", {
        let mut map = Value::map();
        map.set("rcpt_count_max", Value::Int(25));
        map
    })])
    .unwrap();
    assert_eq!(config.receiver().rcpt_count_max, 25);
    assert_eq!(config.receiver().error_hard_count, Some(20));
}

#[test]
fn domains_and_postmaster_follow_the_name() {
    let mut tree = default_tree(&context());
    tree.set("server.name", text("mx.example.net"));
    let config = Config::build(&context(), &tree).unwrap();
    let domains: Vec<_> = config.filter().domains.iter().map(|d| d.to_string()).collect();
    assert_eq!(domains, ["mx.example.net", "localhost"]);
    assert_eq!(config.queue().postmaster.to_string(), "postmaster@mx.example.net");
    let config = with(&[("server.domains", Value::List(vec![]))]).unwrap();
    assert!(config.filter().domains.is_empty());
}

#[test]
fn a_host_called_localhost_has_one_domain() {
    let context = Context { hostname: Domain::parse("localhost").unwrap(), ..context() };
    assert_eq!(Config::build(&context, &Value::map()).unwrap().filter().domains.len(), 1);
}

#[test]
fn paths_have_a_place() {
    let mut context = context();
    context.root = "/tmp/x/".to_owned();
    context.config_dir = "/home/jane".to_owned();
    let mut tree = Value::map();
    tree.set("app.vsl.domain_dir", text("domains"));
    let config = Config::build(&context, &tree).unwrap();
    assert_eq!(config.queue().spool, "/tmp/x/var/spool/vsmtp/queue");
    assert_eq!(config.filter().filter_path, "/home/jane/filter.vsl");
    assert!(!config.filter().filter_path_required);
    assert_eq!(config.filter().domain_dir.as_deref(), Some("/home/jane/domains"));
}

#[test]
fn certificates_have_their_files_in_order() {
    let mut tree = Value::map();
    tree.set("server.tls.root.certificate", text("tls/chain.pem"));
    tree.set("server.tls.root.private_key", text("/etc/ssl/key.pem"));
    tree.set("server.tls.client_ca", text("ca.pem"));
    tree.set("server.virtual", keys::key("server.virtual").unwrap().example.value(&context()));
    let config = Config::build(&context(), &tree).unwrap();
    let paths: Vec<String> = config.keys().files().into_iter().map(|file| file.path).collect();
    assert_eq!(
        paths,
        [
            "/etc/vsmtp/tls/chain.pem",
            "/etc/ssl/key.pem",
            "/etc/vsmtp/tls/example.com.pem",
            "/etc/vsmtp/tls/example.com.key",
            "/etc/vsmtp/ca.pem",
            "/etc/vsmtp/dkim/example.com.pem"
        ]
    );
    assert_eq!(config.keys().pairs[1].domain.as_deref(), Some("example.com"));
    assert_eq!(config.warnings().len(), 2);
    let one_file = with(&[("server.tls.certificate", text("both.pem"))]).unwrap().keys();
    assert_eq!(one_file.pairs[0].certificate, one_file.pairs[0].private_key);
    assert_eq!(with(&[]).unwrap().keys().files(), []);
}

#[test]
fn processes_share_the_clients() {
    let config =
        with(&[("server.client_count_max", Value::Int(10)), ("server.receivers", Value::Int(4))]).unwrap();
    assert_eq!(config.receiver().client_count_max, Some(3));
    assert_eq!(config.master().receivers, 4);
    assert_eq!(with(&[]).unwrap().master().receivers, 2, "one per two cores");
    assert_eq!(with(&[]).unwrap().master().delivers, 4, "one per core");
    assert_eq!(
        with(&[("server.client_count_max", Value::Int(-1))]).unwrap().receiver().client_count_max,
        None
    );
}

#[test]
fn each_role_has_its_log_level() {
    let levels = Value::List(vec![text("default=warn"), text("receiver=debug"), text("error")]);
    let config = with(&[("server.logs.level", levels)]).unwrap();
    assert_eq!(config.log().level(Role::Receiver), LogLevel::Debug);
    assert_eq!(config.log().level(Role::Queue), LogLevel::Error);
    let config = with(&[("server.logs.filename", text("/var/log/x"))]).unwrap();
    assert_eq!(config.master().log.target, LogTarget::File("/var/log/x".to_owned()));
    assert_eq!(with(&[]).unwrap().master().log.target, LogTarget::Stderr);
}

#[test]
fn the_reference_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    if std::env::var_os("VSMTP_REWRITE_DOCS").is_some() {
        std::fs::write(path, crate::markdown()).unwrap();
    }
    let file = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        file == crate::markdown(),
        "docs/configuration.md is stale: run this test with VSMTP_REWRITE_DOCS=1"
    );
}
