//! Configuration as a tree, written as lines `path type value`. What the table of keys accepts, it accepts again in the
//! form that it is shown in, and each process's slice survives its way.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use vsmtp_config::{Config, Context, MAX_ERRORS, Value, decode, default_tree, encode, keys};
use vsmtp_mail::Domain;

fuzz_target!(|text: &str| {
    let mut tree = Value::map();
    for line in text.lines().take(64) {
        let mut words = line.splitn(3, ' ');
        let (path, kind, value) =
            (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
        tree.set(path, value_of(kind, value));
    }
    if let Ok(bytes) = tree.to_bytes() {
        assert_eq!(Value::from_bytes(&bytes).as_ref(), Ok(&tree), "{text}");
    }
    let context = context();
    match Config::build(&context, &tree) {
        Ok(config) => check(&context, &config),
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= MAX_ERRORS + 1);
            assert!(
                errors.iter().all(|error| !error.to_string().chars().any(char::is_control)),
                "{errors:?}"
            );
        }
    }
});

fn context() -> Context {
    Context {
        hostname: Domain::parse("mx.test").expect("a domain"),
        cores: 2,
        config_dir: "/etc/vsmtp".to_owned(),
        root: String::new(),
    }
}

fn value_of(kind: &str, value: &str) -> Value {
    match kind {
        "int" => Value::Int(value.parse().unwrap_or(-1)),
        "bool" => Value::Bool(value == "true"),
        "text" => Value::Text(value.to_owned()),
        "list" => Value::List(value.split_whitespace().map(|item| Value::Text(item.to_owned())).collect()),
        "ints" => {
            Value::List(value.split_whitespace().map(|item| Value::Int(item.parse().unwrap_or(-1))).collect())
        }
        "other" => Value::Other(value.to_owned()),
        "map" => {
            let pair = value.split_once('=').unwrap_or((value, ""));
            let target = Value::List(pair.1.split(',').map(|item| Value::Text(item.to_owned())).collect());
            Value::Map([(pair.0.to_owned(), target)].into())
        }
        _ => Value::Null,
    }
}

fn check(context: &Context, config: &Config) {
    let mut again = default_tree(context);
    for row in config.show() {
        assert!(!row.value.chars().any(|c| c.is_control() && c != '\n'), "{row:?}");
        assert!(keys().any(|key| key.name == row.key));
        again.set(&row.key, Value::Null);
    }
    Config::build(context, &again).expect("a tree that says nothing is the default");
    survives(&config.receiver());
    survives(&config.filter());
    survives(&config.queue());
    survives(&config.deliver());
    survives(&config.mailbox());
    survives(&config.master());
    survives(&config.resolver());
}

fn survives<T: bincode::Encode + bincode::Decode<()> + PartialEq + Debug>(slice: &T) {
    let bytes = encode(slice).expect("a slice fits on its edge");
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(slice));
}
