//! Configuration: evaluates `vsmtp.vsl` once and hands over a tree of values. It decides nothing about keys (that is
//! `vsmtp_config`) but knows where each key was written. A script that fails or hangs is an error, never a half tree.

mod places;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rhai::{CallFnOptions, Dynamic, Engine, Scope};
use vsmtp_config::{Config, Context, Value, default_tree};
use vsmtp_ipc::edge::master_child::Evaluate;
use vsmtp_mail::Domain;

use crate::api::{self, Surroundings};
use crate::engine::{self, Limits, Location, Root, ScriptError, Watch};
use crate::judge::Judge;
use crate::stage::Stage;

pub use places::KeyPlaces;

/// The function that the entry script must define.
const ENTRY: &str = "on_config";

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
    let tree = run(&root, &name, &text, defaults, host)?;
    Ok(Evaluated { file: name, tree, places: KeyPlaces::of_files(&root) })
}

/// The same for a script that is not a file and imports nothing, such as the embedded development configuration.
pub fn evaluate_text(
    name: &str,
    text: &str,
    defaults: &Value,
    host: &Surroundings,
) -> Result<Evaluated, ScriptError> {
    let tree = run(&Root::none(), name, text, defaults, host)?;
    let mut places = KeyPlaces::default();
    places.scan(name, text);
    Ok(Evaluated { file: name.to_owned(), tree, places })
}

/// The oneshot role's whole work: the tree, checked and encoded, or all errors, one per line, each with its place.
pub fn answer(request: &Evaluate, environment: BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let path = PathBuf::from(&request.config_path);
    let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(format!("{}: is not the path of a file", request.config_path));
    };
    let context = Context {
        hostname: Domain::parse(&request.hostname).map_err(|error| format!("host name: {error}"))?,
        cores: request.cores,
        config_dir: directory.display().to_string(),
        root: request.root.clone(),
    };
    let host = Surroundings { hostname: request.hostname.clone(), environment, ..Surroundings::default() };
    let evaluated = evaluate(directory, Path::new(file), &default_tree(&context), &host)
        .map_err(|error| format!("{}/{error}", directory.display()))?;
    let place = |error: &ScriptError| format!("{}/{error}\n", directory.display());
    let config =
        check(&context, &evaluated).map_err(|errors| errors.iter().map(place).collect::<String>())?;
    // Rules that do not load would be found by the filters, after the old ones are gone.
    let slice = config.filter();
    let judge = Judge::load(&slice, &host).map_err(|error| place(&error))?;
    if slice.auth && !slice.has_backends && !judge.wants(Stage::Authenticate) {
        let location = evaluated.places.locate("server.esmtp.auth.mechanisms").cloned().unwrap_or_default();
        let text = "nobody can tell whether a password is right: server.auth.backends is empty, and the stage \
                    authenticate has no rules";
        return Err(place(&ScriptError::at(location, text)));
    }
    evaluated.tree.to_bytes().map_err(|_| format!("{}: configuration is too large", request.config_path))
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
) -> Result<Value, ScriptError> {
    let limits = Limits::for_configuration();
    let engine = configuration_engine(root, &limits, host);
    let _watch = Watch::until(Instant::now() + limits.wall_clock);
    let mut ast = engine.compile(text).map_err(|error| ScriptError::from_parse(name, &error))?;
    ast.set_source(name);
    root.check_names(name, &ast)?;
    let defined = ast.iter_functions().any(|function| function.name == ENTRY && function.params.len() == 1);
    if !defined {
        let location = Location { file: name.to_owned(), ..Location::default() };
        return Err(ScriptError::at(location, format!("the function {ENTRY}(config) is missing"))
            .with_hint(format!("fn {ENTRY}(config) {{ config.server.name = \"mx.example.com\"; config }}")));
    }
    let argument = values::to_script(defaults);
    let result: Dynamic = engine
        .call_fn_with_options(CallFnOptions::new(), &mut Scope::new(), &ast, ENTRY, (argument,))
        .map_err(|error| ScriptError::from_eval(name, &error))?;
    if !result.is_map() {
        let location = Location { file: name.to_owned(), ..Location::default() };
        let message =
            format!("{ENTRY} must return the configuration map, but returned {}", result.type_name());
        return Err(ScriptError::at(location, message).with_hint("end the function with the line: config"));
    }
    Ok(values::from_script(&result))
}

fn configuration_engine(root: &Arc<Root>, limits: &Limits, host: &Surroundings) -> Engine {
    let mut engine = engine::bare(root, limits);
    root.declare(api::callables(&api::install_for_configuration(&mut engine, host)));
    engine
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Surroundings {
        Surroundings {
            hostname: "mx.test".into(),
            environment: [("PORT".to_owned(), "2525".to_owned())].into(),
            ..Surroundings::default()
        }
    }

    fn defaults() -> Value {
        let mut tree = Value::map();
        tree.set("server.name", Value::Text("localhost".into()));
        tree.set("server.smtp.rcpt_count_max", Value::Int(1000));
        tree.set("server.smtp.disable", Value::Bool(false));
        tree
    }

    fn text(script: &str) -> Result<Evaluated, ScriptError> {
        evaluate_text("vsmtp.vsl", script, &defaults(), &host())
    }

    #[test]
    fn defaults_go_in_and_changes_come_out() {
        let script = "fn on_config(config) {
            config.server.name = hostname();
            config.server.interfaces = #{ addr: [`127.0.0.1:${env(\"PORT\")}`] };
            config.server.none = env(\"NOT_SET\");
            config
        }";
        let out = text(script).unwrap();
        assert_eq!(out.tree.at("server.name"), Some(&Value::Text("mx.test".into())));
        assert_eq!(out.tree.at("server.smtp.rcpt_count_max"), Some(&Value::Int(1000)));
        assert_eq!(
            out.tree.at("server.interfaces.addr"),
            Some(&Value::List(vec![Value::Text("127.0.0.1:2525".into())]))
        );
        assert_eq!(out.tree.at("server.none"), Some(&Value::Null));
        assert_eq!(out.places.locate("server.name").unwrap().line, 2);
        assert_eq!(out.places.locate("server.interfaces.addr").unwrap().line, 3);
    }

    #[test]
    fn imports_are_relative_to_the_root_and_keys_are_found_in_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        let main = "import \"conf.d/config\" as cfg;\nfn on_config(config) { cfg::on_config(config) }";
        std::fs::write(dir.path().join("vsmtp.vsl"), main).unwrap();
        let part =
            "fn on_config(config) {\n  config.server = #{\n    \"name\": \"a.b\",\n  };\n  return config;\n}";
        std::fs::write(dir.path().join("conf.d/config.vsl"), part).unwrap();
        let out = evaluate(dir.path(), Path::new("vsmtp.vsl"), &defaults(), &host()).unwrap();
        assert_eq!(out.tree.at("server.name"), Some(&Value::Text("a.b".into())));
        assert_eq!(out.places.locate("server.name").unwrap().to_string(), "conf.d/config.vsl:3:5");
    }

    #[test]
    fn errors_name_the_place() {
        for (script, place, words) in [
            ("fn on_config(config) {\n  config.x = ;\n}", "vsmtp.vsl:2:14", "';'"),
            ("fn other() {}", "vsmtp.vsl", "on_config"),
            ("fn on_config(config) {\n  nothing()\n}", "vsmtp.vsl:2:3", "nothing"),
            ("fn on_config(config) { config.x = 1; }", "vsmtp.vsl", "must return"),
            ("fn on_config(config) {\n loop { }\n}", "vsmtp.vsl", "operations"),
            ("fn on_config(config) {\n eval(\"1\")\n}", "vsmtp.vsl:2:2", "eval"),
            ("import \"x\" as y;\nfn on_config(config) { config }", "vsmtp.vsl:1:8", "directory"),
        ] {
            let error = text(script).unwrap_err();
            assert!(error.location.to_string().starts_with(place), "{script}: {error}");
            assert!(error.message.to_ascii_lowercase().contains(words), "{script}: {error}");
        }
    }

    #[test]
    fn the_answer_is_a_tree_or_errors_with_file_line_and_nearest_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vsmtp.vsl");
        let request = Evaluate {
            config_path: file.display().to_string(),
            hostname: "mx.test".into(),
            cores: 2,
            root: String::new(),
        };
        let good = "fn on_config(config) { config.server.domains = [\"example.test\"]; config }";
        std::fs::write(&file, good).unwrap();
        let tree = Value::from_bytes(&answer(&request, BTreeMap::new()).unwrap()).unwrap();
        assert_eq!(tree.at("server.domains"), Some(&Value::List(vec![Value::Text("example.test".into())])));

        let bad = "fn on_config(config) {\n config.server.domain = \"x\";\n config.queue.lifetime = \"soon\";\n config\n}";
        std::fs::write(&file, bad).unwrap();
        let lines = answer(&request, BTreeMap::new()).unwrap_err();
        let place = file.display();
        assert!(lines.contains(&format!("{place}:3:2: queue.lifetime: expected ")), "{lines}");

        std::fs::write(&file, good).unwrap();
        std::fs::write(dir.path().join("filter.vsl"), "#{\n rcpts: [] }").unwrap();
        let lines = answer(&request, BTreeMap::new()).unwrap_err();
        let rules = dir.path().join("filter.vsl").display().to_string();
        assert!(lines.starts_with(&format!("{rules}:1:1: the stage 'rcpts' does not exist")), "{lines}");

        std::fs::write(&file, "fn on_config(config) {\n config.server.domainz = [];\n config\n}").unwrap();
        let lines = answer(&request, BTreeMap::new()).unwrap_err();
        assert!(lines.contains(&format!("{place}:2:2: server.domainz: unknown key")), "{lines}");
        assert!(lines.contains("server.domains"), "{lines}");
    }

    #[test]
    fn a_wrong_import_names_the_file_and_line_inside_the_module() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.vsl"), "import \"b\" as b;\nfn on_config(config) { config }")
            .unwrap();
        std::fs::write(dir.path().join("b.vsl"), "let x = 1;\nlet y = nothing();").unwrap();
        let error = evaluate(dir.path(), Path::new("a.vsl"), &defaults(), &host()).unwrap_err();
        assert_eq!(error.location.to_string(), "b.vsl:2:9");
        std::fs::write(dir.path().join("b.vsl"), "let x = 1;\nlet let").unwrap();
        let error = evaluate(dir.path(), Path::new("a.vsl"), &defaults(), &host()).unwrap_err();
        assert_eq!(error.location.file, "b.vsl");
        assert_eq!(error.location.line, 2);
    }
}
