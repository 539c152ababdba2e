//! `mysql::`: databases that rules ask. The filter reaches none: a process of its own does, and only those that are declared.

use rhai::{Array, Dynamic, ImmutableString, Map};
use vsmtp_config::DatabaseKind;
use vsmtp_ipc::edge::filter_database::Rows;

use super::asked::{ERRORS, Kind, Service, constructors, parameters};
use super::general::Surroundings;
use super::registry::{Registry, name};
use crate::stage::Stage;
use crate::transaction::Shared;

#[derive(Debug, Clone)]
struct MySql;

impl Kind for MySql {
    const TITLE: &'static str = "MySQL";
    const SERVICE: &'static str = "db:mysql";
    const IS: DatabaseKind = DatabaseKind::MySql;
}

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let constructor = name("mysql", "connect", &["mysql"])
        .doc("(map) -> mysql", "A MySQL or MariaDB database: `url` is `mysql://user:password@host:port/database`, with `%40` for `@` and the like, or with `?socket=/run/mysqld/mysqld.sock` for a server of this host; a question that has no answer after `timeout` fails (`\"10s\"` by default, at most 5 minutes): less than `filter.timeout`, 30 seconds by default, or the rule is stopped first; at most `connections` questions are put to it at once (4 by default, at most 64), others wait. The connection is not encrypted. Nothing is connected before it is asked, so a database that is away is no error at start. Make it where the script is loaded, outside rules and functions: that declares it, and what is not declared is not asked. `service NAME db:mysql = #{ ... }` is the same.")
        .errors("if the map is not that of a database")
        .example("const db = mysql::connect(#{ url: \"mysql://mail:secret@db.test/mail\", timeout: \"5s\" }); `${db}` == \"mysql://mail@db.test:3306/mail\"");
    let named = name("mysql", "connect", &["mysql"])
        .doc("(name: string) -> mysql", "The database of that name in `filter.databases`. Then its password stands in the configuration and nowhere in the rules, and filters that judge mail are not told it.")
        .errors("if there is none of that name")
        .example("const db = mysql::connect(\"accounts\"); db.query(\"select 1\").len() == 1");
    constructors::<MySql>(registry, surroundings, constructor, named);
    queries(registry);
}

fn queries(registry: &mut Registry) {
    let plain = name("mysql", "query", &[])
        .doc("(sql: string) -> array", "Has the database execute one statement: an array of maps, one for each row, from the names of the columns to texts, `()` for `NULL`; an empty array if there is no row, or if the statement finds none. Other sessions go on meanwhile. What a client has said must not become part of the text: give it as a parameter.")
        .errors(ERRORS)
        .example("const db = mysql::connect(\"accounts\"); db.query(\"select count(*) as n from users\")[0].n == \"1\"");
    registry.method_waits1(
        plain,
        Stage::Connect,
        |shared, service: &Service<MySql>, sql: ImmutableString| {
            service.ask(shared, &sql, Vec::new()).map(of_rows)
        },
    );
    let with = name("mysql", "query", &[])
        .doc("(sql: string, parameters: array) -> array", "The same; each `?` of the statement stands for one of the parameters, in order: a string, an object, a number, a truth value, or `()` for `NULL`. Whatever is in a text, it stays a value.")
        .errors("the same, and if a parameter is something else, or there are more or fewer than the statement has `?`")
        .example("const db = mysql::connect(\"accounts\"); db.query(\"select * from users where address = ?\", [address(\"jane@example.com\")])[0].name == \"Jane\"");
    let ask = |shared: &Shared, service: &Service<MySql>, sql: ImmutableString, values: Array| {
        service.ask(shared, &sql, parameters(&values)?).map(of_rows)
    };
    registry.method_waits2(with, Stage::Connect, ask);
}

/// The rows, as scripts see them.
fn of_rows(found: Rows) -> Array {
    let Rows { columns, rows } = found;
    let value = |value: Option<String>| value.map_or(Dynamic::UNIT, Dynamic::from);
    let row = |row: Vec<Option<String>>| -> Map {
        columns.iter().map(|name| name.as_str().into()).zip(row.into_iter().map(value)).collect()
    };
    rows.into_iter().map(|values| Dynamic::from(row(values))).collect()
}
