//! Where configuration keys are written, found by reading the tokens of the scripts: `x.a.b = ...` and `a: ...` inside a
//! map literal. It guesses nothing about what a script computes: a key that is not written anywhere has no place.

use std::collections::HashMap;

use rhai::{Position, Token};
use vsmtp_config::old_names;

use super::Entry;
use super::handed::{Handed, functions, joined, root_name, tokens};
use crate::engine::{Location, Root};

/// The place of each key, the last one written.
#[derive(Debug, Clone, Default)]
pub struct KeyPlaces {
    places: HashMap<String, Location>,
}

struct Open {
    /// `None` for anything but a map literal.
    prefix: Option<Vec<String>>,
}

impl KeyPlaces {
    /// Those of all files that were read; `entry` is what they are read for.
    pub(super) fn of_files(root: &Root, entry: Entry) -> Self {
        let files: Vec<(String, String)> = root
            .files_read()
            .iter()
            .filter_map(|file| Some((root.display_name(file), std::fs::read_to_string(file).ok()?)))
            .collect();
        let texts: Vec<String> = files.iter().map(|(_, text)| text.clone()).collect();
        let handed = Handed::of(&texts, entry);
        let mut places = Self::default();
        files.iter().for_each(|(file, text)| places.scan(file, text, &handed));
        places
    }

    /// Where `key` (dotted) is written, by a name of earlier versions too, or the first key of that section, or the nearest section
    /// above it.
    pub fn locate(&self, key: &str) -> Option<&Location> {
        let is_below =
            |name: &str| name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let below = self.places.iter().filter(|(name, _)| is_below(name));
        let first = below.min_by_key(|(name, place)| (name.len() > key.len(), place.line));
        if let Some((_, place)) = first {
            return Some(place);
        }
        // One that is written by an earlier name is told by the one of today.
        if let Some(place) = old_names(key).find_map(|old| self.places.get(old)) {
            return Some(place);
        }
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return Some(place);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    /// Adds the keys of one file.
    pub(super) fn scan(&mut self, file: &str, text: &str, handed: &Handed) {
        let tokens = tokens(text);
        let functions = functions(&tokens);
        let mut open: Vec<Open> = Vec::new();
        let mut pending: Vec<String> = Vec::new();
        let mut at = 0;
        while let Some((token, _)) = tokens.get(at) {
            match token {
                Token::MapStart => open.push(Open { prefix: Some(std::mem::take(&mut pending)) }),
                Token::LeftBrace | Token::LeftBracket | Token::LeftParen => open.push(Open { prefix: None }),
                Token::RightBrace | Token::RightBracket | Token::RightParen => {
                    open.pop();
                }
                Token::SemiColon => pending.clear(),
                _ => {
                    let prefix = open.last().and_then(|open| open.prefix.as_deref());
                    if let Some(name) = prefix.and_then(|_| key_of_map(&tokens, at)) {
                        pending = prefix.unwrap_or_default().iter().cloned().chain([name]).collect();
                        self.record(&pending.join("."), Location::new(file, tokens[at].1));
                        at += 1;
                    } else if let Some((path, length)) = assignment(&tokens, at) {
                        let mut starts = handed.at(&functions, at, &root_name(&tokens, at));
                        if starts.is_empty() {
                            starts.push(String::new());
                        }
                        for start in &starts {
                            self.record(&joined(start, &path), Location::new(file, tokens[at].1));
                        }
                        let start = starts.swap_remove(0);
                        pending = (!start.is_empty()).then_some(start).into_iter().chain(path).collect();
                        at += length;
                    }
                }
            }
            at += 1;
        }
    }

    /// Takes what another knows, each key behind `prefix`.
    pub(super) fn take(&mut self, prefix: &str, other: KeyPlaces) {
        self.places.extend(other.places.into_iter().map(|(key, place)| (format!("{prefix}{key}"), place)));
    }

    /// Says where a key is written.
    pub(super) fn record(&mut self, key: &str, place: Location) {
        self.places.insert(key.to_owned(), place);
    }
}

/// `name :` or `"name" :`.
fn key_of_map(tokens: &[(Token, Position)], at: usize) -> Option<String> {
    matches!(tokens.get(at + 1), Some((Token::Colon, _))).then_some(())?;
    match &tokens.get(at)?.0 {
        Token::Identifier(name) => Some(name.to_string()),
        Token::StringConstant(name) => Some(name.to_string()),
        _ => None,
    }
}

/// `variable.a.b["c"] =`: the names after the variable, and how many tokens lie before the equals sign.
fn assignment(tokens: &[(Token, Position)], start: usize) -> Option<(Vec<String>, usize)> {
    let mut path = Vec::new();
    let mut at = start;
    if !matches!(tokens.get(at)?.0, Token::Identifier(_)) {
        return None;
    }
    at += 1;
    loop {
        match (&tokens.get(at)?.0, tokens.get(at + 1).map(|(token, _)| token)) {
            (Token::Period, Some(Token::Identifier(name))) => {
                path.push(name.to_string());
                at += 2;
            }
            (Token::LeftBracket, Some(Token::StringConstant(name))) => {
                path.push(name.to_string());
                at += 3;
            }
            (Token::Equals | Token::PlusAssign, _) if !path.is_empty() => return Some((path, at - start)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_and_map_keys_are_found() {
        let mut places = KeyPlaces::default();
        places.scan(
            "c.vsl",
            "fn on_config(config) {
               config.a.b = 1;
               config.m = #{ x: 1, \"y\": #{ z: [1, 2] }, w: f(#{ q: 1 }) };
               config.virtual[\"example.com\"] = #{ k: 1 };
               if config.a.b == 2 { other.deep = #{ n: 1 } }
               config
             }",
            &Handed::default(),
        );
        for (key, line) in [
            ("a.b", 2),
            ("m", 3),
            ("m.y.z", 3),
            ("virtual.example.com.k", 4),
            ("deep.n", 5),
            ("a.b.unknown", 2),
            ("virtual", 4),
            ("m.y", 3),
        ] {
            assert_eq!(places.locate(key).map(|place| place.line), Some(line), "{key}");
        }
        assert_eq!(places.locate("nothing"), None);
    }

    #[test]
    fn what_is_written_by_an_earlier_name_is_found_by_that_of_today() {
        let mut places = KeyPlaces::default();
        let text = "fn on_config(config) {
            config.server.tls = #{ preempt_cipherlist: true,
                root: #{ certificate: 5 } };
            config.server.esmtp = #{
                size: -1 };
            config }";
        places.scan("c.vsl", text, &Handed::default());
        for (key, line) in
            [("server.tls.certificate", 3), ("server.message_size_limit", 5), ("server.tls.private_key", 2)]
        {
            assert_eq!(places.locate(key).map(|place| place.line), Some(line), "{key}");
        }
    }

    #[test]
    fn garbage_is_harmless() {
        for text in ["}}}}", "#{#{#{", "a.b.", "a[\"x\"", "`${", "a = = = :"] {
            KeyPlaces::default().scan("c.vsl", text, &Handed::default());
        }
    }
}
