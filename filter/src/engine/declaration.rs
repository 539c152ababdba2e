//! `object NAME TYPE = VALUE` and `service NAME KIND = VALUE` of vSL 1.x. The two words are no keywords: they mean a
//! declaration only where two names follow, so that scripts of 2.x may call a variable `service`. Which ones do is found
//! by reading the tokens of the script first; positions and text stay as they are.
//!
//! As a statement a declaration is an ordinary constant. As an expression it is its value, and also makes the name known,
//! but for arguments of methods, arguments behind the first, indices and what is assigned: there a new variable would move the
//! place of the one that is looked up after it.

mod bound;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rhai::{
    AST, Dynamic, Engine, EvalAltResult, EvalContext, Expression, ImmutableString, Position, Scope, Token,
};

use super::error::{Location, ScriptError};
use super::resolver::Root;
use super::script::distance;
use super::variables::OLD_VARIABLES;
use crate::object::{self, Fault};

/// Kinds of services that a declaration may name.
const SERVICES: [&str; 7] = ["cmd", "smtp", "db:csv", "db:mysql", "db:redis", "db:memcached", "db:ldap"];
/// Most tokens of one script.
const MAX_TOKENS: usize = 2_000_000;
/// Rhai counts lines and columns up to here; what is behind it cannot be told apart.
const MAX_POSITION: usize = u16::MAX as usize - 1;
/// Most edits between a wrong type and the one that is suggested.
const MAX_DISTANCE: usize = 2;
/// How a declaration as an expression is called inside the parser; no word of a script can be this.
const INLINE: &str = "declaration ";
/// The same where it is its value only.
const VALUE: &str = "value of ";
/// Most tokens that are looked at before a declaration in an expression, to see what it is part of.
const MAX_BEFORE: usize = 10_000;

/// The two words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Object,
    Service,
}

impl Word {
    const ALL: [Word; 2] = [Word::Object, Word::Service];

    const fn name(self) -> &'static str {
        match self {
            Word::Object => "object",
            Word::Service => "service",
        }
    }

    /// What may stand as the type: all words of it.
    fn kinds(self) -> Vec<String> {
        match self {
            Word::Service => SERVICES.map(str::to_owned).to_vec(),
            Word::Object => {
                let of_lines = object::KINDS.into_iter().filter(|kind| object::is_kind_of_lines(kind));
                let files = of_lines.map(|kind| format!("{}{kind}", object::FILE));
                object::KINDS.into_iter().map(str::to_owned).chain(files).collect()
            }
        }
    }
}

thread_local! {
    /// What the tokens of the script that is being compiled mean: Rhai's mapper sees one token and nothing around it.
    static MEANINGS: RefCell<HashMap<Position, Token>> = RefCell::default();
}

/// The meaning of a token, if it belongs to a declaration.
pub(super) fn meaning(token: Token, position: Position) -> Token {
    MEANINGS.with_borrow(|meanings| meanings.get(&position).cloned()).unwrap_or(token)
}

/// Compiles a script with declarations in it; `name` stands for its file in messages.
pub(super) fn compile(engine: &Engine, name: &str, text: &str) -> Result<AST, ScriptError> {
    compile_knowing(engine, name, text, &[])
}

/// The same where these variables are there already.
pub(super) fn compile_knowing(
    engine: &Engine,
    name: &str,
    text: &str,
    variables: &[String],
) -> Result<AST, ScriptError> {
    let Found { meanings, inline, bound, .. } = find(engine, name, text)?;
    let mut known = Scope::new();
    for name in OLD_VARIABLES {
        known.push(name, ());
    }
    for name in inline.into_iter().map(|(_, name)| name).chain(bound) {
        known.push(name, ());
    }
    for name in variables {
        known.push(name.as_str(), ());
    }
    let _meanings = Meanings::set(meanings);
    let mut ast =
        engine.compile_with_scope(&known, text).map_err(|error| ScriptError::from_parse(name, &error))?;
    ast.set_source(name);
    Ok(ast)
}

/// The names that declarations within expressions make known.
pub fn names_in_expressions(engine: &Engine, file: &str, text: &str) -> Vec<String> {
    let found = find(engine, file, text).unwrap_or_default();
    found.inline.into_iter().map(|(_, name)| name).collect()
}

/// Sets the meanings until it is dropped.
struct Meanings;

impl Meanings {
    fn set(meanings: HashMap<Position, Token>) -> Self {
        MEANINGS.set(meanings);
        Meanings
    }
}

impl Drop for Meanings {
    fn drop(&mut self) {
        MEANINGS.take();
    }
}

/// The declarations of a script.
#[derive(Default)]
struct Found {
    meanings: HashMap<Position, Token>,
    /// Names that expressions make known, and where these stand.
    inline: Vec<(usize, String)>,
    /// Names of the others, and where they stand.
    constants: HashMap<usize, String>,
    /// Names of the variables that are there before such an expression. Behind one, which moves the places of variables, the
    /// parser finds those before it by their names only, and must be told that they are there. It takes them for known in all
    /// of the script, as those of `inline`: there is no telling it where.
    bound: BTreeSet<String>,
}

fn find(engine: &Engine, file: &str, text: &str) -> Result<Found, ScriptError> {
    let mut found = Found::default();
    if !Word::ALL.into_iter().any(|word| text.contains(word.name())) {
        return Ok(found);
    }
    let tokens = tokens(engine, text);
    let mut at = 0;
    while at < tokens.len() {
        let Some(declaration) = Declaration::read(&tokens, at, file)? else {
            at += 1;
            continue;
        };
        at = declaration.equals;
        declaration.mark(&tokens, &mut found);
    }
    found.bound = bound::names(&tokens, &found);
    Ok(found)
}

/// The tokens of a script. Where an interpolation ends, the lexer must be told that text goes on.
pub fn tokens(engine: &Engine, text: &str) -> Vec<(Token, Position)> {
    let script = [text];
    let (mut stream, control) = engine.lex(&script);
    let mut out = Vec::new();
    // For each open interpolation the braces that are open in it.
    let mut interpolations: Vec<usize> = Vec::new();
    while out.len() < MAX_TOKENS {
        let Some((token, position)) = stream.next() else { break };
        match &token {
            Token::EOF | Token::LexError(_) => break,
            Token::InterpolatedString(_) => interpolations.push(0),
            Token::LeftBrace | Token::MapStart => {
                if let Some(open) = interpolations.last_mut() {
                    *open += 1;
                }
            }
            Token::RightBrace => {
                if let Some(open) = interpolations.last_mut() {
                    *open = open.saturating_sub(1);
                    if *open == 0 {
                        interpolations.pop();
                        control.borrow_mut().is_within_text = true;
                    }
                }
            }
            _ => {}
        }
        out.push((token, position));
    }
    out
}

/// One declaration, as it stands in the tokens.
struct Declaration {
    word: Word,
    /// Where the word stands.
    at: usize,
    name: String,
    kind: String,
    /// Where the equals sign stands.
    equals: usize,
}

impl Declaration {
    /// The declaration that begins at a token, if one does.
    fn read(tokens: &[(Token, Position)], at: usize, file: &str) -> Result<Option<Self>, ScriptError> {
        let identifier = |at: usize| match tokens.get(at) {
            Some((Token::Identifier(name), _)) => Some(name.to_string()),
            _ => None,
        };
        let token = |at: usize| tokens.get(at).map(|(token, _)| token);
        let Some(word) = Word::ALL.into_iter().find(|word| identifier(at).as_deref() == Some(word.name()))
        else {
            return Ok(None);
        };
        let before = at.checked_sub(1).and_then(token);
        let is_part_of_a_name = matches!(
            before,
            Some(
                Token::Period
                    | Token::Elvis
                    | Token::DoubleColon
                    | Token::Let
                    | Token::Const
                    | Token::Fn
                    | Token::As
                    | Token::For
            )
        );
        let Some(name) = identifier(at + 1).filter(|_| !is_part_of_a_name) else { return Ok(None) };
        let position = tokens.get(at).map_or(Position::NONE, |(_, position)| *position);
        let wrong = |message: String| {
            let form = match word {
                Word::Object => "object NAME TYPE = VALUE;",
                Word::Service => "service NAME KIND = #{ ... };",
            };
            ScriptError::at(Location::new(file, position), message).with_hint(form)
        };
        let Some(kind) = identifier(at + 2) else {
            return match token(at + 2) {
                Some(Token::Colon | Token::Equals) => {
                    Err(wrong(format!("the type of {} '{name}' is missing", word.name())))
                }
                _ => Ok(None),
            };
        };
        let of = matches!(token(at + 3), Some(Token::Colon)).then(|| identifier(at + 4)).flatten();
        let (kind, equals) = match of {
            Some(of) => (format!("{kind}:{of}"), at + 5),
            None => (kind, at + 3),
        };
        word.check(&kind).map_err(wrong)?;
        if !matches!(token(equals), Some(Token::Equals)) {
            return Err(wrong(format!("{} '{name}' has no value", word.name())));
        }
        if position.line().is_none_or(|line| line > MAX_POSITION)
            || tokens
                .get(equals)
                .is_none_or(|(_, position)| position.position().is_none_or(|at| at > MAX_POSITION))
        {
            return Err(wrong("a declaration must stand in the first 65,534 lines and columns".to_owned()));
        }
        Ok(Some(Declaration { word, at, name, kind, equals }))
    }

    /// Tells what its tokens mean.
    fn mark(self, tokens: &[(Token, Position)], found: &mut Found) {
        let mut set = |at: usize, token: Token| {
            if let Some((_, position)) = tokens.get(at) {
                found.meanings.insert(*position, token);
            }
        };
        if !self.is_statement(tokens) {
            let is_known = self.may_move_places(tokens);
            let form = if is_known { INLINE } else { VALUE };
            set(self.at, Token::Custom(Box::new(format!("{form}{}", self.word.name()).into())));
            found.inline.extend(is_known.then_some((self.at, self.name)));
            return;
        }
        // `object NAME ip4 = X` becomes `const NAME = <ip4> X`, and `object NAME file:ip4 = X` becomes
        // `const NAME = <file:ip4> ip4 = X`, where <...> is a prefix that no script can write.
        set(self.at, Token::Const);
        set(self.at + 2, Token::Equals);
        let prefix = Token::Custom(Box::new(format!("{} {}", self.word.name(), self.kind).into()));
        set(if self.kind.contains(':') { self.at + 3 } else { self.equals }, prefix);
        found.constants.insert(self.at, self.name);
    }

    /// False if a variable whose place is known already is looked up after this: the one whose method is called, that is
    /// indexed, or that something is assigned to.
    fn may_move_places(&self, tokens: &[(Token, Position)]) -> bool {
        let token = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map(|(token, _)| token);
        let mut depth = 0_usize;
        // What is before it is separated from it by a comma, in the innermost bracket.
        let mut is_behind_comma = false;
        for at in (0..self.at).rev().take(MAX_BEFORE) {
            let (before, two_before) = (token(at.checked_sub(1)), token(at.checked_sub(2)));
            match token(Some(at)) {
                Some(Token::RightParen | Token::RightBracket | Token::RightBrace) => depth += 1,
                Some(Token::LeftBrace | Token::SemiColon) if depth == 0 => return true,
                Some(
                    Token::LeftParen
                    | Token::LeftBracket
                    | Token::QuestionBracket
                    | Token::LeftBrace
                    | Token::MapStart,
                ) if depth > 0 => {
                    depth -= 1;
                }
                Some(Token::Comma) if depth == 0 => is_behind_comma = true,
                Some(Token::LeftParen)
                    if is_behind_comma || matches!(two_before, Some(Token::Period | Token::Elvis)) =>
                {
                    return false;
                }
                Some(Token::QuestionBracket) => return false,
                Some(Token::LeftBracket)
                    if matches!(
                        before,
                        Some(Token::Identifier(_) | Token::RightParen | Token::RightBracket)
                    ) =>
                {
                    return false;
                }
                Some(Token::LeftParen | Token::LeftBracket | Token::MapStart) => is_behind_comma = false,
                Some(Token::Equals) if depth == 0 => {
                    // `let NAME =`, and `NAME TYPE =` or `NAME file:TYPE =` of a declaration.
                    return matches!(before, Some(Token::Identifier(_)))
                        && matches!(
                            two_before,
                            Some(Token::Let | Token::Const | Token::Identifier(_) | Token::Colon)
                        );
                }
                Some(token) if depth == 0 && is_assignment(token) => return false,
                _ => {}
            }
        }
        self.at <= MAX_BEFORE
    }

    /// True if it is a statement whose value nobody takes; a block that ends in a declaration has it as its value.
    fn is_statement(&self, tokens: &[(Token, Position)]) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| tokens.get(at)).map(|(token, _)| token);
        if !matches!(
            before,
            None | Some(Token::SemiColon | Token::LeftBrace | Token::RightBrace | Token::Export)
        ) {
            return false;
        }
        let mut depth = 0_usize;
        let mut tokens = tokens.iter().skip(self.equals).peekable();
        while let Some((token, _)) = tokens.next() {
            match token {
                Token::LeftBrace
                | Token::LeftBracket
                | Token::QuestionBracket
                | Token::LeftParen
                | Token::MapStart => depth += 1,
                Token::RightBrace | Token::RightBracket | Token::RightParen if depth == 0 => return false,
                Token::RightBrace | Token::RightBracket | Token::RightParen => depth -= 1,
                Token::SemiColon if depth == 0 => {
                    return !matches!(tokens.peek(), Some((Token::RightBrace, _)));
                }
                _ => {}
            }
        }
        true
    }
}

/// True of `+=` and the like.
fn is_assignment(token: &Token) -> bool {
    matches!(
        token,
        Token::PlusAssign
            | Token::MinusAssign
            | Token::MultiplyAssign
            | Token::DivideAssign
            | Token::ModuloAssign
            | Token::PowerOfAssign
            | Token::LeftShiftAssign
            | Token::RightShiftAssign
            | Token::AndAssign
            | Token::OrAssign
            | Token::XOrAssign
    )
}

impl Word {
    fn check(self, kind: &str) -> Result<(), String> {
        let kinds = self.kinds();
        if kinds.iter().any(|known| known == kind) {
            return Ok(());
        }
        if kind == "file" {
            return Err("a file needs the type of its lines: object NAME file:TYPE = \"path\";".to_owned());
        }
        let nearest = kinds.iter().min_by_key(|known| distance(known, kind));
        let nearest = nearest.filter(|known| distance(known, kind) <= MAX_DISTANCE);
        Err(match nearest {
            Some(nearest) => format!("there is no type '{kind}', did you mean '{nearest}'?"),
            None => format!("there is no type '{kind}'; the types are {}", kinds.join(", ")),
        })
    }
}

/// Makes the prefixes of statements and the form of expressions known to the parser.
pub(super) fn register(engine: &mut Engine, root: &Arc<Root>) {
    for word in Word::ALL {
        for kind in word.kinds() {
            let root = Arc::clone(root);
            let has_type_behind = kind.contains(':');
            engine.register_custom_syntax_with_state_raw(
                format!("{} {kind}", word.name()),
                move |symbols, _, _| {
                    Ok(match (symbols.len(), has_type_behind) {
                        (1, true) => Some("$ident$".into()),
                        (2, true) => Some("=".into()),
                        (1, false) | (3, true) => Some("$expr$".into()),
                        _ => None,
                    })
                },
                false,
                move |context, inputs, _| value(context, inputs.last(), word, &kind, &root),
            );
        }
        for (form, is_known) in [(INLINE, true), (VALUE, false)] {
            let root = Arc::clone(root);
            engine.register_custom_syntax_with_state_raw(
                format!("{form}{}", word.name()),
                |symbols, ahead, _| {
                    Ok(match symbols.last().map(ImmutableString::as_str) {
                        _ if symbols.len() < 3 => Some("$ident$".into()),
                        Some("$expr$") => None,
                        Some("=") => Some("$expr$".into()),
                        Some(":") => Some("$ident$".into()),
                        _ if ahead == ":" => Some(":".into()),
                        _ => Some("=".into()),
                    })
                },
                is_known,
                move |context, inputs, _| inline(context, inputs, word, &root, is_known),
            );
        }
    }
}

/// A declaration as an expression: the value, which the name means from here on if it is to be known.
fn inline(
    context: &mut EvalContext,
    inputs: &[Expression],
    word: Word,
    root: &Root,
    is_known: bool,
) -> Result<Dynamic, Box<EvalAltResult>> {
    let Some((expression, words)) = inputs.split_last() else { return Ok(Dynamic::UNIT) };
    let words: Vec<&str> = words.iter().filter_map(Expression::get_string_value).collect();
    let (name, kind) =
        words.split_first().map_or(("", String::new()), |(name, kind)| (*name, kind.join(":")));
    let value = value(context, Some(expression), word, &kind, root)?;
    if !is_known {
        return Ok(value);
    }
    let is_top_level = context.call_level() == 0;
    let scope = context.scope_mut();
    scope.push_constant_dynamic(name, value.clone());
    if is_top_level {
        scope.set_alias(name, name);
    }
    Ok(value)
}

fn value(
    context: &mut EvalContext,
    expression: Option<&Expression>,
    word: Word,
    kind: &str,
    root: &Root,
) -> Result<Dynamic, Box<EvalAltResult>> {
    let Some(expression) = expression else { return Ok(Dynamic::UNIT) };
    let position = expression.position();
    let raw = context.eval_expression_tree(expression)?;
    let refuse = |why: String| Box::new(EvalAltResult::ErrorRuntime(why.into(), position));
    match word {
        Word::Object => object::build(kind, raw, &|path| root.read_data(path).map_err(Fault))
            .map_err(|fault| refuse(fault.0)),
        Word::Service => {
            let constructor = service_constructor(kind);
            let missing = || refuse(format!("services of the kind '{kind}' are not there in this version"));
            match context.call_native_fn::<Dynamic>(&constructor, (raw,)) {
                Err(error) if matches!(&*error, EvalAltResult::ErrorFunctionNotFound(name, _) if name.starts_with(&constructor)) => {
                    Err(missing())
                }
                Err(mut error) => {
                    if error.position().is_none() {
                        error.set_position(position);
                    }
                    Err(error)
                }
                made => made,
            }
        }
    }
}

/// The function that makes a service of that kind; who provides the service registers it.
pub fn service_constructor(kind: &str) -> String {
    format!("service {kind}")
}

#[cfg(test)]
mod tests;
