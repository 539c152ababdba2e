//! Expressions that a plan evaluates itself: calls of our own functions, comparisons, truth values, texts with values in them.
//! Rhai looks for a function anew at each call, by a hash of its name and of its arguments' types; here it is known.
//!
//! The result must be Rhai's, errors and their places included. What is not known to be one of our functions for just these
//! types is handed to Rhai with its operands evaluated, so that nothing is ever done twice.

use std::any::type_name;

use rhai::{
    Dynamic, Engine, EvalAltResult, EvalContext, Expr, Expression, FnCallExpr, ImmutableString,
    NativeCallContext, Position,
};

use super::natives::Overloads;

mod make;

pub(super) use make::Maker;

/// Most arguments, the value of a method among them.
pub(super) const MAX_ARGUMENTS: usize = 3;

type Outcome = Result<Dynamic, Box<EvalAltResult>>;

/// An expression.
#[derive(Debug, Clone)]
pub(super) enum Quick {
    /// Always the same.
    Constant(Dynamic),
    /// A function, a method, a property or an operator.
    Call(Box<Call>),
    /// The first that does not hold makes it false.
    All(Vec<(Quick, Position)>),
    /// The first that holds makes it true.
    Any(Vec<(Quick, Position)>),
    /// Values one after the other, as they print.
    Text(Vec<Part>),
    /// What Rhai makes of it.
    Walk(Expr),
}

/// A part of a text.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub value: Quick,
    pub position: Position,
    /// How values of our own types print.
    pub printers: Option<Overloads>,
}

/// A call of something.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub form: Form,
    /// Our own functions of that name.
    pub overloads: Overloads,
    /// The value of a method or property comes first.
    pub arguments: Vec<Quick>,
    pub name: ImmutableString,
    /// The module, if one is named.
    pub module: Option<&'static str>,
    pub position: Position,
    /// As it is written; its operands may be replaced.
    pub written: Expr,
}

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A function, arguments in order.
    Function,
    /// A method: its arguments are evaluated before the value.
    Method,
    /// A property.
    Property,
    /// `==` or `!=`.
    Equality {
        /// It holds of two equal values.
        of_equal: bool,
    },
    /// `!`.
    Not,
}

impl Quick {
    /// Evaluates it.
    pub fn value(&self, context: &mut EvalContext<'_, '_, '_, '_, '_, '_>) -> Outcome {
        match self {
            Quick::Constant(value) => Ok(value.clone()),
            Quick::Call(call) => call.value(context),
            Quick::All(all) => truth(all, false, context),
            Quick::Any(any) => truth(any, true, context),
            Quick::Text(parts) => text(parts, context),
            Quick::Walk(expression) => walk(expression, context),
        }
    }

    /// Evaluates a condition.
    pub fn holds(
        &self,
        position: Position,
        context: &mut EvalContext<'_, '_, '_, '_, '_, '_>,
    ) -> Result<bool, Box<EvalAltResult>> {
        let value = self.value(context)?;
        value.as_bool().map_err(|found| no_condition(context.engine(), found, position))
    }

    /// How many expressions within it Rhai evaluates.
    #[cfg(test)]
    pub fn left_to_rhai(&self) -> usize {
        match self {
            Quick::Walk(_) => 1,
            Quick::Constant(_) => 0,
            Quick::Call(call) => call.arguments.iter().map(Quick::left_to_rhai).sum(),
            Quick::All(all) | Quick::Any(all) => all.iter().map(|(one, _)| one.left_to_rhai()).sum(),
            Quick::Text(parts) => parts.iter().map(|part| part.value.left_to_rhai()).sum(),
        }
    }
}

impl Call {
    fn value(&self, context: &mut EvalContext<'_, '_, '_, '_, '_, '_>) -> Outcome {
        match self.arguments.as_slice() {
            [] => self.of(&mut [], context),
            [a] => {
                let a = a.value(context)?;
                self.of(&mut [a], context)
            }
            // The arguments of a method come before its value.
            [a, b] if self.form == Form::Method => {
                let b = b.value(context)?;
                let a = a.value(context)?;
                self.of(&mut [a, b], context)
            }
            [a, b] => {
                let a = a.value(context)?;
                let b = b.value(context)?;
                self.of(&mut [a, b], context)
            }
            [a, b, c, ..] if self.form == Form::Method => {
                let b = b.value(context)?;
                let c = c.value(context)?;
                let a = a.value(context)?;
                self.of(&mut [a, b, c], context)
            }
            [a, b, c, ..] => {
                let a = a.value(context)?;
                let b = b.value(context)?;
                let c = c.value(context)?;
                self.of(&mut [a, b, c], context)
            }
        }
    }

    /// The value for these operands.
    fn of(&self, values: &mut [Dynamic], context: &mut EvalContext<'_, '_, '_, '_, '_, '_>) -> Outcome {
        if let Some(known) = self.known(values) {
            return Ok(known);
        }
        // A map may have a function of that name in it.
        let is_ours = self.form != Form::Method || values.first().is_none_or(|value| !value.is_map());
        match self.overloads.iter().find(|native| is_ours && native.takes(values)) {
            Some(native) => {
                let engine = context.engine();
                let global = context.global_runtime_state();
                let context = NativeCallContext::new_with_all_fields(
                    engine,
                    &self.name,
                    self.module,
                    global,
                    self.position,
                );
                let result = match values {
                    [] => native.call(context, &mut []),
                    [a] => native.call(context, &mut [a]),
                    [a, b] => native.call(context, &mut [a, b]),
                    [a, b, c, ..] => native.call(context, &mut [a, b, c]),
                };
                result
                    .map_err(|error| self.placed(error))
                    .and_then(|value| sized(engine, value, self.position))
            }
            None => walk(&self.with(values), context),
        }
    }

    /// What needs no function.
    fn known(&self, values: &[Dynamic]) -> Option<Dynamic> {
        match (self.form, values) {
            (Form::Equality { of_equal }, [a, b]) => {
                let are_equal = if a.is_string() && b.is_string() {
                    *a.as_immutable_string_ref().ok()? == *b.as_immutable_string_ref().ok()?
                } else if a.is_int() && b.is_int() {
                    a.as_int().ok()? == b.as_int().ok()?
                } else if a.is_bool() && b.is_bool() {
                    a.as_bool().ok()? == b.as_bool().ok()?
                } else {
                    return None;
                };
                Some(Dynamic::from(are_equal == of_equal))
            }
            (Form::Not, [value]) => value.as_bool().ok().map(|holds| Dynamic::from(!holds)),
            _ => None,
        }
    }

    /// Rhai fills in where an error has happened only where no module is named.
    fn placed(&self, mut error: Box<EvalAltResult>) -> Box<EvalAltResult> {
        if self.module.is_none() && error.position().is_none() {
            error.set_position(self.position);
        }
        error
    }

    /// As it is written, with operands that are evaluated.
    fn with(&self, values: &mut [Dynamic]) -> Expr {
        let mut written = self.written.clone();
        match &mut written {
            Expr::FnCall(call, _) => fill(call, values),
            Expr::Dot(sides, ..) => {
                if let Some((value, rest)) = values.split_first_mut() {
                    put(&mut sides.lhs, value);
                    if let Expr::MethodCall(call, _) = &mut sides.rhs {
                        fill(call, rest);
                    }
                }
            }
            _ => {}
        }
        written
    }
}

fn fill(call: &mut FnCallExpr, values: &mut [Dynamic]) {
    call.args.iter_mut().zip(values).for_each(|(place, value)| put(place, value));
}

fn put(place: &mut Expr, value: &mut Dynamic) {
    *place = Expr::DynamicConstant(Box::new(std::mem::take(value)), place.start_position());
}

fn walk(expression: &Expr, context: &mut EvalContext<'_, '_, '_, '_, '_, '_>) -> Outcome {
    context.eval_expression_tree(&Expression::from(expression)).map(Dynamic::flatten)
}

/// `&&` stops at what is false, `||` at what is true.
fn truth(
    all: &[(Quick, Position)],
    stop: bool,
    context: &mut EvalContext<'_, '_, '_, '_, '_, '_>,
) -> Outcome {
    for (one, position) in all {
        if one.holds(*position, context)? == stop {
            return Ok(Dynamic::from(stop));
        }
    }
    Ok(Dynamic::from(!stop))
}

fn text(parts: &[Part], context: &mut EvalContext<'_, '_, '_, '_, '_, '_>) -> Outcome {
    if let [part] = parts {
        let alone = Dynamic::from(printed(part, context)?);
        return sized(context.engine(), alone, part.position);
    }
    let mut whole = String::new();
    for part in parts {
        whole.push_str(&printed(part, context)?);
        let longest = context.engine().max_string_size();
        if longest > 0 && whole.len() > longest {
            return sized(context.engine(), Dynamic::from(whole), part.position);
        }
    }
    Ok(Dynamic::from(whole))
}

/// A value, unless it is larger than scripts may have it.
fn sized(engine: &Engine, value: Dynamic, position: Position) -> Outcome {
    let longest = engine.max_string_size();
    let is_short = match value.as_immutable_string_ref() {
        Ok(text) => longest == 0 || text.len() <= longest,
        Err(_) => !(value.is_array() || value.is_map() || value.is_blob()),
    };
    if is_short {
        return Ok(value);
    }
    engine.ensure_data_size_within_limits(&value).map_err(|mut error| {
        error.set_position(position);
        error
    })?;
    Ok(value)
}

/// A part as it prints.
fn printed(
    part: &Part,
    context: &mut EvalContext<'_, '_, '_, '_, '_, '_>,
) -> Result<ImmutableString, Box<EvalAltResult>> {
    let value = part.value.value(context)?;
    let mut values = [value];
    if !values[0].is_string() {
        let printer = part.printers.iter().flat_map(|all| all.iter()).find(|one| one.takes(&values));
        let printed = printer.map(|printer| {
            let (engine, global) = (context.engine(), context.global_runtime_state());
            let call = NativeCallContext::new_with_all_fields(engine, PRINTER, None, global, part.position);
            printer.call(call, &mut [&mut values[0]])
        });
        values[0] = match printed {
            Some(Ok(text)) if text.is_string() => text,
            // Of what does not print, Rhai says what it is.
            _ => {
                let value = Expr::DynamicConstant(Box::new(std::mem::take(&mut values[0])), part.position);
                let alone = Expr::InterpolatedString([value].into_iter().collect(), part.position);
                walk(&alone, context)?
            }
        };
    }
    let [text] = values;
    text.into_immutable_string().map_err(|found| no_condition(context.engine(), found, part.position))
}

/// The function by which values print.
pub(super) const PRINTER: &str = "to_string";

/// What Rhai says of a condition that is neither true nor false.
fn no_condition(engine: &Engine, found: &str, place: Position) -> Box<EvalAltResult> {
    let wanted = engine.map_type_name(type_name::<bool>()).to_owned();
    Box::new(EvalAltResult::ErrorMismatchDataType(wanted, found.to_owned(), place))
}
