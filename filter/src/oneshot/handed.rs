//! Which part of the configuration the functions of its scripts are handed: in `tls(config.server.tls)` the parameter of `tls`
//! stands for `server.tls`. It is found by reading the tokens of the scripts. It guesses nothing about what a script computes: a
//! parameter that is handed anything else stands for nothing.

use std::collections::HashMap;

use rhai::{Engine, Position, Token};

use super::Entry;
use crate::engine;

/// Most functions that hand on what they were handed, one to the other.
const MAX_ROUNDS: usize = 8;
/// Most parameters that are known.
const MAX_KNOWN: usize = 1_024;
/// What a function calls the value that it is called on.
const THIS: &str = "this";

/// A token of a script, and where it stands.
pub(super) type Lexed = (Token, Position);

/// The tokens of a script.
pub(super) fn tokens(text: &str) -> Vec<Lexed> {
    engine::tokens(&Engine::new_raw(), text)
}

/// A function that a script defines.
#[derive(Debug)]
pub(super) struct Function {
    name: String,
    parameters: Vec<String>,
    /// Where its body begins and ends, in tokens.
    body: std::ops::Range<usize>,
    /// Names that its own variables take, and where the first of each stands.
    taken: HashMap<String, usize>,
}

/// What functions are handed, by their names and those of their parameters.
#[derive(Debug, Default)]
pub(super) struct Handed(HashMap<(String, String), Vec<String>>);

impl Handed {
    /// What is known of scripts that belong together; `entry` is handed all of the configuration.
    pub fn of(texts: &[String], entry: Entry) -> Self {
        let scripts: Vec<Vec<Lexed>> = texts.iter().map(|text| tokens(text)).collect();
        let defined: Vec<Vec<Function>> = scripts.iter().map(|script| functions(script)).collect();
        let mut handed = Handed::default();
        for function in defined.iter().flatten().filter(|function| function.name == entry.name()) {
            if let [parameter] = function.parameters.as_slice() {
                handed.add(&function.name, parameter, String::new());
            }
        }
        for _ in 0..MAX_ROUNDS {
            let before = handed.0.values().map(Vec::len).sum::<usize>();
            for (script, functions) in scripts.iter().zip(&defined) {
                functions.iter().for_each(|function| handed.follow(script, function, &defined));
            }
            if handed.0.values().map(Vec::len).sum::<usize>() == before {
                break;
            }
        }
        handed
    }

    /// What a name stands for at a place of a script that has these functions: paths of keys, empty for all of the
    /// configuration.
    pub fn at(&self, functions: &[Function], at: usize, name: &str) -> Vec<String> {
        // They stand one behind the other.
        let ended = functions.partition_point(|function| function.body.end <= at);
        let Some(function) = functions.get(ended).filter(|function| function.body.contains(&at)) else {
            return Vec::new();
        };
        if function.taken.get(name).is_some_and(|first| *first < at) {
            return Vec::new();
        }
        self.0.get(&(function.name.clone(), name.to_owned())).cloned().unwrap_or_default()
    }

    fn add(&mut self, function: &str, parameter: &str, path: String) {
        if self.0.len() < MAX_KNOWN {
            let known = self.0.entry((function.to_owned(), parameter.to_owned())).or_default();
            if !known.contains(&path) && known.len() < MAX_KNOWN {
                known.push(path);
            }
        }
    }

    /// Looks at the calls in a function.
    fn follow(&mut self, script: &[Lexed], function: &Function, defined: &[Vec<Function>]) {
        let own = std::slice::from_ref(function);
        for at in function.body.clone() {
            let Some(called) = script.get(at).and_then(|(token, _)| name_of(token)) else { continue };
            let arguments = match script.get(at + 1) {
                Some((Token::LeftParen, _)) => arguments(script, at + 2),
                // `()` is one token.
                Some((Token::Unit, _)) => Vec::new(),
                _ => continue,
            };
            let fits = |other: &&Function| other.name == called && other.parameters.len() == arguments.len();
            for target in defined.iter().flatten().filter(fits) {
                let this = on(script, at).map(|path| (THIS, path));
                let given = target.parameters.iter().map(String::as_str).zip(arguments.iter().cloned());
                let given = given.filter_map(|(parameter, path)| Some((parameter, path?)));
                for (parameter, (root, path)) in given.chain(this) {
                    for start in self.at(own, root, &root_name(script, root)) {
                        self.add(&target.name, parameter, joined(&start, &path));
                    }
                }
            }
        }
    }
}

/// A path behind another.
pub(super) fn joined(start: &str, path: &[String]) -> String {
    let parts = (!start.is_empty()).then_some(start).into_iter().chain(path.iter().map(String::as_str));
    parts.collect::<Vec<_>>().join(".")
}

/// The functions of a script, in order; none is within another.
pub(super) fn functions(script: &[Lexed]) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    let mut ended = 0;
    for (at, (token, _)) in script.iter().enumerate() {
        if *token == Token::Fn
            && at >= ended
            && let Some(function) = function(script, at)
        {
            ended = function.body.end;
            functions.push(function);
        }
    }
    functions
}

fn function(script: &[Lexed], start: usize) -> Option<Function> {
    let token = |at: usize| script.get(at).map(|(token, _)| token);
    let name = name_of(token(start + 1)?)?;
    let mut parameters = Vec::new();
    let mut at = start + 2;
    match token(at)? {
        Token::Unit => {}
        Token::LeftParen => loop {
            at += 1;
            match token(at)? {
                Token::RightParen => break,
                Token::Comma => {}
                other => parameters.push(name_of(other)?),
            }
        },
        _ => return None,
    }
    let begin = at + 1;
    let mut depth = 0_usize;
    let mut end = begin;
    loop {
        match token(end)? {
            Token::LeftBrace | Token::MapStart => depth += 1,
            Token::RightBrace => depth = depth.checked_sub(1)?,
            _ => {}
        }
        end += 1;
        if depth == 0 {
            return Some(Function { name, parameters, taken: taken(script, begin..end), body: begin..end });
        }
    }
}

/// The names that variables take within a part of a script, and where the first of each stands.
fn taken(script: &[Lexed], part: std::ops::Range<usize>) -> HashMap<String, usize> {
    let mut taken = HashMap::new();
    for (at, pair) in part.clone().zip(script.get(part).unwrap_or_default().windows(2)) {
        if let [(Token::Let | Token::Const | Token::For, _), (name, _)] = pair
            && let Some(name) = name_of(name)
        {
            taken.entry(name).or_insert(at + 1);
        }
    }
    taken
}

/// The arguments of a call, each with the token it begins at and the names behind it, if it is a path.
fn arguments(script: &[Lexed], start: usize) -> Vec<Option<(usize, Vec<String>)>> {
    let mut arguments = Vec::new();
    let (mut at, mut first, mut depth) = (start, start, 0_usize);
    while let Some((token, _)) = script.get(at) {
        match token {
            Token::LeftParen | Token::LeftBracket | Token::LeftBrace | Token::MapStart => depth += 1,
            Token::RightParen if depth == 0 => {
                arguments.push(path(script, first, at));
                break;
            }
            Token::RightParen | Token::RightBracket | Token::RightBrace => {
                let Some(outer) = depth.checked_sub(1) else { break };
                depth = outer;
            }
            Token::Comma if depth == 0 => {
                arguments.push(path(script, first, at));
                first = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    arguments
}

/// `root.a["b"]`, from one token to another.
fn path(script: &[Lexed], start: usize, end: usize) -> Option<(usize, Vec<String>)> {
    name_of(&script.get(start)?.0)?;
    let mut names = Vec::new();
    let mut at = start + 1;
    while at < end {
        match (&script.get(at)?.0, &script.get(at + 1)?.0) {
            (Token::Period, next) => {
                names.push(name_of(next)?);
                at += 2;
            }
            (Token::LeftBracket, Token::StringConstant(name)) => {
                names.push(name.to_string());
                at += 3;
            }
            _ => return None,
        }
    }
    (at == end).then_some((start, names))
}

/// What a method is called on, if it is a path: where that begins, and the names behind it.
fn on(script: &[Lexed], at: usize) -> Option<(usize, Vec<String>)> {
    let at = at.checked_sub(2).filter(|_| matches!(script.get(at - 1), Some((Token::Period, _))))?;
    back(script, at)
}

/// The path that ends at a token: where it begins, and the names behind that.
pub(super) fn back(script: &[Lexed], end: usize) -> Option<(usize, Vec<String>)> {
    let token = |at: usize| script.get(at).map(|(token, _)| token);
    let mut names = Vec::new();
    let mut at = end;
    loop {
        match (token(at)?, at.checked_sub(1).and_then(token)) {
            (Token::RightBracket, Some(Token::StringConstant(name))) => {
                names.push(name.to_string());
                at = at.checked_sub(3)?;
            }
            (name, Some(Token::Period)) => {
                names.push(name_of(name)?);
                at = at.checked_sub(2)?;
            }
            (name, _) => {
                name_of(name)?;
                names.reverse();
                return Some((at, names));
            }
        }
    }
}

/// The name that a token is.
fn name_of(token: &Token) -> Option<String> {
    match token {
        Token::Identifier(name) => Some(name.to_string()),
        Token::Reserved(name) if **name == *THIS => Some(THIS.to_owned()),
        _ => None,
    }
}

/// The name at a place.
pub(super) fn root_name(script: &[Lexed], at: usize) -> String {
    script.get(at).and_then(|(token, _)| name_of(token)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helpers_are_handed_is_followed_from_call_to_call() {
        let main = "fn on_config(config) { config = all(config, 1); t::tls(config.server[\"tls\"]); config.app.own(); config }
                    fn all(c, n) { inner(#{ x: 1 }, c.server); c }
                    fn inner(m, server) { let m = 1; m.x }
                    fn own() { this.x = 1; }
                    fn other(config) { config.x }";
        let part = "fn tls(t) { deep(t.root) } fn deep(r) { r.x }".to_owned();
        let handed = Handed::of(&[main.to_owned(), part], Entry::Main);
        let paths = |function: &str, parameter: &str| {
            handed.0.get(&(function.to_owned(), parameter.to_owned())).cloned().unwrap_or_default()
        };
        assert_eq!(paths("all", "c"), [""]);
        assert_eq!(paths("inner", "server"), ["server"]);
        assert_eq!(paths("tls", "t"), ["server.tls"]);
        assert_eq!(paths("deep", "r"), ["server.tls.root"]);
        assert_eq!(paths("own", "this"), ["app"]);
        for (function, parameter) in [("other", "config"), ("inner", "m"), ("all", "n")] {
            assert_eq!(paths(function, parameter), Vec::<String>::new(), "{function}");
        }
    }

    #[test]
    fn a_variable_takes_a_name_from_where_it_is_made() {
        let text = "fn on_config(c) { c.a; let c = 1; c.b; let c = 2; c.d } fn on_config(c) { for c in c { c.e } c.f }";
        let script = tokens(text);
        let all = functions(&script);
        let handed = Handed::of(&[text.to_owned()], Entry::Main);
        let at = |key: &str| {
            let key = script.iter().position(|(token, _)| name_of(token).as_deref() == Some(key)).unwrap();
            handed.at(&all, key - 2, "c")
        };
        assert_eq!(["a", "b", "d", "e", "f"].map(|key| at(key).len()), [1, 0, 0, 0, 0]);
        assert!(handed.at(&all, 0, "c").is_empty() && handed.at(&all, script.len(), "c").is_empty());
        // Each name once, however often it is written: nothing is read again for each place.
        let taken: Vec<usize> = all.iter().map(|function| function.taken.len()).collect();
        assert_eq!(taken, [1, 1]);
    }

    #[test]
    fn garbage_is_harmless() {
        for text in [
            "fn",
            "fn (",
            "fn a(",
            "fn a(b",
            "fn a(b) {",
            "fn a(b) { a(b.",
            "fn a(a) { a(a.a) }",
            "}}}} fn a() }",
        ] {
            Handed::of(&[text.to_owned(), "fn on_config(c) { a(c) }".to_owned()], Entry::Main);
        }
    }
}
