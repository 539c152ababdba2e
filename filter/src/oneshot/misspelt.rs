//! A key in a section that does not exist. The script stops there with words of the language; what is said in their place
//! is what is said of every other unknown key. It says nothing of errors that are not about keys: those about a variable that
//! is neither the configuration nor a part of it that a function was handed stay as they are.

use rhai::{Position, Token};
use vsmtp_config::{ConfigError, Problem, keys, nearest_key};

use super::handed::{Handed, back, functions, joined, root_name, tokens};
use crate::engine::{ScriptError, nearest};

/// What a domain's settings consist of.
pub(super) const DOMAIN_SECTIONS: [&str; 3] = ["tls", "dns", "dkim"];

/// The error of a configuration, about the key if `text`, the file that it names, has an unknown one there.
pub(super) fn key(error: ScriptError, text: &str, handed: &Handed) -> ScriptError {
    let Some(path) = paths_of(&error, text, handed).into_iter().find(|path| !is_known(path)) else {
        return error;
    };
    let problem = Problem::Unknown { nearest: nearest_key(&path) };
    ScriptError::at(error.location, ConfigError { path, problem }.to_string())
}

/// The same for the settings of one domain, whose keys begin with `prefix` elsewhere.
pub(super) fn domain_key(error: ScriptError, text: &str, handed: &Handed, prefix: &str) -> ScriptError {
    let Some(path) = paths_of(&error, text, handed).into_iter().next() else { return error };
    let (section, rest) = path.split_once('.').unwrap_or((&path, ""));
    if DOMAIN_SECTIONS.contains(&section) {
        return error;
    }
    let meant = nearest(section, DOMAIN_SECTIONS.into_iter())
        .map(|section| format!("; did you mean {section}.{rest}?"))
        .unwrap_or_default();
    ScriptError::at(error.location, format!("{prefix}{path}: unknown key{meant}"))
}

/// True of a key, of a section with keys in it, and of what a key holds.
fn is_known(path: &str) -> bool {
    let begins = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    keys().any(|key| begins(key.name, path) || begins(path, key.name))
}

/// True if something was looked for in what is not there: a property, an entry, or a function that belongs to it.
fn is_about_nothing(message: &str) -> bool {
    let is_property =
        message.contains("property") && message.contains("etter is not registered for type '()'");
    let is_function = message.strip_prefix("Function not found: ").and_then(|rest| rest.split_once(" ("));
    let is_function = is_function.is_some_and(|(_, types)| types == "())" || types.starts_with("(), "));
    is_property || is_function || message.starts_with("Indexer unavailable: () [")
}

/// What is looked for at the place of an error, by the names of keys; of what a helper is handed in several ways, each of these.
/// A function that is called there is none of them.
fn paths_of(error: &ScriptError, text: &str, handed: &Handed) -> Vec<String> {
    if !is_about_nothing(&error.message) {
        return Vec::new();
    }
    let (line, column) = (error.location.line, error.location.column);
    let script = tokens(text);
    let is_here =
        |(_, place): &(Token, Position)| (place.line(), place.position()) == (Some(line), Some(column));
    let Some(here) = script.iter().position(is_here) else { return Vec::new() };
    let Some((root, mut names)) = back(&script, here) else { return Vec::new() };
    // `()` is one token.
    if matches!(script.get(here + 1), Some((Token::LeftParen | Token::Unit, _))) {
        names.pop();
    }
    let starts = handed.at(&functions(&script), root, &root_name(&script, root));
    starts.iter().map(|start| joined(start, &names)).filter(|path| !path.is_empty()).collect()
}
