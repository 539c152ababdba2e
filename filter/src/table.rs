//! Lookup tables as Postfix sites have them: a key gives a text or nothing. They are read from text files; what Postfix
//! compiles into a database (`hash:`, `lmdb:`) is read from the file that the database was made of. What lies in a database
//! proper is asked for each key.
//!
//! On failure: a table that cannot be understood is a fault that names its line.

mod line;
mod lookup;
mod rules;
mod servers;
mod sql;

use std::collections::HashMap;
use std::sync::Arc;

use vsmtp_mail::{Address, Domain};

use crate::accounts::Accounts;
use crate::database::{Asker, NoAnswer};
use crate::files::{Folder, Reader, Watched};
use crate::object::Fault;
use lookup::Lookup;
use rules::Rules;

/// Kinds of tables whose source is a text of keys and values.
const TEXTS: [&str; 7] = ["hash", "texthash", "lmdb", "btree", "cdb", "dbm", "sdbm"];
/// Longest key that is looked up, in octets.
const MAX_KEY: usize = 4096;

/// What a table is made of, once it is read.
#[derive(Debug)]
enum Content {
    /// Keys in lower case.
    Keys(HashMap<Box<str>, Box<str>>),
    /// Networks or patterns, in order.
    Rules(Rules),
}

/// A lookup table.
#[derive(Debug, Clone)]
pub struct Table {
    name: Arc<str>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Every key has this value.
    Static(Arc<str>),
    Fixed(Arc<Content>),
    File(Arc<Watched<Content>>),
    Database(Arc<Lookup>),
}

impl Table {
    /// Opens what `kind:source` names, as in Postfix: `hash:maps/aliases`, `cidr:`, `regexp:`, `pcre:`, `static:text`,
    /// `inline:{ key=value, ... }`, `unix:passwd.byname`, `mysql:`, `sqlite:`.
    pub fn open(
        folder: &Arc<Folder>,
        accounts: &Accounts,
        asker: &Arc<dyn Asker>,
        name: &str,
    ) -> Result<Self, Fault> {
        let plain = name.strip_prefix("proxy:").unwrap_or(name);
        let Some((kind, from)) = plain.split_once(':') else {
            return Err(Fault(format!(
                "'{name}' is not a table: it is written kind:source, as hash:maps/aliases"
            )));
        };
        let reader: Reader<Content> = match kind {
            "static" => {
                let value =
                    from.strip_prefix('{').and_then(|text| text.strip_suffix('}')).map_or(from, str::trim);
                return Ok(Table { name: name.into(), source: Source::Static(value.into()) });
            }
            "inline" => {
                let keys = line::inline(from).map_err(|why| Fault(format!("'{name}': {why}")))?;
                return Ok(Table { name: name.into(), source: Source::Fixed(Arc::new(Content::Keys(keys))) });
            }
            "unix" => {
                let lines = accounts.table(from).ok_or_else(|| {
                    Fault(format!(
                        "'{name}': there are unix:passwd.byname and unix:group.byname, and no others"
                    ))
                })?;
                let content = Arc::new(Content::Keys(lines.clone()));
                return Ok(Table { name: name.into(), source: Source::Fixed(content) });
            }
            "mysql" | "sqlite" => {
                let lookup = lookup(folder, asker, kind, from);
                let lookup =
                    lookup.map_err(|fault| Fault(format!("'{kind}:{}': {}", shown(from), fault.0)))?;
                return Ok(Table { name: name.into(), source: Source::Database(Arc::new(lookup)) });
            }
            text if TEXTS.contains(&text) => read_keys,
            "cidr" => read_networks,
            "regexp" => read_regexps,
            "pcre" => read_pcres,
            _ => {
                let known = "hash, texthash, lmdb, btree, cdb, dbm, cidr, regexp, pcre, static, inline, unix, mysql, sqlite";
                return Err(Fault(format!(
                    "'{name}': there are no tables of the kind '{kind}', only {known}"
                )));
            }
        };
        let file = Watched::open(folder, from, reader)?;
        Ok(Table { name: name.into(), source: Source::File(Arc::new(file)) })
    }

    /// As it was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the table says of a key.
    ///
    /// # Errors
    /// A database has not told.
    pub fn get(&self, key: &str) -> Result<Option<String>, NoAnswer> {
        if key.len() > MAX_KEY {
            return Ok(None);
        }
        Ok(match &self.source {
            Source::Static(value) => Some(value.to_string()),
            Source::Fixed(content) => content.get(key),
            Source::File(file) => file.now().get(key),
            Source::Database(lookup) => return lookup.get(key),
        })
    }

    /// What it says of an address: by all of it, without an extension behind `+`, by its domain as `@domain`, and by its
    /// local part as `local@`, the first that is there.
    ///
    /// # Errors
    /// A database has not told.
    pub fn address(&self, address: &Address) -> Result<Option<String>, NoAnswer> {
        let domain = address.domain();
        let local = address.local_part();
        let base = local.split_once('+').map_or(local, |(base, _)| base);
        let mut keys = vec![address.to_string()];
        if base != local && !base.is_empty() {
            keys.push(format!("{base}@{domain}"));
        }
        keys.extend([format!("@{domain}"), format!("{local}@")]);
        if base != local && !base.is_empty() {
            keys.push(format!("{base}@"));
        }
        self.first(keys.iter().map(String::as_str))
    }

    /// What it says of a domain: by its name, then by the names above it, each with a dot before it and without.
    ///
    /// # Errors
    /// A database has not told.
    pub fn domain(&self, domain: &Domain) -> Result<Option<String>, NoAnswer> {
        let name = domain.as_str();
        if domain.as_literal().is_some() {
            return self.get(name);
        }
        let parents =
            name.match_indices('.').filter_map(|(at, _)| Some((name.get(at..)?, name.get(at + 1..)?)));
        let parents = parents.flat_map(|(dotted, bare)| [dotted, bare]);
        self.first(std::iter::once(name).chain(parents))
    }

    /// The first that it says of these keys; none is looked up after one that nobody could tell.
    fn first<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Result<Option<String>, NoAnswer> {
        for key in keys {
            if let Some(found) = self.get(key)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// A table in a database, by what stands behind its kind.
fn lookup(folder: &Folder, asker: &Arc<dyn Asker>, kind: &str, from: &str) -> Result<Lookup, Fault> {
    match (kind, from.split_once("?query=")) {
        ("mysql", _) => Lookup::mysql(&folder.read(from)?, asker),
        (_, Some((path, query))) => Lookup::sqlite(lookup::Source::Inline(path, query), asker),
        (_, None) => Lookup::sqlite(lookup::Source::File(&folder.read(from)?), asker),
    }
}

/// So much of a name that a message is not longer than a line.
fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}

impl Content {
    fn get(&self, key: &str) -> Option<String> {
        match self {
            Content::Keys(keys) => {
                // Most keys are in lower case already.
                let is_folded = key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
                let found = if is_folded { keys.get(key) } else { keys.get(&*key.to_lowercase()) };
                found.map(|value| value.to_string())
            }
            Content::Rules(rules) => rules.get(key),
        }
    }
}

fn read_keys(text: &str) -> Result<Content, Fault> {
    let mut keys = HashMap::new();
    for line in line::logical(text) {
        let (key, value) = line.key_and_value()?;
        // The first of two counts, as postmap warns.
        keys.entry(key.to_lowercase().into()).or_insert_with(|| value.into());
    }
    Ok(Content::Keys(keys))
}

fn read_networks(text: &str) -> Result<Content, Fault> {
    Rules::networks(text).map(Content::Rules)
}

fn read_regexps(text: &str) -> Result<Content, Fault> {
    Rules::patterns(text, rules::Dialect::Posix).map(Content::Rules)
}

fn read_pcres(text: &str) -> Result<Content, Fault> {
    Rules::patterns(text, rules::Dialect::Perl).map(Content::Rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Arc<dyn Asker> {
        Arc::new(crate::database::NoAsker)
    }

    /// A table of that kind and text.
    fn table(kind: &str, text: &str) -> Result<Table, Fault> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t"), text).unwrap();
        Table::open(&Folder::open(dir.path()), &Accounts::default(), &nobody(), &format!("{kind}:t"))
    }

    fn check(table: &Table, rows: &[(&str, Option<&str>)]) {
        for (key, value) in rows {
            assert_eq!(table.get(key).unwrap().as_deref(), *value, "{key} in {}", table.name());
        }
    }

    #[test]
    fn keys_and_values() {
        let text = "# comment\nJohn@Example.com  jane@example.com,\n  joe@example.com\n\n\
            example.org OK\nexample.org REJECT\n  # comment\n\"two words\" x\nempty\n";
        for kind in ["hash", "lmdb", "proxy:hash"] {
            let found = table(kind, text).unwrap();
            check(
                &found,
                &[
                    ("john@example.COM", Some("jane@example.com, joe@example.com")),
                    ("example.org", Some("OK")),
                    ("two words", Some("x")),
                    ("empty", Some("")),
                    ("none", None),
                    (&"x".repeat(MAX_KEY + 1), None),
                ],
            );
        }
        assert!(table("hash", "  continues nothing\n").unwrap_err().0.contains("line 1"));
        assert!(table("hash", "\"open x\n").unwrap_err().0.contains("line 1"));
    }

    #[test]
    fn networks_in_order() {
        let text = "10.1.0.0/16 REJECT\n10.0.0.0/8 OK\n192.0.2.1 one\n2001:db8::/32 v6\n\
            if 172.16.0.0/12\n172.16.1.0/24 inner\n!172.17.0.0/16 outer\nendif\n";
        check(
            &table("cidr", text).unwrap(),
            &[
                ("10.1.2.3", Some("REJECT")),
                ("10.2.2.3", Some("OK")),
                ("192.0.2.1", Some("one")),
                ("192.0.2.2", None),
                ("2001:db8::1", Some("v6")),
                ("172.16.1.1", Some("inner")),
                ("172.18.0.1", Some("outer")),
                ("172.17.0.1", None),
                ("no address", None),
            ],
        );
        for (bad, words) in [
            ("10.0.0.0/33 x", "line 1"),
            ("\nx y", "line 2"),
            ("endif", "line 1"),
            ("if 10.0.0.0/8\n", "endif"),
            ("10.0.0.0/8", "line 1"),
        ] {
            assert!(table("cidr", bad).unwrap_err().0.contains(words), "{bad}");
        }
    }

    #[test]
    fn patterns_in_order_with_what_they_matched() {
        let text = "/^(.+)-request@(.*)$/  $1@${2} ($$1)\n!/@example\\.com$/ elsewhere\n\
            if /^J/i\n/^Jane/ capital\nendif\n|^a/b| slash\n/.*/ rest\n";
        check(
            &table("regexp", text).unwrap(),
            &[
                ("List-Request@example.com", Some("List@example.com ($1)")),
                ("x@example.org", Some("elsewhere")),
                ("Jane@example.com", Some("capital")),
                ("jane@example.com", Some("rest")),
            ],
        );
        check(
            &table("pcre", "/^a b$/x spaced\n/^A$/i exact\n/^line.two$/ dots\n/^(?<n>x)y/ $(1)\n").unwrap(),
            &[
                ("ab", Some("spaced")),
                ("A", Some("exact")),
                ("a", None),
                ("line\ntwo", Some("dots")),
                ("xy", Some("x")),
            ],
        );
        for (bad, words) in [
            ("/(/ x", "line 1"),
            ("/a/q x", "line 1"),
            ("/a", "line 1"),
            ("/a/", "line 1"),
            ("/a(?=b)/ x", "line 1"),
            ("/a/ $1", "line 1"),
            ("!/(a)/ $1", "line 1"),
            ("x y", "line 1"),
        ] {
            assert!(table("pcre", bad).unwrap_err().0.contains(words), "{bad}");
        }
    }

    #[test]
    fn tables_without_a_file() {
        let none = Arc::new(Folder::default());
        check(
            &Table::open(&none, &Accounts::default(), &nobody(), "static:OK").unwrap(),
            &[("anything", Some("OK"))],
        );
        check(
            &Table::open(&none, &Accounts::default(), &nobody(), "static:{ two words }").unwrap(),
            &[("anything", Some("two words"))],
        );
        let inline =
            Table::open(&none, &Accounts::default(), &nobody(), "inline:{ a=1, { B = two words }, c = 3 }")
                .unwrap();
        check(&inline, &[("a", Some("1")), ("b", Some("two words")), ("C", Some("3")), ("d", None)]);
        for bad in ["hash:x", "mysql:x", "plain", "inline:a=1", "inline:{ a }", "inline:{ { a = 1 }", ""] {
            assert!(Table::open(&none, &Accounts::default(), &nobody(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_and_domains_are_looked_up_from_the_special_to_the_general() {
        let none = Arc::new(Folder::default());
        let open = |text: &str| {
            Table::open(&none, &Accounts::default(), &nobody(), &format!("inline:{{ {text} }}")).unwrap()
        };
        let table = open("joe+x@b.c=1, joe@b.c=2, @b.c=3, root@=4, .example.com=5, example.com=6, com=7");
        for (address, value) in [
            ("joe+x@b.c", Some("1")),
            ("joe+y@B.C", Some("2")),
            ("jane@b.c", Some("3")),
            ("root@elsewhere.test", Some("4")),
            ("root+x@elsewhere.test", Some("4")),
            ("jane@elsewhere.test", None),
        ] {
            assert_eq!(
                table.address(&Address::parse(address).unwrap()).unwrap().as_deref(),
                value,
                "{address}"
            );
        }
        for (domain, value) in [
            ("example.com", Some("6")),
            ("a.b.example.com", Some("5")),
            ("other.com", Some("7")),
            ("example.net", None),
            ("[192.0.2.1]", None),
        ] {
            assert_eq!(table.domain(&Domain::parse(domain).unwrap()).unwrap().as_deref(), value, "{domain}");
        }
    }

    #[test]
    fn accounts_of_the_host() {
        let accounts = Accounts::parse("jane:x:1000:1000::/home/jane:/bin/sh\n", "staff:x:50:jane\n");
        let none = Folder::open(std::path::Path::new("/nonexistent"));
        let open = |name: &str| Table::open(&none, &accounts, &nobody(), name);
        let users = open("proxy:unix:passwd.byname").unwrap();
        check(&users, &[("Jane", Some("jane:x:1000:1000::/home/jane:/bin/sh")), ("staff", None)]);
        check(&open("unix:group.byname").unwrap(), &[("staff", Some("staff:x:50:jane")), ("jane", None)]);
        assert!(open("unix:passwd.byuid").unwrap_err().0.contains("and no others"));
    }
}
