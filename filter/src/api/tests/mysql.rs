//! Databases, without a process that asks any.

use std::time::Duration;

use vsmtp_config::{Database, DatabaseKind};
use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::*;
use crate::database::{Asker, Collector, NoAnswer, Target};
use crate::object::Fault;

/// Answers by what it is asked, as a database would.
#[derive(Debug)]
pub struct Scripted;

impl Asker for Scripted {
    fn ask_within(
        &self,
        target: &Target,
        statement: &str,
        parameters: Vec<Parameter>,
        _: Duration,
    ) -> Result<Rows, NoAnswer> {
        if target.to_string().contains("down") {
            return Err(NoAnswer::Later(Fault(format!("the database {target} did not answer: it is down"))));
        }
        let text = |text: &str| Some(text.to_owned());
        match target.to_string().as_str() {
            "counters" => return Ok(super::redis::answer(statement, &parameters)),
            "people" => return Ok(super::ldap::answer(statement, &parameters)),
            "cache" => return Ok(super::memcached::answer(statement, &parameters)),
            _ => {}
        }
        let rows = |columns: &[&str], rows: Vec<Vec<Option<String>>>| Rows {
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows,
        };
        Ok(match (statement, parameters.as_slice()) {
            ("select 1", []) => rows(&["1"], vec![vec![text("1")]]),
            ("select count(*) as n from users", []) => rows(&["n"], vec![vec![text("1")]]),
            ("select * from users where address = ?", [Parameter::Text(address)]) => {
                let jane = || vec![text("jane@example.com"), text("Jane"), None];
                let found = if address == "jane@example.com" { vec![jane()] } else { Vec::new() };
                rows(&["address", "name", "left_at"], found)
            }
            ("echo", given) => rows(&["given"], vec![vec![text(&format!("{given:?}"))]]),
            ("select name from users where address = ?", [Parameter::Text(key)])
                if key == "jane@example.com" =>
            {
                rows(&["name"], vec![vec![text("Jane")]])
            }
            _ => rows(&[], Vec::new()),
        })
    }
}

#[test]
fn tables_in_databases_are_looked_up_as_all_others() {
    let table =
        "const users = table(\"sqlite:/var/lib/mail.db?query=select name from users where address = '%s'\");";
    for condition in [
        "users.get(\"jane@example.com\") == \"Jane\" && users.get(\"joe@example.com\") == ()",
        "users[\"Jane@Example.com\"] == \"Jane\" && \"jane@example.com\" in users && !(\"' or ''='\" in users)",
        "users.address(address(\"jane+lists@example.com\")) == \"Jane\" && users.domain(\"example.com\") == ()",
    ] {
        holds(&format!("{table} {condition}"));
    }
    fails("table(\"sqlite:/var/lib/down.db?query=select '%s'\").get(\"a\")", "it is down");
    fails("\"a\" in table(\"sqlite:/var/lib/down.db?query=select '%s'\")", "it is down");
    fails("table(\"sqlite:/var/lib/down.db?query=select '%s'\")[\"a\"]", "it is down");
    fails("table(\"sqlite:mail.db?query=select '%s'\")", "absolute path");
    fails("table(\"sqlite:/mail.db?query=select 1\")", "places");
    fails("table(\"mysql:lists/nothing.cf\")", "cannot be read");
}

const DB: &str = "const db = mysql::connect(#{ url: \"mysql://mail:secret@db.test/mail\" });";

fn holds(condition: &str) {
    let script = format!("{DB} {condition}");
    run_example(&engine(), at(Stage::Rcpt), &script).unwrap_or_else(|error| panic!("{condition}: {error}"));
}

fn fails(statement: &str, words: &str) {
    let error = run_example(&engine(), at(Stage::Rcpt), &format!("{DB} {statement}")).unwrap_err();
    assert!(error.contains(words) && !error.contains("secret"), "{statement}: {error}");
}

#[test]
fn rows_are_maps_of_texts_and_parameters_stay_values() {
    for condition in [
        "db.query(\"nothing\") == []",
        "db.query(\"select 1\") == [#{ \"1\": \"1\" }]",
        "let row = db.query(\"select * from users where address = ?\", [address(\"jane@example.com\")])[0]; row.name == \"Jane\" && row.left_at == ()",
        "db.query(\"select * from users where address = ?\", [\"' or ''='\"]).is_empty()",
        "db.query(\"echo\", [1, true, (), \"a\", 1.5, ip4(\"192.0.2.1\")])[0].given == `[Int(1), Int(1), Null, Text(\"a\"), Text(\"1.5\"), Text(\"192.0.2.1\")]`",
        "service old db:mysql = #{ url: \"mysql://mail@db.test/mail\", timeout: \"5s\", connections: 2 }; old.query(\"select 1\").len() == 1",
        "mysql(#{ url: \"mysql://mail@db.test/mail\" }).query(\"nothing\") == []",
        "mysql::connect(\"accounts\").query(\"nothing\") == [] && mysql(\"accounts\").query(\"nothing\") == []",
        "`${db}` == \"mysql://mail@db.test:3306/mail\"",
        "let said = \"\"; try { mysql::connect(#{ url: \"mysql://mail@down.test/mail\" }).query(\"x\") } catch (why) { said = why; } said.contains(\"is down\")",
    ] {
        holds(condition);
    }
}

#[test]
fn what_is_no_database_or_no_parameter_is_refused_and_no_password_is_said() {
    for (statement, words) in [
        ("mysql::connect(#{})", "no url"),
        ("mysql::connect(#{ url: \"mysql://a:secret@b:x/c\" })", "host"),
        ("mysql::connect(#{ url: \"mysql://a:secret@b/c\", pool: 1 })", "the part \"pool\""),
        ("service s db:mysql = #{ url: \"sqlite:/a.db\" };", "no URL of MySQL"),
        ("service s db:mysql = #{ url: \"ldap://b\" };", "no URL of MySQL"),
        ("mysql::connect(\"nobody\")", "filter.databases has no 'nobody'"),
        ("mysql::connect(\"mysql://mail:secret@db\")", "filter.databases has no such name"),
        ("mysql::connect(#{ url: \"mysql://mail:secret@down.test/mail\" }).query(\"x\")", "it is down"),
        ("db.query(\"x\", [[1]])", "a parameter is"),
    ] {
        fails(statement, words);
    }
}

#[test]
fn databases_that_are_described_while_scripts_are_loaded_are_noted_once() {
    let collector = Arc::new(Collector::default());
    let asker: Arc<dyn Asker> = Arc::<Collector>::clone(&collector);
    let mut engine = engine::bare(&Root::none(), &Limits::default());
    install(&mut engine, &Surroundings { asker, ..surroundings() });
    let script = "service a db:mysql = #{ url: \"mysql://a@db.test/x\" };
                  const again = mysql::connect(#{ url: \"mysql://a@db.test/x\" });
                  const b = mysql::connect(#{ url: \"mysql://b@db.test/x\" });
                  const named = mysql::connect(\"accounts\");
                  fn late() { mysql::connect(#{ url: \"mysql://c@db.test/x\" }) }
                  #{ connect: [ action \"ask\" || late().query(\"select 1\") ] }";
    engine::load_text(&engine, &Root::none(), "filter.vsl", script).unwrap();
    let noted: Vec<String> = collector.databases().iter().map(|database| database.url.to_string()).collect();
    assert_eq!(noted, ["mysql://a@db.test:3306/x", "mysql://b@db.test:3306/x"]);
}

#[test]
fn plugins_of_2_x_are_imported_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("services")).unwrap();
    std::fs::write(
        folder.path().join("services/db.vsl"),
        "import \"plugins/libvsmtp_plugin_mysql\" as mysql;
         import \"plugins/libvsmtp_plugin_csv\" as db;
         export const greylist = mysql::connect(#{ url: \"mysql://a:secret@db.test/x\" });
         export const users = db::csv(#{ connector: \"lists/users.csv\", access: \"O_RDONLY\" });",
    )
    .unwrap();
    let root = Root::open(folder.path()).unwrap();
    let collector = Arc::new(Collector::default());
    let mut engine = engine::bare(&root, &Limits::default());
    let asker: Arc<dyn Asker> = Arc::<Collector>::clone(&collector);
    root.declare(callables(&install(&mut engine, &Surroundings { asker, ..surroundings() })));
    let load = |script: &str| engine::load_text(&engine, &root, "filter.vsl", script);
    let script = "import \"services/db\" as db;
                  #{ connect: [ action \"ask\" || { db::users.get(\"jane\"); db::greylist.query(\"select 1\") } ] }";
    load(script).unwrap();
    assert_eq!(collector.databases().len(), 1);
    let error = load("import \"plugins/libvsmtp_plugin_mongodb\" as db; #{}").unwrap_err().to_string();
    assert!(
        error.contains("there is no plugin 'mongodb', only csv, mysql, redis, memcached, ldap"),
        "{error}"
    );
    // What lies in the folder counts.
    std::fs::create_dir(folder.path().join("plugins")).unwrap();
    std::fs::write(folder.path().join("plugins/vsmtp_plugin_mysql.vsl"), "fn connect(of) { 5 }").unwrap();
    load("import \"plugins/vsmtp_plugin_mysql\" as own; const five = own::connect(1); if five != 5 { throw five } #{}")
        .unwrap();
}

/// Of these the examples of the reference know.
pub fn names() -> Arc<[(String, DatabaseKind, Duration)]> {
    let named = |name: &str, kind| (name.to_owned(), kind, Duration::from_secs(5));
    [
        named("accounts", DatabaseKind::MySql),
        named("counters", DatabaseKind::Redis),
        named("cache", DatabaseKind::Memcached),
        named("people", DatabaseKind::Ldap),
    ]
    .into_iter()
    .collect()
}

#[test]
fn a_description_keeps_its_password_to_itself() {
    let map = vsmtp_config::Value::Map(
        [("url".to_owned(), vsmtp_config::Value::Text("mysql://a:secret@db/x".to_owned()))].into(),
    );
    let target = Target::Described(Database::read(&map).unwrap());
    assert!(!format!("{target} {target:?}").contains("secret"));
}
