//! Redis, without a server.

use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::*;

/// Answers as a server would in which jane has written three times.
pub fn answer(what: &str, parameters: &[Parameter]) -> Rows {
    let first = match parameters.first() {
        Some(Parameter::Text(key)) => key.as_str(),
        other => panic!("no key: {other:?}"),
    };
    let is_there = first == "jane@example.com";
    let number = |number: i64| Some(number.to_string());
    let value = match (what, &parameters[1..]) {
        ("get", []) => is_there.then(|| "3".to_owned()),
        ("get", given) => panic!("{given:?}"),
        ("set", [_] | [_, Parameter::Int(_)]) => Some("OK".to_owned()),
        ("set_new", [_] | [_, Parameter::Int(_)]) => (!is_there).then(|| "OK".to_owned()),
        ("exists" | "delete", []) | ("expire", [Parameter::Int(_)]) => number(i64::from(is_there)),
        ("increment", [Parameter::Int(by)]) => number(3 + by),
        ("decrement", [Parameter::Int(by)]) => number(3 - by),
        ("append", [Parameter::Text(text)]) => number(text.len() as i64),
        ("keys", []) => Some("jane@example.com".to_owned()),
        other => panic!("{other:?}"),
    };
    Rows { columns: vec!["value".to_owned()], rows: vec![vec![value]] }
}

fn run(statement: &str) -> Result<(), String> {
    let script = format!("const cache = redis::connect(\"counters\"); {statement}");
    run_example(&engine(), at(Stage::Rcpt), &script)
}

#[test]
fn what_redis_answers_is_a_value_of_the_language() {
    for condition in [
        "cache.get(\"jane@example.com\") == \"3\" && cache.get(\"joe@example.com\") == ()",
        "cache.set(\"a\", \"b\") == \"OK\" && cache.set(\"a\", 1, 60) == \"OK\" && cache.set(\"a\", 1.5) == \"OK\"",
        "cache.set_new(\"a\", \"b\", 60) && !cache.set_new(address(\"jane@example.com\"), \"b\")",
        "cache.increment(\"a\") == 4 && cache.increment(\"a\", 10) == 13 && cache.decrement(\"a\", 5) == -2",
        "cache.keys(\"*\") == [\"jane@example.com\"]",
        "service old db:redis = #{ url: \"redis://down.test\" }; `${old}` == \"redis://down.test:6379/0\"",
        "redis(\"counters\").exists(\"jane@example.com\")",
    ] {
        run(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
    }
}

#[test]
fn what_is_no_key_value_or_server_of_redis_is_refused_and_no_password_is_said() {
    for (statement, words) in [
        ("cache.get(1)", "a key is a string or an object"),
        ("cache.set(\"a\", ())", "a value is"),
        ("cache.set(\"a\", [1])", "a parameter is"),
        ("cache.set(\"a\", 1, 0)", "a time is 1 to"),
        ("cache.expire(\"a\", -1)", "a time is 1 to"),
        ("redis::connect(#{ url: \"rediss://:secret@db\" })", "TLS"),
        ("redis::connect(#{ url: \"mysql://a:secret@db/x\" })", "no URL of Redis"),
        ("service s db:mysql = #{ url: \"redis://:secret@db\" };", "no URL of MySQL"),
        ("redis::connect(\"accounts\")", "'accounts' of filter.databases is no database of Redis"),
        ("redis::connect(#{ url: \"redis://:secret@down.test\" }).get(\"a\")", "it is down"),
    ] {
        let error = run(statement).unwrap_err();
        assert!(error.contains(words) && !error.contains("secret"), "{statement}: {error}");
    }
}
