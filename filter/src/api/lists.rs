//! Lists from files: `file()`, `netset::`, `table()`.

use std::net::IpAddr;
use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, NativeCallContext};

use super::address::{mailbox, objects};
use super::general::Surroundings;
use super::registry::{Registry, name, unanswered};
use crate::database::NoAnswer;
use crate::files::Watched;
use crate::netset::{NetSet, net};
use crate::object::{Fault, Object};
use crate::table::Table;

/// A set of networks, for scripts.
#[derive(Debug, Clone)]
enum Networks {
    Fixed(Arc<NetSet>),
    File(Arc<Watched<NetSet>>),
}

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let folder = Arc::clone(&surroundings.folder);
    let file = name("obj", "file", &["file"])
        .doc("(path: string, type: string) -> file", "The values in a file of the configuration, one per line, all of one type: `ip4`, `ip6`, `rg4`, `rg6`, `address`, `fqdn`, `regex`, `identifier` or `string`. Empty lines count for nothing. It is read once, while the rules are loaded; it is like an array.")
        .errors("if the file cannot be read, lies outside the folder of the configuration, or a line is not of the type")
        .example("const friends = file(\"lists/friends.txt\", \"address\"); \"jane@example.com\" in friends && friends.len() == 2");
    registry
        .free2(file, move |path: ImmutableString, kind: ImmutableString| Object::file(&folder, &path, &kind));
    networks(registry, surroundings);
    tables(registry, surroundings);
}

fn networks(registry: &mut Registry, surroundings: &Surroundings) {
    registry.engine.register_type_with_name::<Networks>("netset");
    let folder = Arc::clone(&surroundings.folder);
    let file = name("netset", "file", &[])
        .doc("(path: string) -> netset", "The addresses and networks in a file of the configuration, one per line; `#` and `;` begin comments. When the file changes it is read again within a second of the next use; one that is bad changes nothing and is logged. Make it once, as a constant outside rules.")
        .errors("if the file cannot be read, lies outside the folder of the configuration, or a line is neither address nor network")
        .example("const blocked = netset::file(\"lists/blocked.txt\"); \"203.0.113.9\" in blocked && !(ctx::client_ip() in blocked)");
    registry.free_text(file, move |path| {
        Ok(Networks::File(Arc::new(Watched::open(&folder, path, NetSet::parse)?)))
    });
    let of = name("netset", "of", &[])
        .doc("(items: array) -> netset", "The set of these addresses and networks.")
        .errors("if an item is neither address nor network")
        .example("\"10.1.2.3\" in netset::of([\"10.0.0.0/8\", \"192.0.2.1\", rg6(\"2001:db8::/32\")])");
    registry.free1(of, |items: Array| {
        let nets = objects(&items)?.into_iter().map(|item| {
            let text = item.text();
            net(&text).map_err(|why| Fault(format!("'{text}' is neither address nor network: {why}")))
        });
        Ok(Networks::Fixed(Arc::new(NetSet::of(nets.collect::<Result<Vec<_>, _>>()?))))
    });
    let contains = name("netset", "contains", &[])
        .doc("(ip: string) -> bool", "The address is in the set; written `ip in set` too. A text that is no address, such as the empty one of the local socket, is in no set.")
        .example("netset::of([\"::1\"]).contains(\"::1\") && !(\"\" in netset::of([\"0.0.0.0/0\"]))");
    registry.method_text(contains, |set: &Networks, text| {
        Ok(text.parse::<IpAddr>().is_ok_and(|address| set.now().contains(address)))
    });
    let len = name("netset", "len", &[])
        .doc("() -> int", "How many ranges the set has; networks that touch are one.")
        .example("netset::of([\"10.0.0.0/8\", \"10.1.0.0/16\"]).len() == 1");
    registry.method0(len, |set: &Networks| Ok(i64::try_from(set.now().len()).unwrap_or(i64::MAX)));
    for printer in ["to_string", "to_debug"] {
        registry.engine.register_fn(printer, |set: &mut Networks| match set {
            Networks::Fixed(set) => format!("netset of {}", set.len()),
            Networks::File(file) => format!("netset {}", file.name()),
        });
    }
}

impl Networks {
    fn now(&self) -> Arc<NetSet> {
        match self {
            Networks::Fixed(set) => Arc::clone(set),
            Networks::File(file) => file.now(),
        }
    }
}

fn tables(registry: &mut Registry, surroundings: &Surroundings) {
    registry.engine.register_type_with_name::<Table>("table");
    let (folder, accounts) = (Arc::clone(&surroundings.folder), Arc::clone(&surroundings.accounts));
    let asker = Arc::clone(&surroundings.asker);
    let open = name("table", "open", &["table"])
        .doc("(source: string) -> table", "A lookup table as Postfix has them, written `kind:source`. `hash:`, `texthash:`, `lmdb:`, `btree:`, `cdb:` and `dbm:` read the text file of keys and values (not the database made of it); `cidr:` a file of networks; `regexp:` and `pcre:` one of patterns, matched in linear time; `static:value` has one value for every key; `inline:{ key=value, { key = two words } }` holds its keys itself; `unix:passwd.byname` and `unix:group.byname` have the lines of `/etc/passwd` and `/etc/group` by name, as they were when the rules were loaded, without passwords. Paths are relative to the folder of the configuration, or absolute and below it. A file that changes is read again, as with `netset::file`. `mysql:` and `sqlite:` name a file as Postfix has it (mysql_table(5): `hosts`, `user`, `password`, `dbname`, `query`; sqlite_table(5): `dbpath`, `query`; `result_format`, `domain`, `expansion_limit`), which is read once; `sqlite:/path?query=...` needs no file. Of several `hosts` the first that answers counts; they share ten seconds, each query has its share of what is left and no more (of two hosts the first has five seconds, and the second what the first has not taken), and one that has not answered is asked last for half a minute. `%s`, `%u`, `%d`, `%1` to `%9` of the query stand for the key and its parts, and are given to the database as parameters, so no key can be SQL. Such a table is looked up by `vsmtp-database`, when it is asked and never in this process; make it where the script is loaded. A file of SQLite is only read, by the user `vsmtp-database`.")
        .errors("if there is no such kind, the file cannot be read, or a line is wrong")
        .example("const access = table(\"hash:lists/access\"); access.get(\"example.com\") == \"REJECT\" && \"jane\" in table(\"unix:passwd.byname\")");
    registry.free_text(open, move |source| Table::open(&folder, &accounts, &asker, source));
    let get = name("table", "get", &[])
        .doc(
            "(key: string) -> string",
            "What the table says of the key; `()` if nothing. Written `table[key]` too.",
        )
        .errors("if a database does not answer")
        .example("table(\"inline:{ a=1 }\").get(\"A\") == \"1\" && table(\"inline:{ a=1 }\")[\"b\"] == ()");
    registry.method_text_asks(get, |table: &Table, key| Ok(text_or_unit(table.get(key)?)));
    let contains = name("table", "contains", &[])
        .doc("(key: string) -> bool", "The table says something of the key; written `key in table` too.")
        .errors("if a database does not answer")
        .example("\"10.1.2.3\" in table(\"cidr:lists/networks.cidr\")");
    registry.method_text_asks(contains, |table: &Table, key| Ok(table.get(key)?.is_some()));
    let address = name("table", "address", &[])
        .doc("(address: address) -> string", "The first that the table says of the whole address, of it without an extension behind `+`, of `@domain`, of `local@`; `()` if nothing.")
        .errors("if the argument is not an address, or a database does not answer")
        .example("table(\"inline:{ joe@example.com=1, @example.com=2 }\").address(\"joe+lists@example.com\") == \"1\"");
    registry.method_text_asks(address, |table: &Table, text| {
        let address = mailbox(text).map_err(NoAnswer::Never)?;
        Ok(text_or_unit(table.address(&address)?))
    });
    let domain = name("table", "domain", &[])
        .doc("(domain: string) -> string", "The first that the table says of the domain or of one above it, with a dot before it or without; `()` if nothing.")
        .errors("if the argument is not a domain, or a database does not answer")
        .example("table(\"inline:{ .example.com=1 }\").domain(\"mx.example.com\") == \"1\"");
    registry.method_text_asks(domain, |table: &Table, text| {
        let domain = vsmtp_mail::Domain::parse(text);
        let wrong = |error| NoAnswer::Never(Fault(format!("'{text}' is not a domain: {error}")));
        Ok(text_or_unit(table.domain(&domain.map_err(wrong)?)?))
    });
    table_operators(registry.engine);
}

fn table_operators(engine: &mut Engine) {
    engine.register_indexer_get(|context: NativeCallContext, table: &mut Table, key: ImmutableString| {
        entry(&context, table, &key)
    });
    engine.register_indexer_get(|context: NativeCallContext, table: &mut Table, key: Object| {
        entry(&context, table, &key.text())
    });
    for printer in ["to_string", "to_debug"] {
        engine.register_fn(printer, |table: &mut Table| table.name().to_owned());
    }
}

fn entry(context: &NativeCallContext, table: &Table, key: &str) -> Result<Dynamic, Box<EvalAltResult>> {
    table.get(key).map(text_or_unit).map_err(|none| unanswered(context, none))
}

fn text_or_unit(found: Option<String>) -> Dynamic {
    found.map_or(Dynamic::UNIT, Dynamic::from)
}
