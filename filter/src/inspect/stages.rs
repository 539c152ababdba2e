//! Calls that are not allowed at their stage, directives that can never run, and rules that may end without a status.

use crate::api::{Form, Function};
use rhai::Position;

use crate::engine::{Call, Directive, Gap, Known, LoadedScript, ScriptError, Why};
use crate::judge::Ground;
use crate::stage::Stage;

/// What the reference calls the type of what rules end in.
pub(super) const STATUS: &str = "status";

/// What is wrong with the directives of a script.
pub fn problems(ground: &Ground, script: &LoadedScript) -> Vec<ScriptError> {
    let table = &ground.table;
    let import = |path: &str| {
        // What is wrong with it is told of where it is imported.
        ground.engine.module_resolver().resolve(&ground.engine, None, path, Position::NONE).ok()
    };
    let known = Known { gives: &|call: &Call| gives(table, call), import: &import };
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
            let reach = directive.reach(&known);
            found.extend(reach.calls.iter().filter_map(|call| out_of_stage(table, call, stage)));
            found.extend(reach.gaps.into_iter().map(|gap| no_status(directive, gap)));
            if reach.always_ends {
                ended = Some(&directive.name);
            }
        }
    }
    found
}

/// What is said of a rule that may end without a status.
fn no_status(directive: &Directive, gap: Gap) -> ScriptError {
    let Gap { place, why } = gap;
    let place = if place.line == 0 { directive.location.clone() } else { place };
    let start = format!("{} '{}' can end without a status", directive.kind.name(), directive.name);
    let (what, hint) = match why {
        Why::NoElse => ("this 'if' has no 'else'".to_owned(), "add else { state::next() }"),
        Why::NoDefault => ("this 'switch' says nothing of other values".to_owned(), "add _ => state::next()"),
        Why::Loop => ("nothing is said when this loop is over".to_owned(), "put state::next() behind it"),
        Why::Catch => (
            "the value of a 'catch' is lost".to_owned(),
            "write catch { return state::next(); }, or put a status behind it",
        ),
        Why::Gives(what) => (format!("this gives {what}"), "make state::next() the last statement"),
        Why::Function(name, inner) => {
            (format!("{name}() may give none, at {}", inner.place), "give a status on each of its paths")
        }
    };
    ScriptError::at(place, format!("{start}: {what}")).with_hint(hint)
}

/// What a function of vSL gives, if it gives no status.
fn gives<'a>(table: &'a [Function], call: &Call) -> Option<&'a str> {
    let results = result_of(table, call)?;
    results.first().copied().filter(|_| !results.contains(&STATUS))
}

/// The types that a function of vSL may give; `None` if there is none of that name, or the reference does not say.
pub(super) fn result_of<'a>(table: &'a [Function], call: &Call) -> Option<Vec<&'a str>> {
    let rows = table.iter().filter(|row| is_called(row, call) && !call.is_method);
    let results: Vec<&str> = rows.map(result).collect::<Option<_>>()?;
    (!results.is_empty()).then_some(results)
}

/// The type that the reference names; `None` if it does not speak of the function.
fn result(row: &Function) -> Option<&str> {
    let signature = row.doc.signature;
    (!signature.is_empty()).then(|| signature.rsplit_once("-> ").map_or("()", |(_, result)| result))
}

fn is_called(row: &Function, call: &Call) -> bool {
    let named = match call.module.as_deref() {
        Some(module) => row.module == module && row.name == call.name,
        None => row.global.contains(&call.name.as_str()) || row.module.is_empty() && row.name == call.name,
    };
    named && matches!(row.form, Form::Function | Form::Alias) && row.arguments == call.arguments.len()
}

/// A call that throws because its stage comes later, or is over. What a script catches, it knows of.
fn out_of_stage(table: &[Function], call: &Call, stage: Stage) -> Option<ScriptError> {
    if call.is_caught || call.is_method {
        return None;
    }
    let name =
        call.module.as_ref().map_or_else(|| call.name.clone(), |module| format!("{module}::{}", call.name));
    let rows: Vec<&Function> = table.iter().filter(|row| is_called(row, call)).collect();
    // `None` is before all stages: of several forms the one that may be called first counts, and the one that may be last.
    let from = rows.iter().map(|row| row.from).min()??;
    if stage < from {
        let message = format!("{name} is available from the stage '{from}' on, not at '{stage}'");
        let hint = format!("move the rule to '{from}', or to a later stage");
        return Some(ScriptError::at(call.place.clone(), message).with_hint(hint));
    }
    let until = rows.iter().map(|row| row.until).collect::<Option<Vec<_>>>()?.into_iter().max()?;
    (stage > until).then(|| {
        let message = format!("{name} is available up to the stage '{until}', not at '{stage}'");
        let hint = format!(
            "move the rule to '{until}'{}",
            if from < until { ", or to an earlier stage" } else { "" }
        );
        ScriptError::at(call.place.clone(), message).with_hint(hint)
    })
}
