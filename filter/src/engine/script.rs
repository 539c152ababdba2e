//! A loaded script: its directives by stage, checked once, called many times. A script that does not have the shape of a
//! stage map is refused with file, line, column and advice; nothing is guessed.

use std::collections::HashMap;
use std::sync::Arc;

use rhai::{AST, Array, Dynamic, Engine, EvalAltResult, Expr, Map, Position, Scope, Stmt};

use super::declaration;
use super::directive::{Directive, DirectiveKind, DirectiveValue};
use super::error::{Location, ScriptError};
use super::plan::Outcome;
use super::resolver::{Root, preload};
use super::unshared::Endless;
use crate::stage::Stage;
use crate::status::Status;
use crate::typename;

/// Most directives of one script.
const MAX_DIRECTIVES: usize = 10_000;

/// The directives of each stage, in order.
pub type StageTable = [Vec<Arc<Directive>>; Stage::ALL.len()];

/// A script that is ready to judge.
#[derive(Debug)]
pub struct LoadedScript {
    name: String,
    stages: StageTable,
}

/// What a directive that failed said: never a verdict, the caller decides.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was running.
    pub directive: Arc<Directive>,
    /// What went wrong, and where.
    pub error: ScriptError,
}

impl LoadedScript {
    /// A script without directives: every stage says `next`.
    pub fn empty(name: &str) -> Self {
        LoadedScript { name: name.to_owned(), stages: StageTable::default() }
    }

    /// Its file, relative to the root.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directives of a stage.
    pub fn stage(&self, stage: Stage) -> &[Arc<Directive>] {
        &self.stages[stage.index()]
    }

    /// Directives that give messages to services.
    pub fn delegates(&self) -> impl Iterator<Item = &Arc<Directive>> {
        self.stages.iter().flatten().filter(|directive| directive.service.is_some())
    }

    /// Stages that have directives; the others cost nothing.
    pub fn stages_in_use(&self) -> impl Iterator<Item = Stage> {
        Stage::ALL.into_iter().filter(|stage| !self.stage(*stage).is_empty())
    }
}

impl Directive {
    /// Runs the body. `tag` is what native functions find as their transaction. An action always says `next`.
    pub fn call(self: &Arc<Self>, engine: &Engine, tag: &mut Dynamic) -> Result<Status, Failure> {
        let outcome = self.body.run(engine, tag).map_err(|error| self.failure(&error))?;
        let Outcome::Value(value) = outcome else { return Ok(Status::Next) };
        match self.kind {
            DirectiveKind::Action | DirectiveKind::Test => Ok(Status::Next),
            DirectiveKind::Rule | DirectiveKind::Delegate => {
                value.try_cast_result::<Status>().map_err(|value| {
                    let found = typename::of(&value);
                    let message = format!("a rule must end in a status such as state::next(), found {found}");
                    Failure {
                        directive: Arc::clone(self),
                        error: ScriptError::at(self.location.clone(), message)
                            .with_hint("the value of the last statement is the value of the rule"),
                    }
                })
            }
        }
    }

    /// How many expressions of its plan Rhai evaluates.
    #[cfg(test)]
    pub fn left_to_rhai(&self) -> usize {
        self.body.left_to_rhai()
    }

    fn failure(self: &Arc<Self>, error: &EvalAltResult) -> Failure {
        let mut error = ScriptError::from_eval(&self.location.file, error);
        if error.location.line == 0 {
            error.location = self.location.clone();
        }
        Failure { directive: Arc::clone(self), error }
    }
}

/// Compiles, evaluates once, and checks the shape.
pub(super) fn load(
    engine: &Engine,
    root: &Root,
    name: &str,
    text: &str,
) -> Result<LoadedScript, ScriptError> {
    let (value, places) = evaluate(engine, root, name, text)?;
    let place = Location::new(name, places.last);
    let found = typename::plain(engine.map_type_name(value.type_name()));
    let Some(map) = value.try_cast::<Map>() else {
        return Err(ScriptError::at(place, format!("a script must end in a map of stages, found {found}"))
            .with_hint("for example #{ rcpt: [ rule \"name\" || state::next() ] }"));
    };
    let mut script = LoadedScript::empty(name);
    let mut names = HashMap::new();
    for (key, value) in map {
        let place =
            places.keys.get(key.as_str()).map_or_else(|| place.clone(), |at| Location::new(name, *at));
        let stage = Stage::parse(&key).ok_or_else(|| unknown_stage(&place, &key))?;
        script.stages[stage.index()] = directives(engine, &place, stage, value, &mut names)?;
    }
    for directive in script.stages.iter().flatten() {
        directive
            .body
            .unshare_constants()
            .map_err(|Endless| ScriptError::at(directive.location.clone(), Endless::MESSAGE))?;
    }
    if !root.imports_functions() {
        for directive in script.stages.iter().flatten() {
            directive.body.keep_names();
            directive.body.find(engine, root.built_ins());
        }
    }
    Ok(script)
}

/// Where the last statement of a script stands, and the names in it if it is a map.
pub(super) struct Places {
    last: Position,
    keys: HashMap<String, Position>,
}

impl Places {
    fn of(ast: &AST) -> Self {
        let last = ast.statements().last();
        let map = match last {
            Some(Stmt::Expr(expression)) => Some(&**expression),
            Some(Stmt::Return(Some(expression), ..)) => Some(&**expression),
            _ => None,
        };
        let keys = match map {
            Some(Expr::Map(entries, _)) => {
                entries.0.iter().map(|(key, _)| (key.name.to_string(), key.pos)).collect()
            }
            _ => HashMap::new(),
        };
        Places { last: last.map_or(Position::NONE, Stmt::position), keys }
    }
}

/// Compiles and evaluates: the value, and where it stands.
pub(super) fn evaluate(
    engine: &Engine,
    root: &Root,
    name: &str,
    text: &str,
) -> Result<(Dynamic, Places), ScriptError> {
    let ast = declaration::compile(engine, name, text)?;
    root.check_names(name, &ast)?;
    let eval_error = |error: Box<EvalAltResult>| ScriptError::from_eval(name, &error);
    preload(engine, &ast).map_err(eval_error)?;
    let value: Dynamic = engine.eval_ast_with_scope(&mut Scope::new(), &ast).map_err(eval_error)?;
    Ok((value, Places::of(&ast)))
}

fn unknown_stage(place: &Location, key: &str) -> ScriptError {
    let nearest = Stage::ALL.into_iter().min_by_key(|stage| distance(stage.name(), key));
    let all: Vec<&str> = Stage::ALL.into_iter().map(Stage::name).collect();
    let error = ScriptError::at(place.clone(), format!("the stage '{key}' does not exist"));
    match nearest.filter(|stage| distance(stage.name(), key) <= 2) {
        Some(stage) => error.with_hint(format!("did you mean '{stage}'?")),
        None => error.with_hint(format!("the stages are {}", all.join(", "))),
    }
}

fn directives(
    engine: &Engine,
    place: &Location,
    stage: Stage,
    value: Dynamic,
    names: &mut HashMap<String, Location>,
) -> Result<Vec<Arc<Directive>>, ScriptError> {
    let found = typename::plain(engine.map_type_name(value.type_name()));
    let Some(list) = value.try_cast::<Array>() else {
        return Err(ScriptError::at(
            place.clone(),
            format!("the stage '{stage}' must be a list, found {found}"),
        )
        .with_hint(format!("{stage}: [ rule \"name\" || state::next() ]")));
    };
    let mut out = Vec::with_capacity(list.len());
    for (at, item) in list.into_iter().enumerate() {
        let found = typename::plain(engine.map_type_name(item.type_name()));
        let Some(directive) = item.try_cast::<DirectiveValue>() else {
            let message =
                format!("entry {} of the stage '{stage}' is not a rule or an action but {found}", at + 1);
            return Err(ScriptError::at(place.clone(), message).with_hint("rule \"name\" || state::next()"));
        };
        if let Some(first) = names.insert(directive.name.to_string(), directive.location.clone()) {
            let message = format!("the name '{}' is used twice, first at {first}", directive.name);
            return Err(ScriptError::at(directive.location.clone(), message)
                .with_hint("names of directives must be unique within a script"));
        }
        if names.len() > MAX_DIRECTIVES {
            return Err(ScriptError::at(place.clone(), format!("more than {MAX_DIRECTIVES} directives")));
        }
        if directive.kind == DirectiveKind::Delegate && stage < Stage::Postq {
            return Err(delegated_too_early(&directive, stage));
        }
        out.push(directive);
    }
    Ok(out)
}

fn delegated_too_early(directive: &Directive, stage: Stage) -> ScriptError {
    let message = format!("delegate '{}' cannot stand at the stage '{stage}'", directive.name);
    ScriptError::at(directive.location.clone(), message)
        .with_hint("a message can be delegated at postq and delivery")
}

/// Edits between two names (Levenshtein), for "did you mean".
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
