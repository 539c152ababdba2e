//! Values that vSMTP had as strings or arrays, where their methods were those of strings and arrays: domains, and what a file
//! holds.

use rhai::{Array, Dynamic, EvalAltResult, FnPtr, ImmutableString, NativeCallContext};

use super::registry::{Form, Registry, name, raise};
use crate::object::{Fault, Object};

type Given = Result<Dynamic, Box<EvalAltResult>>;

/// Methods of strings, none of which changes one.
const WITHOUT_ARGUMENT: [&str; 2] = ["to_lower", "to_upper"];
const WITH_TEXT: [&str; 4] = ["ends_with", "index_of", "split", "starts_with"];
/// Methods of arrays that take a closure and leave the array as it is.
const WITH_CLOSURE: [&str; 6] = ["all", "filter", "find", "index_of", "map", "some"];

pub(super) fn register(registry: &mut Registry) {
    let of_text = name("obj", "ends_with", &[])
        .doc("(part: string) -> bool", "A domain or an identifier has methods of strings: `starts_with`, `ends_with`, `index_of`, `split`, `sub_string`, `to_lower`, `to_upper`; `part in domain` looks for a part of it in any case of letters.")
        .errors("of other values")
        .example("let domain = address(\"john@mx.Example.com\").domain; domain.ends_with(\".com\") && domain.to_upper() == \"MX.EXAMPLE.COM\" && \"example\" in domain && domain.split(\".\").len() == 3");
    registry.row(Form::Method, of_text, 1, None);
    let of_members = name("obj", "filter", &[])
        .doc("(test: closure) -> array", "A group or a file has methods of arrays that take a closure: `all`, `filter`, `find`, `index_of`, `map`, `some`.")
        .errors("of other values")
        .example("group([\"a\", \"b\"]).filter(|x| x != \"a\").len() == 1 && group([\"a\"]).some(|x| x == \"a\")");
    registry.row(Form::Method, of_members, 1, None);
    let engine = &mut *registry.engine;
    for method in WITHOUT_ARGUMENT {
        engine.register_fn(method, move |context: NativeCallContext, object: &mut Object| {
            of_string(&context, method, object, [])
        });
    }
    for method in WITH_TEXT {
        engine.register_fn(
            method,
            move |context: NativeCallContext, object: &mut Object, text: ImmutableString| {
                of_string(&context, method, object, [Dynamic::from(text)])
            },
        );
    }
    engine.register_fn("sub_string", |context: NativeCallContext, object: &mut Object, from: i64| {
        of_string(&context, "sub_string", object, [Dynamic::from(from)])
    });
    engine.register_fn(
        "sub_string",
        |context: NativeCallContext, object: &mut Object, from: i64, length: i64| {
            of_string(&context, "sub_string", object, [Dynamic::from(from), Dynamic::from(length)])
        },
    );
    for method in WITH_CLOSURE {
        engine.register_fn(method, move |context: NativeCallContext, object: &mut Object, closure: FnPtr| {
            let Some(items) = object.members() else { return Err(has_none(&context, method, object)) };
            let items: Array = items.iter().cloned().map(Dynamic::from).collect();
            let (mut items, mut closure) = (Dynamic::from(items), Dynamic::from(closure));
            context.call_native_fn_raw(method, true, &mut [&mut items, &mut closure])
        });
    }
}

/// What stands for a value that was a string.
pub(super) fn text(object: &Object) -> Option<ImmutableString> {
    matches!(object, Object::Fqdn(_) | Object::Identifier(_)).then(|| object.text())
}

/// A method of strings.
fn of_string<const N: usize>(
    context: &NativeCallContext,
    method: &'static str,
    object: &Object,
    mut arguments: [Dynamic; N],
) -> Given {
    let text = text(object).ok_or_else(|| has_none(context, method, object))?;
    let mut text = Dynamic::from(text);
    let mut all: Vec<&mut Dynamic> = std::iter::once(&mut text).chain(arguments.iter_mut()).collect();
    context.call_native_fn_raw(method, true, &mut all)
}

fn has_none(context: &NativeCallContext, method: &str, object: &Object) -> Box<EvalAltResult> {
    raise(context, Fault(format!("a {} has no method {method}", object.kind())))
}
