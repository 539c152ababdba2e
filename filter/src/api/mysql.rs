//! `mysql::`: databases that rules ask. The filter reaches none: a process of its own does, and only those that are declared.

use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString, Map};
use vsmtp_config::{Database, DatabaseUrl};
use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::general::Surroundings;
use super::registry::{Registry, name};
use crate::database::{Asker, NoAnswer, Target};
use crate::engine::service_constructor;
use crate::object::{Fault, Object};
use crate::oneshot::from_script;
use crate::stage::Stage;
use crate::transaction::Shared;

/// A database, as scripts hold it.
#[derive(Debug, Clone)]
struct Service {
    target: Arc<Target>,
    asker: Arc<dyn Asker>,
}

const QUERY_ERRORS: &str = "if the database cannot be reached, has not answered in time, says no, or answers with more than \
                            1000 rows or 256 KiB; if too many rules wait for databases; if it is not declared";

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    registry.engine.register_type_with_name::<Service>("mysql");
    let asker = Arc::clone(&surroundings.asker);
    let describe = move |map: Map| {
        let database = Database::read(&from_script(&Dynamic::from(map)));
        let database = database.map_err(|found| Fault(format!("a database cannot have {found}")))?;
        if !matches!(database.url, DatabaseUrl::MySql(_)) {
            return Err(Fault::new("a database cannot have no URL of MySQL as url"));
        }
        asker.declare(&database);
        Ok(Service { target: Arc::new(Target::Described(database)), asker: Arc::clone(&asker) })
    };
    let (asker, known) = (Arc::clone(&surroundings.asker), Arc::clone(&surroundings.database_names));
    let find = move |name: ImmutableString| {
        let found = known.iter().find(|(other, _)| *other == name.as_str());
        // A URL has a password, which is not repeated.
        let missing = || match name.contains("://") {
            true => Fault::new("filter.databases has no such name; a URL is given as #{ url: ... }"),
            false => Fault(format!("filter.databases has no '{name}'")),
        };
        let (name, timeout) = found.ok_or_else(missing)?.clone();
        Ok(Service { target: Arc::new(Target::Named(name, timeout)), asker: Arc::clone(&asker) })
    };
    registry.constructor(&service_constructor("db:mysql"), describe.clone());
    registry.constructor(&service_constructor("db:mysql"), find.clone());
    let constructor = name("mysql", "connect", &["mysql"])
        .doc("(map) -> mysql", "A MySQL or MariaDB database: `url` is `mysql://user:password@host:port/database`, with `%40` for `@` and the like, or with `?socket=/run/mysqld/mysqld.sock` for a server of this host; a question that has no answer after `timeout` fails (`\"10s\"` by default, at most 5 minutes): less than `filter.timeout`, 30 seconds by default, or the rule is stopped first; at most `connections` questions are put to it at once (4 by default, at most 64), others wait. The connection is not encrypted. Nothing is connected before it is asked, so a database that is away is no error at start. Make it where the script is loaded, outside rules and functions: that declares it, and what is not declared is not asked. `service NAME db:mysql = #{ ... }` is the same.")
        .errors("if the map is not that of a database")
        .example("const db = mysql::connect(#{ url: \"mysql://mail:secret@db.test/mail\", timeout: \"5s\" }); `${db}` == \"mysql://mail@db.test:3306/mail\"");
    registry.free1(constructor, describe);
    let named = name("mysql", "connect", &["mysql"])
        .doc("(name: string) -> mysql", "The database of that name in `filter.databases`. Then its password stands in the configuration and nowhere in the rules, and filters that judge mail are not told it.")
        .errors("if there is none of that name")
        .example("const db = mysql::connect(\"accounts\"); db.query(\"select 1\").len() == 1");
    registry.free1(named, find);
    queries(registry);
    for printer in ["to_string", "to_debug"] {
        registry.engine.register_fn(printer, |service: &mut Service| service.target.to_string());
    }
}

fn queries(registry: &mut Registry) {
    let plain = name("mysql", "query", &[])
        .doc("(sql: string) -> array", "Has the database execute one statement: an array of maps, one for each row, from the names of the columns to texts, `()` for `NULL`; an empty array if there is no row, or if the statement finds none. Other sessions go on meanwhile. What a client has said must not become part of the text: give it as a parameter.")
        .errors(QUERY_ERRORS)
        .example("const db = mysql::connect(\"accounts\"); db.query(\"select count(*) as n from users\")[0].n == \"1\"");
    registry.method_waits1(plain, Stage::Connect, |shared, service: &Service, sql: ImmutableString| {
        service.query(shared, &sql, Vec::new())
    });
    let with = name("mysql", "query", &[])
        .doc("(sql: string, parameters: array) -> array", "The same; each `?` of the statement stands for one of the parameters, in order: a string, an object, a number, a truth value, or `()` for `NULL`. Whatever is in a text, it stays a value.")
        .errors("the same, and if a parameter is something else, or there are more or fewer than the statement has `?`")
        .example("const db = mysql::connect(\"accounts\"); db.query(\"select * from users where address = ?\", [address(\"jane@example.com\")])[0].name == \"Jane\"");
    let ask = |shared: &Shared, service: &Service, sql: ImmutableString, values: Array| {
        service.query(shared, &sql, parameters(&values)?)
    };
    registry.method_waits2(with, Stage::Connect, ask);
}

impl Service {
    fn query(&self, shared: &Shared, sql: &str, parameters: Vec<Parameter>) -> Result<Array, Fault> {
        self.asker.ask(&self.target, sql, parameters).map(of_rows).map_err(|none| match none {
            NoAnswer::Later(fault) | NoAnswer::Busy(fault) => {
                shared.lock().was_busy = true;
                fault
            }
            NoAnswer::Never(fault) => fault,
        })
    }
}

fn parameters(values: &Array) -> Result<Vec<Parameter>, Fault> {
    let parameter = |value: &Dynamic| {
        if value.is_unit() {
            return Ok(Parameter::Null);
        }
        if let Some(object) = value.read_lock::<Object>() {
            return Ok(Parameter::Text(object.text().to_string()));
        }
        if let Some(text) = value.read_lock::<ImmutableString>() {
            return Ok(Parameter::Text(text.to_string()));
        }
        let number = value.as_int().or_else(|_| value.as_bool().map(i64::from)).map(Parameter::Int);
        let number = number.or_else(|_| value.as_float().map(|number| Parameter::Text(number.to_string())));
        number.map_err(|kind| {
            Fault(format!("a parameter is a string, an object, a number, a truth value or (), not a {kind}"))
        })
    };
    values.iter().map(parameter).collect()
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
