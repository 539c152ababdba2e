//! LDAP (RFC 4511): searches and comparisons, and nothing that changes a directory. A connection that is to be encrypted says
//! nothing before it is, and who we are only then.

pub mod filter;

use std::cell::Cell;
use std::io::{self, Read, Write};

use vsmtp_config::{LdapTls, LdapUrl};
use vsmtp_ipc::edge::filter_database::{MAX_ANSWER, MAX_ROWS, Parameter, Rows};

use crate::ber::{self, BOOLEAN, ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE, SET, element};
use crate::crew::Job;
use crate::input::{Failure, Input};
use crate::server::{Dialect, one, text};
use crate::tls::Tls;
use crate::wire::Wire;

/// Numbers of messages: each is answered before the next one is sent.
const STARTTLS: i64 = 1;
const BIND: i64 = 2;
/// That of the first question on a connection; each has another, so that no answer is that to another question.
pub const QUESTION: i64 = 3;
/// The largest number of a message (RFC 4511 4.1.1).
const MAX_NUMBER: i64 = 0x7fff_ffff;

/// What is asked for before TLS begins (RFC 4511 4.14).
const OID_OF_STARTTLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// Operations, by their tags.
const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const SEARCH_REQUEST: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const COMPARE_REQUEST: u8 = 0x6e;
const COMPARE_RESPONSE: u8 = 0x6f;
const EXTENDED_REQUEST: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;

/// Results.
const SUCCESS: i64 = 0;
const SIZE_LIMIT: i64 = 4;
const COMPARE_FALSE: i64 = 5;
const COMPARE_TRUE: i64 = 6;
/// Those that say nothing of what was asked: something is wrong with the server, or it has no time.
const NOT_NOW: [i64; 6] = [1, 3, 11, 51, 52, 80];

const ODD: Failure = Failure::Nonsense("an answer to another question");

/// Who we are there, and how the connection is encrypted.
pub struct Ldap {
    /// Where it is, and who we are.
    pub url: LdapUrl,
    /// How the connection is encrypted, if it is to be.
    pub tls: Option<Tls>,
    /// The number of the next question.
    pub number: Cell<i64>,
}

/// One question, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    operation: Vec<u8>,
    is_search: bool,
}

impl Question {
    /// Reads a question of a filter; `None` if there is no such question, or what is wrong with its filter.
    pub fn of(name: &str, parameters: &[Parameter]) -> Option<Result<Self, String>> {
        let texts = |parameters: &[Parameter]| -> Option<Vec<String>> {
            let text = |parameter: &Parameter| match parameter {
                Parameter::Text(text) => Some(text.clone()),
                Parameter::Null | Parameter::Int(_) => None,
            };
            parameters.iter().map(text).collect()
        };
        match (name, parameters) {
            ("search", [base, scope, filter, names @ ..]) => {
                let [base, scope, filter] =
                    <[String; 3]>::try_from(texts(&[base.clone(), scope.clone(), filter.clone()])?).ok()?;
                search(&base, &scope, &filter, &texts(names)?, None)
            }
            ("search_values", [base, scope, filter, Parameter::Int(count), rest @ ..]) => {
                let [base, scope, filter] =
                    <[String; 3]>::try_from(texts(&[base.clone(), scope.clone(), filter.clone()])?).ok()?;
                let (names, values) = rest.split_at_checked(usize::try_from(*count).ok()?)?;
                search(&base, &scope, &filter, &texts(names)?, Some(&texts(values)?))
            }
            ("compare", rest) => {
                let [dn, name, value] = <[String; 3]>::try_from(texts(rest)?).ok()?;
                let pair = [octets(&name), octets(&value)].concat();
                let operation = element(COMPARE_REQUEST, &[octets(&dn), element(SEQUENCE, &pair)].concat());
                filter::is_attribute(&name).then_some(Ok(Question { operation, is_search: false }))
            }
            _ => None,
        }
    }
}

fn octets(text: &str) -> Vec<u8> {
    element(OCTETS, text.as_bytes())
}

fn search(
    base: &str,
    scope: &str,
    filter: &str,
    names: &[String],
    values: Option<&[String]>,
) -> Option<Result<Question, String>> {
    let scope = ["base", "one", "sub"].iter().position(|known| *known == scope)?;
    let is_name = |name: &String| ["*", "+"].contains(&name.as_str()) || filter::is_attribute(name);
    if !names.iter().all(is_name) {
        return Some(Err("a search wants something that is no name of an attribute".to_owned()));
    }
    let names: Vec<u8> = names.iter().flat_map(|name| octets(name)).collect();
    Some(filter::encode(filter, values).map(|filter| {
        let parts = [
            octets(base),
            ber::number(ENUMERATED, i64::try_from(scope).unwrap_or_default()),
            // No alias is followed.
            ber::number(ENUMERATED, 0),
            ber::number(INTEGER, i64::try_from(MAX_ROWS).unwrap_or_default()),
            // The time is ours to keep.
            ber::number(INTEGER, 0),
            ber::truth(BOOLEAN, false),
            filter,
            element(SEQUENCE, &names),
        ];
        Question { operation: element(SEARCH_REQUEST, &parts.concat()), is_search: true }
    }))
}

impl Dialect for Ldap {
    type Question = Question;

    fn question(job: &Job) -> Option<Result<Question, String>> {
        Question::of(&job.statement, &job.parameters)
    }

    fn greet(&self, server: &mut Input<Wire>) -> Result<(), Failure> {
        self.number.set(QUESTION);
        match (self.url.tls, &self.tls) {
            (LdapTls::None, _) => {}
            (LdapTls::Whole, Some(tls)) => server.source().secure(tls)?,
            (LdapTls::StartTls, Some(tls)) => {
                let request = element(EXTENDED_REQUEST, &element(0x80, OID_OF_STARTTLS));
                say(server, STARTTLS, &request)?;
                done(&next(server, STARTTLS)?, EXTENDED_RESPONSE)?;
                // Nothing that was said in clear counts for an answer later.
                if !server.begin() {
                    return Err(ODD);
                }
                server.source().secure(tls)?;
            }
            (_, None) => return Err(Failure::Io(io::Error::other("TLS is not ready"))),
        }
        let LdapUrl { dn, password, .. } = &self.url;
        if dn.is_empty() {
            return Ok(());
        }
        let parts = [ber::number(INTEGER, 3), octets(dn), element(0x80, password.as_bytes())];
        say(server, BIND, &element(BIND_REQUEST, &parts.concat()))?;
        done(&next(server, BIND)?, BIND_RESPONSE)
    }

    fn ask(&self, server: &mut Input<Wire>, question: &Question) -> Result<Rows, Failure> {
        let number = self.number.get();
        self.number.set(if number < MAX_NUMBER { number + 1 } else { QUESTION });
        say(server, number, &question.operation)?;
        read(server, number, question.is_search)
    }
}

fn say(server: &mut Input<Wire>, number: i64, operation: &[u8]) -> Result<(), Failure> {
    if !server.begin() {
        return Err(ODD);
    }
    let message = element(SEQUENCE, &[ber::number(INTEGER, number), operation.to_vec()].concat());
    let wire = server.source();
    wire.write_all(&message)?;
    Ok(wire.flush()?)
}

/// The next message, which answers that of this number: its operation, tag and all.
fn next<R: Read>(server: &mut Input<R>, number: i64) -> Result<(u8, Vec<u8>), Failure> {
    let message = ber::message(server)?;
    let mut reader = Reader::new(&message);
    // A message of number 0 says that the server is going away (RFC 4511 4.4.1).
    if reader.number(INTEGER)? != number {
        return Err(ODD);
    }
    let (tag, content) = reader.take()?;
    Ok((tag, content.to_vec()))
}

/// What became of something that was asked for, and what the server says of it.
fn result(content: &[u8]) -> Result<(i64, String), Failure> {
    let mut reader = Reader::new(content);
    let code = reader.number(ENUMERATED)?;
    let _matched = reader.expect(OCTETS)?;
    Ok((code, text(reader.expect(OCTETS)?)))
}

fn done((tag, content): &(u8, Vec<u8>), expected: u8) -> Result<(), Failure> {
    if *tag != expected {
        return Err(ODD);
    }
    match result(content)? {
        (SUCCESS, _) => Ok(()),
        (code, words) => Err(Failure::No(told(code, &words))),
    }
}

fn told(code: i64, words: &str) -> String {
    let name = match code {
        1 => "operationsError",
        3 => "timeLimitExceeded",
        11 => "adminLimitExceeded",
        2 => "protocolError",
        8 => "strongerAuthRequired",
        10 => "referral",
        13 => "confidentialityRequired",
        16 => "noSuchAttribute",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        21 => "invalidAttributeSyntax",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        80 => "other",
        _ => "an error",
    };
    let colon = if words.is_empty() { "" } else { ": " };
    format!("{name} ({code}){colon}{words}")
}

/// Reads what a search of this number finds, or what a comparison says. What the server says no to is an answer of its own: one row with the
/// column `error`.
///
/// # Errors
/// There is no answer.
pub fn read<R: Read>(server: &mut Input<R>, number: i64, is_search: bool) -> Result<Rows, Failure> {
    let mut found = Found::new();
    loop {
        let (tag, content) = next(server, number)?;
        match tag {
            SEARCH_ENTRY if is_search => found.entry(&content)?,
            SEARCH_REFERENCE if is_search => found.count(1)?,
            SEARCH_DONE if is_search => return end(&content, SUCCESS, || Ok(found.rows)),
            COMPARE_RESPONSE if !is_search => {
                let word = if result(&content)?.0 == COMPARE_TRUE { "true" } else { "false" };
                let code = if word == "true" { COMPARE_TRUE } else { COMPARE_FALSE };
                return end(&content, code, || Ok(one(Some(word.to_owned()))));
            }
            _ => return Err(ODD),
        }
    }
}

fn end(content: &[u8], good: i64, answer: impl FnOnce() -> Result<Rows, Failure>) -> Result<Rows, Failure> {
    match result(content)? {
        (code, _) if code == good => answer(),
        (SIZE_LIMIT, _) => Err(Failure::TooLarge),
        (code, words) if NOT_NOW.contains(&code) => Err(Failure::No(told(code, &words))),
        (code, words) => {
            let said = crate::connection::cut(&told(code, &words));
            Ok(Rows { columns: vec!["error".to_owned()], rows: vec![vec![Some(said)]] })
        }
    }
}

/// Entries, as rows: one with the name of each, and behind it one for each value of each of its attributes.
struct Found {
    rows: Rows,
    octets: usize,
    /// Rows, and what else is counted as one.
    counted: usize,
}

impl Found {
    fn new() -> Self {
        let columns = ["dn", "attribute", "value"].map(str::to_owned).to_vec();
        Found { rows: Rows { columns, rows: Vec::new() }, octets: 0, counted: 0 }
    }

    fn count(&mut self, octets: usize) -> Result<(), Failure> {
        self.octets += octets;
        self.counted += 1;
        if self.counted > MAX_ROWS || self.octets > MAX_ANSWER { Err(Failure::TooLarge) } else { Ok(()) }
    }

    fn row(&mut self, row: [Option<String>; 3]) -> Result<(), Failure> {
        self.count(row.iter().flatten().map(String::len).sum())?;
        self.rows.rows.push(row.to_vec());
        Ok(())
    }

    fn entry(&mut self, content: &[u8]) -> Result<(), Failure> {
        let mut reader = Reader::new(content);
        self.row([Some(text(reader.expect(OCTETS)?)), None, None])?;
        let mut attributes = Reader::new(reader.expect(SEQUENCE)?);
        while !attributes.is_empty() {
            let mut attribute = Reader::new(attributes.expect(SEQUENCE)?);
            let name = text(attribute.expect(OCTETS)?);
            let mut values = Reader::new(attribute.expect(SET)?);
            if values.is_empty() {
                self.row([None, Some(name.clone()), None])?;
            }
            while !values.is_empty() {
                self.row([None, Some(name.clone()), Some(text(values.expect(OCTETS)?))])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, texts: &[&str]) -> Option<Result<Question, String>> {
        let parameters: Vec<Parameter> =
            texts.iter().map(|text| Parameter::Text((*text).to_owned())).collect();
        Question::of(name, &parameters)
    }

    #[test]
    fn searches_and_comparisons_are_all_that_can_be_asked() {
        assert!(matches!(question("search", &["dc=x", "sub", "(cn=a)", "mail", "*"]), Some(Ok(_))));
        assert!(matches!(question("search", &["dc=x", "sub", "(cn=a", "mail"]), Some(Err(_))));
        assert!(matches!(question("search", &["dc=x", "sub", "(cn=a)", "ma il"]), Some(Err(_))));
        assert!(matches!(question("compare", &["cn=a", "mail", "a)(b"]), Some(Ok(_))));
        for (name, texts) in [
            ("search", &["dc=x", "all", "(cn=a)"][..]),
            ("search", &["dc=x", "sub"]),
            ("compare", &["cn=a", "ma il", "x"]),
            ("compare", &["cn=a", "mail"]),
            ("delete", &["cn=a"]),
            ("modify", &[]),
        ] {
            assert!(question(name, texts).is_none(), "{name} {texts:?}");
        }
        let text = |text: &str| Parameter::Text(text.to_owned());
        let with = |count| {
            [text("dc=x"), text("one"), text("(cn=?)"), Parameter::Int(count), text("mail"), text("a*")]
        };
        let expected = question("search", &["dc=x", "one", "(cn=a\\2a)", "mail"]);
        assert_eq!(Question::of("search_values", &with(1)), expected);
        assert!(
            Question::of("search_values", &with(3)).is_none()
                && Question::of("search_values", &with(-1)).is_none()
        );
    }

    fn message(number: i64, operation: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[ber::number(INTEGER, number), operation.to_vec()].concat())
    }

    fn ended(tag: u8, code: i64, words: &str) -> Vec<u8> {
        element(tag, &[ber::number(ENUMERATED, code), octets(""), octets(words)].concat())
    }

    fn entry(dn: &str, attributes: &[(&str, &[&str])]) -> Vec<u8> {
        let attributes = attributes.iter().flat_map(|(name, values)| {
            let values: Vec<u8> = values.iter().flat_map(|value| octets(value)).collect();
            element(SEQUENCE, &[octets(name), element(SET, &values)].concat())
        });
        let attributes: Vec<u8> = attributes.collect();
        element(SEARCH_ENTRY, &[octets(dn), element(SEQUENCE, &attributes)].concat())
    }

    fn heard(operations: &[Vec<u8>], is_search: bool) -> Result<Rows, Failure> {
        let said: Vec<u8> = operations.iter().flat_map(|operation| message(QUESTION, operation)).collect();
        read(&mut Input::new(&said[..]), QUESTION, is_search)
    }

    #[test]
    fn what_is_found_becomes_rows() {
        let operations = [
            entry("cn=a", &[("mail", &["a@x", "b@x"]), ("empty", &[])]),
            element(SEARCH_REFERENCE, &octets("ldap://other")),
            entry("cn=b", &[]),
            ended(SEARCH_DONE, 0, ""),
        ];
        let rows = heard(&operations, true).unwrap().rows;
        let row = |dn: &str, name: &str, value: &str| {
            [dn, name, value].map(|text| (!text.is_empty()).then(|| text.to_owned())).to_vec()
        };
        let expected = [
            row("cn=a", "", ""),
            row("", "mail", "a@x"),
            row("", "mail", "b@x"),
            row("", "empty", ""),
            row("cn=b", "", ""),
        ];
        assert_eq!(rows, expected);
        for (code, word) in [(COMPARE_TRUE, "true"), (COMPARE_FALSE, "false")] {
            assert_eq!(
                heard(&[ended(COMPARE_RESPONSE, code, "")], false).unwrap(),
                one(Some(word.to_owned()))
            );
        }
        let refused = heard(&[ended(SEARCH_DONE, 32, "not\r\nhere")], true).unwrap();
        assert_eq!(
            (refused.columns, refused.rows),
            (vec!["error".to_owned()], vec![vec![Some("noSuchObject (32): not  here".to_owned())]])
        );
        assert_eq!(heard(&[ended(COMPARE_RESPONSE, 0, "")], false).unwrap().columns, ["error"]);
        assert!(
            matches!(heard(&[ended(SEARCH_DONE, 51, "later")], true), Err(Failure::No(why)) if why == "busy (51): later")
        );
        assert!(matches!(heard(&[ended(SEARCH_DONE, SIZE_LIMIT, "")], true), Err(Failure::TooLarge)));
    }

    #[test]
    fn what_is_no_answer_or_too_much_is_an_error() {
        let many: Vec<Vec<u8>> = (0..=MAX_ROWS).map(|_| entry("cn=a", &[])).collect();
        assert!(matches!(heard(&many, true), Err(Failure::TooLarge)));
        let large = "x".repeat(MAX_ANSWER / 3);
        assert!(matches!(
            heard(&[entry("cn=a", &[("a", &[large.as_str(); 4])])], true),
            Err(Failure::TooLarge)
        ));
        let large = vec![entry("cn=a", &[("a", &[large.as_str()])]); 4];
        assert!(matches!(heard(&large, true), Err(Failure::TooLarge)));
        for (operation, is_search) in [
            (ended(COMPARE_RESPONSE, COMPARE_TRUE, ""), true),
            (ended(SEARCH_DONE, 0, ""), false),
            (ended(BIND_RESPONSE, 0, ""), true),
            (element(SEARCH_ENTRY, b"\x04\x01"), true),
            (element(SEARCH_ENTRY, &[octets("cn=a"), element(SET, b"")].concat()), true),
            (element(SEARCH_DONE, b""), true),
        ] {
            assert!(matches!(heard(&[operation], is_search), Err(Failure::Nonsense(_))));
        }
        let said = message(QUESTION - 1, &ended(SEARCH_DONE, 0, ""));
        assert!(matches!(read(&mut Input::new(&said[..]), QUESTION, true), Err(Failure::Nonsense(_))));
    }
}
