//! Whether a body can change the outer variables that it uses. Only what is certain counts: a variable that one message changes
//! must never be seen by the next.

use rhai::{ASTNode, Dynamic, Expr, GlobalRuntimeState, Stmt};

/// Functions and methods that may have such a variable: of our types, and of those of Rhai none that changes it, as `take` and
/// `set_tag` do.
const READING: [&str; 5] = ["contains", "get", "is_empty", "len", "to_string"];

/// True if a body leaves its captured variables as they are: they have values that no such function changes, and nothing is
/// assigned.
pub(super) fn leaves_them(values: &[Dynamic], statements: &[Stmt], environment: &GlobalRuntimeState) -> bool {
    // Methods for one type, as `fn "object".contains(x)`, are found in imported scripts too, before those of ours.
    if environment.scan_imports_raw().any(|(_, module)| module.contains_indexed_global_functions()) {
        return false;
    }
    let is_own = |name: &str| {
        let mut functions = environment.lib.iter().flat_map(|library| library.iter_script_fn_info());
        functions.any(|(_, _, own, ..)| own == name)
    };
    values.iter().all(stays) && statements.iter().all(|statement| only_reads(statement, &is_own))
}

/// True of values of our own types, which no function of ours changes, and of texts, numbers and truth values: lists and maps
/// may have others in them, which have functions of their own.
fn stays(value: &Dynamic) -> bool {
    !(value.is_shared()
        || value.is_array()
        || value.is_blob()
        || value.is_map()
        || value.is_fnptr()
        || value.is_unit()
        || value.is_timestamp())
}

/// False if a statement, or anything within it, may change a variable.
fn only_reads(statement: &Stmt, is_own: &dyn Fn(&str) -> bool) -> bool {
    // What a script defines has the value as `this`.
    let reads = |name: &str| READING.contains(&name) && !is_own(name);
    // False ends the walk: one is enough.
    statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| match path.last() {
        Some(ASTNode::Stmt(Stmt::Assignment(_) | Stmt::Share(_) | Stmt::Import(..) | Stmt::Export(..))) => {
            false
        }
        Some(ASTNode::Expr(Expr::Custom(..))) => false,
        Some(ASTNode::Expr(Expr::MethodCall(call, _))) => reads(&call.name),
        Some(ASTNode::Stmt(Stmt::FnCall(call, _)) | ASTNode::Expr(Expr::FnCall(call, _))) => {
            // Operators have copies.
            let has_variable = matches!(call.args.first(), Some(Expr::Variable(..)));
            !call.capture_parent_scope && (!has_variable || call.is_operator_call() || reads(&call.name))
        }
        _ => true,
    })
}
