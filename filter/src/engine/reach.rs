//! What a body calls, found before it runs as far as that is possible: a name such as `ctx` need not be looked for at each
//! call, nor a function of the script that does not exist. What a script imports or defines under such a name stays what the
//! name means.
//!
//! Rhai keeps with a name how far from the end of the list of imports its module stands. The modules are put before the
//! script's own imports, under no name, so that all places which Rhai has noted stay right, in functions too.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use rhai::{
    ASTNode, Expr, FnCallExpr, FnCallHashes, GlobalRuntimeState, ImmutableString, Module, Namespace, Stmt,
    StmtBlock,
};

use super::plan::Plan;

/// What a module's functions and variables are reached by. No script can write it.
const NO_NAME: &str = "";

/// What has a name in an expression.
enum Named<'e> {
    Variable(&'e mut Namespace),
    Call(&'e mut FnCallExpr),
}

impl Named<'_> {
    /// The module that is named, if one is.
    fn module(&mut self) -> &mut Namespace {
        match self {
            Named::Variable(module) => module,
            Named::Call(call) => &mut call.namespace,
        }
    }
}

/// Notes in a plan where its modules stand, and which functions cannot be the script's; answers the environment in which that
/// is so. `None`: it imports something while it runs, so that nothing is certain.
pub(super) fn shorten(
    plan: &mut Plan,
    statements: &[Stmt],
    environment: &GlobalRuntimeState,
    modules: &BTreeMap<&'static str, Arc<Module>>,
) -> Option<GlobalRuntimeState> {
    if statements.iter().any(imports) {
        return None;
    }
    let mut used: Vec<&'static str> = Vec::new();
    plan.expressions_mut(&mut |expression| {
        each_name(expression, &mut |mut named| {
            if let Some(known) = built_in(named.module(), environment, modules)
                && !used.contains(&known)
            {
                used.push(known);
            }
        });
    });
    let all = used.len() + environment.num_imports();
    plan.expressions_mut(&mut |expression| {
        each_name(expression, &mut |mut named| {
            let known = built_in(named.module(), environment, modules);
            if let Some(at) = known.and_then(|known| used.iter().position(|one| *one == known)) {
                named.module().index = NonZeroUsize::new(all - at);
            } else if let Named::Call(call) = named
                && is_native(call, environment)
            {
                call.hashes = FnCallHashes::from_native_only(call.hashes.native());
            }
        });
    });
    let own: Vec<(ImmutableString, Arc<Module>)> =
        environment.scan_imports_raw().map(|(name, module)| (name.clone(), Arc::clone(module))).collect();
    let mut environment = environment.clone();
    environment.truncate_imports(0);
    for module in used.iter().filter_map(|name| modules.get(name)) {
        environment.push_import(NO_NAME, Arc::clone(module));
    }
    for (name, module) in own {
        environment.push_import(name, module);
    }
    Some(environment)
}

/// True if a call without a module means no function of the script.
pub(super) fn is_native(call: &FnCallExpr, environment: &GlobalRuntimeState) -> bool {
    let mut own = environment.lib.iter().flat_map(|library| library.iter_script_fn_info());
    call.namespace.is_empty() && own.all(|(_, _, name, ..)| name != call.name.as_str())
}

/// The built-in module that a name means.
pub(super) fn built_in(
    name: &Namespace,
    environment: &GlobalRuntimeState,
    modules: &BTreeMap<&'static str, Arc<Module>>,
) -> Option<&'static str> {
    match name.path.as_slice() {
        [only] if environment.find_import(only.as_str()).is_none() => {
            modules.get_key_value(only.as_str()).map(|(known, _)| *known)
        }
        _ => None,
    }
}

/// True if a statement, or one within it, imports a module.
fn imports(statement: &Stmt) -> bool {
    // False ends the walk: one is enough.
    !statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
        !matches!(path.last(), Some(ASTNode::Stmt(Stmt::Import(..))))
    })
}

/// What has a name in an expression, wherever it is easily found; the rest is looked for whenever it is called.
fn each_name(expression: &mut Expr, each: &mut dyn FnMut(Named<'_>)) {
    match expression {
        Expr::Variable(variable, ..) if !variable.2.is_empty() => each(Named::Variable(&mut variable.2)),
        Expr::FnCall(call, _) | Expr::MethodCall(call, _) => in_call(call, each),
        Expr::Dot(sides, ..) | Expr::Index(sides, ..) => {
            each_name(&mut sides.lhs, each);
            each_name(&mut sides.rhs, each);
        }
        Expr::And(all, _) | Expr::Or(all, _) | Expr::Coalesce(all, _) => {
            all.iter_mut().for_each(|one| each_name(one, each));
        }
        Expr::InterpolatedString(all, _) | Expr::Array(all, _) => {
            all.iter_mut().for_each(|one| each_name(one, each));
        }
        Expr::Map(map, _) => map.0.iter_mut().for_each(|(_, one)| each_name(one, each)),
        Expr::Stmt(block) => in_block(block, each),
        _ => {}
    }
}

fn in_call(call: &mut FnCallExpr, each: &mut dyn FnMut(Named<'_>)) {
    each(Named::Call(call));
    call.args.iter_mut().for_each(|one| each_name(one, each));
}

fn in_block(block: &mut StmtBlock, each: &mut dyn FnMut(Named<'_>)) {
    block.statements_mut().iter_mut().for_each(|statement| in_statement(statement, each));
}

fn in_statement(statement: &mut Stmt, each: &mut dyn FnMut(Named<'_>)) {
    match statement {
        Stmt::If(flow, _) | Stmt::While(flow, _) | Stmt::Do(flow, ..) | Stmt::TryCatch(flow, _) => {
            each_name(&mut flow.expr, each);
            in_block(&mut flow.body, each);
            in_block(&mut flow.branch, each);
        }
        Stmt::For(parts, _) => {
            each_name(&mut parts.2.expr, each);
            in_block(&mut parts.2.body, each);
        }
        Stmt::Var(parts, ..) => each_name(&mut parts.1, each),
        Stmt::Assignment(parts) => {
            each_name(&mut parts.1.lhs, each);
            each_name(&mut parts.1.rhs, each);
        }
        Stmt::FnCall(call, _) => in_call(call, each),
        Stmt::Block(block) => in_block(block, each),
        Stmt::Expr(expression) => each_name(expression, each),
        Stmt::Return(Some(value), ..) => each_name(value, each),
        _ => {}
    }
}
