//! The protocol of Redis (RESP, version 2): commands as they are written, and replies as they are read. Pure.

use std::io::Read;

use crate::input::{Failure, Input};

/// How deep lists lie in lists in a reply that we ask for.
const MAX_DEPTH: usize = 2;
/// Most items of all lists of one reply.
pub const MAX_ITEMS: usize = 8192;

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// One word, such as `OK`.
    Status(Vec<u8>),
    /// A whole number.
    Int(i64),
    /// A value; `None` if there is none.
    Value(Option<Vec<u8>>),
    /// Several of these.
    List(Vec<Reply>),
}

/// A command. What is in a word stays in it: each has its length before it.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut written = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        written.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        written.extend_from_slice(word);
        written.extend_from_slice(b"\r\n");
    }
    written
}

/// Reads one reply.
///
/// # Errors
/// The server says no, or that is none.
pub fn reply<R: Read>(input: &mut Input<R>) -> Result<Reply, Failure> {
    let mut items = MAX_ITEMS;
    item(input, MAX_DEPTH, &mut items)
}

fn item<R: Read>(input: &mut Input<R>, depth: usize, items: &mut usize) -> Result<Reply, Failure> {
    let line = input.line()?;
    let (kind, rest) = line.split_first().ok_or(Failure::Nonsense("an empty line"))?;
    match kind {
        b'+' => Ok(Reply::Status(rest.to_vec())),
        // Within a list another item follows, and nothing of it belongs to the next question.
        b'-' if depth == MAX_DEPTH => Err(Failure::No(String::from_utf8_lossy(rest).into_owned())),
        b':' => number(rest).map(Reply::Int),
        b'$' => match number(rest)? {
            -1 => Ok(Reply::Value(None)),
            len => input.block(length(len)?).map(|value| Reply::Value(Some(value))),
        },
        b'*' => match number(rest)? {
            -1 => Ok(Reply::Value(None)),
            len => {
                let (len, depth) = (length(len)?, depth.checked_sub(1));
                let depth = depth.ok_or(Failure::Nonsense("lists that lie too deep"))?;
                *items = items.checked_sub(len).ok_or(Failure::TooLarge)?;
                (0..len).map(|_| item(input, depth, items)).collect::<Result<_, _>>().map(Reply::List)
            }
        },
        _ => Err(Failure::Nonsense("a reply of no known kind")),
    }
}

fn number(text: &[u8]) -> Result<i64, Failure> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(Failure::Nonsense("a number that is none"))
}

fn length(number: i64) -> Result<usize, Failure> {
    usize::try_from(number).map_err(|_| Failure::Nonsense("a length below zero"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Reply, Failure> {
        reply(&mut Input::new(text.as_bytes()))
    }

    #[test]
    fn a_word_stays_a_word_whatever_is_in_it() {
        let written = command(&[b"GET", b"a\r\nFLUSHALL\r\n"]);
        assert_eq!(written, b"*2\r\n$3\r\nGET\r\n$13\r\na\r\nFLUSHALL\r\n\r\n");
    }

    #[test]
    fn replies_are_read() {
        let value = |text: &str| Reply::Value(Some(text.as_bytes().to_vec()));
        for (text, expected) in [
            ("+OK\r\n", Reply::Status(b"OK".to_vec())),
            (":-12\r\n", Reply::Int(-12)),
            ("$5\r\na\r\nbc\r\n", value("a\r\nbc")),
            ("$0\r\n\r\n", value("")),
            ("$-1\r\n", Reply::Value(None)),
            ("*-1\r\n", Reply::Value(None)),
            (
                "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n",
                Reply::List(vec![value("0"), Reply::List(vec![value("a")])]),
            ),
            ("*0\r\n", Reply::List(Vec::new())),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        assert!(matches!(read("-ERR no\r\n"), Err(Failure::No(why)) if why == "ERR no"));
    }

    #[test]
    fn what_is_no_reply_or_too_much_is_an_error() {
        for text in [
            "\r\n",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            ":\r\n",
            ":1x\r\n",
            ":9223372036854775808\r\n",
            "$-2\r\n",
            "$1\r\nab\r\n",
            "*-2\r\n",
            "*1\r\n*1\r\n*1\r\n:1\r\n",
            "*1\r\n-ERR\r\n",
            "%1\r\n+a\r\n:1\r\n",
            "+OK\n",
        ] {
            assert!(matches!(read(text), Err(Failure::Nonsense(_))), "{text}");
        }
        for text in ["$262145\r\n", "$9223372036854775807\r\n", "*8193\r\n", "*1\r\n*8192\r\n"] {
            assert!(matches!(read(text), Err(Failure::TooLarge)), "{text}");
        }
        for text in ["", "$5\r\nab", "*2\r\n:1\r\n"] {
            assert!(matches!(read(text), Err(Failure::Io(_))), "{text}");
        }
    }
}
