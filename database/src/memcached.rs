//! memcached, by its text protocol: what may be asked, and what is answered. A key never ends a line or a word, and a value has
//! its length before it. The reading of answers is pure.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use vsmtp_ipc::edge::filter_database::{MAX_ANSWER, MAX_ROWS, Parameter, Rows};

use crate::crew::Job;
use crate::input::{Failure, Input};
use crate::server::{Dialect, one, text};
use crate::wire::Wire;

/// Longest key, in octets.
const MAX_KEY: usize = 250;
const ODD: Failure = Failure::Nonsense("a reply to another question");

/// How memcached is spoken to.
pub struct Memcached;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Values of keys, each named once; with the numbers by which `cas` knows them.
    Get(Vec<String>),
    /// Something whose answer is one of these words, or a number where that may be.
    Word {
        /// All that is said.
        written: Vec<u8>,
        /// What may be answered.
        words: &'static [&'static str],
        /// A number may be answered too.
        is_number: bool,
    },
    /// What the server counts.
    Stats,
}

impl Question {
    /// Reads a question of a filter; `None` if there is no such question.
    pub fn of(name: &str, parameters: &[Parameter]) -> Option<Self> {
        let texts: Vec<String> = parameters.iter().map(written).collect::<Option<_>>()?;
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        let word =
            |line: String, words| Question::Word { written: line.into_bytes(), words, is_number: false };
        Some(match (name, refs.as_slice()) {
            ("get", keys) if !keys.is_empty() && keys.iter().all(|key| is_key(key)) => {
                // The server tells a key as often as it is asked for it.
                Question::Get(texts.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
            }
            ("set" | "add" | "replace" | "append" | "prepend", [key, value, time]) => {
                store(name, key, value, time, "", &["STORED", "NOT_STORED"])?
            }
            ("cas", [key, value, time, id]) if id.parse::<u64>().is_ok() => {
                store(name, key, value, time, id, &["STORED", "EXISTS", "NOT_FOUND"])?
            }
            ("delete", [key]) if is_key(key) => word(format!("delete {key}\r\n"), &["DELETED", "NOT_FOUND"]),
            ("touch", [key, time]) if is_key(key) && is_time(time) => {
                word(format!("touch {key} {time}\r\n"), &["TOUCHED", "NOT_FOUND"])
            }
            ("incr" | "decr", [key, by]) if is_key(key) && by.parse::<u64>().is_ok() => Question::Word {
                written: format!("{name} {key} {by}\r\n").into_bytes(),
                words: &["NOT_FOUND"],
                is_number: true,
            },
            ("flush", []) => word("flush_all\r\n".to_owned(), &["OK"]),
            ("stats", []) => Question::Stats,
            _ => return None,
        })
    }
}

fn store(
    name: &str,
    key: &str,
    value: &str,
    time: &str,
    id: &str,
    words: &'static [&'static str],
) -> Option<Question> {
    let space = if id.is_empty() { "" } else { " " };
    let line = format!("{name} {key} 0 {time} {}{space}{id}\r\n{value}\r\n", value.len());
    (is_key(key) && is_time(time)).then(|| Question::Word {
        written: line.into_bytes(),
        words,
        is_number: false,
    })
}

/// True if a text can be a key: it has no space or control character, and is not too long.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_KEY && !text.chars().any(|c| c == ' ' || c.is_control())
}

fn is_time(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

fn written(parameter: &Parameter) -> Option<String> {
    match parameter {
        Parameter::Null => None,
        Parameter::Int(number) => Some(number.to_string()),
        Parameter::Text(text) => Some(text.clone()),
    }
}

impl Dialect for Memcached {
    type Question = Question;

    fn question(job: &Job) -> Option<Result<Question, String>> {
        Question::of(&job.statement, &job.parameters).map(Ok)
    }

    fn greet(&self, _: &mut Input<Wire>) -> Result<(), Failure> {
        Ok(())
    }

    fn ask(&self, server: &mut Input<Wire>, question: &Question) -> Result<Rows, Failure> {
        if !server.begin() {
            return Err(ODD);
        }
        let said = match question {
            Question::Get(keys) => format!("gets {}\r\n", keys.join(" ")).into_bytes(),
            Question::Word { written, .. } => written.clone(),
            Question::Stats => b"stats\r\n".to_vec(),
        };
        server.source().write_all(&said)?;
        read(server, question)
    }
}

/// Reads the answer to a question.
///
/// # Errors
/// The server says no, or that is none.
pub fn read<R: Read>(server: &mut Input<R>, question: &Question) -> Result<Rows, Failure> {
    match question {
        Question::Get(keys) => values(server, keys),
        Question::Word { words, is_number, .. } => {
            let line = text(&line(server, !is_number)?);
            match words.contains(&line.as_str()) || *is_number && line.parse::<u64>().is_ok() {
                true => Ok(one(Some(line))),
                false => Err(ODD),
            }
        }
        Question::Stats => stats(server),
    }
}

/// A line that is no error. After one the server may take for a command what was a value, or go on with an answer that it had
/// begun, so there the connection is over.
fn line<R: Read>(server: &mut Input<R>, is_over: bool) -> Result<Vec<u8>, Failure> {
    let line = server.line()?;
    let is_no = line == b"ERROR" || line.starts_with(b"CLIENT_ERROR ") || line.starts_with(b"SERVER_ERROR ");
    match (is_no, is_over) {
        (false, _) => Ok(line),
        (true, false) => Err(Failure::No(text(&line))),
        (true, true) => Err(Failure::Io(io::Error::other(text(&line)))),
    }
}

/// Values of keys that have been asked for, each at most once.
fn values<R: Read>(server: &mut Input<R>, keys: &[String]) -> Result<Rows, Failure> {
    let columns = ["key", "value", "cas"].map(str::to_owned).to_vec();
    let mut found = Rows { columns, rows: Vec::new() };
    loop {
        let line = line(server, !found.rows.is_empty())?;
        if line == b"END" {
            return Ok(found);
        }
        let line = String::from_utf8(line).map_err(|_| ODD)?;
        let ["VALUE", key, _flags, len, id] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(ODD);
        };
        let is_asked = keys.iter().any(|asked| asked == key);
        let is_told =
            found.rows.iter().any(|row| row.first().is_some_and(|told| told.as_deref() == Some(key)));
        let (Ok(len), Ok(id), true, false) = (len.parse::<usize>(), id.parse::<u64>(), is_asked, is_told)
        else {
            return Err(ODD);
        };
        let value = text(&server.block(len)?);
        found.rows.push([key.to_owned(), value, id.to_string()].map(Some).to_vec());
    }
}

fn stats<R: Read>(server: &mut Input<R>) -> Result<Rows, Failure> {
    let (columns, mut octets) = (["name", "value"].map(str::to_owned).to_vec(), 0);
    let mut found = Rows { columns, rows: Vec::new() };
    loop {
        let line = text(&line(server, !found.rows.is_empty())?);
        if line == "END" {
            return Ok(found);
        }
        octets += line.len();
        if found.rows.len() >= MAX_ROWS || octets > MAX_ANSWER {
            return Err(Failure::TooLarge);
        }
        let rest = line.strip_prefix("STAT ").ok_or(ODD)?;
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        found.rows.push([name, value].map(|text| Some(text.to_owned())).to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, texts: &[&str]) -> Option<Question> {
        let parameters: Vec<Parameter> =
            texts.iter().map(|text| Parameter::Text((*text).to_owned())).collect();
        Question::of(name, &parameters)
    }

    fn said(question: Question) -> String {
        match question {
            Question::Word { written, .. } => String::from_utf8(written).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_value_may_be_anything_and_a_key_may_not() {
        let value = "x\r\nflush_all\r\n";
        for (question, written) in [
            (of("set", &["a", value, "60"]), "set a 0 60 14\r\nx\r\nflush_all\r\n\r\n"),
            (of("cas", &["a", "", "0", "18446744073709551615"]), "cas a 0 0 0 18446744073709551615\r\n\r\n"),
            (of("incr", &["a", "5"]), "incr a 5\r\n"),
            (of("touch", &["a", "0"]), "touch a 0\r\n"),
            (of("delete", &["a"]), "delete a\r\n"),
            (of("flush", &[]), "flush_all\r\n"),
        ] {
            assert_eq!(said(question.unwrap()), written);
        }
        let long = "x".repeat(MAX_KEY + 1);
        for key in ["", "a b", "a\r\nflush_all", "a\tb", "a\0", "a\u{7f}", "a\u{85}", &long] {
            for (name, rest) in [
                ("get", &[][..]),
                ("delete", &[]),
                ("set", &["v", "0"]),
                ("cas", &["v", "0", "1"]),
                ("incr", &["1"]),
            ] {
                assert_eq!(of(name, &[&[key], rest].concat()), None, "{name} {key:?}");
            }
        }
        for (name, texts) in [
            ("set", &["a", "v", "-1"][..]),
            ("set", &["a", "v", "0 noreply"]),
            ("cas", &["a", "v", "0", "1 noreply"]),
            ("incr", &["a", "-1"]),
            ("get", &[]),
            ("shutdown", &[]),
            ("flush_all", &[]),
        ] {
            assert_eq!(of(name, texts), None, "{name} {texts:?}");
        }
        assert_eq!(Question::of("get", &[Parameter::Null]), None);
    }

    fn rows(answer: &str, question: &Question) -> Result<Vec<Vec<String>>, Failure> {
        let rows = read(&mut Input::new(answer.as_bytes()), question)?.rows;
        Ok(rows.into_iter().map(|row| row.into_iter().map(Option::unwrap).collect()).collect())
    }

    #[test]
    fn answers_are_read_and_what_is_none_is_an_error() {
        let get = of("get", &["b", "a", "b"]).unwrap();
        assert_eq!(get, Question::Get(["a", "b"].map(str::to_owned).to_vec()), "each key once");
        let found = rows("VALUE b 0 3 7\r\nx\r\n\r\nVALUE a 1 0 8\r\n\r\nEND\r\n", &get).unwrap();
        assert_eq!(found, [["b", "x\r\n", "7"], ["a", "", "8"]]);
        assert!(rows("END\r\n", &get).unwrap().is_empty());
        for answer in [
            "VALUE c 0 1 7\r\nx\r\nEND\r\n",
            "VALUE a 0 1\r\nx\r\nEND\r\n",
            "VALUE a 0 1 7\r\nxy\r\nEND\r\n",
            "VALUE a 0 -1 7\r\n\r\nEND\r\n",
            "VALUE a 0 1 7\r\nx\r\nVALUE a 0 1 7\r\nx\r\nEND\r\n",
            "STORED\r\n",
            "\r\n",
            "END\n",
        ] {
            assert!(matches!(rows(answer, &get), Err(Failure::Nonsense(_))), "{answer}");
        }
        assert!(matches!(rows("VALUE a 0 262145 7\r\n", &get), Err(Failure::TooLarge)));
        assert!(matches!(rows("SERVER_ERROR busy\r\n", &get), Err(Failure::No(why)) if why.contains("busy")));
        // Nobody knows where an answer ends that had begun.
        for (answer, question) in [
            ("VALUE a 0 1 7\r\nx\r\nSERVER_ERROR busy\r\n", &get),
            ("STAT a b\r\nSERVER_ERROR busy\r\n", &Question::Stats),
        ] {
            assert!(matches!(rows(answer, question), Err(Failure::Io(_))), "{answer}");
        }
        let set = of("set", &["a", "v", "0"]).unwrap();
        assert_eq!(rows("NOT_STORED\r\n", &set).unwrap(), [["NOT_STORED"]]);
        assert!(matches!(rows("CLIENT_ERROR bad data chunk\r\n", &set), Err(Failure::Io(_))));
        assert!(matches!(rows("5\r\n", &set), Err(Failure::Nonsense(_))));
        let incr = of("incr", &["a", "1"]).unwrap();
        assert_eq!(rows("18446744073709551615\r\n", &incr).unwrap(), [["18446744073709551615"]]);
        assert!(matches!(rows("-1\r\n", &incr), Err(Failure::Nonsense(_))));
        assert!(matches!(rows("CLIENT_ERROR non-numeric\r\n", &incr), Err(Failure::No(_))));
        let found = rows("STAT pid 5\r\nSTAT version 1.6 x\r\nEND\r\n", &Question::Stats).unwrap();
        assert_eq!(found, [["pid", "5"], ["version", "1.6 x"]]);
        let endless = "STAT a b\r\n".repeat(MAX_ROWS + 1);
        assert!(matches!(rows(&endless, &Question::Stats), Err(Failure::TooLarge)));
    }
}
