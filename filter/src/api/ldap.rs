//! `ldap::`: directories that rules search. Nothing here changes one.

use rhai::{Array, Dynamic, ImmutableString, Map};
use vsmtp_config::DatabaseKind;
use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::asked::{ERRORS, Kind, Service, constructors, text};
use super::general::Surroundings;
use super::registry::{Outcome, Registry, name};
use crate::object::{Fault, Object};
use crate::stage::Stage;
use crate::transaction::Shared;

#[derive(Debug, Clone)]
struct Ldap;

impl Kind for Ldap {
    const TITLE: &'static str = "LDAP";
    const SERVICE: &'static str = "db:ldap";
    const IS: DatabaseKind = DatabaseKind::Ldap;
}

type Server = Service<Ldap>;

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let by_map = name("ldap", "connect", &["ldap"])
        .doc("(map) -> ldap", "A directory: `url` is `ldap://host:port`, `ldaps://host:port`, or `ldapi://%2Frun%2Fslapd%2Fldapi` for a server of this host; `bind` is `#{ dn: \"cn=mail,dc=example,dc=com\", pw: \"password\" }`, without which we are nobody there; `tls` is `#{ starttls: true, cafile: \"/etc/ssl/ds.pem\" }`. With `starttls` or `ldaps:` nothing is asked unless the connection is encrypted and the certificate is for the host of the URL and of an authority in `cafile`, or of one that the system knows if there is none; the file is read, by the user `vsmtp-database`, at the start. A question that has no answer after `timeout` fails (`\"10s\"` by default, at most 5 minutes): less than `filter.timeout`, 30 seconds by default, or the rule is stopped first; at most `connections` questions are put to it at once (4 by default, at most 64), others wait. Nothing is connected before it is asked, so a directory that is away is no error at start. Make it where the script is loaded, outside rules and functions: that declares it, and what is not declared is not asked. `service NAME db:ldap = #{ ... }` is the same.")
        .errors("if the map is not that of a database")
        .example("const people = ldap::connect(#{ url: \"ldaps://ds.test\", bind: #{ dn: \"cn=mail\", pw: \"secret\" } }); `${people}` == \"ldaps://ds.test:636 as cn=mail\"");
    let by_name = name("ldap", "connect", &["ldap"])
        .doc("(name: string) -> ldap", "The directory of that name in `filter.databases`. Then its password stands in the configuration and nowhere in the rules, and filters that judge mail are not told it.")
        .errors("if there is none of that name")
        .example("const people = ldap::connect(\"people\"); `${people}` == \"people\"");
    constructors::<Ldap>(registry, surroundings, by_map, by_name);
    searches(registry);
    escapes(registry);
}

fn searches(registry: &mut Registry) {
    let plain = name("ldap", "search", &[])
        .doc("(base: string, scope: string, filter: string, attributes: array) -> map", "What a filter (RFC 4515) finds: `#{ result: \"ok\", entries: [#{ dn, attrs }] }`, where `attrs` is a map from names of attributes to arrays of texts; or `#{ result: \"error\", error }` where the directory says no, also where there is no such base. `scope` is `\"base\"` (only that entry), `\"one\"` (those right below) or `\"sub\"` (it, and all below). `[\"*\"]` are all attributes, `[]` too. A directory that is busy, or out of time, throws. Aliases and referrals are not followed. Other sessions go on meanwhile. What a client has said must not become part of a filter: give it as a value, or `ldap::escape` it.")
        .errors(ERRORS)
        .example("const people = ldap::connect(\"people\"); people.search(\"dc=example,dc=com\", \"sub\", \"(uid=jane)\", [\"mail\"]).entries[0].attrs.mail == [\"jane@example.com\"]");
    let body = |shared: &Shared,
                server: &Server,
                base: ImmutableString,
                scope: ImmutableString,
                filter: ImmutableString,
                attributes: Array| {
        let names = names(&attributes)?;
        let mut parameters = question(&base, &scope, &filter)?;
        parameters.extend(names);
        server.ask(shared, "search", parameters).map(found)
    };
    registry.method_waits4(plain, Stage::Connect, body);
    let with = name("ldap", "search", &[])
        .doc("(base: string, scope: string, filter: string, attributes: array, values: array) -> map", "The same; each `?` of the filter stands for one of the values, in order: a string or an object. Whatever is in it, it stays a value.")
        .errors("the same, and if there are more or fewer values than the filter has `?`")
        .example("const people = ldap::connect(\"people\"); people.search(\"dc=example,dc=com\", \"sub\", \"(mail=?)\", [\"cn\"], [address(\"jane@example.com\")]).entries.len() == 1");
    let body = |shared: &Shared,
                server: &Server,
                base: ImmutableString,
                scope: ImmutableString,
                filter: ImmutableString,
                attributes: Array,
                values: Array| {
        let names = names(&attributes)?;
        let mut parameters = question(&base, &scope, &filter)?;
        parameters.push(Parameter::Int(i64::try_from(names.len()).unwrap_or(i64::MAX)));
        parameters.extend(names);
        for value in &values {
            parameters.push(Parameter::Text(text(value, "a value")?));
        }
        server.ask(shared, "search_values", parameters).map(found)
    };
    registry.method_waits5(with, Stage::Connect, body);
    let compare = name("ldap", "compare", &[])
        .doc("(dn: string, attribute: string, value) -> bool", "True if an attribute of an entry has this value, by the directory's own rules of what is equal.")
        .errors("the same, and if there is no such entry or attribute")
        .example("const people = ldap::connect(\"people\"); people.compare(\"uid=jane,dc=example,dc=com\", \"mail\", address(\"jane@example.com\"))");
    let body = |shared: &Shared,
                server: &Server,
                dn: ImmutableString,
                attribute: ImmutableString,
                value: Dynamic| {
        let value = text(&value, "a value")?;
        let parameters = [dn.to_string(), attribute.to_string(), value].map(Parameter::Text).to_vec();
        let Rows { columns, rows } = server.ask(shared, "compare", parameters)?;
        let word = rows.into_iter().flatten().next().flatten().unwrap_or_default();
        match columns.first().is_some_and(|column| column == "error") {
            true => Err(Fault(format!("{dn} cannot be compared: {word}"))),
            false => Ok(word == "true"),
        }
    };
    registry.method_waits3(compare, Stage::Connect, body);
}

fn escapes(registry: &mut Registry) {
    let value = name("ldap", "escape", &[])
        .doc(
            "(text) -> string",
            "A text as it stands in a filter for itself (RFC 4515): a client that says `*` is not everybody.",
        )
        .example("ldap::escape(\"*)(uid=a\") == \"\\\\2a\\\\29\\\\28uid=a\"");
    registry.free1(value, |text: ImmutableString| Ok(escape(&text)));
    registry.free1(value, |object: Object| Ok(escape(&object.text())));
    let part = name("ldap", "escape_dn", &[])
        .doc("(text) -> string", "A text as it stands in a name of an entry for itself (RFC 4514).")
        .example("`uid=${ldap::escape_dn(\"doe, jane\")},dc=example,dc=com` == \"uid=doe\\\\2c jane,dc=example,dc=com\"");
    registry.free1(part, |text: ImmutableString| Ok(escape_dn(&text)));
    registry.free1(part, |object: Object| Ok(escape_dn(&object.text())));
}

fn question(base: &str, scope: &str, filter: &str) -> Outcome<Vec<Parameter>> {
    if !["base", "one", "sub"].contains(&scope) {
        return Err(Fault(format!("a scope is \"base\", \"one\" or \"sub\", not \"{scope}\"")));
    }
    Ok([base, scope, filter].map(|text| Parameter::Text(text.to_owned())).to_vec())
}

fn names(values: &Array) -> Outcome<Vec<Parameter>> {
    values.iter().map(|value| text(value, "the name of an attribute").map(Parameter::Text)).collect()
}

/// What a search has found, as scripts see it: rows with a name begin an entry, those behind it are its values.
fn found(rows: Rows) -> Map {
    let Rows { columns, rows } = rows;
    if columns.first().is_some_and(|column| column == "error") {
        let why = rows.into_iter().flatten().next().flatten().unwrap_or_default();
        return Map::from([("result".into(), Dynamic::from("error")), ("error".into(), Dynamic::from(why))]);
    }
    let mut entries: Vec<(String, Map)> = Vec::new();
    for row in rows {
        let Ok([dn, name, value]) = <[Option<String>; 3]>::try_from(row) else { continue };
        if let Some(dn) = dn {
            entries.push((dn, Map::new()));
        }
        if let (Some(name), Some((_, attributes))) = (name, entries.last_mut()) {
            let values = attributes.entry(name.into()).or_insert_with(|| Dynamic::from(Array::new()));
            if let (Some(value), Some(mut values)) = (value, values.write_lock::<Array>()) {
                values.push(Dynamic::from(value));
            }
        }
    }
    let entry = |(dn, attributes): (String, Map)| {
        Dynamic::from(Map::from([
            ("dn".into(), Dynamic::from(dn)),
            ("attrs".into(), Dynamic::from(attributes)),
        ]))
    };
    let entries: Array = entries.into_iter().map(entry).collect();
    Map::from([("result".into(), Dynamic::from("ok")), ("entries".into(), Dynamic::from(entries))])
}

fn escape(text: &str) -> String {
    hexadecimal(text, |_, c| matches!(c, '*' | '(' | ')' | '\\' | '?') || c.is_ascii_control())
}

fn escape_dn(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    hexadecimal(text, |at, c| {
        matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=')
            || c.is_ascii_control()
            || (at == 0 && matches!(c, ' ' | '#'))
            || (at == last && c == ' ')
    })
}

/// With a backslash and two digits in place of each character that would mean something.
fn hexadecimal(text: &str, means_something: impl Fn(usize, char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match means_something(at, c) {
            true => escaped.push_str(&format!("\\{:02x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped
}
