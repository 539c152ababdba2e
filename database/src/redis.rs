//! Redis: what may be asked of it, and nothing else. No command that a rule can have put leaves anything on the connection,
//! changes a setting or runs a script.

use std::collections::BTreeSet;
use std::io::Write;

use vsmtp_config::RedisUrl;
use vsmtp_ipc::edge::filter_database::{MAX_ANSWER, MAX_ROWS, Parameter, Rows};

use crate::crew::Job;
use crate::input::{Failure, Input};
use crate::resp::{Reply, command, reply};
use crate::server::{Dialect, one, text};
use crate::wire::Wire;

/// How many keys the server looks at before it answers, while others wait for it.
const SCANNED_AT_ONCE: &[u8] = b"1000";
/// Most digits of the number by which a server finds where it was among its keys.
const MAX_CURSOR: usize = 20;
const ODD: Failure = Failure::Nonsense("a reply to another question");

/// Who we are there.
pub struct Redis(pub RedisUrl);

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A command whose reply is one value.
    Plain(Vec<Vec<u8>>),
    /// Keys like this.
    Keys(Vec<u8>),
}

impl Question {
    /// Reads a question of a filter; `None` if there is no such question.
    pub fn of(name: &str, parameters: &[Parameter]) -> Option<Self> {
        let words: Vec<Vec<u8>> = parameters.iter().map(word).collect::<Option<_>>()?;
        let refs: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let is_number = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok());
        let written: Vec<&[u8]> = match (name, refs.as_slice()) {
            ("get", [key]) => vec![b"GET", key],
            ("set", [key, value]) => vec![b"SET", key, value],
            ("set", [key, value, seconds]) if is_number(seconds) => vec![b"SET", key, value, b"EX", seconds],
            ("set_new", [key, value]) => vec![b"SET", key, value, b"NX"],
            ("set_new", [key, value, seconds]) if is_number(seconds) => {
                vec![b"SET", key, value, b"NX", b"EX", seconds]
            }
            ("exists", [key]) => vec![b"EXISTS", key],
            ("delete", [key]) => vec![b"DEL", key],
            ("append", [key, value]) => vec![b"APPEND", key, value],
            ("expire", [key, seconds]) if is_number(seconds) => vec![b"EXPIRE", key, seconds],
            ("increment", [key, by]) if is_number(by) => vec![b"INCRBY", key, by],
            ("decrement", [key, by]) if is_number(by) => vec![b"DECRBY", key, by],
            ("keys", [pattern]) => return Some(Question::Keys(pattern.to_vec())),
            _ => return None,
        };
        Some(Question::Plain(written.into_iter().map(<[u8]>::to_vec).collect()))
    }
}

fn word(parameter: &Parameter) -> Option<Vec<u8>> {
    match parameter {
        Parameter::Null => None,
        Parameter::Int(number) => Some(number.to_string().into_bytes()),
        Parameter::Text(text) => Some(text.clone().into_bytes()),
    }
}

impl Dialect for Redis {
    type Question = Question;

    fn question(job: &Job) -> Option<Result<Question, String>> {
        Question::of(&job.statement, &job.parameters).map(Ok)
    }

    fn greet(&self, server: &mut Input<Wire>) -> Result<(), Failure> {
        let RedisUrl { user, password, number, .. } = &self.0;
        let number = number.to_string();
        let words: &[&[u8]] = match (user.is_empty(), password.is_empty()) {
            (_, true) => &[],
            (true, false) => &[b"AUTH", password.as_bytes()],
            (false, false) => &[b"AUTH", user.as_bytes(), password.as_bytes()],
        };
        if !words.is_empty() {
            done(server, words).map_err(|failure| hide(failure, password))?;
        }
        if number != "0" {
            done(server, &[b"SELECT", number.as_bytes()])?;
        }
        Ok(())
    }

    fn ask(&self, server: &mut Input<Wire>, question: &Question) -> Result<Rows, Failure> {
        match question {
            Question::Plain(words) => {
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                match say(server, &words)? {
                    Reply::Status(word) => Ok(one(Some(text(&word)))),
                    Reply::Int(number) => Ok(one(Some(number.to_string()))),
                    Reply::Value(value) => Ok(one(value.map(|value| text(&value)))),
                    Reply::List(_) => Err(ODD),
                }
            }
            Question::Keys(pattern) => keys(server, pattern),
        }
    }
}

fn say(server: &mut Input<Wire>, words: &[&[u8]]) -> Result<Reply, Failure> {
    server.source().write_all(&command(words))?;
    if !server.begin() {
        return Err(ODD);
    }
    reply(server)
}

fn done(server: &mut Input<Wire>, words: &[&[u8]]) -> Result<(), Failure> {
    match say(server, words)? {
        Reply::Status(word) if word == b"OK" => Ok(()),
        _ => Err(ODD),
    }
}

/// A server that does not know the command says its words again, some cut off. Logs and rules are not told them.
fn hide(failure: Failure, password: &str) -> Failure {
    match failure {
        Failure::No(why) => {
            let (told, _) = why.split_once(", with args").unwrap_or((&why, ""));
            Failure::No(told.replace(password, "..."))
        }
        other => other,
    }
}

/// All keys like a pattern, each once. The server looks at some of its keys at a time, so that it can answer others between; when
/// the question is out of time, the connection is.
fn keys(server: &mut Input<Wire>, pattern: &[u8]) -> Result<Rows, Failure> {
    let (mut found, mut octets, mut cursor) = (BTreeSet::new(), 0, b"0".to_vec());
    loop {
        let words: [&[u8]; 6] = [b"SCAN", &cursor, b"MATCH", pattern, b"COUNT", SCANNED_AT_ONCE];
        let Reply::List(parts) = say(server, &words)? else { return Err(ODD) };
        let [Reply::Value(Some(next)), Reply::List(some)] = parts.as_slice() else { return Err(ODD) };
        for key in some {
            let Reply::Value(Some(key)) = key else { return Err(ODD) };
            let key = text(key);
            octets += key.len();
            found.insert(key);
        }
        if found.len() > MAX_ROWS || octets > MAX_ANSWER {
            return Err(Failure::TooLarge);
        }
        if next == b"0" {
            let rows = found.into_iter().map(|key| vec![Some(key)]).collect();
            return Ok(Rows { columns: vec!["value".to_owned()], rows });
        }
        if !next.iter().all(u8::is_ascii_digit) || next.len() > MAX_CURSOR {
            return Err(ODD);
        }
        cursor.clone_from(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str, parameters: &[Parameter]) -> Option<Vec<String>> {
        match Question::of(name, parameters)? {
            Question::Plain(words) => Some(words.iter().map(|word| text(word)).collect()),
            Question::Keys(pattern) => Some(vec!["keys".to_owned(), text(&pattern)]),
        }
    }

    #[test]
    fn rules_can_ask_what_is_named_here_and_nothing_else() {
        let of = |texts: &[&str]| -> Vec<Parameter> {
            texts.iter().map(|text| Parameter::Text((*text).to_owned())).collect()
        };
        for (name, parameters, expected) in [
            ("get", of(&["a"]), Some(vec!["GET", "a"])),
            ("set", of(&["a", "b"]), Some(vec!["SET", "a", "b"])),
            ("set_new", of(&["a", "b", "60"]), Some(vec!["SET", "a", "b", "NX", "EX", "60"])),
            ("keys", of(&["a*"]), Some(vec!["keys", "a*"])),
            ("set", of(&["a", "b", "KEEPTTL"]), None),
            ("get", of(&["a", "b"]), None),
            ("get", vec![Parameter::Null], None),
            ("increment", of(&["a", "x"]), None),
            ("FLUSHALL", of(&[]), None),
            ("eval", of(&["a"]), None),
            ("select 1", of(&[]), None),
        ] {
            let expected = expected.map(|words: Vec<&str>| words.into_iter().map(str::to_owned).collect());
            assert_eq!(words(name, &parameters), expected, "{name}");
        }
        assert_eq!(
            words("increment", &[Parameter::Text("a".to_owned()), Parameter::Int(-2)]).unwrap()[2],
            "-2"
        );
    }
}
