//! Calls that are not allowed at their stage, and directives that can never run.

use crate::api::{Form, Function};
use crate::engine::{Call, LoadedScript, ScriptError};
use crate::stage::Stage;

/// What is wrong with the directives of a script.
pub fn problems(table: &[Function], script: &LoadedScript) -> Vec<ScriptError> {
    let mut found = Vec::new();
    for stage in Stage::ALL {
        let mut ended: Option<&str> = None;
        for directive in script.stage(stage) {
            if let Some(by) = ended {
                let message = format!("this {} never runs at the stage '{stage}'", directive.kind.name());
                let hint = format!("'{by}' before it always ends the stage");
                found.push(ScriptError::at(directive.location.clone(), message).with_hint(hint));
                continue;
            }
            let reach = directive.reach();
            found.extend(reach.calls.iter().filter_map(|call| too_early(table, call, stage)));
            if reach.always_ends {
                ended = Some(&directive.name);
            }
        }
    }
    found
}

/// A call that throws because its stage comes later. What a script catches, it knows of.
fn too_early(table: &[Function], call: &Call, stage: Stage) -> Option<ScriptError> {
    if call.is_caught || call.is_method {
        return None;
    }
    let is_called = |row: &&Function| {
        let named = match call.module.as_deref() {
            Some(module) => row.module == module && row.name == call.name,
            None => {
                row.global.contains(&call.name.as_str()) || row.module.is_empty() && row.name == call.name
            }
        };
        named && matches!(row.form, Form::Function | Form::Alias) && row.arguments == call.arguments.len()
    };
    // `None` is before all stages: of several forms the one that may be called first counts.
    let from = table.iter().filter(is_called).map(|row| row.from).min()??;
    (stage < from).then(|| {
        let name = call
            .module
            .as_ref()
            .map_or_else(|| call.name.clone(), |module| format!("{module}::{}", call.name));
        let message = format!("{name} is available from the stage '{from}' on, not at '{stage}'");
        ScriptError::at(call.place.clone(), message)
            .with_hint(format!("move the rule to '{from}', or to a later stage"))
    })
}
