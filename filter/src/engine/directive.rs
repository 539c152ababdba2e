//! `rule`, `action`, `delegate`: the custom syntax, and what it evaluates to. A directive keeps the environment it was written in
//! (imports, functions, constants, captured variables), so that calling it evaluates its body and nothing else.

use std::sync::Arc;

use rhai::{
    Dynamic, Engine, EvalAltResult, EvalContext, Expression, FnPtr, GlobalRuntimeState, ImmutableString,
    LexError, Map, ParseError, Position,
};

use vsmtp_mail::MAX_DELEGATE_NAME;

use super::body::{Body, NoBody};
use super::error::Location;
use super::unshared::Endless;
use crate::service::SmtpService;
use crate::typename;

/// What a directive may do to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectiveKind {
    /// Returns a status.
    Rule,
    /// Returns nothing that counts.
    Action,
    /// Has a service see the message first; then as a rule.
    Delegate,
    /// Tries rules; in scripts of tests only.
    Test,
}

impl DirectiveKind {
    const ALL: [DirectiveKind; 3] = [DirectiveKind::Rule, DirectiveKind::Action, DirectiveKind::Delegate];

    /// The keyword.
    pub const fn name(self) -> &'static str {
        match self {
            DirectiveKind::Rule => "rule",
            DirectiveKind::Action => "action",
            DirectiveKind::Delegate => "delegate",
            DirectiveKind::Test => "test",
        }
    }
}

/// One directive, ready to be called.
#[derive(Debug)]
pub struct Directive {
    /// What it may do.
    pub kind: DirectiveKind,
    /// Its name; unique within a script.
    pub name: ImmutableString,
    /// Where it stands.
    pub location: Location,
    /// Who sees the message before the body runs, if it delegates.
    pub service: Option<Arc<SmtpService>>,
    /// What it does.
    pub(super) body: Body,
}

/// The value of a directive inside a script.
pub(super) type DirectiveValue = Arc<Directive>;

pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<DirectiveValue>("directive");
    for kind in DirectiveKind::ALL {
        engine.register_custom_syntax_with_state_raw(
            kind.name(),
            move |symbols, ahead, _| parse(kind, symbols, ahead),
            false,
            move |context, inputs, _| evaluate(kind, context, inputs),
        );
    }
}

/// Makes `test "name" || { ... }` known: a statement that hands the test to `found`.
pub fn register_tests(engine: &mut Engine, found: impl Fn(Arc<Directive>) + Send + Sync + 'static) {
    let kind = DirectiveKind::Test;
    engine.register_custom_syntax_with_state_raw(
        kind.name(),
        move |symbols, ahead, _| parse(kind, symbols, ahead),
        false,
        move |context, inputs, _| {
            if let Some(test) = evaluate(kind, context, inputs)?.try_cast::<DirectiveValue>() {
                found(test);
            }
            Ok(Dynamic::UNIT)
        },
    );
}

/// `keyword "name" BODY`, where BODY is a closure, a block, a map, or an expression that yields one of them; a delegate has
/// its service before the name.
fn parse(
    kind: DirectiveKind,
    symbols: &[ImmutableString],
    ahead: &str,
) -> Result<Option<ImmutableString>, ParseError> {
    let has_service = kind == DirectiveKind::Delegate;
    match symbols.len() - usize::from(has_service) {
        0 => match ahead {
            "||" | "|" | "{" | "#{" | "{EOF}" => Err(no_service()),
            _ => Ok(Some("$expr$".into())),
        },
        1 => Ok(Some("$string$".into())),
        2 => match ahead {
            "||" | "|" | "{" => Ok(Some("$func$".into())),
            ";" | "," | "]" | "}" | ")" | "{EOF}" => Err(LexError::ImproperSymbol(
                ahead.to_owned(),
                format!("{} needs a body: || {{ ... }} or #{{ evaluate: || ... }}", kind.name()),
            )
            .into_err(Position::NONE)),
            _ => Ok(Some("$expr$".into())),
        },
        _ => Ok(None),
    }
}

fn no_service() -> ParseError {
    let form = "delegate needs a service and a name: delegate SERVICE \"name\" || { ... }";
    LexError::ImproperSymbol("delegate".to_owned(), form.to_owned()).into_err(Position::NONE)
}

fn evaluate(
    kind: DirectiveKind,
    context: &mut EvalContext,
    inputs: &[Expression],
) -> Result<Dynamic, Box<EvalAltResult>> {
    let (service, inputs) = match inputs {
        [service, rest @ ..] if kind == DirectiveKind::Delegate => (Some(service), rest),
        all => (None, all),
    };
    let place = service.map_or(Position::NONE, Expression::position);
    let service = service.map(|service| context.eval_expression_tree(service)).transpose()?;
    let [name, body] = inputs else { return Err(refuse(Position::NONE, "malformed directive".to_owned())) };
    let position = name.position();
    let name: ImmutableString = name.get_string_value().unwrap_or_default().into();
    let service = service.map(|value| service_of(&name, value)).transpose();
    let service = service.map_err(|message| refuse(place, message))?;
    let value = context.eval_expression_tree(body)?;
    let pointer = function_of(kind, &name, value).map_err(|message| refuse(body.position(), message))?;
    let environment = environment_of(context);
    let file = environment.source.as_deref().map(super::resolver::file_name).unwrap_or_default();
    let body = Body::new(pointer, environment).map_err(|no_body| {
        let message = match no_body {
            NoBody::Parameters => {
                format!("the body of {} '{name}' must be a closure without parameters", kind.name())
            }
            NoBody::Endless => Endless::MESSAGE.to_owned(),
        };
        refuse(body.position(), message)
    })?;
    let directive = Directive { kind, location: Location::new(&file, position), name, service, body };
    Ok(Dynamic::from(Arc::new(directive)))
}

fn refuse(position: Position, message: String) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(message.into(), position))
}

fn service_of(name: &str, value: Dynamic) -> Result<Arc<SmtpService>, String> {
    let found = typename::of(&value);
    if name.len() > MAX_DELEGATE_NAME || name.chars().any(char::is_control) {
        return Err(format!("the name of a delegate has at most {MAX_DELEGATE_NAME} octets on one line"));
    }
    let wrong = format!("delegate '{name}' needs a service made by smtp::connect(#{{ ... }}), found {found}");
    value.try_cast::<Arc<SmtpService>>().ok_or(wrong)
}

fn function_of(kind: DirectiveKind, name: &str, value: Dynamic) -> Result<FnPtr, String> {
    let keyword = kind.name();
    let value = match value.try_cast_result::<Map>() {
        Ok(mut map) => map.remove("evaluate").ok_or_else(|| {
            format!("the map of {keyword} '{name}' has no 'evaluate' entry: evaluate: || ...")
        })?,
        Err(value) => value,
    };
    let found = typename::of(&value);
    let wrong =
        format!("the body of {keyword} '{name}' must be || ... or #{{ evaluate: || ... }}, found {found}");
    value.try_cast::<FnPtr>().ok_or(wrong)
}

/// The environment of the script that is being evaluated, with its counters at zero.
fn environment_of(context: &EvalContext) -> GlobalRuntimeState {
    let mut environment = context.global_runtime_state().clone();
    environment.num_operations = 0;
    environment.level = 0;
    environment.scope_level = 0;
    environment.always_search_scope = false;
    environment
}
