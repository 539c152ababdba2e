//! What is wrong with a configuration and its rules, all of it at once: what keeps them from being loaded, and what would
//! only show when a message comes. It runs no rule.

mod calls;
mod conditions;
mod stages;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vsmtp_config::{Config, FilterSlice, default_tree};
use vsmtp_ipc::edge::ctl_filter::Problem;
use vsmtp_ipc::edge::master_child::Evaluate;

use crate::api::Surroundings;
use crate::engine::{self, LoadedScript, Location, ScriptError, Signatures, Survey, Watch};
use crate::judge::Ground;
use crate::oneshot::{self, Evaluated};
use crate::presence;
use crate::stage::Stage;
use crate::triage::domain_folders;

/// Most problems that are told.
const MAX_PROBLEMS: usize = 1_000;
/// Scripts of a domain.
const OF_DOMAINS: [&str; 3] = ["incoming.vsl", "outgoing.vsl", "internal.vsl"];

/// All problems, in the order of their places. Places are relative to the folder of the configuration.
pub fn problems(request: &Evaluate, host: &Surroundings) -> Vec<ScriptError> {
    let (mut found, slice, said) = match oneshot::configuration(request, host) {
        Ok((evaluated, config)) => (Vec::new(), Some(config.filter()), Some((evaluated, config))),
        // Rules are looked at as if the configuration said nothing.
        Err(errors) => (errors, defaults(request), None),
    };
    if let Some(slice) = slice {
        found.extend(of_rules(&slice, said.as_ref(), host));
    }
    let folder = Path::new(&request.config_path).parent().unwrap_or(Path::new("/"));
    for problem in &mut found {
        if let Ok(below) = Path::new(&problem.location.file).strip_prefix(folder) {
            problem.location.file = below.display().to_string();
        }
    }
    in_order(found)
}

/// As it is told to operators.
pub fn problem(error: &ScriptError) -> Problem {
    let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    Problem {
        file: error.location.file.clone(),
        line: number(error.location.line),
        column: number(error.location.column),
        message: error.message.clone(),
        hint: error.hint.clone(),
    }
}

/// What a filter is told where nothing is configured.
fn defaults(request: &Evaluate) -> Option<FilterSlice> {
    let context = oneshot::context(request).ok()?;
    Config::build(&context, &default_tree(&context)).ok().map(|config| config.filter())
}

fn of_rules(
    slice: &FilterSlice,
    said: Option<&(Evaluated, Config)>,
    host: &Surroundings,
) -> Vec<ScriptError> {
    let ground = match Ground::of(slice, host) {
        Ok(ground) => ground,
        Err(error) => return vec![error],
    };
    let (scripts, mut found) = match entries(&ground) {
        Ok(scripts) => (scripts, Vec::new()),
        Err(error) => (ground.path.iter().cloned().collect(), vec![error]),
    };
    let loaded: Vec<LoadedScript> = scripts
        .iter()
        .filter_map(|script| {
            let _watch = Watch::until(Instant::now() + slice.timeout);
            engine::load(&ground.engine, &ground.root, script).map_err(|error| found.push(error)).ok()
        })
        .collect();
    let signatures = Signatures::of(&ground.engine);
    let mut looked_at = BTreeSet::new();
    // Looking at a file may read those that it imports.
    while let Some(file) = ground.root.files_read().into_iter().find(|file| !looked_at.contains(file)) {
        found.extend(of_file(&ground, &signatures, &file, slice.timeout));
        looked_at.insert(file);
    }
    for script in &loaded {
        found.extend(stages::problems(&ground, script));
    }
    if let Some((evaluated, config)) = said {
        found.extend(together(evaluated, config, slice, &loaded, loaded.len() == scripts.len()));
    }
    found
}

/// What is wrong with rules and the configuration together.
fn together(
    evaluated: &Evaluated,
    config: &Config,
    slice: &FilterSlice,
    loaded: &[LoadedScript],
    are_all: bool,
) -> Vec<ScriptError> {
    let listeners = config.master().listeners;
    let delegates = loaded.iter().flat_map(LoadedScript::delegates);
    let mut found: Vec<ScriptError> =
        delegates.filter_map(|one| oneshot::check_delegate(one, &listeners).err()).collect();
    let has_rules = loaded.iter().any(|script| !script.stage(Stage::Authenticate).is_empty());
    // A script that could not be loaded may have had them.
    if are_all {
        found.extend(oneshot::check_passwords(evaluated, slice, has_rules).err());
    }
    found
}

/// The scripts that are loaded by their names.
fn entries(ground: &Ground) -> Result<Vec<PathBuf>, ScriptError> {
    let mut scripts: Vec<PathBuf> = ground.path.iter().cloned().collect();
    let Some(folder) = &ground.folder else { return Ok(scripts) };
    for (_, path) in domain_folders(&ground.root, folder)? {
        for name in OF_DOMAINS {
            let file = path.join(name);
            if presence::is_there(&file)? {
                scripts.push(file);
            }
        }
    }
    Ok(scripts)
}

/// Imports, names and arguments in one file.
fn of_file(ground: &Ground, signatures: &Signatures, file: &Path, limit: Duration) -> Vec<ScriptError> {
    let name = ground.root.display_name(file);
    let compiled = ground.root.read(file).and_then(|text| {
        let ast = engine::compile(&ground.engine, &name, &text)?;
        Ok((ast, engine::names_in_expressions(&ground.engine, &name, &text)))
    });
    let (ast, declared) = match compiled {
        Ok(compiled) => compiled,
        Err(error) => return vec![error],
    };
    let _watch = Watch::until(Instant::now() + limit);
    let mut found = engine::wrong_imports(&ground.engine, &name, &ast);
    found.extend(ground.root.wrong_names(&name, &ast));
    let survey = Survey::of(&name, &ast);
    found.extend(calls::problems(signatures, &survey));
    found.extend(conditions::problems(&ground.table, &survey, &engine::conditions(&name, &ast)));
    found.extend(engine::unknown_variables(&name, &ast, &declared));
    found
}

/// Sorted, each once: what keeps a script from being loaded is found by its loading and by the look at its file.
fn in_order(mut found: Vec<ScriptError>) -> Vec<ScriptError> {
    let key = |error: &ScriptError| {
        let Location { file, line, column } = &error.location;
        (file.clone(), *line, *column, error.message.clone())
    };
    found.sort_by_key(key);
    let mut kept: Vec<ScriptError> = Vec::new();
    for error in found {
        // Loading puts the advice behind the message where an import failed.
        let is_known = |old: &ScriptError| {
            old.location == error.location && error.message.starts_with(old.message.as_str())
        };
        if !kept.iter().rev().take_while(|old| old.location == error.location).any(is_known) {
            kept.push(error);
        }
    }
    kept.truncate(MAX_PROBLEMS);
    kept
}

#[cfg(test)]
mod tests;
