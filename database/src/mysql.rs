//! One connection to a MySQL or MariaDB server: made when it is needed, made anew when it has failed.
//!
//! Every statement is prepared by the server, which takes one statement at a time: a text that a rule has put together
//! cannot hold a second one behind a `;`. After each question the session is reset, so that no transaction, lock, variable or
//! temporary table of one rule is there for the next.

use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mysql::consts::ColumnType;
use mysql::prelude::Queryable;
use mysql::{Binary, Column, Conn, DriverError, Error, Opts, OptsBuilder, Params, QueryResult, Row, Value};
use nix::sys::socket::{Shutdown, shutdown};
use vsmtp_config::MySqlUrl;
use vsmtp_ipc::edge::filter_database::{MAX_ANSWER, MAX_COLUMNS, MAX_ROWS, Parameter, Refused, Rows};

use crate::connection::cut;
use crate::crew::{Heard, Job};

/// Most octets of one packet: a row, what a server says of a column, a statement with its parameters.
const MAX_PACKET: usize = 1 << 20;
/// Most sets of rows that are read of one answer, the first of which counts: a procedure has several.
const MAX_SETS: usize = 16;
/// How often what is left is asked for of a connection that is cut, before it is left lying.
const MAX_FAREWELLS: usize = 4;

/// A connection, or how to make one.
pub struct Connection {
    options: Opts,
    timeout: Duration,
    conn: Option<Conn>,
}

impl Connection {
    /// None is made yet.
    pub fn to(url: &MySqlUrl, timeout: Duration) -> Self {
        let maybe = |text: &String| (!text.is_empty()).then(|| text.clone());
        let options = OptsBuilder::new()
            .ip_or_hostname(Some(url.host.clone()))
            .tcp_port(url.port)
            .socket(url.socket.clone())
            .prefer_socket(false)
            .user(Some(url.user.clone()))
            .pass(maybe(&url.password))
            .db_name(maybe(&url.database))
            .tcp_connect_timeout(Some(timeout))
            .read_timeout(Some(timeout))
            .write_timeout(Some(timeout))
            .max_allowed_packet(Some(MAX_PACKET))
            .local_infile_handler(None);
        Connection { options: options.into(), timeout, conn: None }
    }

    /// Puts the question.
    pub fn ask(&mut self, job: &Job) -> Heard {
        let mut conn = self.ready(job)?;
        if Instant::now() >= job.until {
            self.conn = Some(conn);
            return Err(Refused::Late);
        }
        let fd = conn.as_raw_fd();
        let Some(held) = job.line.hold(fd) else {
            self.conn = Some(conn);
            return Err(Refused::Late);
        };
        let answer = rows(&mut conn, job);
        drop(held);
        match answer {
            Ok(rows) => {
                self.conn = Some(conn);
                Ok(rows)
            }
            Err(error) => {
                if error.leaves_the_connection() {
                    self.conn = Some(conn);
                } else {
                    // It is still open, and need not hear a farewell.
                    let _ = shutdown(fd, Shutdown::Both);
                }
                Err(error.into_refused(self.timeout))
            }
        }
    }

    /// Gives back what the question has left behind at the server, once its answer is on its way.
    pub fn rest(&mut self) {
        if self.conn.as_mut().is_some_and(|conn| conn.reset().is_err()) {
            self.conn = None;
        }
    }

    /// A connection that is there: the server may have closed ours long ago, or have been started anew.
    fn ready(&mut self, job: &Job) -> Result<Conn, Refused> {
        if let Some(mut conn) = self.conn.take() {
            let held = job.line.hold(conn.as_raw_fd());
            let is_there = held.is_some() && conn.ping().is_ok();
            drop(held);
            if is_there {
                return Ok(conn);
            }
        }
        Conn::new(self.options.clone()).map_err(|error| Failure::Driver(error).into_refused(self.timeout))
    }
}

/// Why there are no rows.
#[derive(Debug)]
enum Failure {
    Driver(Error),
    TooLarge,
    Late,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Driver(error)
    }
}

impl Failure {
    /// True if the next question can be put on the same connection.
    fn leaves_the_connection(&self) -> bool {
        matches!(
            self,
            Failure::Driver(Error::MySqlError(_) | Error::DriverError(DriverError::MismatchedStmtParams(..)))
        )
    }

    fn into_refused(self, timeout: Duration) -> Refused {
        let text = match self {
            Failure::Late => return Refused::Late,
            Failure::TooLarge => {
                format!(
                    "the answer is larger than {MAX_ROWS} rows, {MAX_COLUMNS} columns or {MAX_ANSWER} bytes"
                )
            }
            Failure::Driver(Error::IoError(error)) if is_timeout(&error) => {
                format!("no answer within {timeout:?}")
            }
            Failure::Driver(Error::MySqlError(error)) => {
                format!("{} (error {}, state {})", error.message, error.code, error.state)
            }
            Failure::Driver(error) => error.to_string(),
        };
        Refused::Failed(cut(&text))
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Has the statement prepared and executed, and reads what comes, within bounds.
fn rows(conn: &mut Conn, job: &Job) -> Result<Rows, Failure> {
    let fd = conn.as_raw_fd();
    let parameters = job.parameters.iter().map(|parameter| match parameter {
        Parameter::Null => Value::NULL,
        Parameter::Int(number) => Value::Int(*number),
        Parameter::Text(text) => Value::Bytes(text.clone().into_bytes()),
    });
    let parameters: Vec<Value> = parameters.collect();
    let parameters = if parameters.is_empty() { Params::Empty } else { Params::Positional(parameters) };
    let mut result = conn.exec_iter(job.statement.as_str(), parameters)?;
    let mut found = Rows::default();
    match read(&mut result, job, fd, &mut found) {
        Some(failure) => {
            end(result, fd);
            Err(failure)
        }
        None if !found.is_within_bounds() => Err(Failure::TooLarge),
        None => Ok(found),
    }
}

/// Reads the first set of rows, and passes over what follows it, all within the same bounds.
fn read(
    result: &mut QueryResult<'_, '_, '_, Binary>,
    job: &Job,
    fd: RawFd,
    found: &mut Rows,
) -> Option<Failure> {
    let (mut sets, mut count, mut octets) = (0, 0, 0);
    while let Some(set) = result.iter() {
        sets += 1;
        if sets == 1 {
            found.columns =
                set.columns().as_ref().iter().map(|column| column.name_str().into_owned()).collect();
        }
        // Or else all the rest would be read before the answer is given up.
        let cut = || shutdown(fd, Shutdown::Both);
        if sets > MAX_SETS {
            let _ = cut();
            return Some(Failure::TooLarge);
        }
        for row in set {
            let values = match row {
                Ok(row) => texts(row),
                Err(error) => {
                    let _ = cut();
                    return Some(error.into());
                }
            };
            count += 1;
            octets += values.iter().flatten().map(String::len).sum::<usize>();
            if octets > MAX_ANSWER || count > MAX_ROWS || values.len() > MAX_COLUMNS {
                let _ = cut();
                return Some(Failure::TooLarge);
            }
            if Instant::now() >= job.until {
                let _ = cut();
                return Some(Failure::Late);
            }
            if sets == 1 {
                found.rows.push(values);
            }
        }
    }
    None
}

/// Leaves an answer whose connection is cut. The library asks for more for ever where the server has said that there is more:
/// then the rest of the answer is not freed.
fn end(mut result: QueryResult<'_, '_, '_, Binary>, fd: RawFd) {
    let _ = shutdown(fd, Shutdown::Both);
    for _ in 0..MAX_FAREWELLS {
        if result.iter().is_none() {
            return;
        }
    }
    std::mem::forget(result);
}

fn texts(row: Row) -> Vec<Option<String>> {
    let columns = row.columns();
    let values = row.unwrap_raw().into_iter();
    values.zip(columns.iter()).map(|(value, column)| value.and_then(|value| text(value, column))).collect()
}

/// A value as MySQL itself writes it.
fn text(value: Value, column: &Column) -> Option<String> {
    let fraction = |micros: u32| match usize::from(column.decimals()) {
        0 => String::new(),
        digits => format!(".{micros:06}").chars().take(1 + digits.min(6)).collect(),
    };
    Some(match value {
        Value::NULL => return None,
        Value::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        },
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Date(year, month, day, ..) if column.column_type() == ColumnType::MYSQL_TYPE_DATE => {
            format!("{year:04}-{month:02}-{day:02}")
        }
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let fraction = fraction(micros);
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}")
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let sign = if negative { "-" } else { "" };
            let hours = u64::from(days) * 24 + u64::from(hours);
            format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(micros))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_server_writes_them() {
        let column = |kind, decimals| Column::new(kind).with_decimals(decimals);
        let datetime = column(ColumnType::MYSQL_TYPE_DATETIME, 0);
        for (value, column, written) in [
            (Value::NULL, &datetime, None),
            (Value::Bytes(b"caf\xc3\xa9".to_vec()), &datetime, Some("café")),
            (Value::Bytes(b"\xff".to_vec()), &datetime, Some("\u{fffd}")),
            (Value::Int(-5), &datetime, Some("-5")),
            (Value::UInt(u64::MAX), &datetime, Some("18446744073709551615")),
            (Value::Double(1.5), &datetime, Some("1.5")),
            (Value::Date(2026, 1, 2, 3, 4, 5, 0), &datetime, Some("2026-01-02 03:04:05")),
            (
                Value::Date(2026, 1, 2, 0, 0, 0, 0),
                &column(ColumnType::MYSQL_TYPE_DATE, 0),
                Some("2026-01-02"),
            ),
            (
                Value::Date(2026, 1, 2, 3, 4, 5, 120_000),
                &column(ColumnType::MYSQL_TYPE_DATETIME, 3),
                Some("2026-01-02 03:04:05.120"),
            ),
            (Value::Time(true, 1, 2, 3, 4, 0), &column(ColumnType::MYSQL_TYPE_TIME, 0), Some("-26:03:04")),
        ] {
            assert_eq!(text(value, column).as_deref(), written);
        }
    }
}
