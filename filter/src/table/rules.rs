//! Tables that are looked through from the top: networks and patterns, with `if` and `endif` and with `!`. Of networks that
//! follow each other all are passed over at once, if none of them holds the address.

use std::net::IpAddr;

use regex::{Captures, Regex, RegexBuilder};

use super::line::{Line, logical};
use crate::netset::{NetSet, net};
use crate::object::{Fault, Net};

/// Largest compiled form of one pattern, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// Deepest `if` inside an `if`.
const MAX_DEPTH: usize = 32;
/// Largest value that a pattern makes of what it matched, in octets.
const MAX_VALUE: usize = 64 * 1024;

/// Fewer networks than this are tried one by one.
const MIN_STRETCH: usize = 8;

/// How patterns are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `regexp:`.
    Posix,
    /// `pcre:`, without what takes more than linear time: back references and look-around.
    Perl,
}

#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// By the place of its first rule, in order.
    stretches: Vec<(usize, Stretch)>,
}

/// Rules that follow each other, each of which is one network and its value.
#[derive(Debug)]
struct Stretch {
    /// Behind the last of them.
    end: usize,
    /// All of their networks.
    networks: NetSet,
}

#[derive(Debug)]
struct Rule {
    test: Test,
    /// `!`: true where the test is false.
    negated: bool,
    then: Then,
}

#[derive(Debug)]
enum Test {
    Network(Net),
    Pattern(Regex),
}

#[derive(Debug)]
enum Then {
    /// The answer.
    Value(Vec<Piece>),
    /// If the test fails, go on behind this many rules.
    Block(usize),
}

/// A part of a value.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What a group of the pattern matched.
    Group(usize),
}

impl Rules {
    pub fn networks(text: &str) -> Result<Self, Fault> {
        read(text, |line| {
            let (negated, rest) = negation(&line.text);
            let (word, value) =
                rest.split_once([' ', '\t']).map_or((rest, ""), |(word, value)| (word, value.trim()));
            let net = net(word).map_err(|why| line.fault(why))?;
            Ok(Parsed { test: Test::Network(net), negated, value: value.to_owned() })
        })
    }

    pub fn patterns(text: &str, dialect: Dialect) -> Result<Self, Fault> {
        read(text, |line| pattern(line, dialect))
    }

    pub fn get(&self, key: &str) -> Option<String> {
        let address: Option<IpAddr> = key.parse().ok();
        let mut at = 0;
        while let Some(rule) = self.rules.get(at) {
            if let Some(stretch) = self.stretch(at)
                && !address.is_some_and(|address| stretch.networks.contains(address))
            {
                at = stretch.end;
                continue;
            }
            at += 1;
            let captures = match &rule.test {
                Test::Network(net) => {
                    if address.is_some_and(|address| net.contains(address)) == rule.negated {
                        at += rule.skipped();
                        continue;
                    }
                    // Networks mean nothing for a key that is no address, with or without `!`.
                    address?;
                    None
                }
                Test::Pattern(regex) => {
                    let captures = regex.captures(key);
                    if captures.is_some() == rule.negated {
                        at += rule.skipped();
                        continue;
                    }
                    captures
                }
            };
            if let Then::Value(pieces) = &rule.then {
                return Some(join(pieces, captures.as_ref()));
            }
        }
        None
    }

    fn stretch(&self, at: usize) -> Option<&Stretch> {
        let found = self.stretches.binary_search_by_key(&at, |(first, _)| *first).ok()?;
        self.stretches.get(found).map(|(_, stretch)| stretch)
    }
}

/// The stretches among these rules.
fn stretches(rules: &[Rule]) -> Vec<(usize, Stretch)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < rules.len() {
        let networks: Vec<Net> = rules.iter().skip(at).map_while(Rule::network).collect();
        let (first, count) = (at, networks.len());
        at += count.max(1);
        if count >= MIN_STRETCH {
            found.push((first, Stretch { end: at, networks: NetSet::of(networks) }));
        }
    }
    found
}

impl Rule {
    /// The network whose addresses have a value by this rule, if that is all that it says.
    fn network(&self) -> Option<Net> {
        match (&self.test, &self.then) {
            (Test::Network(net), Then::Value(_)) if !self.negated => Some(*net),
            _ => None,
        }
    }

    fn skipped(&self) -> usize {
        match self.then {
            Then::Value(_) => 0,
            Then::Block(rules) => rules,
        }
    }
}

fn join(pieces: &[Piece], captures: Option<&Captures<'_>>) -> String {
    let mut out = String::new();
    for piece in pieces {
        let text = match piece {
            Piece::Text(text) => text,
            Piece::Group(group) => {
                captures.and_then(|found| found.get(*group)).map_or("", |found| found.as_str())
            }
        };
        if out.len() + text.len() > MAX_VALUE {
            break;
        }
        out.push_str(text);
    }
    out
}

/// A line without its `if`.
struct Parsed {
    test: Test,
    negated: bool,
    value: String,
}

fn read(text: &str, parse: impl Fn(&Line) -> Result<Parsed, Fault>) -> Result<Rules, Fault> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut open: Vec<(usize, Line)> = Vec::new();
    for line in logical(text) {
        let first = line.text.split([' ', '\t']).next().unwrap_or_default();
        if first.eq_ignore_ascii_case("endif") {
            let (start, _) = open.pop().ok_or_else(|| line.fault("it ends no if"))?;
            let inside = rules.len() - start - 1;
            if let Some(rule) = rules.get_mut(start) {
                rule.then = Then::Block(inside);
            }
            continue;
        }
        let is_block = first.eq_ignore_ascii_case("if");
        let body = if is_block { line.text.get(2..).unwrap_or_default() } else { &line.text };
        let body = Line { number: line.number, text: body.trim().to_owned() };
        let Parsed { test, negated, value } = parse(&body)?;
        if is_block {
            if open.len() >= MAX_DEPTH {
                return Err(line.fault("if is nested too deeply"));
            }
            open.push((rules.len(), line));
            rules.push(Rule { test, negated, then: Then::Block(0) });
            continue;
        }
        if value.is_empty() {
            return Err(line.fault("it has no value"));
        }
        let groups = match &test {
            Test::Pattern(regex) if !negated => Some(regex.captures_len()),
            Test::Pattern(_) => Some(0),
            Test::Network(_) => None,
        };
        let pieces = match groups {
            Some(groups) => pieces(&value, groups).map_err(|why| line.fault(why))?,
            None => vec![Piece::Text(value)],
        };
        rules.push(Rule { test, negated, then: Then::Value(pieces) });
    }
    match open.pop() {
        Some((_, line)) => Err(line.fault("this if has no endif")),
        None => {
            let stretches = stretches(&rules);
            Ok(Rules { rules, stretches })
        }
    }
}

fn negation(text: &str) -> (bool, &str) {
    text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim_start()))
}

/// `/pattern/flags value`; any mark may stand for the slash.
fn pattern(line: &Line, dialect: Dialect) -> Result<Parsed, Fault> {
    let (negated, rest) = negation(&line.text);
    let mark = rest.chars().next().filter(char::is_ascii_punctuation);
    let mark = mark.ok_or_else(|| line.fault("a pattern stands between two slashes"))?;
    let inside = rest.get(1..).unwrap_or_default();
    let end = end_of_pattern(inside, mark).ok_or_else(|| line.fault("the pattern has no end"))?;
    let source = inside.get(..end).unwrap_or_default().replace(&format!("\\{mark}"), &mark.to_string());
    let after = inside.get(end + 1..).unwrap_or_default();
    let (flags, value) =
        after.split_once([' ', '\t']).map_or((after, ""), |(flags, value)| (flags, value.trim()));
    let mut builder = RegexBuilder::new(&source);
    builder.size_limit(MAX_REGEX_BYTES).case_insensitive(true).dot_matches_new_line(true);
    let (mut fold, mut lines, mut dots, mut spaced) = (true, false, true, false);
    for flag in flags.chars() {
        match (flag, dialect) {
            ('i', _) => fold = !fold,
            ('m', _) => lines = !lines,
            ('s', Dialect::Perl) => dots = !dots,
            ('x', Dialect::Perl) => spaced = !spaced,
            _ => return Err(line.fault("the pattern has a flag that is not known")),
        }
    }
    builder.case_insensitive(fold).multi_line(lines).dot_matches_new_line(dots).ignore_whitespace(spaced);
    let regex = builder.build().map_err(|error| line.fault(&error.to_string()))?;
    Ok(Parsed { test: Test::Pattern(regex), negated, value: value.to_owned() })
}

fn end_of_pattern(inside: &str, mark: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return Some(at),
            _ => {}
        }
    }
    None
}

/// Finds `$1`, `${1}`, `$(1)` and `$$` in a value. `groups` is how many the pattern has, the whole match counted.
fn pieces(value: &str, groups: usize) -> Result<Vec<Piece>, &'static str> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '$' {
            text.push(c);
            continue;
        }
        if chars.next_if_eq(&'$').is_some() {
            text.push('$');
            continue;
        }
        let close = match chars.peek() {
            Some('{') => Some('}'),
            Some('(') => Some(')'),
            _ => None,
        };
        if close.is_some() {
            chars.next();
        }
        let mut number = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            number.push(digit);
        }
        let group: usize = number.parse().map_err(|_| "behind $ stands no number; $$ is a dollar sign")?;
        if close.is_some_and(|close| chars.next() != Some(close)) {
            return Err("a bracket behind $ is not closed");
        }
        if group == 0 || group >= groups {
            return Err("the value names a group that the pattern does not have");
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Group(group));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a table says when it is gone through line by line.
    fn one_by_one(rules: &Rules, key: &str) -> Option<String> {
        let rules = Rules { rules: rules.rules.iter().map(copy).collect(), stretches: Vec::new() };
        rules.get(key)
    }

    fn copy(rule: &Rule) -> Rule {
        let Test::Network(net) = &rule.test else { panic!("a table of networks") };
        let then = match &rule.then {
            Then::Value(pieces) => Then::Value(vec![Piece::Text(join(pieces, None))]),
            Then::Block(rules) => Then::Block(*rules),
        };
        Rule { test: Test::Network(*net), negated: rule.negated, then }
    }

    #[test]
    fn networks_that_are_passed_over_change_no_answer() {
        let many = |from: u8| -> String {
            let lines = (from..from + 20)
                .map(|n| format!("10.{n}.7.0/24 {n}\n10.{n}.0.0/16 wide\n2001:db8:{n}::/48 six\n"));
            lines.collect()
        };
        let text = format!(
            "{}if 10.0.0.0/11\n{}endif\n{}if !192.0.2.128/26\n192.0.2.0/24 rest\nendif\n!192.0.2.0/24 outside\n{}",
            many(0),
            many(20),
            many(40),
            many(60),
        );
        let rules = Rules::networks(&text).unwrap();
        assert!(rules.stretches.len() >= 3, "{:?}", rules.stretches);
        let inside =
            (0..=255).flat_map(|n| [format!("192.0.2.{n}"), format!("10.{n}.7.1"), format!("10.{n}.8.1")]);
        let others = ["2001:db8:41::1", "2001:db9::", "::ffff:10.3.0.1", "198.51.100.1", "no address", ""];
        for key in inside.chain(others.map(str::to_owned)) {
            assert_eq!(rules.get(&key), one_by_one(&rules, &key), "{key}");
        }
    }
}
