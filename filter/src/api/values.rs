//! Constructors, operators and properties of the typed values; `net::` and the groups.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use regex::Regex;
use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, NativeCallContext};

use super::address::objects;
use super::registry::{Outcome, Registry, name, raise};
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
    operators(registry.engine);
    groups(registry);
    networks(registry);
}

fn constructors(registry: &mut Registry) {
    for kind in ["ip4", "ip6", "rg4", "rg6", "address", "fqdn", "identifier"] {
        let global: &'static [&'static str] = match kind {
            "ip4" => &["ip4"],
            "ip6" => &["ip6"],
            "rg4" => &["rg4"],
            "rg6" => &["rg6"],
            "address" => &["address", "new_address"],
            "fqdn" => &["fqdn"],
            _ => &["identifier"],
        };
        registry.free1(name("obj", kind, global), move |text: ImmutableString| Object::parse(kind, &text));
        registry.free1(name("obj", kind, global), move |object: Object| Object::parse(kind, &object.text()));
    }
    let cache = Arc::new(RegexCache::default());
    registry.free1(name("obj", "regex", &["regex"]), move |pattern: ImmutableString| cache.get(&pattern));
    registry.free1(name("obj", "group", &["group"]), |items: Array| objects(&items).map(Object::from));
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
    registry.property("local_part", local_part);
    registry.property("domain", domain);
    registry.property("type", |object| Ok(ImmutableString::from(object.kind())));
    registry.engine.register_fn("get_local_part", |context: NativeCallContext, object: &mut Object| {
        local_part(object).map_err(|fault| raise(&context, fault))
    });
    registry.engine.register_fn("get_domain", |context: NativeCallContext, object: &mut Object| {
        domain(object).map_err(|fault| raise(&context, fault))
    });
    for (property, method, of) in [
        ("local_parts", "get_local_parts", local_part as fn(&Object) -> Outcome<ImmutableString>),
        ("domains", "get_domains", |object| domain(object).map(|domain| domain.text())),
    ] {
        let each = move |context: &NativeCallContext, items: &Array| {
            let texts =
                objects(items).and_then(|items| items.iter().map(|item| of(&as_address(item)?)).collect());
            texts
                .map(|texts: Vec<ImmutableString>| texts.into_iter().map(Dynamic::from).collect::<Array>())
                .map_err(|fault| raise(context, fault))
        };
        registry.engine.register_get(property, move |context: NativeCallContext, items: &mut Array| {
            each(&context, items)
        });
        registry
            .engine
            .register_fn(method, move |context: NativeCallContext, items: &mut Array| each(&context, items));
    }
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

fn operators(engine: &mut Engine) {
    engine.register_fn("to_string", |object: &mut Object| object.text());
    engine.register_fn("to_debug", |object: &mut Object| format!("{}:{}", object.kind(), object.text()));
    engine.register_fn("==", |a: Object, b: Object| object::equals(&a, &b));
    engine.register_fn("!=", |a: Object, b: Object| !object::equals(&a, &b));
    let text = |context: &NativeCallContext, object: &Object, text: &str| -> Bool {
        object::equals_text(object, text).map_err(|fault| raise(context, fault))
    };
    engine.register_fn("==", move |c: NativeCallContext, a: Object, b: ImmutableString| text(&c, &a, &b));
    engine.register_fn("==", move |c: NativeCallContext, a: ImmutableString, b: Object| text(&c, &b, &a));
    engine.register_fn("!=", move |c: NativeCallContext, a: Object, b: ImmutableString| {
        text(&c, &a, &b).map(|r| !r)
    });
    engine.register_fn("!=", move |c: NativeCallContext, a: ImmutableString, b: Object| {
        text(&c, &b, &a).map(|r| !r)
    });
    engine.register_fn("+", |a: Object, b: ImmutableString| format!("{}{b}", a.text()));
    engine.register_fn("+", |a: ImmutableString, b: Object| format!("{a}{}", b.text()));

    let within = |context: &NativeCallContext, haystack: &Object, needle: &Object| -> Bool {
        object::contains(haystack, needle).map_err(|fault| raise(context, fault))
    };
    engine.register_fn("contains", move |c: NativeCallContext, a: &mut Object, b: Object| within(&c, a, &b));
    engine.register_fn("contains", move |c: NativeCallContext, a: &mut Object, b: ImmutableString| {
        within(&c, a, &Object::Identifier(b))
    });
    engine.register_fn("contains", |text: &mut ImmutableString, needle: Object| {
        text.contains(needle.text().as_str())
    });
    engine.register_fn("contains", |map: &mut rhai::Map, key: Object| map.contains_key(key.text().as_str()));
    engine.register_fn("contains", |c: NativeCallContext, items: &mut Array, needle: Object| {
        list_has(&c, items, &needle)
    });
    engine.register_fn("contains", |c: NativeCallContext, items: &mut Array, needle: ImmutableString| {
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
    let engine = &mut *registry.engine;
    let items = |object: &Object| match object {
        Object::Group(items) => Arc::clone(items),
        _ => Arc::from(Vec::new()),
    };
    engine.register_fn("len", move |object: &mut Object| {
        i64::try_from(items(object).len()).unwrap_or(i64::MAX)
    });
    engine.register_get("len", move |object: &mut Object| {
        i64::try_from(items(object).len()).unwrap_or(i64::MAX)
    });
    engine.register_fn("is_empty", move |object: &mut Object| items(object).is_empty());
    engine.register_fn("to_array", move |object: &mut Object| {
        items(object).iter().cloned().map(Dynamic::from).collect::<Array>()
    });
}

fn networks(registry: &mut Registry) {
    for (v2, v1, text) in PRIVATE {
        let Ok(range) = Object::parse("rg4", text) else { continue };
        registry.free0(
            name(
                "net",
                v2,
                match v1 {
                    "net_192" => &["net_192"],
                    "net_172" => &["net_172"],
                    _ => &["net_10"],
                },
            ),
            move || range.clone(),
        );
    }
    let all = PRIVATE.iter().filter_map(|(_, _, text)| Object::parse("rg4", text).ok()).collect::<Vec<_>>();
    let group = Object::from(all);
    registry.free0(name("net", "non_routable", &["non_routable_net"]), move || group.clone());
}
