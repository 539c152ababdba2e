//! Tables in databases: where they are and what is asked there, from a file as Postfix has it (mysql_table(5),
//! sqlite_table(5)) or from the name of the table. Whoever asks is a process of its own; see [`crate::database`].
//!
//! On failure: a file that cannot be understood is a fault; a question without an answer is one for later, and never "there is
//! nothing".

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vsmtp_config::{Database, DatabaseUrl, MySqlUrl, Value};
use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::line;
use super::servers::{Servers, share};
use super::sql::{Dialect, Format, Statement};
use crate::database::{Asker, NoAnswer, Target};
use crate::object::Fault;

/// The socket of a MySQL server that is called `localhost`, as its client library has it on Debian.
const LOCAL_SOCKET: &str = "/run/mysqld/mysqld.sock";
/// Most servers of one table.
const MAX_HOSTS: usize = 8;
/// Most values of one answer, where the file says nothing.
const MAX_VALUES: usize = 1000;

/// A table in a database.
#[derive(Debug)]
pub struct Lookup {
    /// The first that answers counts.
    places: Vec<Target>,
    servers: Servers,
    /// All of them together answer within this time, or not at all.
    time: Duration,
    asker: Arc<dyn Asker>,
    statement: Statement,
    format: Format,
    /// Only keys of these domains are looked up, in lower case; empty: all.
    domains: Vec<String>,
    /// More values are an error.
    most: usize,
}

impl Lookup {
    /// One of MySQL, from the text of its file.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn mysql(text: &str, asker: &Arc<dyn Asker>) -> Result<Self, Fault> {
        let mut parts = Parts::read(text)?;
        if let Some(charset) = parts.take("charset").filter(|charset| charset != "utf8mb4") {
            return Err(Fault(format!("the charset is utf8mb4, not '{charset}'")));
        }
        let (user, password) = (parts.need("user")?, parts.take("password").unwrap_or_default());
        let database = parts.need("dbname")?;
        let hosts = parts.take("hosts").unwrap_or_else(|| "localhost".to_owned());
        let hosts: Vec<&str> = words(&hosts).collect();
        if hosts.is_empty() || hosts.len() > MAX_HOSTS {
            return Err(Fault(format!("there are {} hosts (at most {MAX_HOSTS})", hosts.len())));
        }
        let places = hosts.into_iter().map(|host| {
            let socket = match host {
                "localhost" => Some(LOCAL_SOCKET),
                host => host.strip_prefix("unix:").or_else(|| host.starts_with('/').then_some(host)),
            };
            let (socket, place) = (socket.map(str::to_owned), socket.map_or(host, |_| "localhost"));
            let url = MySqlUrl::new(
                place.strip_prefix("inet:").unwrap_or(place),
                socket,
                &user,
                &password,
                &database,
            );
            url.map(DatabaseUrl::MySql).map_err(|what| Fault(format!("the host '{host}' is {what}")))
        });
        let places = places.collect::<Result<Vec<_>, _>>()?;
        Self::of(places, parts, Dialect::MySql, asker)
    }

    /// One of SQLite, from `path?query=...` or the text of its file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn sqlite(source: Source<'_>, asker: &Arc<dyn Asker>) -> Result<Self, Fault> {
        let (path, parts) = match source {
            Source::Inline(path, query) => {
                (path.to_owned(), Parts(vec![("query".to_owned(), query.to_owned())]))
            }
            Source::File(text) => {
                let mut parts = Parts::read(text)?;
                (parts.need("dbpath")?, parts)
            }
        };
        let url = DatabaseUrl::sqlite(&path).map_err(|what| Fault(format!("the path is {what}")))?;
        Self::of(vec![url], parts, Dialect::Sqlite, asker)
    }

    fn of(
        urls: Vec<DatabaseUrl>,
        mut parts: Parts,
        dialect: Dialect,
        asker: &Arc<dyn Asker>,
    ) -> Result<Self, Fault> {
        let statement = Statement::parse(&parts.query(dialect)?, dialect)?;
        let format = Format::parse(&parts.take("result_format").unwrap_or_else(|| "%s".to_owned()))?;
        let domains: Vec<String> =
            words(&parts.take("domain").unwrap_or_default()).map(str::to_ascii_lowercase).collect();
        if let Some(other) = domains.iter().find(|domain| domain.contains([':', '/'])) {
            return Err(Fault(format!("a domain is a name, not a table or file, such as '{other}'")));
        }
        let most = match parts.take("expansion_limit").as_deref() {
            None | Some("0") => MAX_VALUES,
            Some(limit) => {
                limit.parse().map_err(|_| Fault(format!("expansion_limit is a number, not '{limit}'")))?
            }
        };
        parts.end()?;
        let described = |url: DatabaseUrl| {
            let map = Value::Map([("url".to_owned(), Value::Text(url.write()))].into());
            let database =
                Database::read(&map).map_err(|found| Fault(format!("a database cannot have {found}")))?;
            asker.declare(&database);
            Ok(Target::Described(database))
        };
        let places: Vec<Target> = urls.into_iter().map(described).collect::<Result<_, Fault>>()?;
        let (servers, time) = (Servers::new(places.len()), places.iter().map(Target::timeout).max());
        let time = time.unwrap_or_default();
        Ok(Lookup { places, servers, time, asker: Arc::clone(asker), statement, format, domains, most })
    }

    /// What the table says of a key: all values that are found, with commas between them.
    ///
    /// # Errors
    /// Nobody could tell.
    pub fn get(&self, key: &str) -> Result<Option<String>, NoAnswer> {
        // Postfix looks up what it has folded.
        let key = key.to_lowercase();
        let is_wanted = self.domains.is_empty()
            || key.rsplit_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && self.domains.iter().any(|other| other == domain)
            });
        let Some(parameters) = self.statement.parameters(&key).filter(|_| is_wanted) else { return Ok(None) };
        let parameters: Vec<Parameter> = parameters.into_iter().map(Parameter::Text).collect();
        self.values(self.ask(&parameters)?, &key)
    }

    /// Asks one server after the other until one answers.
    fn ask(&self, parameters: &[Parameter]) -> Result<Rows, NoAnswer> {
        let start = Instant::now();
        let order = self.servers.order(start);
        let mut failed = NoAnswer::Never(Fault::new("a table without a database"));
        for (asked, at) in order.iter().enumerate() {
            let Some(place) = self.places.get(*at) else { continue };
            let within = share(self.time.saturating_sub(start.elapsed()), order.len() - asked);
            let answer = self.asker.ask_within(place, self.statement.text(), parameters.to_vec(), within);
            if !matches!(answer, Err(NoAnswer::Busy(_) | NoAnswer::Never(_))) {
                self.servers.note(*at, answer.is_ok(), Instant::now());
            }
            match answer {
                Err(none @ (NoAnswer::Later(_) | NoAnswer::Busy(_))) => failed = none,
                known => return known,
            }
        }
        Err(failed)
    }

    fn values(&self, rows: Rows, key: &str) -> Result<Option<String>, NoAnswer> {
        let found = rows.rows.into_iter().flatten().flatten().filter(|value| !value.is_empty());
        let values: Vec<String> = found.filter_map(|value| self.format.apply(&value, key)).collect();
        if values.len() > self.most {
            return Err(NoAnswer::Later(Fault(format!(
                "a table has more than {} values for a key",
                self.most
            ))));
        }
        Ok((!values.is_empty()).then(|| values.join(",")))
    }
}

/// Where a table of SQLite is described.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The path of the database, and the query.
    Inline(&'a str, &'a str),
    /// A text like Postfix's.
    File(&'a str),
}

/// Names and values of a file; each counts once.
struct Parts(Vec<(String, String)>);

/// Without values: there may be a password.
impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Parts {
    fn read(text: &str) -> Result<Self, Fault> {
        let mut parts: Vec<(String, String)> = Vec::new();
        for line in line::logical(text) {
            // Without the line itself, which may be the one with the password.
            let (name, value) = line
                .text
                .split_once('=')
                .ok_or_else(|| Fault(format!("line {}: it is not written name = value", line.number)))?;
            let name = name.trim().to_owned();
            if parts.iter().any(|(other, _)| *other == name) {
                return Err(Fault(format!("line {}: {name} stands twice", line.number)));
            }
            parts.push((name, value.trim().to_owned()));
        }
        Ok(Parts(parts))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1)
    }

    fn need(&mut self, name: &str) -> Result<String, Fault> {
        self.take(name).filter(|value| !value.is_empty()).ok_or_else(|| Fault(format!("{name} is missing")))
    }

    /// The statement, also as it was written before there was `query`.
    fn query(&mut self, dialect: Dialect) -> Result<String, Fault> {
        if let Some(query) = self.take("query").filter(|query| !query.is_empty()) {
            return Ok(query);
        }
        let old = dialect == Dialect::MySql || self.0.iter().any(|(name, _)| name == "table");
        if !old {
            return self.need("query");
        }
        let missing = |_| Fault::new("query is missing");
        let table = self.need("table").map_err(missing)?;
        let (select, key) = (self.need("select_field")?, self.need("where_field")?);
        let more = self.take("additional_conditions").unwrap_or_default();
        Ok(format!("SELECT {select} FROM {table} WHERE {key}='%s' {more}"))
    }

    /// Nothing else may be there.
    fn end(self) -> Result<(), Fault> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Fault(format!("there is no '{name}' here"))),
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps what it is asked, and answers by the name of the place.
    #[derive(Debug, Default)]
    struct Played(Mutex<Vec<(String, String, Vec<Parameter>)>>, Mutex<Vec<Duration>>);

    impl Asker for Played {
        fn ask_within(
            &self,
            target: &Target,
            statement: &str,
            parameters: Vec<Parameter>,
            within: Duration,
        ) -> Result<Rows, NoAnswer> {
            let place = target.to_string();
            self.1.lock().unwrap().push(within);
            self.0.lock().unwrap().push((place.clone(), statement.to_owned(), parameters));
            if place.contains("busy") {
                return Err(NoAnswer::Busy(Fault::new("it has no time")));
            }
            if place.contains("down") {
                return Err(NoAnswer::Later(Fault::new("it is down")));
            }
            let text = |text: &str| Some(text.to_owned());
            let rows = vec![vec![text("a@b.c"), None], vec![text(""), text("d@e.f")]];
            Ok(Rows { columns: vec!["x".to_owned(), "y".to_owned()], rows })
        }
    }

    fn played() -> (Arc<Played>, Arc<dyn Asker>) {
        let played = Arc::new(Played::default());
        (Arc::clone(&played), played)
    }

    const FILE: &str = "# as Postfix has it\nhosts = down.test, unix:/run/my.sock\n inet:db.test:3307\nuser = mail\n\
                        password = secret\ndbname = mail\nquery = SELECT goto FROM alias\n  WHERE address='%s'\n";

    #[test]
    fn a_file_of_postfix_is_read_and_the_next_server_asked_where_one_is_away() {
        let (played, asker) = played();
        let table = Lookup::mysql(FILE, &asker).unwrap();
        assert_eq!(table.get("Jane@Example.com").unwrap().as_deref(), Some("a@b.c,d@e.f"));
        let asked = played.0.lock().unwrap().clone();
        let places: Vec<&str> = asked.iter().map(|(place, ..)| place.as_str()).collect();
        assert_eq!(
            places,
            ["mysql://mail@down.test:3306/mail", "mysql://mail@localhost:3306/mail?socket=%2Frun%2Fmy.sock"]
        );
        assert_eq!(asked[0].1, "SELECT goto FROM alias WHERE address=?");
        assert_eq!(asked[0].2, [Parameter::Text("jane@example.com".to_owned())]);
    }

    /// The names of the servers that were asked since the last call.
    fn hosts(played: &Played) -> Vec<String> {
        let asked = std::mem::take(&mut *played.0.lock().unwrap());
        let host = |place: &str| place.split(['@', ':']).nth(2).unwrap_or_default().to_owned();
        asked.iter().map(|(place, ..)| host(place)).collect()
    }

    #[test]
    fn a_server_that_is_down_costs_one_key_its_share_of_the_time_and_not_each() {
        let (played, asker) = played();
        let file = FILE.replace("unix:/run/my.sock\n inet:db.test:3307", "up.test");
        let table = Lookup::mysql(&file, &asker).unwrap();
        for asked in [&["down.test", "up.test"][..], &["up.test"], &["up.test"]] {
            assert!(table.get("a").unwrap().is_some());
            assert_eq!(hosts(&played), asked);
        }
        // It had half of the time, and the last one all that was left.
        let times = played.1.lock().unwrap().clone();
        assert!(
            times[0] <= table.time / 2 && times[1] > table.time / 2 && times[1] <= table.time,
            "{times:?}"
        );
        // If all are down, all are asked; one that is only busy is asked first again.
        let table = Lookup::mysql(&file.replace("up.test", "down.example, busy.test"), &asker).unwrap();
        for asked in [["down.test", "down.example", "busy.test"], ["busy.test", "down.test", "down.example"]]
        {
            assert!(matches!(table.get("a"), Err(NoAnswer::Later(_) | NoAnswer::Busy(_))));
            assert_eq!(hosts(&played), asked);
        }
    }

    #[test]
    fn nobody_could_tell_is_not_that_there_is_nothing() {
        let (_, asker) = played();
        let file = FILE.replace("unix:/run/my.sock\n inet:db.test:3307", "");
        assert!(matches!(Lookup::mysql(&file, &asker).unwrap().get("a"), Err(NoAnswer::Later(_))));
        let file = FILE.replace("down.test,", "") + "expansion_limit = 1\n";
        assert!(matches!(Lookup::mysql(&file, &asker).unwrap().get("a"), Err(NoAnswer::Later(_))));
    }

    #[test]
    fn domains_formats_and_older_files() {
        let (played, asker) = played();
        let file = "hosts=localhost\nuser=a\ndbname=b\ntable=t\nselect_field=v\nwhere_field=k\n\
                    additional_conditions = and on = 1\nresult_format=%u\ndomain=example.com, example.org\n";
        let table = Lookup::mysql(file, &asker).unwrap();
        for key in ["jane", "jane@example.net", "example.com", "@example.com.net", "@example.com"] {
            assert_eq!(table.get(key).unwrap(), None, "{key}");
        }
        assert!(played.0.lock().unwrap().is_empty(), "nobody was asked");
        assert_eq!(table.get("jane@example.org").unwrap().as_deref(), Some("a,d"));
        let asked = played.0.lock().unwrap().clone();
        assert_eq!(asked[0].1, "SELECT v FROM t WHERE k=? and on = 1");
        assert!(asked[0].0.ends_with("socket=%2Frun%2Fmysqld%2Fmysqld.sock"), "{}", asked[0].0);
    }

    #[test]
    fn tables_of_sqlite() {
        let (played, asker) = played();
        let inline = Source::Inline("/var/lib/mail.db", "select v from t where k = '%s' and n = 5");
        assert!(Lookup::sqlite(inline, &asker).unwrap().get("a").unwrap().is_some());
        let file = "dbpath = /var/lib/mail.db\nquery = select v from t where k = '%u'\n";
        assert!(Lookup::sqlite(Source::File(file), &asker).unwrap().get("a@b").unwrap().is_some());
        let asked = played.0.lock().unwrap().clone();
        assert_eq!(asked[0].0, "sqlite:/var/lib/mail.db");
        assert_eq!(asked[1].2, [Parameter::Text("a".to_owned())]);
        assert!(Lookup::sqlite(Source::Inline("mail.db", "'%s'"), &asker).is_err());
        assert!(
            Lookup::sqlite(Source::File("dbpath = /a\n"), &asker).unwrap_err().0.contains("query is missing")
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is() {
        let (_, asker) = played();
        for (change, words) in [
            (("user = mail", "user ="), "user is missing"),
            (("dbname = mail\n", ""), "dbname is missing"),
            (("query", "quest"), "query is missing"),
            (("# as", "tls_CAfile = x\n# as"), "no 'tls_CAfile'"),
            (("# as", "password = other\n# as"), "password stands twice"),
            (("password = secret", "password secret"), "not written name = value"),
            (("'%s'", "'x'"), "places"),
            (("db.test:3307", "db.test:x"), "db.test:x"),
            (("# as", "charset = latin1\n# as"), "utf8mb4"),
            (("# as", "domain = hash:/x\n# as"), "a domain is a name"),
            (("# as", "expansion_limit = x\n# as"), "expansion_limit"),
            (("down.test,", &"x ".repeat(9)), "hosts"),
        ] {
            let file = FILE.replacen(change.0, change.1, 1);
            let error = Lookup::mysql(&file, &asker).unwrap_err().0;
            assert!(error.contains(words) && !error.contains("secret"), "{words}: {error}");
        }
    }
}
