//! `memcached::`: values that are kept under names for a while, at a server that may forget them at any time.

use rhai::{Array, Dynamic, ImmutableString, Map};
use vsmtp_config::DatabaseKind;
use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::asked::{ERRORS, Kind, Service, constructors, parameter, text};
use super::general::Surroundings;
use super::registry::{Name, Outcome, Registry, name};
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::Shared;

/// Longest key, in octets.
const MAX_KEY: usize = 250;
/// The number of no value.
const NO_CAS: i64 = 0;

#[derive(Debug, Clone)]
struct Memcached;

impl Kind for Memcached {
    const TITLE: &'static str = "memcached";
    const SERVICE: &'static str = "db:memcached";
    const IS: DatabaseKind = DatabaseKind::Memcached;
}

type Server = Service<Memcached>;

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let by_map = name("memcached", "connect", &["memcached"])
        .doc("(map) -> memcached", "A server of memcached: `url` is `memcache://host:port`, or `memcache:///run/memcached.sock` for a server of this host; a question that has no answer after `timeout` fails (`\"10s\"` by default, at most 5 minutes): less than `filter.timeout`, 30 seconds by default, or the rule is stopped first; at most `connections` questions are put to it at once (4 by default, at most 64), others wait. The connection is not encrypted, and memcached knows no passwords. Nothing is connected before it is asked, so a server that is away is no error at start. Make it where the script is loaded, outside rules and functions: that declares it, and what is not declared is not asked. `service NAME db:memcached = #{ ... }` is the same. A key is a string or an object of at most 250 octets, without a space or a control character, or the question throws. A value is a string, an object, a number or a truth value; what is read is a truth value or a number if it is written as one, else a string. A time is in seconds, 0 for ever; above 30 days it is a moment in seconds since 1970.")
        .errors("if the map is not that of a database")
        .example("const cache = memcached::connect(#{ url: \"memcache://cache.test\", timeout: \"2s\" }); `${cache}` == \"memcache://cache.test:11211\"");
    let by_name = name("memcached", "connect", &["memcached"])
        .doc("(name: string) -> memcached", "The server of that name in `filter.databases`.")
        .errors("if there is none of that name")
        .example("const cache = memcached::connect(\"cache\"); cache.get(\"nothing\") == ()");
    constructors::<Memcached>(registry, surroundings, by_map, by_name);
    reads(registry);
    writes(registry);
    whole(registry);
    numbers(registry);
    server(registry);
}

const fn method(method: &'static str) -> Name {
    name("memcached", method, &[]).errors(ERRORS)
}

fn reads(registry: &mut Registry) {
    let get = method("get")
        .doc("(key) -> value", "The value of a key; `()` if there is none. Other sessions go on meanwhile, as with all of these.")
        .example("const cache = memcached::connect(\"cache\"); cache.get(\"jane@example.com\") == 3 && cache.get(address(\"joe@example.com\")) == ()");
    registry.method_waits1(get, Stage::Connect, |shared, server: &Server, key: Dynamic| {
        Ok(server.read(shared, vec![self::key(&key)?])?.pop().map_or(Dynamic::UNIT, |found| found.value))
    });
    let with = method("get_with_cas")
        .doc("(key) -> map", "The same as `#{ value, cas_id }`, with the number that `cas` wants; `#{ value: (), cas_id: 0 }` if there is none.")
        .example("const cache = memcached::connect(\"cache\"); cache.get_with_cas(\"jane@example.com\") == #{ value: 3, cas_id: 7 }");
    registry.method_waits1(with, Stage::Connect, |shared, server: &Server, key: Dynamic| {
        Ok(server.read(shared, vec![self::key(&key)?])?.pop().map_or_else(
            || with_cas(Dynamic::UNIT, Dynamic::from(NO_CAS)),
            |found| with_cas(found.value, found.cas),
        ))
    });
    let gets = method("gets")
        .doc("(keys: array) -> map", "The values of several keys, of those that have one.")
        .example("const cache = memcached::connect(\"cache\"); cache.gets([\"jane@example.com\", \"joe@example.com\"]) == #{ \"jane@example.com\": 3 }");
    registry.method_waits1(gets, Stage::Connect, |shared, server: &Server, keys: Array| {
        let found = server.read(shared, self::keys(&keys)?)?;
        Ok(found.into_iter().map(|found| (found.key.into(), found.value)).collect::<Map>())
    });
    let gets = method("gets_with_cas")
        .doc("(keys: array) -> map", "The same with the numbers that `cas` wants.")
        .example("const cache = memcached::connect(\"cache\"); cache.gets_with_cas([\"jane@example.com\"])[\"jane@example.com\"].cas_id == 7");
    registry.method_waits1(gets, Stage::Connect, |shared, server: &Server, keys: Array| {
        let found = server.read(shared, self::keys(&keys)?)?;
        let entry = |found: Found| (found.key.into(), Dynamic::from(with_cas(found.value, found.cas)));
        Ok(found.into_iter().map(entry).collect::<Map>())
    });
}

fn writes(registry: &mut Registry) {
    let set =
        method("set").doc("(key, value, seconds: int)", "Sets the value of a key, whatever it was.").example(
            "const cache = memcached::connect(\"cache\"); cache.set(\"last\", ip4(\"192.0.2.1\"), 3600)",
        );
    let add = method("add")
        .doc("(key, value, seconds: int)", "Sets the value of a key that has none; throws if it has one.")
        .example("const cache = memcached::connect(\"cache\"); cache.add(\"new\", 1, 3600)");
    let replace = method("replace")
        .doc("(key, value, seconds: int)", "Sets the value of a key that has one; throws if it has none.")
        .example("const cache = memcached::connect(\"cache\"); cache.replace(\"jane@example.com\", 1, 3600)");
    for of in [set, add, replace] {
        let body = move |shared: &Shared, server: &Server, key: Dynamic, value: Dynamic, seconds: i64| {
            let parameters = vec![self::key(&key)?, self::value(&value)?, time(seconds)?];
            done(of.name, &server.word(shared, of.name, parameters)?)
        };
        registry.method_waits3(of, Stage::Connect, body);
    }
    let new = method("set_new")
        .doc("(key, value, seconds: int) -> bool", "Sets the value of a key that has none; false if it has one, which stays. Of several who do so at once, one hears true.")
        .example("const cache = memcached::connect(\"cache\"); cache.set_new(\"new\", 1, 3600) && !cache.set_new(\"jane@example.com\", 1, 3600)");
    let body = |shared: &Shared, server: &Server, key: Dynamic, value: Dynamic, seconds: i64| {
        let parameters = vec![self::key(&key)?, self::value(&value)?, time(seconds)?];
        Ok(server.word(shared, "add", parameters)? == "STORED")
    };
    registry.method_waits3(new, Stage::Connect, body);
    let cas = method("cas")
        .doc("(key, value, seconds: int, cas_id: int) -> bool", "Sets the value of a key if nobody has done so since `get_with_cas` told this number; false if somebody has, or there is no such key any more.")
        .example("const cache = memcached::connect(\"cache\"); let seen = cache.get_with_cas(\"jane@example.com\"); cache.cas(\"jane@example.com\", seen.value + 1, 3600, seen.cas_id)");
    let body = |shared: &Shared, server: &Server, key: Dynamic, value: Dynamic, seconds: i64, id: Dynamic| {
        let parameters = vec![self::key(&key)?, self::value(&value)?, time(seconds)?, parameter(&id)?];
        Ok(server.word(shared, "cas", parameters)? == "STORED")
    };
    registry.method_waits4(cas, Stage::Connect, body);
}

fn whole(registry: &mut Registry) {
    let append = method("append")
        .doc("(key, value)", "Puts a text behind the value of a key; throws if it has none.")
        .example("const cache = memcached::connect(\"cache\"); cache.append(\"jane@example.com\", \"0\")");
    let prepend = method("prepend")
        .doc("(key, value)", "Puts a text before the value of a key; throws if it has none.")
        .example("const cache = memcached::connect(\"cache\"); cache.prepend(\"jane@example.com\", \"1\")");
    for of in [append, prepend] {
        let body = move |shared: &Shared, server: &Server, key: Dynamic, value: Dynamic| {
            let parameters = vec![self::key(&key)?, self::value(&value)?, Parameter::Int(0)];
            done(of.name, &server.word(shared, of.name, parameters)?)
        };
        registry.method_waits2(of, Stage::Connect, body);
    }
    let touch = method("touch")
        .doc("(key, seconds: int)", "Gives the value of a key another time; throws if it has none.")
        .example("const cache = memcached::connect(\"cache\"); cache.touch(\"jane@example.com\", 3600)");
    registry.method_waits2(touch, Stage::Connect, |shared, server: &Server, key: Dynamic, seconds: i64| {
        done("touch", &server.word(shared, "touch", vec![self::key(&key)?, time(seconds)?])?)
    });
    let delete = method("delete")
        .doc("(key) -> bool", "Removes a key and its value; false if there is none.")
        .example("const cache = memcached::connect(\"cache\"); cache.delete(\"jane@example.com\") && !cache.delete(\"joe@example.com\")");
    registry.method_waits1(delete, Stage::Connect, |shared, server: &Server, key: Dynamic| {
        Ok(server.word(shared, "delete", vec![self::key(&key)?])? == "DELETED")
    });
}

fn numbers(registry: &mut Registry) {
    for (named, command, about, example) in [
        (
            "increment",
            "incr",
            "Adds to the number that is the value of a key: what it is then. Throws if it has none.",
            "const cache = memcached::connect(\"cache\"); cache.increment(\"jane@example.com\", 1) == 4",
        ),
        (
            "decrement",
            "decr",
            "Takes from the number that is the value of a key, which is never below 0: what it is then. Throws if it has none.",
            "const cache = memcached::connect(\"cache\"); cache.decrement(\"jane@example.com\", 1) == 2",
        ),
    ] {
        let of = method(named).doc("(key, by: int) -> int", about).example(example);
        let body = move |shared: &Shared, server: &Server, key: Dynamic, by: i64| {
            if by < 0 {
                return Err(Fault(format!("what is counted by is 0 or more, not {by}")));
            }
            let word = server.word(shared, command, vec![self::key(&key)?, Parameter::Int(by)])?;
            match word.as_str() {
                "NOT_FOUND" => done(named, &word).map(|()| 0_i64),
                number => number.parse().map_err(|_| Fault(format!("{number} is more than a number can be"))),
            }
        };
        registry.method_waits2(of, Stage::Connect, body);
    }
}

fn server(registry: &mut Registry) {
    let flush = method("flush")
        .doc("()", "Has the server forget all keys, also those of others.")
        .example("const cache = memcached::connect(\"cache\"); cache.flush()");
    registry.method_waits0(flush, Stage::Connect, |shared, server: &Server| {
        server.word(shared, "flush", Vec::new()).map(|_| ())
    });
    let stats = method("stats")
        .doc("() -> string", "What the server counts, as `name: value, name: value`.")
        .example("const cache = memcached::connect(\"cache\"); cache.stats() == \"pid: 5, version: 1.6\"");
    registry.method_waits0(stats, Stage::Connect, |shared, server: &Server| {
        let rows = server.ask(shared, "stats", Vec::new())?.rows;
        let line = |row: Vec<Option<String>>| row.into_iter().flatten().collect::<Vec<_>>().join(": ");
        Ok(rows.into_iter().map(line).collect::<Vec<_>>().join(", "))
    });
}

/// A key with what it has.
struct Found {
    key: String,
    value: Dynamic,
    cas: Dynamic,
}

impl Server {
    fn read(&self, shared: &Shared, keys: Vec<Parameter>) -> Outcome<Vec<Found>> {
        let Rows { rows, .. } = self.ask(shared, "get", keys)?;
        let found = |row: Vec<Option<String>>| {
            let [key, value, cas] = <[Option<String>; 3]>::try_from(row).ok()?;
            Some(Found { key: key?, value: typed(value?), cas: typed(cas?) })
        };
        Ok(rows.into_iter().filter_map(found).collect())
    }

    fn word(&self, shared: &Shared, what: &str, parameters: Vec<Parameter>) -> Outcome<String> {
        Ok(self.value(shared, what, parameters)?.unwrap_or_default())
    }
}

/// What a command has done; what it could not do for want of a key, or because of one, is an error of the rule, and says nothing of
/// the server.
fn done(what: &str, word: &str) -> Outcome<()> {
    match word {
        "NOT_FOUND" => Err(Fault(format!("{what} of a key that has no value"))),
        "NOT_STORED" if what == "add" => Err(Fault::new("add of a key that has a value")),
        "NOT_STORED" => Err(Fault(format!("{what} of a key that has no value"))),
        _ => Ok(()),
    }
}

fn with_cas(value: Dynamic, cas: Dynamic) -> Map {
    Map::from([("value".into(), value), ("cas_id".into(), cas)])
}

/// A value as it was before it was a text.
fn typed(text: String) -> Dynamic {
    // What was counted down keeps its length, with spaces.
    let word = text.trim_end_matches(' ');
    let is_fraction = |word: &str| {
        let digits = word.strip_prefix('-').unwrap_or(word);
        digits.split_once('.').is_some_and(|(whole, rest)| {
            [whole, rest]
                .iter()
                .all(|part| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit()))
        })
    };
    let is_whole = |word: &str| !word.starts_with('+');
    if let Some(number) = word.parse::<i64>().ok().filter(|_| is_whole(word)) {
        return Dynamic::from(number);
    }
    if let Some(number) = word.parse::<f64>().ok().filter(|_| is_fraction(word)) {
        return Dynamic::from(number);
    }
    text.parse::<bool>().map_or_else(|_| Dynamic::from(ImmutableString::from(text)), Dynamic::from)
}

fn keys(values: &Array) -> Outcome<Vec<Parameter>> {
    if values.is_empty() {
        return Err(Fault::new("there is no key"));
    }
    values.iter().map(key).collect()
}

fn key(value: &Dynamic) -> Outcome<Parameter> {
    let key = text(value, "a key")?;
    let is_key = !key.is_empty() && key.len() <= MAX_KEY && !key.chars().any(|c| c == ' ' || c.is_control());
    is_key
        .then_some(Parameter::Text(key))
        .ok_or_else(|| Fault(format!("a key has 1 to {MAX_KEY} octets, and no space or control character")))
}

fn value(value: &Dynamic) -> Outcome<Parameter> {
    if let Ok(truth) = value.as_bool() {
        return Ok(Parameter::Text(truth.to_string()));
    }
    match parameter(value)? {
        Parameter::Null => {
            Err(Fault::new("a value is a string, an object, a number or a truth value, not ()"))
        }
        other => Ok(other),
    }
}

fn time(seconds: i64) -> Outcome<Parameter> {
    u32::try_from(seconds)
        .map(|_| Parameter::Int(seconds))
        .map_err(|_| Fault(format!("a time is 0 to {} seconds, not {seconds}", u32::MAX)))
}
