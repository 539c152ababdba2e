//! One connection to a file of SQLite, for reading only: made when it is needed, made anew when another file has taken the
//! place of the one that is open.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection as Handle, OpenFlags, params_from_iter};
use vsmtp_ipc::edge::filter_database::{MAX_ANSWER, MAX_COLUMNS, MAX_ROWS, Parameter, Refused, Rows};

use crate::connection::cut;
use crate::crew::{Heard, Job};

/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 10_000;
/// Longest wait for somebody who writes, before the file is tried again.
const BUSY: Duration = Duration::from_millis(250);
/// Most octets of one value or row, also of those that a statement makes on its way; not less than a statement may have.
const MAX_VALUE: i32 = 1 << 20;

/// A connection, or how to make one.
pub struct Connection {
    path: PathBuf,
    open: Option<(Handle, (u64, u64))>,
}

impl Connection {
    /// None is made yet.
    pub fn to(path: &str) -> Self {
        Connection { path: path.into(), open: None }
    }

    /// Puts the question.
    pub fn ask(&mut self, job: &Job) -> Heard {
        let answer = self.handle().and_then(|handle| rows(handle, job));
        if self.open.as_ref().is_some_and(|(handle, _)| !handle.is_autocommit()) {
            self.open = None;
        }
        answer.map_err(|failure| match failure {
            Failure::Driver(error) => {
                self.open = None;
                match error.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::OperationInterrupted) => Refused::Late,
                    _ => Refused::Failed(cut(&error.to_string())),
                }
            }
            Failure::File(error) => {
                self.open = None;
                Refused::Failed(cut(&error.to_string()))
            }
            Failure::Writes => Refused::Failed("only what reads is asked of a file of SQLite".to_owned()),
            Failure::TooLarge => Refused::Failed(format!(
                "the answer is larger than {MAX_ROWS} rows, {MAX_COLUMNS} columns or {MAX_ANSWER} bytes"
            )),
            Failure::Late => Refused::Late,
        })
    }

    /// The file that stands at the path now.
    fn handle(&mut self) -> Result<&mut Handle, Failure> {
        let identity = |about: Metadata| (about.dev(), about.ino());
        let stands = std::fs::metadata(&self.path).map(identity).map_err(Failure::File)?;
        if self.open.as_ref().is_none_or(|(_, opened)| *opened != stands) {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut handle = Handle::open_with_flags(&self.path, flags)?;
            handle.busy_timeout(BUSY)?;
            // Nothing can be written, so what is sorted stays in memory, for as long as a question may take.
            handle.pragma_update(None, "temp_store", "memory")?;
            handle.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE)?;
            handle.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
            handle.authorizer(Some(only_reading))?;
            self.open = Some((handle, stands));
        }
        let (handle, _) = self.open.as_mut().ok_or(Failure::Late)?;
        Ok(handle)
    }
}

/// Why there are no rows.
#[derive(Debug)]
enum Failure {
    Driver(rusqlite::Error),
    File(std::io::Error),
    Writes,
    TooLarge,
    Late,
}

/// What a statement may do: read what is there, and reckon with it. No other file is attached, nothing is made, not even for a
/// while; no transaction stays behind, and no setting is changed.
fn only_reading(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Driver(error)
    }
}

fn rows(handle: &mut Handle, job: &Job) -> Result<Rows, Failure> {
    let until = job.until;
    handle.progress_handler(STEPS, Some(move || Instant::now() >= until))?;
    let mut statement = handle.prepare(&job.statement)?;
    if !statement.readonly() {
        return Err(Failure::Writes);
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let values = job.parameters.iter().map(|parameter| match parameter {
        Parameter::Null => rusqlite::types::Value::Null,
        Parameter::Int(number) => rusqlite::types::Value::Integer(*number),
        Parameter::Text(text) => rusqlite::types::Value::Text(text.clone()),
    });
    let mut found = Rows { columns, rows: Vec::new() };
    let mut octets = 0;
    let count = found.columns.len();
    if count > MAX_COLUMNS {
        return Err(Failure::TooLarge);
    }
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let values = (0..count).map(|at| row.get_ref(at).map(text)).collect::<Result<Vec<_>, _>>()?;
        octets += values.iter().flatten().map(String::len).sum::<usize>();
        found.rows.push(values);
        if octets > MAX_ANSWER || found.rows.len() > MAX_ROWS {
            return Err(Failure::TooLarge);
        }
        if Instant::now() >= until {
            return Err(Failure::Late);
        }
    }
    if found.is_within_bounds() { Ok(found) } else { Err(Failure::TooLarge) }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn job(statement: &str, parameters: &[&str], time: Duration) -> Job {
        Job {
            number: 1,
            statement: statement.to_owned(),
            parameters: parameters.iter().map(|text| Parameter::Text((*text).to_owned())).collect(),
            until: Instant::now() + time,
            line: Arc::default(),
        }
    }

    fn ask(connection: &mut Connection, statement: &str, parameters: &[&str]) -> Heard {
        connection.ask(&job(statement, parameters, Duration::from_secs(60)))
    }

    fn make(path: &std::path::Path, name: &str) {
        let handle = Handle::open(path).unwrap();
        handle
            .execute_batch(&format!(
                "create table users (address text, name text, quota integer, rate real, note text);
                 insert into users values ('jane@example.com', '{name}', 5, 1.5, null);"
            ))
            .unwrap();
    }

    #[test]
    fn rows_are_texts_and_what_is_looked_up_stays_a_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.db");
        make(&path, "Jane");
        let mut connection = Connection::to(path.to_str().unwrap());
        let found =
            ask(&mut connection, "select * from users where address = ?", &["jane@example.com"]).unwrap();
        assert_eq!(found.columns, ["address", "name", "quota", "rate", "note"]);
        let texts: Vec<Option<&str>> = found.rows[0].iter().map(Option::as_deref).collect();
        assert_eq!(texts, [Some("jane@example.com"), Some("Jane"), Some("5"), Some("1.5"), None]);
        let hostile = ask(&mut connection, "select * from users where address = ?", &["' or ''='"]).unwrap();
        assert!(hostile.rows.is_empty());
        // What is sorted goes to no temporary file.
        let (handle, _) = connection.open.as_mut().unwrap();
        handle.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).unwrap();
        let store = handle.query_row("pragma temp_store", [], |row| row.get::<_, i64>(0));
        assert_eq!(store.unwrap(), 2);
        // Another file takes its place.
        let other = folder.path().join("new.db");
        make(&other, "Joe");
        std::fs::rename(&other, &path).unwrap();
        let found = ask(&mut connection, "select name from users", &[]).unwrap();
        assert_eq!(found.rows, [[Some("Joe".to_owned())]]);
    }

    #[test]
    fn nothing_is_written_and_what_fails_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.db");
        let mut connection = Connection::to(path.to_str().unwrap());
        assert!(matches!(ask(&mut connection, "select 1", &[]), Err(Refused::Failed(_))), "there is none");
        assert!(!path.exists(), "none is made");
        make(&path, "Jane");
        for (statement, parameters, words) in [
            ("delete from users", &[][..], "not authorized"),
            ("begin", &[], "not authorized"),
            ("savepoint a", &[], "not authorized"),
            ("attach ':memory:' as other", &[], "not authorized"),
            ("create temp table other (a)", &[], "not authorized"),
            ("create temp table other as select * from users", &[], "not authorized"),
            ("pragma query_only = 0", &[], "not authorized"),
            ("vacuum into '/tmp/other'", &[], "only what reads"),
            ("select load_extension('x')", &[], "not authorized"),
            ("select length(hex(zeroblob(600000)))", &[], "too big"),
            ("select * from nowhere", &[], "no such table"),
            ("select ?", &[], "parameters"),
            ("select 1; delete from users", &[], "not authorized"),
            ("select 1; select 2", &[], "ultiple"),
        ] {
            let Err(Refused::Failed(why)) = ask(&mut connection, statement, parameters) else {
                panic!("{statement}")
            };
            assert!(why.contains(words), "{statement}: {why}");
        }
        std::fs::write(&path, "no database".repeat(1000)).unwrap();
        assert!(matches!(ask(&mut connection, "select * from users", &[]), Err(Refused::Failed(_))));
    }

    #[test]
    fn an_answer_without_end_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.db");
        make(&path, "Jane");
        let mut connection = Connection::to(path.to_str().unwrap());
        let endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select ";
        let many = ask(&mut connection, &format!("{endless} x from n"), &[]).unwrap_err();
        assert!(matches!(&many, Refused::Failed(why) if why.contains("larger than")), "{many:?}");
        let late = connection.ask(&job(&format!("{endless} max(x) from n"), &[], Duration::from_millis(100)));
        assert_eq!(late, Err(Refused::Late));
        assert_eq!(ask(&mut connection, "select 1 as n", &[]).unwrap().columns, ["n"]);
    }
}
