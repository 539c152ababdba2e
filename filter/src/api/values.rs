//! Constructors, operators and properties of the typed values; `net::` and the groups.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use regex::Regex;
use rhai::{Array, Dynamic, EvalAltResult, ImmutableString, NativeCallContext};

use super::address::objects;
use super::registry::{Form, Name, Outcome, Registry, name, raise};
use crate::object::{self, Fault, Object};

/// Compiled regular expressions that are kept: rules write them inside their bodies.
const MAX_CACHED_REGEXES: usize = 1_000;
/// Private networks (RFC 1918).
const PRIVATE: [(&str, &str, &str); 3] = [
    ("rg_192", "net_192", "192.168.0.0/16"),
    ("rg_172", "net_172", "172.16.0.0/12"),
    ("rg_10", "net_10", "10.0.0.0/8"),
];

pub(super) fn register(registry: &mut Registry) {
    registry.engine.register_type_with_name::<Object>("object");
    constructors(registry);
    properties(registry);
    operators(registry);
    groups(registry);
    networks(registry);
}

/// What each constructor makes: name, what else it is called, what it is, an example.
const CONSTRUCTORS: [Name; 7] = [
    constructor("ip4", &["ip4"]).doc("(text: string) -> ip4", "An IPv4 address.").example("ip4(\"192.0.2.1\") == \"192.0.2.1\""),
    constructor("ip6", &["ip6"]).doc("(text: string) -> ip6", "An IPv6 address; spellings of the same address are equal.").example("ip6(\"::1\") == \"0:0::1\""),
    constructor("rg4", &["rg4"]).doc("(text: string) -> rg4", "A network of IPv4 addresses, `address/prefix`.").example("\"10.1.2.3\" in rg4(\"10.0.0.0/8\")"),
    constructor("rg6", &["rg6"]).doc("(text: string) -> rg6", "A network of IPv6 addresses, `address/prefix`.").example("ip6(\"2001:db8::1\") in rg6(\"2001:db8::/32\")"),
    constructor("address", &["address", "new_address"]).doc("(text: string) -> address", "A mailbox. Domains are compared without case, local parts byte by byte.").example("address(\"john@Example.com\") == \"john@example.com\""),
    constructor("fqdn", &["fqdn"]).doc("(text: string) -> fqdn", "A domain name or an address literal.").example("fqdn(\"Example.com\") == \"example.com\" && \"b\u{fc}cher.example\" == fqdn(\"xn--bcher-kva.example\")"),
    constructor("identifier", &["identifier"]).doc("(text: string) -> identifier", "A plain name; equal to the same text.").example("identifier(\"john\") == \"john\""),
];

const fn constructor(v2: &'static str, global: &'static [&'static str]) -> Name {
    name("obj", v2, global).errors("if the text is not one")
}

fn constructors(registry: &mut Registry) {
    for made in CONSTRUCTORS {
        registry.free_text(made, move |text| Object::parse(made.name, text));
    }
    let cache = Arc::new(RegexCache::default());
    let regex = name("obj", "regex", &["regex"])
        .doc("(pattern: string) -> regex", "A regular expression, matched in linear time anywhere in the text: there are no back references and no look-around. A string equals it if it matches, and lies `in` it.")
        .errors("if the pattern is not one, or is too large when compiled")
        .example("\"john.doe\" == regex(\"^j.*doe$\") && \"JOHN\" in regex(\"(?i)john\")");
    registry.free1(regex, move |pattern: ImmutableString| cache.get(&pattern));
    let group = name("obj", "group", &["group"])
        .doc("(items: array) -> group", "Several values as one: an array of objects, strings and groups. `x in group` looks into networks, expressions and groups too.")
        .errors("if an item is neither a string nor an object")
        .example("\"10.0.0.1\" in group([rg4(\"10.0.0.0/8\"), fqdn(\"example.com\")])");
    registry.free1(group, |items: Array| objects(&items).map(Object::from));
}

#[derive(Default)]
struct RegexCache(Mutex<HashMap<ImmutableString, Arc<Regex>>>);

impl RegexCache {
    fn get(&self, pattern: &ImmutableString) -> Outcome<Object> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = lock().get(pattern) {
            return Ok(Object::Regex(Arc::clone(regex)));
        }
        let regex = Arc::new(object::compile(pattern)?);
        let mut cache = lock();
        if cache.len() >= MAX_CACHED_REGEXES {
            cache.clear();
        }
        cache.insert(pattern.clone(), Arc::clone(&regex));
        Ok(Object::Regex(regex))
    }
}

fn properties(registry: &mut Registry) {
    let of = |property: &'static str| name("obj", property, &[]);
    let local = of("local_part")
        .doc(" -> string", "What stands before the at sign. `get_local_part()` in vSL 1.x.")
        .errors("unless the value is an address")
        .example("address(\"john@example.com\").local_part == \"john\"");
    registry.property(local, local_part);
    let of_address = of("domain")
        .doc(" -> fqdn", "What stands behind the at sign; it compares, adds and prints like a string. `get_domain()` in vSL 1.x.")
        .errors("unless the value is an address")
        .example("address(\"john@example.com\").domain == \"example.com\"");
    registry.property(of_address, domain);
    let kind = of("type")
        .doc(" -> string", "The name of the value's type, as its constructor is called.")
        .example("address(\"john@example.com\").type == \"address\"");
    registry.property(kind, |object: &Object| Ok(ImmutableString::from(object.kind())));
    registry.engine.register_fn("get_local_part", |context: NativeCallContext, object: &mut Object| {
        local_part(object).map_err(|fault| raise(&context, fault))
    });
    registry.engine.register_fn("get_domain", |context: NativeCallContext, object: &mut Object| {
        domain(object).map_err(|fault| raise(&context, fault))
    });
    let lists = [
        (
            of("local_parts")
                .doc(" -> array", "The local parts of an array or a group of addresses. `get_local_parts()` in vSL 1.x.")
                .errors("unless all members are addresses")
                .example("[\"a@b.c\", address(\"d@e.f\")].local_parts == [\"a\", \"d\"]"),
            "get_local_parts",
            local_part as fn(&Object) -> Outcome<ImmutableString>,
        ),
        (
            of("domains")
                .doc(" -> array", "The domains of an array or a group of addresses, as strings. `get_domains()` in vSL 1.x.")
                .errors("unless all members are addresses")
                .example("group([\"a@b.c\", \"d@e.f\"]).domains == [\"b.c\", \"e.f\"]"),
            "get_domains",
            |object| domain(object).map(|domain| domain.text()),
        ),
    ];
    for (property, method, of) in lists {
        registry.row(Form::Property, property, 0, None);
        let each = move |context: &NativeCallContext, items: Outcome<Vec<Object>>| {
            let texts = items.and_then(|items| items.iter().map(|item| of(&as_address(item)?)).collect());
            texts
                .map(|texts: Vec<ImmutableString>| texts.into_iter().map(Dynamic::from).collect::<Array>())
                .map_err(|fault| raise(context, fault))
        };
        let of_array = move |c: NativeCallContext, items: &mut Array| each(&c, objects(items));
        let of_group = move |c: NativeCallContext, group: &mut Object| each(&c, members(group));
        registry.engine.register_get(property.name, of_array);
        registry.engine.register_get(property.name, of_group);
        registry.engine.register_fn(method, of_array);
        registry.engine.register_fn(method, of_group);
    }
}

fn members(object: &Object) -> Outcome<Vec<Object>> {
    object
        .members()
        .map(<[Object]>::to_vec)
        .ok_or_else(|| Fault(format!("a {} has no members", object.kind())))
}

/// Lists hold addresses as objects or as strings.
fn as_address(item: &Object) -> Outcome<Object> {
    match item {
        Object::Identifier(text) => Object::address(text),
        other => Ok(other.clone()),
    }
}

fn local_part(object: &Object) -> Outcome<ImmutableString> {
    match object {
        Object::Address(address) => Ok(address.local_part().into()),
        other => Err(Fault(format!("a {} has no local part", other.kind()))),
    }
}

fn domain(object: &Object) -> Outcome<Object> {
    match object {
        Object::Address(address) => Ok(Object::Fqdn(Arc::new(address.domain().clone()))),
        other => Err(Fault(format!("a {} has no domain", other.kind()))),
    }
}

type Bool = Result<bool, Box<EvalAltResult>>;

fn operators(registry: &mut Registry) {
    registry.globally("to_string", |object: &mut Object| object.text());
    registry.globally("to_debug", |object: &mut Object| format!("{}:{}", object.kind(), object.text()));
    registry.globally("==", |a: Object, b: Object| object::equals(&a, &b));
    registry.globally("!=", |a: Object, b: Object| !object::equals(&a, &b));
    let text = |context: &NativeCallContext, object: &Object, text: &str| -> Bool {
        object::equals_text(object, text).map_err(|fault| raise(context, fault))
    };
    registry.globally("==", move |c: NativeCallContext, a: Object, b: ImmutableString| text(&c, &a, &b));
    registry.globally("==", move |c: NativeCallContext, a: ImmutableString, b: Object| text(&c, &b, &a));
    registry.globally("!=", move |c: NativeCallContext, a: Object, b: ImmutableString| {
        text(&c, &a, &b).map(|r| !r)
    });
    registry.globally("!=", move |c: NativeCallContext, a: ImmutableString, b: Object| {
        text(&c, &b, &a).map(|r| !r)
    });
    registry.globally("+", |a: Object, b: ImmutableString| format!("{}{b}", a.text()));
    registry.globally("+", |a: ImmutableString, b: Object| format!("{a}{}", b.text()));

    let within = |context: &NativeCallContext, haystack: &Object, needle: &Object| -> Bool {
        object::contains(haystack, needle).map_err(|fault| raise(context, fault))
    };
    registry.globally("contains", move |c: NativeCallContext, a: &mut Object, b: Object| within(&c, a, &b));
    registry.globally("contains", move |c: NativeCallContext, a: &mut Object, b: ImmutableString| {
        within(&c, a, &Object::Identifier(b))
    });
    registry.globally("contains", |text: &mut ImmutableString, needle: Object| {
        text.contains(needle.text().as_str())
    });
    registry.globally("contains", |map: &mut rhai::Map, key: Object| map.contains_key(key.text().as_str()));
    registry.globally("contains", |c: NativeCallContext, items: &mut Array, needle: Object| {
        list_has(&c, items, &needle)
    });
    registry.globally("contains", |c: NativeCallContext, items: &mut Array, needle: ImmutableString| {
        list_has(&c, items, &Object::Identifier(needle))
    });
}

/// Membership in a list: members may be strings, objects and anything else; what cannot be equal is not.
fn list_has(context: &NativeCallContext, items: &Array, needle: &Object) -> Bool {
    for item in items {
        let found = if let Some(object) = item.read_lock::<Object>() {
            object::contains(&Object::from(vec![object.clone()]), needle)
        } else if let Some(text) = item.read_lock::<ImmutableString>() {
            match needle {
                Object::Identifier(wanted) => Ok(wanted == &*text),
                other => {
                    object::contains(&Object::from(vec![other.clone()]), &Object::Identifier(text.clone()))
                }
            }
        } else {
            Ok(false)
        };
        if found.map_err(|fault| raise(context, fault))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn groups(registry: &mut Registry) {
    let len = name("obj", "len", &[])
        .doc("() -> int", "How many members a group or a file has, as `.len` too; of a domain or an identifier, how many characters.")
        .errors("of other values")
        .example("group([\"a\", \"b\"]).len() == 2 && group([]).is_empty()");
    registry.row(Form::Method, len, 0, None);
    let engine = &mut *registry.engine;
    let count = |context: NativeCallContext, object: &mut Object| {
        let length = match super::texts::text(object) {
            Some(text) => Ok(text.chars().count()),
            None => members(object).map(|items| items.len()),
        };
        length.map(|length| i64::try_from(length).unwrap_or(i64::MAX)).map_err(|fault| raise(&context, fault))
    };
    engine.register_fn("len", count);
    engine.register_get("len", count);
    engine.register_fn("is_empty", move |context: NativeCallContext, object: &mut Object| {
        let is_text = super::texts::text(object).map(|text| text.is_empty());
        is_text
            .map_or_else(|| members(object).map(|items| items.is_empty()), Ok)
            .map_err(|fault| raise(&context, fault))
    });
    let array = |object: &mut Object| {
        object.members().unwrap_or(&[]).iter().cloned().map(Dynamic::from).collect::<Array>()
    };
    engine.register_fn("to_array", array);
    engine.register_indexer_get(|context: NativeCallContext, object: &mut Object, at: i64| {
        let found = object.members().and_then(|items| items.get(usize::try_from(at).ok()?).cloned());
        found.ok_or_else(|| raise(&context, Fault(format!("a {} has no member {at}", object.kind()))))
    });
    let to_array = name("obj", "to_array", &[])
        .doc("() -> array", "The members of a group or a file as an array. A group can also be indexed, and a `for` loop goes over it.")
        .example("let n = 0; for x in group([\"a\", \"b\"]) { n += 1; } n == 2 && group([\"a\"]).to_array()[0] == \"a\"");
    registry.row(Form::Method, to_array, 0, None);
    registry.engine.register_iterator::<Object>();
}

/// The private networks under their names of vSL 1.x, where they are variables and not functions.
pub(super) fn constants() -> impl Iterator<Item = (&'static str, Object)> {
    let ranges = || PRIVATE.iter().filter_map(|(_, v1, text)| Some((*v1, Object::parse("rg4", text).ok()?)));
    let all: Vec<Object> = ranges().map(|(_, range)| range).collect();
    ranges().chain([("non_routable_net", Object::from(all))])
}

fn networks(registry: &mut Registry) {
    let names = [
        name("net", "rg_192", &["net_192"])
            .doc("() -> rg4", "192.168.0.0/16 (RFC 1918).")
            .example("\"192.168.1.7\" in net::rg_192()"),
        name("net", "rg_172", &["net_172"])
            .doc("() -> rg4", "172.16.0.0/12 (RFC 1918).")
            .example("\"172.16.0.1\" in net::rg_172()"),
        name("net", "rg_10", &["net_10"])
            .doc("() -> rg4", "10.0.0.0/8 (RFC 1918).")
            .example("\"10.0.0.1\" in net::rg_10()"),
        name("net", "non_routable", &["non_routable_net"])
            .doc("() -> group", "The three private networks of RFC 1918.")
            .example("ctx::client_ip() in net::non_routable()"),
    ];
    for (name, (_, range)) in names.into_iter().zip(constants()) {
        registry.free0(name, move || range.clone());
    }
}
