//! Conditions that are neither true nor false: a rule that comes to one fails.

use crate::api::Function;
use crate::engine::{Call, ScriptError, Survey};

use super::stages::{STATUS, result_of};

/// The only type that a condition may have.
const BOOL: &str = "bool";

/// What is wrong with the conditions of one file, as far as the reference says what they give.
pub fn problems(table: &[Function], survey: &Survey, conditions: &[Call]) -> Vec<ScriptError> {
    let others = conditions.iter().filter(|call| !survey.has(call) && call.inner.is_empty());
    others.filter_map(|call| of_call(table, call)).collect()
}

fn of_call(table: &[Function], call: &Call) -> Option<ScriptError> {
    let given = result_of(table, call).filter(|results| !results.contains(&BOOL))?;
    let given = given.first()?;
    let name =
        call.module.as_ref().map_or_else(|| call.name.clone(), |module| format!("{module}::{}", call.name));
    let what = if *given == "()" { "nothing" } else { given };
    let message = format!("a condition must be true or false: {name} gives {what}");
    let hint = if *given == STATUS { "compare it: == state::next()" } else { "compare it with something" };
    Some(ScriptError::at(call.place.clone(), message).with_hint(hint))
}
