//! Whole configuration scripts, as the one-shot filter evaluates them: a tree or an error that names its place, soon.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use vsmtp_config::{Config, Context, default_tree};
use vsmtp_filter::api::Surroundings;
use vsmtp_filter::oneshot::{check, evaluate_text};
use vsmtp_mail::Domain;

fuzz_target!(|script: &str| {
    let context = Context {
        hostname: Domain::parse("mx.test").expect("a domain"),
        cores: 2,
        config_dir: "/etc/vsmtp".to_owned(),
        root: String::new(),
    };
    let host = Surroundings {
        hostname: "mx.test".to_owned(),
        environment: BTreeMap::from([("PORT".to_owned(), "2525".to_owned())]),
        ..Surroundings::default()
    };
    match evaluate_text("vsmtp.vsl", script, &default_tree(&context), &host) {
        Ok(evaluated) => match check(&context, &evaluated) {
            Ok(config) => {
                let tree = evaluated.tree.to_bytes().expect("a tree that was accepted fits on the edge");
                let arrived = vsmtp_config::Value::from_bytes(&tree).expect("our own bytes");
                let again = Config::build(&context, &arrived).expect("the master accepts what we accepted");
                assert_eq!(again.filter(), config.filter());
                assert_eq!(again.receiver(), config.receiver());
            }
            Err(errors) => errors.iter().for_each(|error| printable(&error.to_string())),
        },
        Err(error) => {
            assert_eq!(error.location.file, "vsmtp.vsl");
            printable(&error.to_string());
        }
    }
});

fn printable(error: &str) {
    assert!(!error.is_empty() && !error.chars().any(char::is_control), "{error:?}");
}
