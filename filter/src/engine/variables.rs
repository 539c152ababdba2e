//! What vSL 1.x has as variables without a module. They are names like others: a script's own variable of the same name is
//! what the name means there.

use std::collections::HashSet;

use rhai::{AST, ASTNode, Dynamic, Engine, Expr, Module, Position, Stmt};

use super::error::{Location, ScriptError};

/// Their names; `api` gives them their values.
pub const OLD_VARIABLES: [&str; 18] = [
    "code554_7_1",
    "code550_7_20",
    "code550_7_21",
    "code550_7_22",
    "code550_7_23",
    "code451_7_24",
    "code550_7_24",
    "code550_7_25",
    "code550_7_26",
    "code550_7_27",
    "code556_1_10",
    "code_greylist",
    "code451_3_0",
    "code550_1_1",
    "net_192",
    "net_172",
    "net_10",
    "non_routable_net",
];

/// Makes their values known, inside functions too.
#[allow(deprecated, reason = "Rhai marks on_var as volatile, not as deprecated; the version is pinned")]
pub fn give_old_variables(
    engine: &mut Engine,
    value: impl Fn(&str) -> Option<Dynamic> + Send + Sync + 'static,
) {
    engine.on_var(move |name, index, _| {
        // Every look at a variable comes by: most are told apart by their first letters.
        let may_be_old = index == 0 && (name.starts_with("code") || name.starts_with('n'));
        Ok(if may_be_old { value(name) } else { None })
    });
}

/// Variables that functions of a script use and nothing has: where a declaration stands within an expression, the parser takes
/// what is before it for known everywhere. `known` are the names that such declarations make known.
pub fn unknown_variables(file: &str, ast: &AST, known: &[String]) -> Vec<ScriptError> {
    let mut found = Vec::new();
    for function in ast.shared_lib().iter_script_fn_info().map(|(.., function)| function) {
        let mut alone = Module::new();
        alone.set_script_fn(function.clone());
        let alone = AST::new(Vec::new(), alone);
        let mut names: HashSet<String> = known.iter().cloned().collect();
        names.extend(OLD_VARIABLES.iter().map(ToString::to_string));
        names.extend(function.params.iter().map(ToString::to_string));
        let mut used: Vec<(String, Position)> = Vec::new();
        alone.walk(&mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::Var(variable, ..))) => {
                    names.insert(variable.0.name.to_string());
                }
                Some(ASTNode::Stmt(Stmt::For(variables, _))) => {
                    names.insert(variables.0.name.to_string());
                    names.extend(variables.1.iter().map(|counter| counter.name.to_string()));
                }
                Some(ASTNode::Stmt(Stmt::TryCatch(flow, _))) => {
                    if let Expr::Variable(error, ..) = &flow.expr {
                        names.insert(error.1.to_string());
                    }
                }
                // Names and types of a declaration look like variables.
                Some(ASTNode::Expr(Expr::Variable(variable, _, position)))
                    if variable.2.path.is_empty() && !path.iter().any(is_declaration) =>
                {
                    used.push((variable.1.to_string(), *position));
                }
                _ => {}
            }
            true
        });
        let unknown = used.into_iter().filter(|(name, _)| !names.contains(name));
        found.extend(unknown.map(|(name, position)| {
            ScriptError::at(Location::new(file, position), format!("there is no variable {name} here"))
                .with_hint("a function sees its arguments, its own variables and imports; reach a top-level constant by global::NAME")
        }));
    }
    found
}

fn is_declaration(node: &ASTNode) -> bool {
    matches!(node, ASTNode::Expr(Expr::Custom(..)))
}
