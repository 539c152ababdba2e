//! The lines of a table's file, and the members of an inline table.

use std::collections::HashMap;

use crate::object::Fault;

/// Most lines of one table.
const MAX_LINES: usize = 4_000_000;

/// A line with those that continue it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub number: usize,
    pub text: String,
}

impl Line {
    /// What is wrong with it.
    pub fn fault(&self, why: &str) -> Fault {
        let shown: String = self.text.chars().take(60).collect();
        Fault(format!("line {}: '{shown}': {why}", self.number))
    }

    /// The first word, which may be quoted, and the rest.
    pub fn key_and_value(&self) -> Result<(&str, &str), Fault> {
        let text = self.text.trim();
        if self.text.starts_with([' ', '\t']) {
            return Err(self.fault("it continues no line"));
        }
        if let Some(quoted) = text.strip_prefix('"') {
            let (key, value) =
                quoted.split_once('"').ok_or_else(|| self.fault("the quoted key has no end"))?;
            return Ok((key, value.trim()));
        }
        Ok(text.split_once([' ', '\t']).map_or((text, ""), |(key, value)| (key, value.trim())))
    }
}

/// Lines without comments and empty ones; a line that begins with white space continues the one before.
pub(super) fn logical(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (at, line) in text.lines().take(MAX_LINES).enumerate() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        match lines.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
            Some(before) => {
                before.text.push(' ');
                before.text.push_str(bare);
            }
            None => lines.push(Line { number: at + 1, text: line.trim_end().to_owned() }),
        }
    }
    lines
}

/// `{ key=value, { key = text with spaces }, ... }`.
pub(super) fn inline(text: &str) -> Result<HashMap<Box<str>, Box<str>>, String> {
    let inside = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let mut rest = inside.ok_or("an inline table is written inline:{ key=value, ... }")?;
    let mut keys = HashMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        if rest.is_empty() {
            return Ok(keys);
        }
        let member = match rest.strip_prefix('{') {
            Some(braced) => {
                let (member, after) = braced.split_once('}').ok_or("a member has no closing brace")?;
                rest = after;
                member
            }
            None => {
                let end = rest.find([',', '\n']).unwrap_or(rest.len());
                let (member, after) = rest.split_at(end);
                rest = after;
                member
            }
        };
        let (key, value) =
            member.split_once('=').ok_or_else(|| format!("'{}' has no value", member.trim()))?;
        keys.entry(key.trim().to_lowercase().into()).or_insert_with(|| value.trim().into());
    }
}
