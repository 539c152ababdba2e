//! Calls that no function answers, and constants that no function takes.

use crate::engine::{Call, ScriptError, Signatures, Survey, nearest};

/// What is wrong with the calls of one file. Names in modules are not looked at: loading refuses those.
pub fn problems(signatures: &Signatures, survey: &Survey) -> Vec<ScriptError> {
    let others = survey.calls.iter().filter(|call| !survey.has(call));
    others.filter_map(|call| of_call(signatures, survey, call)).collect()
}

fn of_call(signatures: &Signatures, survey: &Survey, call: &Call) -> Option<ScriptError> {
    let module = call.module.as_deref().unwrap_or_default();
    let given = call.arguments.len() + usize::from(call.is_method);
    let known = signatures.arities(module, &call.name);
    if known.contains(&given) {
        return if call.is_method { None } else { unfit(signatures, module, call) };
    }
    if call.module.is_some() {
        return None;
    }
    let own = survey.arities(&call.name);
    let hidden = usize::from(call.is_method);
    let mut counts: Vec<usize> =
        known.iter().filter_map(|count| count.checked_sub(hidden)).chain(own).collect();
    counts.sort_unstable();
    counts.dedup();
    if counts.is_empty() {
        let what = if call.is_method { "method" } else { "function" };
        let error = ScriptError::at(call.place.clone(), format!("there is no {what} {}", call.name));
        return Some(match nearest(&call.name, signatures.globals()) {
            Some(nearest) => error.with_hint(format!("did you mean {nearest}?")),
            None => error,
        });
    }
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    let message =
        format!("{} takes {} arguments, not {}", call.name, counts.join(" or "), call.arguments.len());
    Some(ScriptError::at(call.place.clone(), message))
}

fn unfit(signatures: &Signatures, module: &str, call: &Call) -> Option<ScriptError> {
    let at = signatures.unfit(module, &call.name, &call.arguments)?;
    let kind = call.arguments.get(at)?;
    let name = if module.is_empty() { call.name.clone() } else { format!("{module}::{}", call.name) };
    let message = format!("{name} takes no {} as its argument {}", kind.name(), at + 1);
    let error = ScriptError::at(call.place.clone(), message);
    let page = if module.is_empty() { "globals" } else { module };
    Some(error.with_hint(format!("docs/vsl/{page}.md says what it takes")))
}
