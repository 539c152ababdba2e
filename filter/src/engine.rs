//! The Rhai engine as vSL wants it: limits, own module resolver, directives. It knows nothing of mail; what scripts may
//! call is registered by `api`. A script can waste its own time slice and nothing else.

mod body;
mod captured;
mod declaration;
mod directive;
mod error;
mod interactive;
mod limits;
mod names;
mod natives;
mod plan;
mod plugins;
mod quick;
mod reach;
mod resolver;
mod script;
mod survey;
mod unshared;
mod variables;

use std::path::Path;
use std::sync::Arc;

use rhai::packages::{Package, StandardPackage};
use rhai::{AST, Engine, OptimizationLevel, Token};
use vsmtp_daemon::Record;

pub use declaration::{names_in_expressions, service_constructor, tokens};
pub use directive::{Directive, DirectiveKind, register_tests};
pub use error::{Location, ScriptError};
pub use interactive::{Interactive, Stop};
pub use limits::{Limits, Watch, deadline_passed, hand_on, party, time_left};
pub use names::{Callable, nearest};
pub use natives::{BuiltIns, Functions, GLOBAL, PROPERTY};
pub use plugins::{Absent, Natives};
pub use resolver::{MAX_SCRIPT_BYTES, Root, beside, wrong_imports};

pub use script::{Failure, LoadedScript, StageTable};
pub use survey::{Call, Gap, Kind, Known, Reach, Signatures, Survey, Why, conditions};
pub use variables::{OLD_VARIABLES, give_old_variables, unknown_variables};

/// Makes an engine without any vSL function.
///
/// `root` is the directory that imports are resolved in.
pub fn bare(root: &Arc<Root>, limits: &Limits) -> Engine {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    limits.apply(&mut engine);
    engine.set_module_resolver(resolver::Resolver::new(Arc::clone(root)));
    engine.set_optimization_level(OptimizationLevel::Simple);
    engine.set_strict_variables(true);
    engine.disable_symbol("eval");
    engine.on_print(|text| Record::new("script-print").field("text", text).emit());
    engine.on_debug(|text, source, position| {
        let at = format!("{}:{position:?}", source.unwrap_or("script"));
        Record::at(log::Level::Debug, "script-print").field("at", at).field("text", text).emit();
    });
    remap_tokens(&mut engine);
    directive::register(&mut engine);
    resolver::register(&mut engine);
    declaration::register(&mut engine, root);
    engine
}

/// vSL reads `a is b` as `a == b` and `a not b` as `a != b`, and declarations of 1.x as what they mean.
#[expect(
    deprecated,
    reason = "Rhai marks on_parse_token as volatile, not as deprecated; the version is pinned"
)]
fn remap_tokens(engine: &mut Engine) {
    engine.on_parse_token(|token, position, _| match token {
        Token::Reserved(word) if *word == "is" => Token::EqualsTo,
        Token::Identifier(word) if *word == "not" => Token::NotEqualsTo,
        other => declaration::meaning(other, position),
    });
}

/// Compiles a script, declarations of 1.x included; `name` stands for its file in messages.
pub fn compile(engine: &Engine, name: &str, text: &str) -> Result<AST, ScriptError> {
    declaration::compile(engine, name, text)
}

/// Compiles and evaluates the script at `path` (relative to the root) once, and sorts its directives by stage.
pub fn load(engine: &Engine, root: &Root, path: &Path) -> Result<LoadedScript, ScriptError> {
    let text = root.read(path)?;
    script::load(engine, root, &root.display_name(path), &text)
}

/// Compiles and evaluates a script of which only the effects of evaluating it count.
pub fn evaluate(engine: &Engine, root: &Root, path: &Path) -> Result<(), ScriptError> {
    let text = root.read(path)?;
    script::evaluate(engine, root, &root.display_name(path), &text).map(|_| ())
}

/// The same for a text that comes from elsewhere; `name` stands for the file in messages.
pub fn load_text(engine: &Engine, root: &Root, name: &str, text: &str) -> Result<LoadedScript, ScriptError> {
    script::load(engine, root, name, text)
}
