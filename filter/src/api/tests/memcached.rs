//! memcached, without a server.

use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::*;

/// Answers as a server would in which jane has written three times.
pub fn answer(what: &str, parameters: &[Parameter]) -> Rows {
    let rows = |columns: &[&str], rows: &[&[&str]]| Rows {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        rows: rows.iter().map(|row| row.iter().map(|text| Some((*text).to_owned())).collect()).collect(),
    };
    let key = |at: usize| match parameters.get(at) {
        Some(Parameter::Text(key)) => key.as_str(),
        other => panic!("no key: {other:?}"),
    };
    let one = |word: &str| rows(&["value"], &[&[word]]);
    let is_there = !parameters.is_empty() && key(0) == "jane@example.com";
    match (what, parameters.get(1..).unwrap_or_default()) {
        ("get", _) => {
            let known: &[(&str, &str)] = &[
                ("jane@example.com", "3"),
                ("true", "true"),
                ("fraction", "1.5"),
                ("word", "1e5"),
                ("padded", "9 "),
            ];
            let found = known.iter().filter(|(name, _)| (0..parameters.len()).any(|at| key(at) == *name));
            let found: Vec<[&str; 3]> = found.map(|(name, value)| [*name, *value, "7"]).collect();
            rows(&["key", "value", "cas"], &found.iter().map(<[&str; 3]>::as_slice).collect::<Vec<_>>())
        }
        ("set", [_, Parameter::Int(_)]) => one("STORED"),
        ("add", [_, Parameter::Int(_)]) => one(if is_there { "NOT_STORED" } else { "STORED" }),
        ("replace" | "append" | "prepend", [_, Parameter::Int(_)]) => {
            one(if is_there { "STORED" } else { "NOT_STORED" })
        }
        ("cas", [_, Parameter::Int(_), Parameter::Int(7)]) => one("STORED"),
        ("cas", _) => one(if is_there { "EXISTS" } else { "NOT_FOUND" }),
        ("delete", []) => one(if is_there { "DELETED" } else { "NOT_FOUND" }),
        ("touch", [Parameter::Int(_)]) => one(if is_there { "TOUCHED" } else { "NOT_FOUND" }),
        ("incr", [Parameter::Int(by)]) if is_there => one(&(3 + by).to_string()),
        ("decr", [Parameter::Int(by)]) if is_there => one(&(3 - by).max(0).to_string()),
        ("incr" | "decr", [_]) => one("NOT_FOUND"),
        ("flush", []) => one("OK"),
        ("stats", []) => rows(&["name", "value"], &[&["pid", "5"], &["version", "1.6"]]),
        other => panic!("{other:?}"),
    }
}

fn run(statement: &str) -> Result<(), String> {
    let script = format!("const cache = memcached::connect(\"cache\"); {statement}");
    run_example(&engine(), at(Stage::Rcpt), &script)
}

#[test]
fn what_memcached_answers_is_a_value_of_the_language() {
    for condition in [
        "cache.get(\"jane@example.com\") == 3 && cache.get(\"true\") == true && cache.get(\"fraction\") == 1.5",
        "cache.get(\"word\") == \"1e5\" && cache.get(\"padded\") == 9 && cache.get(\"nothing\") == ()",
        "cache.get_with_cas(\"nothing\") == #{ value: (), cas_id: 0 }",
        "cache.gets([\"nothing\", address(\"jane@example.com\")]).keys() == [\"jane@example.com\"]",
        "cache.cas(\"jane@example.com\", 1, 0, 7) && !cache.cas(\"jane@example.com\", 1, 0, 8) && !cache.cas(\"a\", 1, 0, 0)",
        "let said = \"\"; try { cache.add(\"jane@example.com\", 1, 0); } catch (why) { said = why; } said.contains(\"has a value\")",
        "service old db:memcached = #{ url: \"memcache://down.test\" }; `${old}` == \"memcache://down.test:11211\"",
    ] {
        run(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
    }
}

#[test]
fn what_is_no_key_value_or_server_of_memcached_is_refused() {
    for (statement, words) in [
        ("cache.get(\"a b\")", "a key has 1 to 250 octets"),
        ("cache.get(\"a\\r\\nflush_all\")", "a key has 1 to 250 octets"),
        ("cache.gets([\"a\", \"\"])", "a key has 1 to 250 octets"),
        ("cache.gets([])", "there is no key"),
        ("cache.get(1)", "a key is a string or an object"),
        ("cache.set(\"a\", (), 0)", "a value is"),
        ("cache.set(\"a\", 1, -1)", "a time is 0 to"),
        ("cache.increment(\"a\", -1)", "counted by"),
        ("cache.increment(\"a\", 1)", "has no value"),
        ("cache.append(\"a\", 1)", "append of a key that has no value"),
        ("cache.replace(\"a\", 1, 0)", "replace of a key that has no value"),
        ("cache.touch(\"a\", 1)", "touch of a key that has no value"),
        ("memcached::connect(#{ url: \"redis://db\" })", "no URL of memcached"),
        ("memcached::connect(\"counters\")", "no database of memcached"),
        ("memcached::connect(#{ url: \"memcache://down.test\" }).get(\"a\")", "it is down"),
    ] {
        let error = run(statement).unwrap_err();
        assert!(error.contains(words), "{statement}: {error}");
    }
}
