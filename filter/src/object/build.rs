//! From a declaration, `object NAME TYPE = VALUE`, to its value. One place for both dialects: the constructors of vSL 2.x
//! and `file()` make their values here too.

use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString, Map};

use super::{Fault, FileSet, Object, reply};
use crate::typename;

/// The types that a declaration may name, old names included.
pub const KINDS: [&str; 13] = [
    "ip4",
    "ip6",
    "rg4",
    "rg6",
    "address",
    "addr",
    "fqdn",
    "regex",
    "identifier",
    "val",
    "string",
    "code",
    "group",
];

/// What says that the value comes from a file: `file:TYPE`.
pub const FILE: &str = "file:";

/// Deepest group inside a group.
const MAX_NESTING: usize = 16;
/// Most lines of one file.
const MAX_LINES: usize = 100_000;

/// Reads a text file of the configuration; its path may be relative.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, Fault>;

/// True if the lines of a file may be of that type.
pub fn is_kind_of_lines(kind: &str) -> bool {
    KINDS.contains(&kind) && !matches!(kind, "code" | "group")
}

/// Makes the value of type `kind` (one of [`KINDS`], or `file:` and one of them) from what the script wrote: a text, a
/// list for groups, or a map with it as `value`, whose other entries are remarks. A `string` stays a text of the language.
///
/// # Errors
/// The value is not of that type, or the file cannot be read.
pub fn build(kind: &str, value: Dynamic, read: ReadFile<'_>) -> Result<Dynamic, Fault> {
    if let Some(of) = kind.strip_prefix(FILE) {
        let path = text(kind, unwrap(kind, value)?)?;
        return lines(of, &read(&path)?).map(|items| Dynamic::from(Object::from(FileSet::new(of, items))));
    }
    match canonical(kind) {
        "string" => text(kind, unwrap(kind, value)?).map(Dynamic::from),
        "group" => members(&unwrap(kind, value)?, 0).map(|items| Dynamic::from(Object::from(items))),
        "code" => code(value).map(Dynamic::from),
        kind => Object::parse(kind, &text(kind, unwrap(kind, value)?)?).map(Dynamic::from),
    }
}

/// The values of a file's lines. Blank lines are left out, and blanks around a value.
pub fn lines(kind: &str, content: &str) -> Result<Vec<Object>, Fault> {
    if !is_kind_of_lines(kind) {
        return Err(Fault(format!("the lines of a file cannot be of type '{kind}'")));
    }
    let mut items = Vec::new();
    for (at, line) in content.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if items.len() == MAX_LINES {
            return Err(Fault(format!("the file has more than {MAX_LINES} lines")));
        }
        let item = Object::parse(canonical(kind), line);
        items.push(item.map_err(|fault| Fault(format!("line {}: {}", at + 1, fault.0)))?);
    }
    Ok(items)
}

/// What old names mean.
pub(super) fn canonical(kind: &str) -> &str {
    match kind {
        "addr" => "address",
        "val" => "identifier",
        other => other,
    }
}

/// The value itself, or that of a map with remarks.
fn unwrap(kind: &str, value: Dynamic) -> Result<Dynamic, Fault> {
    match value.try_cast_result::<Map>() {
        Ok(mut map) => {
            map.remove("value").ok_or_else(|| Fault(format!("the map of a {kind} needs an entry 'value'")))
        }
        Err(value) => Ok(value),
    }
}

fn text(kind: &str, value: Dynamic) -> Result<ImmutableString, Fault> {
    if let Some(object) = value.read_lock::<Object>() {
        return Ok(object.text());
    }
    let found = typename::of(&value);
    let wrong = || Fault(format!("a {kind} is made of a text or of a map with 'value', not of a {found}"));
    value.into_immutable_string().map_err(|_| wrong())
}

fn members(value: &Dynamic, depth: usize) -> Result<Vec<Object>, Fault> {
    if depth > MAX_NESTING {
        return Err(Fault::new("groups are nested too deeply"));
    }
    let Some(items) = value.read_lock::<Array>() else {
        return Err(Fault(format!("a group is made of a list, not of a {}", typename::of(value))));
    };
    items.iter().map(|item| member(item, depth)).collect()
}

fn member(item: &Dynamic, depth: usize) -> Result<Object, Fault> {
    if let Some(object) = item.read_lock::<Object>() {
        return Ok(object.clone());
    }
    if let Some(text) = item.read_lock::<ImmutableString>() {
        return Ok(Object::Identifier(text.clone()));
    }
    if item.is_array() {
        return members(item, depth + 1).map(Object::from);
    }
    Err(Fault(format!("a {} cannot be a member of a group", typename::of(item))))
}

/// `"220 text"`, `#{ value: "220 text" }`, `#{ code: 220, enhanced: "", text: "text" }`, or a reply that is there.
fn code(value: Dynamic) -> Result<Object, Fault> {
    if let Some(object) = value.read_lock::<Object>()
        && matches!(*object, Object::Code(_))
    {
        return Ok(object.clone());
    }
    let parts = value.read_lock::<Map>().filter(|map| !map.contains_key("value")).map(|map| map.clone());
    let Some(map) = parts else { return Object::parse("code", &text("code", unwrap("code", value)?)?) };
    let part = |key: &str| map.get(key).map(ToString::to_string).unwrap_or_default();
    let number = map.get("code").and_then(|code| code.as_int().ok());
    let number = number.ok_or_else(|| Fault::new("the map of a code needs a number as 'code'"))?;
    reply(number, &part("enhanced"), &part("text")).map(|reply| Object::Code(Arc::new(reply)))
}

#[cfg(test)]
mod tests {
    use rhai::Engine;

    use super::*;

    fn made(kind: &str, expression: &str) -> Result<String, String> {
        let value: Dynamic = Engine::new().eval_expression(expression).unwrap();
        let read = |path: &str| match path {
            "list" => Ok("a@b.c\n\n  d@e.f  \n".to_owned()),
            "ips" => Ok("10.0.0.1\nnot an ip\n".to_owned()),
            _ => Err(Fault(format!("{path} cannot be read"))),
        };
        let value = build(kind, value, &read).map_err(|fault| fault.0)?;
        Ok(match value.read_lock::<Object>() {
            Some(object) => format!("{} {}", object.kind(), object.text().trim_end().replace("\r\n", "|")),
            None => format!("{} {value}", value.type_name()),
        })
    }

    #[test]
    fn every_type_is_made_of_what_scripts_write() {
        for (kind, expression, expected) in [
            ("ip4", r#""192.0.2.1""#, "ip4 192.0.2.1"),
            ("ip6", r#""2001:db8::1""#, "ip6 2001:db8::1"),
            ("rg4", r#""192.0.2.0/24""#, "rg4 192.0.2.0/24"),
            ("rg6", r#""2001:db8::/32""#, "rg6 2001:db8::/32"),
            ("fqdn", r#""example.com""#, "fqdn example.com"),
            ("address", r#""a@example.com""#, "address a@example.com"),
            ("addr", r#""a@example.com""#, "address a@example.com"),
            ("address", r##"#{ value: "a@example.com", color: "red" }"##, "address a@example.com"),
            ("identifier", r#""joe""#, "identifier joe"),
            ("val", r#""joe""#, "identifier joe"),
            ("regex", r#""^a+$""#, "regex ^a+$"),
            ("string", r#""text""#, "string text"),
            ("string", r##"#{ value: "text" }"##, "string text"),
            ("group", r#"["a", ["b", "c"]]"#, "group [a, [b, c]]"),
            ("group", "[]", "group []"),
            ("code", r#""220 hello""#, "code 220 hello"),
            ("code", r#""250-a\r\n250 b\r\n""#, "code 250-a|250 b"),
            ("code", r##"#{ code: 550, enhanced: "5.7.1", text: "no" }"##, "code 550 5.7.1 no"),
            ("code", r##"#{ code: 220, enhanced: "", text: "hello" }"##, "code 220 hello"),
            ("code", r##"#{ value: "220 hello" }"##, "code 220 hello"),
            ("file:address", r#""list""#, "file [a@b.c, d@e.f]"),
            ("file:string", r##"#{ value: "list" }"##, "file [a@b.c, d@e.f]"),
        ] {
            assert_eq!(made(kind, expression).as_deref(), Ok(expected), "{kind} = {expression}");
        }
    }

    #[test]
    fn what_is_not_of_the_type_is_refused_with_the_reason() {
        for (kind, expression, words) in [
            ("ip4", r#""x""#, "not of type ip4"),
            ("ip4", "5", "not of a i64"),
            ("ip4", "#{}", "needs an entry 'value'"),
            ("group", r#""a""#, "made of a list"),
            ("group", "[1]", "cannot be a member"),
            ("code", "#{}", "number as 'code'"),
            ("code", r#""hello""#, "not of type code"),
            ("nonsense", r#""a""#, "does not exist"),
            ("file:code", r#""list""#, "cannot be of type 'code'"),
            ("file:ip4", r#""ips""#, "line 2: 'not an ip'"),
            ("file:ip4", r#""nowhere""#, "nowhere cannot be read"),
            ("file:ip4", "5", "made of a text"),
        ] {
            let why = made(kind, expression).unwrap_err();
            assert!(why.contains(words), "{kind} = {expression}: {why}");
        }
        let nested =
            (0..20).fold(Dynamic::from_array(Vec::new()), |inner, _| Dynamic::from_array(vec![inner]));
        let why = build("group", nested, &|_| Err(Fault::new("no file"))).unwrap_err();
        assert!(why.0.contains("nested too deeply"), "{why:?}");
    }
}
