//! What a script makes depend on the value of a call: conditions of `if`, loops and cases, and what `&&`, `||` and `!` are about.
//! Which types calls give, it does not know.

use rhai::{AST, ASTNode, Expr, Stmt};

use super::Call;

/// The calls in a script whose value must be true or false. `file` stands for it in places.
pub fn conditions(file: &str, ast: &AST) -> Vec<Call> {
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        let mut must_be_bool = |condition: &Expr| found.extend(call(file, condition));
        match path.last() {
            Some(ASTNode::Stmt(Stmt::If(flow, _) | Stmt::While(flow, _) | Stmt::Do(flow, ..))) => {
                must_be_bool(&flow.expr);
            }
            Some(ASTNode::Stmt(Stmt::Switch(parts, _))) => {
                parts.1.expressions.iter().for_each(|case| must_be_bool(&case.lhs));
            }
            Some(ASTNode::Expr(Expr::And(all, _) | Expr::Or(all, _))) => all.iter().for_each(must_be_bool),
            Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _)))
                if call.op_token.is_some() && call.name == "!" =>
            {
                call.args.iter().for_each(must_be_bool);
            }
            _ => {}
        }
        true
    });
    found
}

/// The call that an expression is.
fn call(file: &str, condition: &Expr) -> Option<Call> {
    match condition {
        Expr::FnCall(..) => Call::of(file, &[ASTNode::Expr(condition)]),
        Expr::Stmt(block) => match block.statements() {
            [Stmt::Expr(alone)] => call(file, alone),
            [alone @ Stmt::FnCall(..)] => Call::of(file, &[ASTNode::Stmt(alone)]),
            _ => None,
        },
        _ => None,
    }
}
