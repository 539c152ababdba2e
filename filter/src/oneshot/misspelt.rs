//! A key in a section that does not exist. The script stops there with words of the language; what is said in their place
//! is what is said of every other unknown key. It says nothing of errors that are not about keys: those about a variable other
//! than the configuration stay as they are.

use rhai::{Engine, Position, Token};
use vsmtp_config::{ConfigError, Problem, keys, nearest_key};

use super::Entry;
use super::places::MAX_TOKENS;
use crate::engine::{ScriptError, nearest};

/// What a domain's settings consist of.
pub(super) const DOMAIN_SECTIONS: [&str; 3] = ["tls", "dns", "dkim"];

/// The error of a configuration, about the key if `text`, the file that it names, has an unknown one there.
pub(super) fn key(error: ScriptError, text: &str) -> ScriptError {
    let Some(path) = path_of(&error, text, Entry::Main) else { return error };
    if is_known(&path) {
        return error;
    }
    let problem = Problem::Unknown { nearest: nearest_key(&path) };
    ScriptError::at(error.location, ConfigError { path, problem }.to_string())
}

/// The same for the settings of one domain, whose keys begin with `prefix` elsewhere.
pub(super) fn domain_key(error: ScriptError, text: &str, prefix: &str) -> ScriptError {
    let Some(path) = path_of(&error, text, Entry::Domain) else { return error };
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

/// The names behind the parameter of `entry` in `config.a.b["c"]`, up to the one that an error is about; a function that is
/// called there is none of them.
fn path_of(error: &ScriptError, text: &str, entry: Entry) -> Option<String> {
    if !is_about_nothing(&error.message) {
        return None;
    }
    let (line, column) = (error.location.line, error.location.column);
    let engine = Engine::new_raw();
    let script = [text];
    let (stream, _control) = engine.lex(&script);
    let tokens: Vec<(Token, Position)> =
        stream.take(MAX_TOKENS).take_while(|(token, _)| *token != Token::EOF).collect();
    let is_here = |place: &Position| (place.line(), place.position()) == (Some(line), Some(column));
    let here = tokens.iter().position(|(_, place)| is_here(place))?;
    let token = |at: usize| tokens.get(at).map(|(token, _)| token);
    let mut path = Vec::new();
    let mut at = here;
    loop {
        match (token(at)?, token(at.checked_sub(1)?)?) {
            (Token::Identifier(name), Token::Period) => {
                path.push(name.to_string());
                at = at.checked_sub(2)?;
            }
            (Token::RightBracket, Token::StringConstant(name)) => {
                path.push(name.to_string());
                at = at.checked_sub(3)?;
            }
            (Token::Identifier(name), _) if is_parameter(&tokens, at, name, entry) => break,
            _ => return None,
        }
    }
    // `()` is one token.
    if matches!(token(here + 1), Some(Token::LeftParen | Token::Unit)) {
        path.remove(0);
    }
    path.reverse();
    (!path.is_empty()).then(|| path.join("."))
}

/// True if a name means the parameter of `entry` at this place: it stands in that function, and no variable has taken the name.
fn is_parameter(tokens: &[(Token, Position)], at: usize, name: &str, entry: Entry) -> bool {
    let before = tokens.get(..at).unwrap_or_default();
    let is_fn = |(token, _): &(Token, Position)| *token == Token::Fn;
    let Some(function) = before.iter().rposition(is_fn).and_then(|start| before.get(start + 1..)) else {
        return false;
    };
    let is_named = |token: &Token, name: &str| matches!(token, Token::Identifier(is) if **is == *name);
    let [(called, _), (Token::LeftParen, _), (parameter, _), (Token::RightParen, _), body @ ..] = function
    else {
        return false;
    };
    let takes_name = |pair: &[(Token, Position)]| match pair {
        [(Token::Let | Token::Const | Token::For, _), (taken, _)] => is_named(taken, name),
        _ => false,
    };
    is_named(called, entry.name()) && is_named(parameter, name) && !body.windows(2).any(takes_name)
}
