//! The body of a directive, as it runs. The state in which it does is kept for the next call, so that no message pays for
//! making it or for looking up the same names again; of what one call did, the next must never see anything.
//!
//! The outer variables that a body uses are copied whenever it runs, unless it is certain that it leaves them as they are, so
//! nothing in them may be shared.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rhai::{
    AST, ASTNode, Caches, Dynamic, Engine, EvalAltResult, EvalContext, FnPtr, GlobalRuntimeState, Module,
    Position, Scope, Stmt,
};

use super::captured::leaves_them;
use super::natives::BuiltIns;
use super::plan::{Outcome, Plan};
use super::quick::Maker;
use super::reach::shorten;
use super::unshared::{Endless, unshare, unshare_constants};

/// Most names of functions that are kept. Few scripts call functions whose names they make of what clients say.
const MAX_NAMES: usize = 1_024;

/// What a directive does, ready to be done.
pub(super) struct Body {
    /// The closure that it was written as.
    pub function: FnPtr,
    /// Imports, functions and constants of the surrounding script.
    pub environment: GlobalRuntimeState,
    /// What the closure does, statement by statement.
    statements: Vec<Stmt>,
    /// The same as it is done.
    plan: Plan,
    /// The same with the places of what it calls, once they are known, and the environment in which they are there.
    short: OnceLock<(Plan, GlobalRuntimeState)>,
    /// Copies of the outer variables that it uses.
    captured: Scope<'static>,
    /// It cannot change them.
    leaves_captured: bool,
    /// A name means the same function in all that the body reaches.
    keeps_names: AtomicBool,
    /// The state, while no thread runs in it. If several run at once, that of one is kept. Boxed, since it moves at each call.
    idle: Mutex<Option<Box<State>>>,
}

/// What Rhai needs to evaluate anything.
struct State {
    global: GlobalRuntimeState,
    names: Caches,
    /// The captured variables, if they are as they were before.
    scope: Option<Scope<'static>>,
}

/// Why a closure is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoBody {
    /// The environment has no function of that name and number of parameters.
    Parameters,
    /// A captured variable leads back to itself.
    Endless,
}

impl Body {
    /// The body that a closure stands for.
    pub fn new(function: FnPtr, environment: GlobalRuntimeState) -> Result<Self, NoBody> {
        let library = environment.lib.first().ok_or(NoBody::Parameters)?;
        let mut values: Vec<Dynamic> = function.iter_curry().cloned().collect();
        values.iter_mut().try_for_each(unshare).map_err(|Endless| NoBody::Endless)?;
        let definition = library.get_script_fn(function.fn_name(), values.len()).ok_or(NoBody::Parameters)?;
        let mut alone = Module::new();
        alone.set_script_fn(Arc::clone(definition));
        let statements = statements(alone);
        let leaves_captured = leaves_them(&values, &statements, &environment);
        let mut captured = Scope::new();
        captured.extend(definition.params.iter().cloned().zip(values));
        Ok(Body {
            plan: Plan::new(&statements, &environment),
            statements,
            short: OnceLock::new(),
            captured,
            leaves_captured,
            function,
            environment,
            keeps_names: AtomicBool::new(false),
            idle: Mutex::new(None),
        })
    }

    /// Gives the closures among the constants of its script what they captured for themselves; when all of the script has run.
    pub fn unshare_constants(&self) -> Result<(), Endless> {
        unshare_constants(&self.environment)
    }

    /// Says that a name means the same function wherever the body comes. Rhai keeps what it has found by name and forgets
    /// where it was called: a function of one script must not be taken for that of another.
    pub fn keep_names(&self) {
        self.keeps_names.store(true, Ordering::Relaxed);
    }

    /// Finds what it calls, for all times to come. Only where a name means the same thing wherever the body comes.
    pub fn find(&self, engine: &Engine, built_ins: &BuiltIns) {
        let mut plan = self.plan.clone();
        let modules = &built_ins.modules;
        if let Some(environment) = shorten(&mut plan, &self.statements, &self.environment, modules) {
            let captured = self.leaves_captured.then_some(&self.captured);
            plan.quicken(&Maker { engine, environment: &self.environment, built_ins, captured });
            let _ = self.short.set((plan, environment));
        }
    }

    /// Evaluates it, with its own copies of the captured variables: what one message did to them, no other sees. `tag` is what
    /// native functions find as their transaction.
    pub fn run(&self, engine: &Engine, tag: &mut Dynamic) -> Result<Outcome, Box<EvalAltResult>> {
        if matches!(self.plan, Plan::Next) {
            return Ok(Outcome::Next);
        }
        let short = self.short.get();
        let (plan, environment) =
            short.map_or((&self.plan, &self.environment), |(plan, there)| (plan, there));
        let kept = self.lock().take();
        let mut state = kept.unwrap_or_else(|| Box::new(State::new(environment)));
        let State { global, names, scope } = &mut *state;
        std::mem::swap(&mut global.tag, tag);
        let scope = scope.get_or_insert_with(|| self.captured.clone());
        let mut context = EvalContext::new(engine, global, names, scope, None);
        let result = plan.follow(&mut context);
        std::mem::swap(&mut global.tag, tag);
        let result = result.or_else(|error| match *error {
            EvalAltResult::Return(value, _) => Ok(Outcome::Value(value)),
            mut error => {
                // Where a limit was met is chance.
                if error.is_system_exception() || matches!(error, EvalAltResult::Exit(..)) {
                    error.set_position(Position::NONE);
                }
                Err(Box::new(error))
            }
        });
        if result.is_ok() {
            state.rest(environment, self.keeps_names.load(Ordering::Relaxed));
            if !self.leaves_captured {
                state.scope = None;
            }
            *self.lock() = Some(state);
        }
        result
    }

    /// How many names are known to the next call.
    #[cfg(test)]
    pub fn names_kept(&self) -> usize {
        self.lock().as_mut().map_or(0, |state| state.names.fn_resolution_cache_mut().dict.len())
    }

    /// It leaves what it has captured to the next call.
    #[cfg(test)]
    pub fn leaves_captured(&self) -> bool {
        self.leaves_captured
    }

    /// It has found beforehand what it calls.
    #[cfg(test)]
    pub fn has_found(&self) -> bool {
        self.short.get().is_some()
    }

    /// How many expressions Rhai evaluates.
    #[cfg(test)]
    pub fn left_to_rhai(&self) -> usize {
        let (plan, _) = self.short.get().expect("it is told before it runs");
        plan.clone().left_to_rhai()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<State>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(environment: &GlobalRuntimeState) -> Self {
        let mut global = environment.clone();
        begin(&mut global, environment);
        State { global, names: Caches::new(), scope: None }
    }

    /// Makes it as good as new for the next call.
    fn rest(&mut self, environment: &GlobalRuntimeState, keeps_names: bool) {
        begin(&mut self.global, environment);
        if !keeps_names || self.names.fn_resolution_cache_mut().dict.len() > MAX_NAMES {
            self.names = Caches::new();
        }
    }
}

/// The counters at the beginning of a call, which counts itself.
fn begin(global: &mut GlobalRuntimeState, environment: &GlobalRuntimeState) {
    global.num_operations = 1;
    global.level = 1;
    global.num_modules_loaded = environment.num_modules_loaded;
}

/// What the only function of a module does. Rhai shows it to those who walk through it.
pub(super) fn statements(alone: Module) -> Vec<Stmt> {
    let mut statements = Vec::new();
    AST::new(Vec::new(), alone).walk(&mut |path: &[ASTNode]| {
        if let [ASTNode::Stmt(statement)] = path {
            statements.push(Stmt::clone(statement));
        }
        true
    });
    statements
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("function", &self.function).finish_non_exhaustive()
    }
}
