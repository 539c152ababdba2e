//! What a body does, as far as that can be told before it runs: which way it goes by its conditions, and where it says
//! `state::next()`, as nearly every rule does for nearly every message. All else is evaluated by Rhai.
//!
//! A plan must come to the same result as Rhai's walk through the body, errors and their places included; what it cannot
//! tell for sure is left to Rhai as a whole.

use rhai::{
    ASTNode, Dynamic, EvalAltResult, EvalContext, Expr, FlowControl, FnCallExpr, GlobalRuntimeState,
    Position, Stmt, StmtBlock,
};

use super::quick::{Maker, Quick};

/// The function that goes on with the next directive, by module and name.
const NEXT: (&str, &str) = ("state", "next");

/// What is to be done.
#[derive(Debug, Clone)]
pub(super) enum Plan {
    /// The value is that of `state::next()`.
    Next,
    /// One thing or another.
    Choice(Box<Choice>),
    /// One thing after the other; the last gives the value.
    Steps(Vec<Plan>),
    /// The value of an expression.
    Value(Quick),
}

/// A condition with what follows of it.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// Must have a truth value.
    pub guard: Quick,
    /// Where it stands.
    pub place: Position,
    /// What is done if it holds.
    pub then: Plan,
    /// What is done if not.
    pub otherwise: Plan,
}

/// What a body came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// `state::next()`.
    Next,
    /// Any value.
    Value(Dynamic),
}

impl Plan {
    /// That of a body which runs in an environment.
    pub fn new(statements: &[Stmt], environment: &GlobalRuntimeState) -> Self {
        // Custom syntax may declare variables in the middle of an expression.
        if statements.iter().any(has_custom_syntax) {
            return walk(statements);
        }
        let module_is_ours = environment.find_import(NEXT.0).is_none();
        Planner { module_is_ours }.block(statements, true)
    }

    /// Does it.
    pub fn follow(
        &self,
        context: &mut EvalContext<'_, '_, '_, '_, '_, '_>,
    ) -> Result<Outcome, Box<EvalAltResult>> {
        match self {
            Plan::Next => Ok(Outcome::Next),
            Plan::Value(expression) => expression.value(context).map(Outcome::Value),
            Plan::Choice(choice) => {
                let Choice { guard, place, then, otherwise } = &**choice;
                if guard.holds(*place, context)? { then.follow(context) } else { otherwise.follow(context) }
            }
            Plan::Steps(steps) => {
                let mut outcome = Outcome::Value(Dynamic::UNIT);
                for step in steps {
                    outcome = step.follow(context)?;
                }
                Ok(outcome)
            }
        }
    }

    /// The expressions that Rhai evaluates.
    pub fn expressions_mut(&mut self, each: &mut dyn FnMut(&mut Expr)) {
        self.values_mut(&mut |value| {
            if let Quick::Walk(expression) = value {
                each(expression);
            }
        });
    }

    /// Has as little as possible evaluated by Rhai.
    pub fn quicken(&mut self, maker: &Maker<'_>) {
        self.values_mut(&mut |value| {
            if let Quick::Walk(expression) = value {
                *value = maker.quick(expression);
            }
        });
    }

    /// How many expressions Rhai evaluates.
    #[cfg(test)]
    pub fn left_to_rhai(mut self) -> usize {
        let mut left = 0;
        self.values_mut(&mut |value| left += value.left_to_rhai());
        left
    }

    fn values_mut(&mut self, each: &mut dyn FnMut(&mut Quick)) {
        match self {
            Plan::Next => {}
            Plan::Value(value) => each(value),
            Plan::Choice(choice) => {
                each(&mut choice.guard);
                choice.then.values_mut(each);
                choice.otherwise.values_mut(each);
            }
            Plan::Steps(steps) => steps.iter_mut().for_each(|step| step.values_mut(each)),
        }
    }
}

struct Planner {
    /// The script does not import another module under that name.
    module_is_ours: bool,
}

impl Planner {
    /// A block; `is_last` if nothing comes after it, so that to return a value is to have it.
    fn block(&self, statements: &[Stmt], is_last: bool) -> Plan {
        match statements {
            [] => value(Expr::Unit(Position::NONE)),
            [only] => self.statement(only, is_last),
            [first @ .., last] if statements.iter().all(stands_alone) => {
                let mut steps: Vec<Plan> = first.iter().map(|one| self.statement(one, false)).collect();
                steps.push(self.statement(last, is_last));
                Plan::Steps(steps)
            }
            many => walk(many),
        }
    }

    fn statement(&self, statement: &Stmt, is_last: bool) -> Plan {
        match statement {
            Stmt::Noop(place) => value(Expr::Unit(*place)),
            Stmt::Block(block) => self.block(block.statements(), is_last),
            Stmt::Expr(expression) => self.expression(expression, is_last),
            Stmt::FnCall(call, _) if self.is_next(call) => Plan::Next,
            Stmt::FnCall(call, place) => value(Expr::FnCall(call.clone(), *place)),
            Stmt::Return(Some(value), flags, _) if is_last && flags.is_empty() => {
                self.expression(value, is_last)
            }
            Stmt::If(flow, _) => {
                let FlowControl { expr, body, branch } = &**flow;
                Plan::Choice(Box::new(Choice {
                    guard: Quick::Walk(expr.clone()),
                    place: expr.position(),
                    then: self.block(body.statements(), is_last),
                    otherwise: self.block(branch.statements(), is_last),
                }))
            }
            other => walk(std::slice::from_ref(other)),
        }
    }

    fn expression(&self, expression: &Expr, is_last: bool) -> Plan {
        match expression {
            Expr::FnCall(call, _) if self.is_next(call) => Plan::Next,
            Expr::Stmt(block) => self.block(block.statements(), is_last),
            other => value(other.clone()),
        }
    }

    fn is_next(&self, call: &FnCallExpr) -> bool {
        let named = match call.namespace.path.as_slice() {
            [module] => (module.as_str(), call.name.as_str()) == NEXT,
            _ => false,
        };
        named && self.module_is_ours && call.namespace.index.is_none() && call.args.is_empty()
    }
}

/// True if the statements behind it do not depend on it: it declares nothing.
fn stands_alone(statement: &Stmt) -> bool {
    matches!(
        statement,
        Stmt::Noop(_)
            | Stmt::Block(_)
            | Stmt::Expr(_)
            | Stmt::FnCall(..)
            | Stmt::If(..)
            | Stmt::Return(..)
            | Stmt::Assignment(_)
    )
}

fn has_custom_syntax(statement: &Stmt) -> bool {
    // False ends the walk: one is enough.
    !statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
        !matches!(path.last(), Some(ASTNode::Expr(Expr::Custom(..))))
    })
}

/// Statements as one expression.
fn walk(statements: &[Stmt]) -> Plan {
    let block = StmtBlock::new(statements.iter().cloned(), Position::NONE, Position::NONE);
    value(Expr::Stmt(Box::new(block)))
}

fn value(expression: Expr) -> Plan {
    Plan::Value(Quick::Walk(expression))
}

#[cfg(test)]
mod tests;
