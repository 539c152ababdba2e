//! What servers answer whose protocols are our own to read. The first octet says which protocol it is.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use vsmtp_database::ber::Reader;
use vsmtp_database::input::{Failure, Input, MAX_REPLY};
use vsmtp_database::ldap;
use vsmtp_database::memcached::{self, Question};
use vsmtp_database::resp::{self, MAX_ITEMS, Reply};
use vsmtp_ipc::edge::filter_database::{MAX_ROWS, Parameter};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    match which % 4 {
        0 => redis(rest),
        1 => memcached(rest),
        2 => directory(rest),
        _ => filter(rest),
    }
});

/// Says an octet at a time.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, octets: &mut [u8]) -> std::io::Result<usize> {
        let (Some(place), [first, rest @ ..]) = (octets.first_mut(), self.0) else { return Ok(0) };
        *place = *first;
        self.0 = rest;
        Ok(1)
    }
}

fn told<T: std::fmt::Debug>(answer: &Result<T, Failure>) -> String {
    match answer {
        Err(Failure::Io(error)) => format!("{:?}", error.kind()),
        other => format!("{other:?}"),
    }
}

fn redis(data: &[u8]) {
    let whole = resp::reply(&mut Input::new(data));
    let slow = resp::reply(&mut Input::new(Slow(data)));
    assert_eq!(told(&whole), told(&slow), "however it is cut");
    let Ok(reply) = whole else { return };
    assert!(items(&reply) <= MAX_ITEMS + 1 && octets(&reply) <= MAX_REPLY);
    // What is read can be written, and reads the same.
    let mut written = Vec::new();
    write(&reply, &mut written);
    let again = resp::reply(&mut Input::new(&written[..])).expect("it reads again");
    assert_eq!(again, reply);
    // A word of a command is one word, whatever is in it.
    let command = resp::command(&[b"GET", data]);
    if data.len() < 1000 {
        let Ok(Reply::List(words)) = resp::reply(&mut Input::new(&command[..])) else { panic!("it is a list") };
        assert_eq!(words, [Reply::Value(Some(b"GET".to_vec())), Reply::Value(Some(data.to_vec()))]);
    }
}

/// Keys that are asked for come from the input, as they would from a client; what is said to a server is lines of its own.
fn memcached(data: &[u8]) {
    let (first, rest) = data.split_at(data.len().min(8));
    let text = |octets: &[u8]| Parameter::Text(String::from_utf8_lossy(octets).into_owned());
    if let Some(Question::Word { written, .. }) = Question::of("set", &[text(first), text(rest), Parameter::Int(60)]) {
        let lines = written.windows(2).filter(|pair| *pair == b"\r\n").count();
        let value = String::from_utf8_lossy(rest);
        assert_eq!(lines, 2 + value.matches("\r\n").count(), "a key ends no line");
        assert!(written.starts_with(b"set ") && written.ends_with(b"\r\n"));
    }
    for question in ["get", "incr", "stats"] {
        let parameters = match question {
            "get" => vec![text(b"a"), text(first)],
            "incr" => vec![text(b"a"), Parameter::Int(1)],
            _ => Vec::new(),
        };
        let Some(question) = Question::of(question, &parameters) else { continue };
        let whole = memcached::read(&mut Input::new(rest), &question);
        let slow = memcached::read(&mut Input::new(Slow(rest)), &question);
        assert_eq!(told(&whole), told(&slow), "however it is cut");
        let Ok(rows) = whole else { continue };
        assert!(rows.rows.iter().all(|row| row.len() == rows.columns.len()));
        if let Question::Get(keys) = &question {
            assert!(rows.rows.len() <= keys.len());
            assert!(rows.rows.iter().all(|row| row[0].as_ref().is_some_and(|key| keys.contains(key))));
        }
    }
}

fn directory(data: &[u8]) {
    for is_search in [true, false] {
        let whole = ldap::read(&mut Input::new(data), ldap::QUESTION, is_search);
        let slow = ldap::read(&mut Input::new(Slow(data)), ldap::QUESTION, is_search);
        assert_eq!(told(&whole), told(&slow), "however it is cut");
        let Ok(rows) = whole else { continue };
        assert!(rows.rows.len() <= MAX_ROWS && rows.rows.iter().all(|row| row.len() == rows.columns.len()));
    }
}

/// A filter, and behind a zero octet a value for its places.
fn filter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (filter, value) = text.split_once('\0').unwrap_or((&text, ""));
    let _ = ldap::filter::encode(filter, None);
    let values = vec![value.to_owned(); filter.matches('?').count().min(8)];
    let Ok(sent) = ldap::filter::encode(filter, Some(&values)) else { return };
    // It is one thing, and stays so whatever the value is.
    let mut reader = Reader::new(&sent);
    let (tag, _) = reader.take().expect("a filter is something");
    assert!(reader.is_empty());
    let others = vec!["x".to_owned(); values.len()];
    let other = ldap::filter::encode(filter, Some(&others)).map(|sent| sent.first().copied());
    if !value.is_empty() {
        assert_eq!(other, Ok(Some(tag)), "a value does not change what is asked");
    }
}

fn items(reply: &Reply) -> usize {
    match reply {
        Reply::List(list) => list.iter().map(items).sum::<usize>() + 1,
        _ => 1,
    }
}

fn octets(reply: &Reply) -> usize {
    match reply {
        Reply::List(list) => list.iter().map(octets).sum(),
        Reply::Status(word) | Reply::Value(Some(word)) => word.len(),
        Reply::Int(_) | Reply::Value(None) => 0,
    }
}

fn write(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Status(word) => out.extend_from_slice(&[b"+", word.as_slice(), b"\r\n"].concat()),
        Reply::Int(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
        Reply::Value(None) => out.extend_from_slice(b"$-1\r\n"),
        Reply::Value(Some(value)) => {
            out.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        Reply::List(list) => {
            out.extend_from_slice(format!("*{}\r\n", list.len()).as_bytes());
            list.iter().for_each(|item| write(item, out));
        }
    }
}
