//! How the body of a function ends: in a status that ends the stage, whatever happens, or perhaps in no status at all. What is
//! told of is certain; where only running tells, nothing is said.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use rhai::{
    AST, ASTFlags, ASTNode, Dynamic, Engine, Expr, FlowControl, FnCallExpr, FnPtr, Module, Position, Stmt,
    StmtBlock,
};

use super::super::body::statements;
use super::super::directive::Directive;
use super::super::error::Location;
use super::{Call, Kind, Known, Own};
use crate::status::Status;

/// Statuses that end a stage.
const FINAL: [&str; 6] = ["accept", "faccept", "deny", "reject", "info", "quarantine"];
/// Operators whose value is true or false.
const TESTS: [&str; 8] = ["==", "!=", "<", "<=", ">", ">=", "!", "contains"];
/// Functions of the language that give nothing.
const PRINTING: [&str; 2] = ["print", "debug"];
/// What `switch` may be about without a default case: all values are named.
const ALL_VALUES: [&str; 4] = [
    "switch x { true => 1, false => 2 }",
    "switch x { \"Verify\" => 1, \"AnonymousToken\" => 2 }",
    "switch x { \"none\" => 1, \"neutral\" => 2, \"pass\" => 3, \"fail\" => 4, \"softfail\" => 5, \"temperror\" => 6, \"permerror\" => 7 }",
    "switch x { \"none\" => 1, \"neutral\" => 2, \"pass\" => 3, \"fail\" => 4, \"temperror\" => 5, \"permerror\" => 6 }",
];

/// How the body of a function ends, as far as it ends its stage.
pub(super) struct Ending<'a> {
    /// What the script's own functions are.
    pub statuses: Statuses<'a>,
    /// The last statement gives a status that ends the stage.
    pub last: bool,
    /// It may return something else before.
    pub leaves: bool,
}

impl Ending<'_> {
    pub fn see(&mut self, path: &[ASTNode]) {
        let Some(ASTNode::Stmt(statement)) = path.last() else { return };
        if path.len() == 1 {
            self.last = self.statuses.is_given_by(statement);
        }
        if let Stmt::Return(value, flags, _) = statement
            && !flags.contains(ASTFlags::BREAK)
        {
            self.leaves |= !value.as_ref().is_some_and(|value| self.statuses.are(value));
        }
    }

    pub fn is_final(&self) -> bool {
        self.last && !self.leaves
    }
}

/// Statuses that end a stage, in a script with these functions of its own.
pub(super) struct Statuses<'a>(pub &'a Module);

impl Statuses<'_> {
    fn is_given_by(&self, statement: &Stmt) -> bool {
        match statement {
            Stmt::FnCall(call, _) => self.is_one(call),
            Stmt::Expr(expression) => self.are(expression),
            Stmt::Return(Some(expression), flags, _) => {
                !flags.contains(ASTFlags::BREAK) && self.are(expression)
            }
            Stmt::Block(block) => self.end(block),
            Stmt::If(flow, _) => self.end(&flow.body) && self.end(&flow.branch),
            Stmt::Switch(parts, _) => {
                let cases = &parts.1;
                cases.def_case.is_some() && cases.expressions.iter().all(|case| self.are(&case.rhs))
            }
            _ => false,
        }
    }

    /// The block ends in one.
    fn end(&self, block: &StmtBlock) -> bool {
        block.statements().last().is_some_and(|last| self.is_given_by(last))
    }

    fn are(&self, expression: &Expr) -> bool {
        match expression {
            Expr::FnCall(call, _) => self.is_one(call),
            Expr::Stmt(block) => self.end(block),
            _ => false,
        }
    }

    fn is_one(&self, call: &FnCallExpr) -> bool {
        let module = call.namespace.path.first().map(|first| first.name.as_str());
        let is_own = module.is_none() && self.0.get_script_fn(&call.name, call.args.len()).is_some();
        !is_own
            && call.namespace.path.len() < 2
            && module.is_none_or(|module| module == "state")
            && FINAL.contains(&call.name.as_str())
    }
}

/// Why a body may end without a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// An `if` without `else`.
    NoElse,
    /// A `switch` in which a value has no case.
    NoDefault,
    /// A loop that may be over.
    Loop,
    /// What stands in `catch` is run, and its value is lost.
    Catch,
    /// A value of this type.
    Gives(String),
    /// A function of the script ends so.
    Function(String, Box<Gap>),
}

/// A place where a body may end without a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where.
    pub place: Location,
    /// Why.
    pub why: Why,
}

/// Those of one directive.
pub(super) struct Gaps<'a, 'w> {
    directive: &'a Directive,
    world: &'a Known<'w>,
    /// What functions of scripts have been found to end in. While one is looked at, nothing is known of it.
    known: RefCell<HashMap<(String, String, usize), Option<Gap>>>,
}

/// What a statement comes to.
enum Value {
    /// A status, or what only running tells.
    Unknown,
    /// None: it returns, throws, or goes on elsewhere.
    Leaves,
    /// No status, where it stands.
    Wrong(Position, Why),
}

impl<'a, 'w> Gaps<'a, 'w> {
    pub fn new(directive: &'a Directive, world: &'a Known<'w>) -> Self {
        Gaps { directive, world, known: RefCell::default() }
    }

    /// All of a function: where it returns something else, and how it ends.
    pub fn of(&self, own: &Own) -> Vec<Gap> {
        let Some(function) = own.library.get_script_fn(&own.name, own.arity) else { return Vec::new() };
        let mut alone = Module::new();
        alone.set_script_fn(Arc::clone(function));
        let mut found = Vec::new();
        let mut add = |value| {
            if let Value::Wrong(position, why) = value {
                found.push(Gap { place: Location::new(&own.file, position), why });
            }
        };
        AST::new(Vec::new(), alone.clone()).walk(&mut |path: &[ASTNode]| {
            if let Some(ASTNode::Stmt(Stmt::Return(value, flags, position))) = path.last()
                && !flags.contains(ASTFlags::BREAK)
            {
                add(match value {
                    Some(value) => self.expression(own, value),
                    None => Value::Wrong(*position, Why::Gives("()".to_owned())),
                });
            }
            true
        });
        add(self.block(own, &statements(alone)));
        found
    }

    /// The first of a function that a script calls.
    fn first(&self, own: &Own) -> Option<Gap> {
        let key = (own.file.clone(), own.name.clone(), own.arity);
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone();
        }
        if self.known.borrow().len() >= super::MAX_FOLLOWED {
            return None;
        }
        self.known.borrow_mut().insert(key.clone(), None);
        let first = self.of(own).into_iter().next();
        self.known.borrow_mut().insert(key, first.clone());
        first
    }

    fn block(&self, own: &Own, block: &[Stmt]) -> Value {
        let Some((last, before)) = block.split_last() else { return nothing(Position::NONE) };
        if before.iter().any(leaves) { Value::Leaves } else { self.statement(own, last) }
    }

    fn statement(&self, own: &Own, statement: &Stmt) -> Value {
        match statement {
            _ if leaves(statement) => Value::Leaves,
            Stmt::FnCall(call, _) => self.call(own, call, &ASTNode::Stmt(statement)),
            Stmt::Expr(expression) => self.expression(own, expression),
            Stmt::Block(block) => placed(self.block(own, block.statements()), statement.position()),
            Stmt::If(flow, position) => {
                let otherwise = || {
                    if flow.branch.is_empty() {
                        Value::Wrong(*position, Why::NoElse)
                    } else {
                        self.block(own, flow.branch.statements())
                    }
                };
                match placed(self.block(own, flow.body.statements()), *position) {
                    Value::Wrong(at, why) => Value::Wrong(at, why),
                    _ => placed(otherwise(), *position),
                }
            }
            Stmt::Switch(parts, position) => {
                let cases = &parts.1;
                let values = cases.expressions.iter().map(|case| self.expression(own, &case.rhs));
                let wrong = values.into_iter().find(|value| matches!(value, Value::Wrong(..)));
                let is_whole = cases.def_case.is_some() || names_all(statement);
                wrong.map_or_else(
                    || if is_whole { Value::Unknown } else { Value::Wrong(*position, Why::NoDefault) },
                    |wrong| placed(wrong, *position),
                )
            }
            Stmt::While(flow, position) | Stmt::Do(flow, _, position) if is_endless(statement) => {
                let mut found = Value::Unknown;
                breaks(flow, &mut |value| {
                    let value = match value {
                        Some(value) => self.expression(own, value),
                        None => Value::Wrong(*position, Why::Loop),
                    };
                    if matches!(value, Value::Wrong(..)) {
                        found = value;
                    }
                });
                found
            }
            Stmt::While(_, position) | Stmt::Do(_, _, position) | Stmt::For(_, position) => {
                Value::Wrong(*position, Why::Loop)
            }
            Stmt::TryCatch(flow, position) => match self.block(own, flow.body.statements()) {
                Value::Wrong(at, why) => placed(Value::Wrong(at, why), *position),
                _ if flow.branch.statements().iter().any(leaves) => Value::Unknown,
                _ => Value::Wrong(*position, Why::Catch),
            },
            _ => nothing(statement.position()),
        }
    }

    fn expression(&self, own: &Own, expression: &Expr) -> Value {
        let gives = |what: &str| Value::Wrong(expression.position(), Why::Gives(what.to_owned()));
        match expression {
            Expr::FnCall(call, _) => self.call(own, call, &ASTNode::Expr(expression)),
            Expr::Stmt(block) => placed(self.block(own, block.statements()), expression.position()),
            Expr::And(..) | Expr::Or(..) => gives(Kind::Bool.name()),
            Expr::CharConstant(..) => gives("char"),
            Expr::DynamicConstant(value, _) if is_function(value) => gives("a closure"),
            _ => match Kind::of(expression) {
                Kind::Unknown => Value::Unknown,
                kind => gives(kind.name()),
            },
        }
    }

    fn call(&self, own: &Own, call: &FnCallExpr, node: &ASTNode) -> Value {
        let gives = |position, what: &str| Value::Wrong(position, Why::Gives(what.to_owned()));
        let position = node.position();
        if call.op_token.is_some() && TESTS.contains(&call.name.as_str()) {
            return gives(position, Kind::Bool.name());
        }
        let Some(called) = Call::of(&own.file, std::slice::from_ref(node)) else {
            let is_printing = call.namespace.path.is_empty() && PRINTING.contains(&call.name.as_str());
            return if is_printing { nothing(position) } else { Value::Unknown };
        };
        let position = call.namespace.path.first().map_or(position, |first| first.pos);
        if let Some(target) = self.directive.target(own, &called, self.world) {
            let gap = self.first(&target);
            return gap.map_or(Value::Unknown, |gap| {
                Value::Wrong(position, Why::Function(called.name.clone(), Box::new(gap)))
            });
        }
        match (self.world.gives)(&called) {
            Some(what) if called.inner.is_empty() => gives(position, what),
            _ => Value::Unknown,
        }
    }
}

/// A closure that is not called.
fn is_function(value: &Dynamic) -> bool {
    value.read_lock::<FnPtr>().is_some() && value.read_lock::<Status>().is_none()
}

/// `()`.
fn nothing(position: Position) -> Value {
    Value::Wrong(position, Why::Gives(Kind::Unit.name().to_owned()))
}

/// What stands nowhere stands where what is around it does.
fn placed(value: Value, around: Position) -> Value {
    match value {
        Value::Wrong(at, why) if at.is_none() => Value::Wrong(around, why),
        other => other,
    }
}

/// True if nothing behind a statement is reached.
fn leaves(statement: &Stmt) -> bool {
    let any = |block: &StmtBlock| block.statements().iter().any(leaves);
    match statement {
        Stmt::Return(..) | Stmt::BreakLoop(..) => true,
        Stmt::Block(block) => any(block),
        Stmt::If(flow, _) => any(&flow.body) && any(&flow.branch),
        Stmt::TryCatch(flow, _) => any(&flow.body) && any(&flow.branch),
        Stmt::Switch(parts, _) => {
            let is_left = |case: &Expr| matches!(case, Expr::Stmt(block) if any(block));
            (parts.1.def_case.is_some() || names_all(statement))
                && parts.1.expressions.iter().all(|case| is_left(&case.rhs))
        }
        Stmt::While(flow, _) | Stmt::Do(flow, ..) => {
            let mut is_broken = false;
            breaks(flow, &mut |_| is_broken = true);
            is_endless(statement) && !is_broken
        }
        Stmt::Expr(expression) => matches!(&**expression, Expr::Stmt(block) if any(block)),
        _ => false,
    }
}

/// A loop that only `break`, `return` and errors end.
fn is_endless(statement: &Stmt) -> bool {
    match statement {
        Stmt::While(flow, _) => matches!(flow.expr, Expr::Unit(_) | Expr::BoolConstant(true, _)),
        Stmt::Do(flow, flags, _) => {
            let until = flags.contains(ASTFlags::NEGATED);
            matches!(flow.expr, Expr::BoolConstant(holds, _) if holds != until)
        }
        _ => false,
    }
}

/// Shows what the `break`s of a loop give.
fn breaks(flow: &FlowControl, see: &mut impl FnMut(Option<&Expr>)) {
    for statement in flow.body.statements() {
        statement.walk(&mut Vec::new(), &mut |path: &[ASTNode]| {
            let is_inner = |node: &ASTNode| {
                matches!(node, ASTNode::Stmt(Stmt::While(..) | Stmt::Do(..) | Stmt::For(..)))
            };
            if let Some((ASTNode::Stmt(Stmt::BreakLoop(value, flags, _)), around)) = path.split_last()
                && flags.contains(ASTFlags::BREAK)
                && !around.iter().any(is_inner)
            {
                see(value.as_deref());
            }
            true
        });
    }
}

/// True of a `switch` that names all values of a kind, each without a condition.
fn names_all(statement: &Stmt) -> bool {
    static KNOWN: LazyLock<Vec<HashSet<u64>>> = LazyLock::new(|| {
        let engine = Engine::new_raw();
        let compiled = ALL_VALUES.iter().filter_map(|text| engine.compile(text).ok());
        compiled.filter_map(|ast| ast.statements().first().and_then(named)).collect()
    });
    named(statement).is_some_and(|has| KNOWN.iter().any(|all| all.is_subset(&has)))
}

/// The values of a `switch` that have a case without a condition, as Rhai marks them.
fn named(statement: &Stmt) -> Option<HashSet<u64>> {
    let Stmt::Switch(parts, _) = statement else { return None };
    let cases = &parts.1;
    let always = |at: &usize| {
        cases.expressions.get(*at).is_some_and(|case| matches!(case.lhs, Expr::BoolConstant(true, _)))
    };
    let named = cases.cases.iter().filter(|(_, list)| list.blocks.iter().any(always));
    Some(named.map(|(value, _)| *value).collect())
}
