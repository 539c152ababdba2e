//! `redis::`: values that are kept under names at a server, such as counters and greylists.

use rhai::{Array, Dynamic, ImmutableString};
use vsmtp_config::DatabaseKind;
use vsmtp_ipc::edge::filter_database::Parameter;

use super::asked::{ERRORS, Kind, Service, constructors, parameter, text};
use super::general::Surroundings;
use super::registry::{Name, Outcome, Registry, name};
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::Shared;

#[derive(Debug, Clone)]
struct Redis;

impl Kind for Redis {
    const TITLE: &'static str = "Redis";
    const SERVICE: &'static str = "db:redis";
    const IS: DatabaseKind = DatabaseKind::Redis;
}

/// Longest time that a key may be kept, in seconds: ten years.
const MAX_SECONDS: i64 = 315_360_000;

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let by_map = name("redis", "connect", &["redis"])
        .doc("(map) -> redis", "A server of Redis, or one that speaks as it does: `url` is `redis://user:password@host:port/number`, with `%40` for `@` and the like, of which only the host must be there (`redis://:password@host` has a password only), or `redis+unix:///run/redis/redis.sock?db=number&user=name&pass=password` for a server of this host; a question that has no answer after `timeout` fails (`\"10s\"` by default, at most 5 minutes): less than `filter.timeout`, 30 seconds by default, or the rule is stopped first; at most `connections` questions are put to it at once (4 by default, at most 64), others wait. The connection is not encrypted. Nothing is connected before it is asked, so a server that is away is no error at start. Make it where the script is loaded, outside rules and functions: that declares it, and what is not declared is not asked. `service NAME db:redis = #{ ... }` is the same. Keys and values are strings or objects, values also numbers; whatever is in them, they stay what they are.")
        .errors("if the map is not that of a database")
        .example("const cache = redis::connect(#{ url: \"redis://:secret@cache.test/1\", timeout: \"2s\" }); `${cache}` == \"redis://cache.test:6379/1\"");
    let by_name = name("redis", "connect", &["redis"])
        .doc("(name: string) -> redis", "The server of that name in `filter.databases`. Then its password stands in the configuration and nowhere in the rules, and filters that judge mail are not told it.")
        .errors("if there is none of that name")
        .example("const cache = redis::connect(\"counters\"); cache.get(\"no such key\") == ()");
    constructors::<Redis>(registry, surroundings, by_map, by_name);
    values(registry);
    numbers(registry);
    keys(registry);
}

const fn method(method: &'static str) -> Name {
    name("redis", method, &[]).errors(ERRORS)
}

type Server = Service<Redis>;

fn values(registry: &mut Registry) {
    let get = method("get")
        .doc("(key) -> string", "The value of a key, as a text; `()` if there is none. Octets that are no UTF-8 become U+FFFD. Other sessions go on meanwhile, as with all of these.")
        .example("const cache = redis::connect(\"counters\"); cache.get(\"jane@example.com\") == \"3\" && cache.get(address(\"joe@example.com\")) == ()");
    registry.method_waits1(get, Stage::Connect, |shared, server: &Server, key: Dynamic| {
        let value = server.value(shared, "get", vec![self::key(&key)?])?;
        Ok(value.map_or(Dynamic::UNIT, Dynamic::from))
    });
    let set = method("set")
        .doc("(key, value) -> string", "Sets the value of a key, for ever, whatever it was: `\"OK\"`.")
        .example(
            "const cache = redis::connect(\"counters\"); cache.set(\"last\", ip4(\"192.0.2.1\")) == \"OK\"",
        );
    registry.method_waits2(set, Stage::Connect, |shared, server: &Server, key: Dynamic, value: Dynamic| {
        status(server, shared, vec![self::key(&key)?, self::value(&value)?])
    });
    let set = method("set")
        .doc("(key, value, seconds: int) -> string", "The same; after so many seconds it is gone.")
        .example("const cache = redis::connect(\"counters\"); cache.set(\"last\", 1, 3600) == \"OK\"");
    let body = |shared: &Shared, server: &Server, key: Dynamic, value: Dynamic, seconds: i64| {
        status(server, shared, vec![self::key(&key)?, self::value(&value)?, time(seconds)?])
    };
    registry.method_waits3(set, Stage::Connect, body);
    let new = method("set_new")
        .doc("(key, value) -> bool", "Sets the value of a key that has none, for ever; false if it has one, which stays. Of several who do so at once, one hears true.")
        .example("const cache = redis::connect(\"counters\"); cache.set_new(\"new\", \"1\") && !cache.set_new(\"jane@example.com\", \"1\")");
    registry.method_waits2(new, Stage::Connect, |shared, server: &Server, key: Dynamic, value: Dynamic| {
        let parameters = vec![self::key(&key)?, self::value(&value)?];
        Ok(server.value(shared, "set_new", parameters)?.is_some())
    });
    let new = method("set_new")
        .doc("(key, value, seconds: int) -> bool", "The same; after so many seconds it is gone.")
        .example("const cache = redis::connect(\"counters\"); cache.set_new(\"new\", time::now(), 3600)");
    let body = |shared: &Shared, server: &Server, key: Dynamic, value: Dynamic, seconds: i64| {
        let parameters = vec![self::key(&key)?, self::value(&value)?, time(seconds)?];
        Ok(server.value(shared, "set_new", parameters)?.is_some())
    };
    registry.method_waits3(new, Stage::Connect, body);
    let append = method("append")
        .doc("(key, value) -> int", "Puts a text behind the value of a key, which is made if it has none: how many octets the value has then.")
        .example("const cache = redis::connect(\"counters\"); cache.append(\"seen\", \"jane,\") == 5");
    registry.method_waits2(
        append,
        Stage::Connect,
        |shared, server: &Server, key: Dynamic, value: Dynamic| {
            server.number(shared, "append", vec![self::key(&key)?, self::value(&value)?])
        },
    );
}

fn numbers(registry: &mut Registry) {
    for (named, by_one, by_many, example) in [
        (
            "increment",
            "Adds one to the number that is the value of a key, 0 if it has none: what it is then. It keeps the time after which it is gone.",
            "The same with another number than one.",
            "const cache = redis::connect(\"counters\"); cache.set_new(\"jane@example.com\", 0, 3600); cache.increment(\"jane@example.com\") == 4",
        ),
        (
            "decrement",
            "Takes one from the number that is the value of a key, 0 if it has none: what it is then.",
            "The same with another number than one.",
            "const cache = redis::connect(\"counters\"); cache.decrement(\"jane@example.com\") == 2",
        ),
    ] {
        let one = method(named).doc("(key) -> int", by_one).example(example);
        registry.method_waits1(one, Stage::Connect, move |shared, server: &Server, key: Dynamic| {
            server.number(shared, named, vec![self::key(&key)?, Parameter::Int(1)])
        });
        let many = method(named).doc("(key, by: int) -> int", by_many).example(example);
        let body = move |shared: &Shared, server: &Server, key: Dynamic, by: i64| {
            server.number(shared, named, vec![self::key(&key)?, Parameter::Int(by)])
        };
        registry.method_waits2(many, Stage::Connect, body);
    }
}

fn keys(registry: &mut Registry) {
    let exists = method("exists")
        .doc("(key) -> bool", "True if a key has a value.")
        .example("const cache = redis::connect(\"counters\"); cache.exists(\"jane@example.com\") && !cache.exists(\"joe@example.com\")");
    let delete = method("delete")
        .doc("(key) -> bool", "Removes a key and its value; false if there is none.")
        .example("const cache = redis::connect(\"counters\"); cache.delete(\"jane@example.com\") && !cache.delete(\"joe@example.com\")");
    for of in [exists, delete] {
        registry.method_waits1(of, Stage::Connect, move |shared, server: &Server, key: Dynamic| {
            Ok(server.number(shared, of.name, vec![self::key(&key)?])? > 0)
        });
    }
    let expire = method("expire")
        .doc("(key, seconds: int) -> bool", "Has a key gone after so many seconds; false if there is none.")
        .example("const cache = redis::connect(\"counters\"); cache.expire(\"jane@example.com\", 60)");
    registry.method_waits2(expire, Stage::Connect, |shared, server: &Server, key: Dynamic, seconds: i64| {
        Ok(server.number(shared, "expire", vec![self::key(&key)?, time(seconds)?])? > 0)
    });
    let keys = method("keys")
        .doc("(pattern: string) -> array", "All keys that are like a pattern, in order: `*` is any text, `?` any character, `[ab]` one of these, and a backslash takes the next character as it is. The server looks at all its keys for that, a thousand at a time: this is for small databases.")
        .example("const cache = redis::connect(\"counters\"); cache.keys(\"*@example.com\") == [\"jane@example.com\"]");
    registry.method_waits1(keys, Stage::Connect, |shared, server: &Server, pattern: ImmutableString| {
        let found = server.ask(shared, "keys", vec![Parameter::Text(pattern.to_string())])?;
        Ok(found.rows.into_iter().flatten().flatten().map(Dynamic::from).collect::<Array>())
    });
}

fn status(server: &Server, shared: &Shared, parameters: Vec<Parameter>) -> Outcome<String> {
    Ok(server.value(shared, "set", parameters)?.unwrap_or_default())
}

fn key(value: &Dynamic) -> Outcome<Parameter> {
    text(value, "a key").map(Parameter::Text)
}

fn value(value: &Dynamic) -> Outcome<Parameter> {
    match parameter(value)? {
        Parameter::Null => Err(Fault::new("a value is a string, an object or a number, not ()")),
        other => Ok(other),
    }
}

fn time(seconds: i64) -> Outcome<Parameter> {
    let is_time = seconds > 0 && seconds <= MAX_SECONDS;
    is_time
        .then_some(Parameter::Int(seconds))
        .ok_or_else(|| Fault(format!("a time is 1 to {MAX_SECONDS} seconds, not {seconds}")))
}
