//! A look at a compiled script before it runs: names of built-in modules and of what is in them. A misspelt function is
//! an error at start, not a 451 for every message.

use std::collections::HashMap;

use rhai::{AST, ASTNode, Expr, FnPtr, Position, Stmt};

use super::error::{Location, ScriptError};
use super::script::distance;

/// Most edits between a wrong name and the one that is suggested.
const MAX_DISTANCE: usize = 3;

/// A function of a built-in module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Callable {
    /// The module.
    pub module: &'static str,
    /// The function.
    pub name: &'static str,
    /// Number of arguments.
    pub arguments: usize,
}

/// Functions that write files, by whatever module, value or alias they are called.
const WRITING: [&str; 2] = ["write", "dump"];

/// True if a script may write files. One that makes the name of a function of other texts is not found out.
pub(super) fn writes(ast: &AST) -> bool {
    let is_writing = |name: &str| WRITING.contains(&name);
    // False ends the walk: one is enough.
    !ast.walk(&mut |path: &[ASTNode]| {
        !match path.last() {
            Some(ASTNode::Stmt(Stmt::FnCall(call, _)))
            | Some(ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _))) => {
                is_writing(&call.name)
            }
            // The name for `Fn()` and `call()`.
            Some(ASTNode::Expr(Expr::StringConstant(text, _))) => is_writing(text),
            Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) => {
                value.read_lock::<FnPtr>().is_some_and(|function| is_writing(function.fn_name()))
            }
            _ => false,
        }
    })
}

/// The functions of a native plugin, by the path that it is imported by, with the numbers of their arguments.
pub(super) type Natively<'a> = &'a dyn Fn(&str) -> Option<&'a [(String, usize)]>;

/// Checks every `module::name` of a script against the built-in modules, native plugins and its own imports.
pub(super) fn check(
    known: &[Callable],
    natively: Natively<'_>,
    file: &str,
    ast: &AST,
) -> Result<(), ScriptError> {
    check_all(known, natively, file, ast).into_iter().next().map_or(Ok(()), Err)
}

/// The same; all that is wrong.
pub(super) fn check_all(
    known: &[Callable],
    natively: Natively<'_>,
    file: &str,
    ast: &AST,
) -> Vec<ScriptError> {
    let mut uses = Vec::new();
    // By alias; no path where it is not certain which one is meant.
    let mut imports: HashMap<String, Option<String>> = HashMap::new();
    ast.walk(&mut |path: &[ASTNode]| {
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Import(import, _))) => {
                let path = match &import.0 {
                    Expr::StringConstant(path, _) => Some(path.to_string()),
                    _ => None,
                };
                let alias = import.1.name.to_string();
                let is_certain = imports.get(&alias).is_none_or(|known| *known == path);
                imports.insert(alias, path.filter(|_| is_certain));
            }
            Some(ASTNode::Stmt(Stmt::FnCall(call, _)))
            | Some(ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _))) => {
                if let Some(root) = call.namespace.path.first() {
                    let deep = call.namespace.path.len() > 1;
                    uses.push(Use {
                        module: root.name.to_string(),
                        called: (!deep).then(|| (call.name.to_string(), call.args.len())),
                        position: root.pos,
                    });
                }
            }
            Some(ASTNode::Expr(Expr::Variable(variable, ..))) => {
                if let Some(root) = variable.2.path.first() {
                    uses.push(Use { module: root.name.to_string(), called: None, position: root.pos });
                }
            }
            _ => {}
        }
        true
    });
    let others = uses.iter().filter(|used| used.module != "global");
    let checked = others.map(|used| match imports.get(&used.module) {
        None => used.check(known, file),
        Some(path) => match path.as_deref().and_then(natively) {
            Some(functions) => used.check_native(functions, file),
            None => Ok(()),
        },
    });
    checked.filter_map(Result::err).collect()
}

struct Use {
    module: String,
    /// Name and number of arguments, if it is a call of the module itself.
    called: Option<(String, usize)>,
    position: Position,
}

impl Use {
    fn check(&self, known: &[Callable], file: &str) -> Result<(), ScriptError> {
        let place = Location::new(file, self.position);
        let module = self.module.as_str();
        if !known.iter().any(|callable| callable.module == module) {
            let error = ScriptError::at(place, format!("there is no module '{module}'"));
            let modules = known.iter().map(|callable| callable.module);
            return Err(match nearest(module, modules) {
                Some(nearest) => error.with_hint(format!("did you mean {nearest}::?")),
                None => error.with_hint(format!("import \"path/to/file\" as {module};")),
            });
        }
        let own = known.iter().filter(|callable| callable.module == module);
        self.check_call(&own.map(|callable| (callable.name, callable.arguments)).collect::<Vec<_>>(), place)
    }

    fn check_native(&self, functions: &[(String, usize)], file: &str) -> Result<(), ScriptError> {
        let functions: Vec<(&str, usize)> =
            functions.iter().map(|(name, arguments)| (name.as_str(), *arguments)).collect();
        self.check_call(&functions, Location::new(file, self.position))
    }

    /// Checks a call against all that the module has.
    fn check_call(&self, functions: &[(&str, usize)], place: Location) -> Result<(), ScriptError> {
        let module = self.module.as_str();
        let Some((name, arguments)) = &self.called else { return Ok(()) };
        let same: Vec<usize> =
            functions.iter().filter(|(own, _)| own == name).map(|(_, arguments)| *arguments).collect();
        if same.is_empty() {
            let error = ScriptError::at(place, format!("there is no function {module}::{name}"));
            return Err(match nearest(name, functions.iter().map(|(own, _)| *own)) {
                Some(nearest) => error.with_hint(format!("did you mean {module}::{nearest}?")),
                None => error,
            });
        }
        if same.contains(arguments) {
            return Ok(());
        }
        let mut counts: Vec<String> = same.iter().map(ToString::to_string).collect();
        counts.dedup();
        let message = format!("{module}::{name} takes {} arguments, not {arguments}", counts.join(" or "));
        Err(ScriptError::at(place, message))
    }
}

/// The name that may have been meant.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = names.map(|name| (distance(name, wrong), name)).min()?;
    (close.0 <= MAX_DISTANCE && close.0 < wrong.len()).then_some(close.1)
}
