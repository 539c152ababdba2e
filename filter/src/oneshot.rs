//! Configuration: evaluates `vsmtp.vsl` once and hands over a tree of values. It decides nothing about keys (that is
//! `vsmtp_config`) but knows where each key was written. A script that fails or hangs is an error, never a half tree.

mod commands;
mod databases;
mod delegates;
mod domains;
mod handed;
mod misspelt;
mod places;
mod toml_file;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rhai::{CallFnOptions, Dynamic, Engine, Scope};
use vsmtp_config::{Config, Context, FilterSlice, Value, default_tree};
use vsmtp_ipc::edge::master_child::Evaluate;
use vsmtp_mail::Domain;

use crate::api::{self, Surroundings};
use crate::database;
use crate::engine::{self, Limits, Location, Root, ScriptError, Watch};
use crate::judge::Judge;
use crate::runner::Collector;
use crate::stage::Stage;
use crate::typename;

pub(crate) use delegates::check as check_delegate;
use handed::Handed;
pub use places::KeyPlaces;
pub(crate) use values::{from_script, to_script};

/// A function that a script of settings must define: it is given a map and returns it.
#[derive(Debug, Clone, Copy)]
enum Entry {
    /// In the main file.
    Main,
    /// In the file of a domain.
    Domain,
}

impl Entry {
    const fn name(self) -> &'static str {
        match self {
            Entry::Main => "on_config",
            Entry::Domain => "on_domain_config",
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Entry::Main => "fn on_config(config) { config.server.name = \"mx.example.com\"; config }",
            Entry::Domain => "fn on_domain_config(config) { config.tls.certificate = \"chain.pem\"; config }",
        }
    }
}

/// What the name of a configuration of vSL 1.x ends in.
const TOML: &str = "toml";

/// True of a configuration of vSL 1.x.
fn is_of_1x(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == TOML)
}

/// A configuration script's result.
#[derive(Debug)]
pub struct Evaluated {
    /// The entry script, as it is shown.
    pub file: String,
    /// The tree, defaults included where the script left them.
    pub tree: Value,
    /// Where keys were written.
    pub places: KeyPlaces,
}

/// Evaluates `file`, which lies in `root`; imports are relative to `root`. `defaults` is what `on_config` is given.
pub fn evaluate(
    root: &Path,
    file: &Path,
    defaults: &Value,
    host: &Surroundings,
) -> Result<Evaluated, ScriptError> {
    let root = Root::open(root)?;
    let text = root.read(file)?;
    let name = root.display_name(file);
    if is_of_1x(file) {
        let (tree, places) = toml_file::read(&name, &text, defaults)?;
        return Ok(Evaluated { file: name, tree, places });
    }
    let tree = run(&root, &name, &text, defaults, host, Entry::Main).map_err(|error| {
        let files = root.files_read();
        let texts: Vec<String> = files.iter().filter_map(|file| root.read(file).ok()).collect();
        match root.read(Path::new(&error.location.file)) {
            Ok(text) => misspelt::key(error, &text, &Handed::of(&texts, Entry::Main)),
            Err(_) => error,
        }
    })?;
    Ok(Evaluated { file: name, tree, places: KeyPlaces::of_files(&root, Entry::Main) })
}

/// The same for a script that is not a file and imports nothing, such as the embedded development configuration.
pub fn evaluate_text(
    name: &str,
    text: &str,
    defaults: &Value,
    host: &Surroundings,
) -> Result<Evaluated, ScriptError> {
    let handed = Handed::of(&[text.to_owned()], Entry::Main);
    let tree = run(&Root::none(), name, text, defaults, host, Entry::Main)
        .map_err(|error| misspelt::key(error, text, &handed))?;
    let mut places = KeyPlaces::default();
    places.scan(name, text, &handed);
    Ok(Evaluated { file: name.to_owned(), tree, places })
}

/// The oneshot role's whole work: the tree, checked and encoded, or all errors, one per line, each with its place.
pub fn answer(request: &Evaluate, host: &Surroundings) -> Result<Vec<u8>, String> {
    let folder = Path::new(&request.config_path).parent().unwrap_or(Path::new("/"));
    // A path that is absolute already, as that of the folder itself, stays as it is.
    let line = |mut error: ScriptError| {
        error.location.file = folder.join(&error.location.file).display().to_string();
        format!("{error}\n")
    };
    let lines = |errors: Vec<ScriptError>| errors.into_iter().map(line).collect::<String>();
    let (mut evaluated, config) = configuration(request, host).map_err(lines)?;
    let collector = Arc::new(Collector::default());
    let described = Arc::new(database::Collector::default());
    let host = Surroundings {
        runner: Arc::<Collector>::clone(&collector),
        asker: Arc::<database::Collector>::clone(&described),
        ..host.clone()
    };
    rules(&evaluated, &config, &host).map_err(|error| lines(vec![error]))?;
    commands::add(&mut evaluated.tree, &collector.commands());
    databases::add(&mut evaluated.tree, &described.databases());
    check(&context(request)?, &evaluated).map_err(lines)?;
    evaluated.tree.to_bytes().map_err(|_| format!("{}: configuration is too large", request.config_path))
}

/// The configuration, checked. Places of errors are relative to its folder.
pub fn configuration(
    request: &Evaluate,
    host: &Surroundings,
) -> Result<(Evaluated, Config), Vec<ScriptError>> {
    let path = PathBuf::from(&request.config_path);
    let wrong = |text: String| {
        let file = path.file_name().map(|name| name.display().to_string()).unwrap_or_default();
        vec![ScriptError::at(Location { file, ..Location::default() }, text)]
    };
    let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(wrong("is not the path of a file".to_owned()));
    };
    let context = context(request).map_err(wrong)?;
    let defaults = default_tree(&context);
    let evaluated = evaluate(directory, Path::new(file), &defaults, host).and_then(|mut evaluated| {
        domains::add(&mut evaluated, &context, &defaults, host).map(|()| evaluated)
    });
    let evaluated = evaluated.map_err(|error| vec![error])?;
    let config = check(&context, &evaluated)?;
    Ok((evaluated, config))
}

/// What defaults depend on.
pub fn context(request: &Evaluate) -> Result<Context, String> {
    let folder = Path::new(&request.config_path).parent().unwrap_or(Path::new("/"));
    Ok(Context {
        hostname: Domain::parse(&request.hostname).map_err(|error| format!("host name: {error}"))?,
        cores: request.cores,
        config_dir: folder.display().to_string(),
        root: request.root.clone(),
    })
}

/// Loads the rules: those that do not load would be found by the filters, after the old ones are gone.
fn rules(evaluated: &Evaluated, config: &Config, host: &Surroundings) -> Result<(), ScriptError> {
    let slice = config.filter();
    let judge = Judge::load(&slice, host)?;
    check_passwords(evaluated, &slice, judge.wants(Stage::Authenticate))?;
    for directive in judge.delegates() {
        delegates::check(directive, &config.master().listeners)?;
    }
    Ok(())
}

/// Where passwords are asked for, somebody must know them: a back end, or rules of authenticate.
pub fn check_passwords(
    evaluated: &Evaluated,
    slice: &FilterSlice,
    has_rules: bool,
) -> Result<(), ScriptError> {
    if !slice.auth || slice.has_backends || has_rules {
        return Ok(());
    }
    let location = evaluated.places.locate("server.esmtp.auth.mechanisms").cloned().unwrap_or_default();
    let text = "nobody can tell whether a password is right: server.auth.backends is empty, and the stage authenticate \
                has no rules";
    Err(ScriptError::at(location, text))
}

/// Checks the tree against the table of keys. Each error says where its key was written.
pub fn check(context: &Context, evaluated: &Evaluated) -> Result<Config, Vec<ScriptError>> {
    let config = Config::build(context, &evaluated.tree).map_err(|errors| {
        // A key that no line names was made by the script.
        let somewhere = || Location { file: evaluated.file.clone(), ..Location::default() };
        let place = |path: &str| evaluated.places.locate(path).cloned().unwrap_or_else(somewhere);
        errors.iter().map(|error| ScriptError::at(place(&error.path), error.to_string())).collect::<Vec<_>>()
    })?;
    for warning in config.warnings() {
        let place = evaluated.places.locate(&warning.path).map(Location::to_string).unwrap_or_default();
        log::warn!("configuration {place}: {warning}");
    }
    Ok(config)
}

fn run(
    root: &Arc<Root>,
    name: &str,
    text: &str,
    defaults: &Value,
    host: &Surroundings,
    entry: Entry,
) -> Result<Value, ScriptError> {
    let entry_name = entry.name();
    let limits = Limits::for_configuration();
    let engine = configuration_engine(root, &limits, host);
    let _watch = Watch::until(Instant::now() + limits.wall_clock);
    let ast = engine::compile(&engine, name, text)?;
    root.check_names(name, &ast)?;
    let defined =
        ast.iter_functions().any(|function| function.name == entry_name && function.params.len() == 1);
    if !defined {
        let location = Location { file: name.to_owned(), ..Location::default() };
        return Err(ScriptError::at(location, format!("the function {entry_name}(config) is missing"))
            .with_hint(entry.example()));
    }
    let argument = values::to_script(defaults);
    let result: Dynamic = engine
        .call_fn_with_options(CallFnOptions::new(), &mut Scope::new(), &ast, entry_name, (argument,))
        .map_err(|error| ScriptError::from_eval(name, &error))?;
    if !result.is_map() {
        let location = Location { file: name.to_owned(), ..Location::default() };
        let message =
            format!("{entry_name} must return the configuration map, but returned {}", typename::of(&result));
        return Err(ScriptError::at(location, message).with_hint("end the function with the line: config"));
    }
    Ok(values::from_script(&result))
}

fn configuration_engine(root: &Arc<Root>, limits: &Limits, host: &Surroundings) -> Engine {
    let mut engine = engine::bare(root, limits);
    root.declare(api::callables(&api::install_for_configuration(&mut engine, host)));
    root.give_plugins(api::install_plugins(&mut engine, &host.plugins));
    engine
}

#[cfg(test)]
mod tests;
