//! Statements that come one after the other, as an operator types them: variables, functions and imports of those before stay.
//! The limits are those of the engine; the clock is the caller's.

use rhai::{AST, Dynamic, Engine, Scope, Stmt};

use super::declaration;
use super::error::ScriptError;
use super::resolver::{Root, preload};

/// Most imports that are kept.
const MAX_IMPORTS: usize = 100;
/// Most functions that are kept.
const MAX_FUNCTIONS: usize = 4_096;
/// How Rhai says that a script ends too early.
const ENDS_EARLY: &str = "Script is incomplete";

/// Why there is no value.
#[derive(Debug)]
pub enum Stop {
    /// The text is the beginning of something.
    Unfinished(ScriptError),
    /// It is wrong.
    Error(ScriptError),
}

/// What was said so far.
#[derive(Debug)]
pub struct Interactive {
    scope: Scope<'static>,
    functions: AST,
    /// Imports, each on lines of its own: they count for one evaluation only, so they stand in front of each.
    imports: Vec<String>,
    /// How many these are.
    imported: usize,
}

impl Default for Interactive {
    fn default() -> Self {
        Interactive { scope: Scope::new(), functions: AST::empty(), imports: Vec::new(), imported: 0 }
    }
}

impl Interactive {
    /// Evaluates one text; `name` stands for it in messages.
    ///
    /// # Errors
    /// It is not finished, or wrong, or fails.
    pub fn evaluate(
        &mut self,
        engine: &Engine,
        root: &Root,
        name: &str,
        text: &str,
    ) -> Result<Dynamic, Stop> {
        let front: String = self.imports.iter().map(|import| format!("{import}\n")).collect();
        let lines = front.lines().count();
        let moved = |mut error: ScriptError| {
            if error.location.file == name {
                error.location.line = error.location.line.saturating_sub(lines);
            }
            error
        };
        let variables: Vec<String> = self.scope.iter().map(|(name, _, _)| name.to_owned()).collect();
        let compiled = declaration::compile_knowing(engine, name, &format!("{front}{text}"), &variables);
        let ast = compiled.map_err(|error| {
            let error = moved(error);
            if ends_early(&error, text) { Stop::Unfinished(error) } else { Stop::Error(error) }
        })?;
        let wrong = |error| Stop::Error(moved(error));
        root.check_names(name, &ast).map_err(wrong)?;
        let failed = |error: Box<_>| Stop::Error(moved(ScriptError::from_eval(name, &error)));
        preload(engine, &ast).map_err(failed)?;
        let mut whole = self.functions.merge(&ast);
        whole.set_source(name);
        let functions = whole.clone_functions_only();
        if functions.iter_functions().count() > MAX_FUNCTIONS {
            return Err(wrong(too_many("functions", MAX_FUNCTIONS, name)));
        }
        self.functions = functions;
        let value = engine.eval_ast_with_scope(&mut self.scope, &whole).map_err(failed)?;
        self.keep_imports(name, text, ast.statements()).map_err(wrong)?;
        Ok(value)
    }

    /// Keeps the text if it imports something and does nothing else; the statements are those of the imports before, and its own.
    fn keep_imports(&mut self, name: &str, text: &str, statements: &[Stmt]) -> Result<(), ScriptError> {
        let is_import = |one: &&Stmt| matches!(one, Stmt::Import(..));
        let number = statements.iter().filter(is_import).count();
        let is_all = statements.iter().all(|one| matches!(one, Stmt::Import(..) | Stmt::Noop(..)));
        if !is_all || number <= self.imported {
            return Ok(());
        }
        if number > MAX_IMPORTS {
            return Err(too_many("imports", MAX_IMPORTS, name));
        }
        self.imported = number;
        // On a line of its own: the text may end in a comment.
        self.imports.push(format!("{text}\n;"));
        Ok(())
    }
}

fn too_many(what: &str, most: usize, name: &str) -> ScriptError {
    let place = super::Location { file: name.to_owned(), ..Default::default() };
    ScriptError::at(place, format!("more than {most} {what} are kept"))
}

/// True if nothing is wrong with the text but that it ends.
fn ends_early(error: &ScriptError, text: &str) -> bool {
    if error.message.contains(ENDS_EARLY) {
        return true;
    }
    let text = text.trim_end();
    let last = text.lines().last().unwrap_or_default().chars().count();
    let end = (text.lines().count(), last);
    error.location.line > 0 && (error.location.line, error.location.column) > end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{self, Limits};

    fn said(texts: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lib.vsl"), "fn twice(x) { x * 2 } fn broken() { 1 +\n [] }").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let engine = engine::bare(&root, &Limits { operations: 10_000, ..Limits::default() });
        let mut interactive = Interactive::default();
        texts
            .iter()
            .map(|text| match interactive.evaluate(&engine, &root, "line", text) {
                Ok(value) => value.to_string(),
                Err(Stop::Unfinished(_)) => "...".to_owned(),
                Err(Stop::Error(error)) => error.to_string(),
            })
            .collect()
    }

    #[test]
    fn what_was_said_before_stays() {
        let all = said(&[
            "let a = 2",
            "a + 1",
            "fn more(x) { x + 1 }",
            "more(a)",
            "let f = |x| x * 3;",
            "f.call(a)",
            "a = 7; a",
            "import \"lib\" as lib",
            "lib::twice(a)",
            "import \"lib\" as b; import \"lib\" as c; // two",
            "b::twice(1) + c::twice(1)",
            "fn four(x) { lib::twice(lib::twice(x)) }",
            "four(1)",
            "fn more(x) { x + 2 }",
            "more(a)",
            "const C = 1;",
            "C = 2",
        ]);
        let values = ["", "3", "", "3", "", "6", "7", "", "14", "", "4", "", "4", "", "9", ""];
        assert_eq!(all[..16], values);
        assert!(all[16].starts_with("line:1:") && all[16].contains("constant"), "{}", all[16]);
    }

    #[test]
    fn errors_have_their_place_and_harm_nothing() {
        let all = said(&[
            "let a = 1;",
            "import \"lib\" as lib;",
            "\n nope",
            "a +\n [1,\n 2",
            "1 / 0",
            "loop { }",
            "a )",
            "lib::broken()",
            "a",
        ]);
        for (at, words) in
            [(2, "line:2:2: "), (4, "line:1:3: "), (5, "line:1:"), (6, "line:1:3: "), (7, "lib.vsl:")]
        {
            assert!(all[at].starts_with(words), "{at}: {}", all[at]);
        }
        assert!(all[5].contains("operations"), "{}", all[5]);
        assert_eq!((all[3].as_str(), all[8].as_str()), ("...", "1"));
    }

    #[test]
    fn what_is_not_finished_is_told_from_what_is_wrong() {
        for text in
            ["if true {", "1 +", "[1,", "#{ a:", "fn f(x) {\n x", "f(1,", "let a =", "rule \"x\" || {"]
        {
            assert_eq!(said(&[text]), ["..."], "{text}");
        }
        for text in ["1 + )", "let = 1", "fn f( { }", "\"open", "}"] {
            assert_ne!(said(&[text]), ["..."], "{text}");
        }
    }
}
