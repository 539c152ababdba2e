//! Which expressions a plan can evaluate itself. Only what means one of our own functions in its script counts, whatever its
//! operands turn out to be; all else stays with Rhai.

use rhai::{
    ASTFlags, BinaryExpr, Dynamic, Engine, Expr, FnCallExpr, GlobalRuntimeState, NativeCallContext, Position,
    Scope, Stmt,
};

use super::{Call, Form, MAX_ARGUMENTS, PRINTER, Part, Quick};
use crate::engine::natives::{BuiltIns, GLOBAL, PROPERTY};
use crate::engine::reach::{built_in, is_native};
use crate::engine::variables::OLD_VARIABLES;

/// Functions that make the same of the same texts at all times, and values that nothing changes.
const CONSTRUCTORS: [&str; 9] =
    ["address", "code", "fqdn", "identifier", "ip4", "ip6", "regex", "rg4", "rg6"];

/// What must be known of the script.
pub(in crate::engine) struct Maker<'a> {
    pub engine: &'a Engine,
    pub environment: &'a GlobalRuntimeState,
    pub built_ins: &'a BuiltIns,
    /// Captured variables, if the body leaves them as they are.
    pub captured: Option<&'a Scope<'static>>,
}

impl Maker<'_> {
    /// The expression as it is evaluated best.
    pub fn quick(&self, expression: &Expr) -> Quick {
        self.own(expression).unwrap_or_else(|| Quick::Walk(expression.clone()))
    }

    /// `None`: it is Rhai's.
    fn own(&self, expression: &Expr) -> Option<Quick> {
        match expression {
            Expr::BoolConstant(..)
            | Expr::IntegerConstant(..)
            | Expr::StringConstant(..)
            | Expr::DynamicConstant(..)
            | Expr::Unit(_) => expression.get_literal_value(None).map(Quick::Constant),
            Expr::Array(items, _) if items.iter().all(Expr::is_constant) => {
                expression.get_literal_value(None).map(Quick::Constant)
            }
            Expr::Variable(..) => self.captured(expression).map(Quick::Constant),
            Expr::FnCall(call, position) => self.call(call, expression, *position),
            Expr::Dot(sides, flags, _) if !flags.intersects(ASTFlags::NEGATED) => {
                self.of_value(sides, expression)
            }
            Expr::And(all, _) => Some(Quick::All(self.each(all))),
            Expr::Or(any, _) => Some(Quick::Any(self.each(any))),
            Expr::InterpolatedString(parts, _) => Some(Quick::Text(self.parts(parts))),
            Expr::Stmt(block) => match block.statements() {
                [Stmt::Expr(alone)] => self.own(alone),
                [Stmt::FnCall(call, position)] => {
                    self.call(call, &Expr::FnCall(call.clone(), *position), *position)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn each(&self, expressions: &[Expr]) -> Vec<(Quick, Position)> {
        expressions.iter().map(|one| (self.quick(one), one.position())).collect()
    }

    fn parts(&self, expressions: &[Expr]) -> Vec<Part> {
        let printers = self.built_ins.natives.find(GLOBAL, PRINTER, 1);
        let part = |one: &Expr| Part {
            value: self.quick(one),
            position: one.position(),
            printers: printers.clone(),
        };
        expressions.iter().map(part).collect()
    }

    /// The value of a captured variable. Nothing hides it: what declares variables is Rhai's as a whole.
    fn captured(&self, expression: &Expr) -> Option<Dynamic> {
        let Expr::Variable(variable, ..) = expression else { return None };
        let may_be = variable.2.is_empty() && !OLD_VARIABLES.contains(&variable.1.as_str());
        let value = self.captured.filter(|_| may_be)?.get(&variable.1)?;
        (!value.is_read_only() && !value.is_shared()).then(|| value.clone())
    }

    fn call(&self, call: &FnCallExpr, written: &Expr, position: Position) -> Option<Quick> {
        let arguments = call.args.len();
        if call.capture_parent_scope || arguments > MAX_ARGUMENTS {
            return None;
        }
        let form = match (call.name.as_str(), arguments, call.is_operator_call()) {
            ("==", 2, true) => Form::Equality { of_equal: true },
            ("!=", 2, true) => Form::Equality { of_equal: false },
            ("!", 1, true) => Form::Not,
            // Of `!in`.
            ("contains", 2, true) => Form::Function,
            (_, _, true) => return None,
            (..) => Form::Function,
        };
        let module = if call.namespace.is_empty() {
            if form == Form::Function && !is_native(call, self.environment) {
                return None;
            }
            None
        } else {
            Some(built_in(&call.namespace, self.environment, &self.built_ins.modules)?)
        };
        let found = self.built_ins.natives.find(module.unwrap_or(GLOBAL), &call.name, arguments);
        let overloads = match form {
            Form::Function => found?,
            _ => found.unwrap_or_default(),
        };
        // A variable would be handed over itself, not as a copy.
        let has_variable = |one: &Expr| matches!(one, Expr::Variable(..) | Expr::ThisPtr(_));
        let arguments: Vec<Quick> = call.args.iter().map(|one| self.quick(one)).collect();
        let is_handed = form == Form::Function
            && call.args.first().is_some_and(has_variable)
            && matches!(arguments.first(), Some(Quick::Walk(_)));
        if is_handed {
            return None;
        }
        let name = call.name.clone();
        let call = Call { form, overloads, arguments, name, module, position, written: written.clone() };
        Some(self.folded(call))
    }

    /// A property or a method of a value.
    fn of_value(&self, sides: &BinaryExpr, written: &Expr) -> Option<Quick> {
        let is_variable = matches!(sides.lhs, Expr::Variable(..) | Expr::ThisPtr(_));
        let value = self.quick(&sides.lhs);
        if is_variable && matches!(value, Quick::Walk(_)) {
            return None;
        }
        let mut arguments = vec![value];
        let (form, name, module, position) = match &sides.rhs {
            Expr::Property(property, position) => (Form::Property, &property.2, PROPERTY, *position),
            Expr::MethodCall(call, position) => {
                if !is_native(call, self.environment) || call.args.len() >= MAX_ARGUMENTS {
                    return None;
                }
                arguments.extend(call.args.iter().map(|one| self.quick(one)));
                (Form::Method, &call.name, GLOBAL, *position)
            }
            _ => return None,
        };
        let overloads = self.built_ins.natives.find(module, name, arguments.len())?;
        let (name, written) = (name.clone(), written.clone());
        Some(Quick::Call(Box::new(Call {
            form,
            overloads,
            arguments,
            name,
            module: None,
            position,
            written,
        })))
    }

    /// A constructor of constants is a constant, unless it fails.
    fn folded(&self, call: Call) -> Quick {
        let constants: Option<Vec<Dynamic>> = call
            .arguments
            .iter()
            .map(|one| if let Quick::Constant(value) = one { Some(value.clone()) } else { None })
            .collect();
        let is_constructor =
            call.module.is_none_or(|module| module == "obj") && CONSTRUCTORS.contains(&call.name.as_str());
        let (Some(mut values), true) = (constants, is_constructor) else {
            return Quick::Call(Box::new(call));
        };
        let made = call.overloads.iter().find(|native| native.takes(&values)).map(|native| {
            let context = NativeCallContext::new_with_all_fields(
                self.engine,
                &call.name,
                call.module,
                self.environment,
                call.position,
            );
            native.call(context, &mut values.iter_mut().collect::<Vec<_>>())
        });
        match made {
            Some(Ok(value)) => Quick::Constant(value),
            _ => Quick::Call(Box::new(call)),
        }
    }
}
