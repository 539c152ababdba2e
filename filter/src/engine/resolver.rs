//! Imports. A path is relative to the configuration root and stays below it, whatever links say; a module is read and
//! evaluated once per generation; a cycle is an error. Nothing is read after loading.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use rhai::{
    AST, ASTFlags, ASTNode, Engine, EvalAltResult, Expr, GlobalRuntimeState, ImmutableString, Module,
    ModuleResolver, NativeCallContext, Position, Scope, Shared, Stmt,
};

use super::declaration;
use super::error::{Location, ScriptError};
use super::names::{self, Callable};
use super::natives::BuiltIns;
use super::plugins::{self, Meaning, Natives};
use super::unshared::{Endless, unshare_constants, unshare_module};

type SharedModule = Shared<Module>;

/// Largest script file, in bytes.
pub const MAX_SCRIPT_BYTES: u64 = 4 << 20;
const EXTENSION: &str = "vsl";
/// Where the configuration lies as packages have it: what scripts call its folder.
const USUAL: &str = "/etc/vsmtp";
/// What Rhai calls closures by, with a number of their own behind it.
const NO_NAME: &str = "anon$";
/// A function that each imported script gets: what its functions reach by `global::`, only they can reach.
const APART: &str = "__constants_apart";
/// What it calls.
const UNSHARE: &str = "__unshare_constants";
/// Who reads scripts, also where root has asked for it.
const READER: &str = "it is read by the user of filters, vsmtp-filter where there is one";

/// The directory that scripts are read from.
#[derive(Debug, Default)]
pub struct Root {
    /// Without links.
    path: PathBuf,
    /// A folder below it that imports are looked for in first, without links.
    first: Option<PathBuf>,
    read: Mutex<Vec<PathBuf>>,
    known: OnceLock<Vec<Callable>>,
    /// The built-in modules themselves.
    built_ins: OnceLock<BuiltIns>,
    /// Native plugins.
    natives: OnceLock<Natives>,
    /// A script that was loaded writes files.
    writes: AtomicBool,
    /// A script that was imported has functions with names.
    imports_functions: AtomicBool,
}

impl Root {
    /// Opens the root; fails if it is not a directory.
    pub fn open(path: &Path) -> Result<Arc<Self>, ScriptError> {
        Self::open_with(path, None)
    }

    /// The same; imports are looked for in `first` before: rules of vSL 1.x import from beside their main file.
    pub fn open_with(path: &Path, first: Option<&Path>) -> Result<Arc<Self>, ScriptError> {
        let error = |why: &str| {
            let location = Location { file: path.display().to_string(), ..Location::default() };
            ScriptError::at(location, format!("configuration directory {why}"))
        };
        let path = path.canonicalize().map_err(|io| {
            let found = error(&format!("cannot be opened: {io}"));
            match io.kind() {
                std::io::ErrorKind::PermissionDenied => found.with_hint(READER),
                _ => found,
            }
        })?;
        if !path.is_dir() {
            return Err(error("is not a directory"));
        }
        let first =
            first.and_then(|first| first.canonicalize().ok()).filter(|first| first.starts_with(&path));
        Ok(Arc::new(Root { path, first, ..Root::default() }))
    }

    /// No directory: every import is refused.
    pub fn none() -> Arc<Self> {
        Arc::default()
    }

    /// Says what the built-in modules have, so that scripts are checked for it. The first word counts.
    pub fn declare(&self, known: Vec<Callable>) {
        let _ = self.known.set(known);
    }

    /// Gives the built-in modules, as the engine has them, so that rules need not look for them. The first word counts.
    pub fn give(&self, modules: BuiltIns) {
        let _ = self.built_ins.set(modules);
    }

    /// Gives the native plugins that scripts may import. The first word counts.
    pub fn give_plugins(&self, natives: Natives) {
        let _ = self.natives.set(natives);
    }

    /// Those that were given.
    pub(super) fn built_ins(&self) -> &BuiltIns {
        static NONE: LazyLock<BuiltIns> = LazyLock::new(BuiltIns::default);
        self.built_ins.get().unwrap_or(&NONE)
    }

    /// True if a script that was loaded so far writes files.
    pub fn writes(&self) -> bool {
        self.writes.load(Ordering::Relaxed)
    }

    /// True if a script that was imported so far has functions with names: what a name means depends on who calls it.
    pub fn imports_functions(&self) -> bool {
        self.imports_functions.load(Ordering::Relaxed)
    }

    /// Checks the names of built-in modules, if they were declared, and notes what the jail must allow.
    pub(crate) fn check_names(&self, file: &str, ast: &AST) -> Result<(), ScriptError> {
        if names::writes(ast) {
            self.writes.store(true, Ordering::Relaxed);
        }
        let natively = |import: &str| self.functions_of(import);
        self.known.get().map_or(Ok(()), |known| names::check(known, &natively, file, ast))
    }

    /// All that is wrong with them.
    pub fn wrong_names(&self, file: &str, ast: &AST) -> Vec<ScriptError> {
        let natively = |import: &str| self.functions_of(import);
        self.known.get().map_or_else(Vec::new, |known| names::check_all(known, &natively, file, ast))
    }

    /// The functions of the native plugin that an import means, if it means one.
    fn functions_of(&self, import: &str) -> Option<&[(String, usize)]> {
        let functions = self.natives.get()?.functions_of(import)?;
        // A script of that name comes first.
        self.locate(import).is_err().then_some(functions)
    }

    /// The directory, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that were read so far, in order: configuration errors look for keys in them.
    pub fn files_read(&self) -> Vec<PathBuf> {
        lock(&self.read).clone()
    }

    /// How messages call a file: relative to the root.
    pub fn display_name(&self, path: &Path) -> String {
        path.strip_prefix(&self.path).unwrap_or(path).display().to_string()
    }

    /// Reads a script; `path` is below the root, or relative to it.
    pub fn read(&self, path: &Path) -> Result<String, ScriptError> {
        let name = self.display_name(path);
        let fail =
            |message: String| ScriptError::at(Location { file: name.clone(), line: 0, column: 0 }, message);
        let full = self.path.join(path).canonicalize().map_err(|io| fail(format!("cannot be read: {io}")))?;
        if !full.starts_with(&self.path) {
            return Err(fail("lies outside the configuration directory".to_owned()));
        }
        let text = read_bounded(&full).map_err(|io| fail(format!("cannot be read: {io}")))?;
        let text = text.ok_or_else(|| fail(format!("is larger than {MAX_SCRIPT_BYTES} bytes")))?;
        lock(&self.read).push(full);
        Ok(text)
    }

    /// Reads a file of data, such as a list of addresses: as a script, but it is no script. An absolute path must lie
    /// below the root, whatever links say.
    pub fn read_data(&self, path: &str) -> Result<String, String> {
        let outside = || format!("'{path}' lies outside the configuration directory");
        if self.path.as_os_str().is_empty() {
            return Err(format!("'{path}' cannot be read: there is no configuration directory"));
        }
        let unreadable = |io: std::io::Error| format!("'{path}' cannot be read: {io}");
        let full = self.find(path).map_err(unreadable)?;
        if !full.starts_with(&self.path) {
            return Err(outside());
        }
        read_bounded(&full).map_err(unreadable)?.ok_or_else(|| too_large(path))
    }

    /// The file that a path means, without links.
    fn find(&self, path: &str) -> std::io::Result<PathBuf> {
        let first = self.first.iter().find_map(|first| first.join(path).canonicalize().ok());
        first.map_or_else(|| beside(&self.path, path).canonicalize(), Ok)
    }

    /// Turns an import path into a file below the root.
    fn locate(&self, import: &str) -> Result<PathBuf, String> {
        if import.is_empty() || import.contains(['\0', '\\']) {
            return Err("import path is empty or has a character that paths may not have".to_owned());
        }
        if self.path.as_os_str().is_empty() {
            return Err(format!("'{import}' cannot be imported: there is no configuration directory"));
        }
        let path = Path::new(import);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!(
                "import path '{import}' must be relative to the configuration directory, without '..'"
            ));
        }
        let real =
            self.find(&file_name(import)).map_err(|io| format!("module '{import}' cannot be read: {io}"))?;
        if !real.starts_with(&self.path) {
            return Err(format!("module '{import}' lies outside the configuration directory"));
        }
        Ok(real)
    }
}

/// The file of a folder of configuration that a name means, relative or absolute. What is below `/etc/vsmtp` is meant to be
/// below that folder, wherever it is: another instance, or a copy that is checked.
pub fn beside(folder: &Path, name: &str) -> PathBuf {
    let below = Path::new(name).strip_prefix(USUAL).ok().filter(|_| !folder.starts_with(USUAL));
    folder.join(below.unwrap_or(Path::new(name)))
}

/// The text of a file; `None` if it is too large.
fn read_bounded(path: &Path) -> std::io::Result<Option<String>> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SCRIPT_BYTES + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= MAX_SCRIPT_BYTES).then_some(text))
}

fn too_large(path: &str) -> String {
    format!("'{path}' is larger than {MAX_SCRIPT_BYTES} bytes")
}

/// The file that an import names: `conf.d/config` is `conf.d/config.vsl`.
pub(super) fn file_name(import: &str) -> String {
    let extended = Path::new(import).extension().is_some_and(|extension| extension == EXTENSION);
    if extended { import.to_owned() } else { format!("{import}.{EXTENSION}") }
}

#[derive(Default)]
struct State {
    loaded: HashMap<PathBuf, SharedModule>,
    /// The files being evaluated, outermost first.
    open: Vec<PathBuf>,
}

/// Rhai's door to the root.
pub(super) struct Resolver {
    root: Arc<Root>,
    state: Mutex<State>,
}

impl Resolver {
    pub(super) fn new(root: Arc<Root>) -> Self {
        Resolver { root, state: Mutex::new(State::default()) }
    }

    fn load(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        import: &str,
        position: Position,
    ) -> Result<SharedModule, Box<EvalAltResult>> {
        let refuse = |message: String| Box::new(EvalAltResult::ErrorRuntime(message.into(), position));
        let file = match self.root.locate(import) {
            Ok(file) => file,
            Err(error) => match plugins::meaning(import, self.root.natives.get()) {
                Some(Ok(Meaning::Native(module))) => return Ok(module),
                Some(Ok(Meaning::BuiltIn(script))) => {
                    return self.plugin(engine, global, import, script, position);
                }
                Some(Err(missing)) => return Err(refuse(missing)),
                None => return Err(refuse(error)),
            },
        };
        {
            let mut state = lock(&self.state);
            if let Some(module) = state.loaded.get(&file) {
                return Ok(Arc::clone(module));
            }
            if state.open.contains(&file) {
                let chain: Vec<String> =
                    state.open.iter().chain([&file]).map(|path| self.root.display_name(path)).collect();
                return Err(refuse(format!("import cycle: {}", chain.join(" -> "))));
            }
            state.open.push(file.clone());
        }
        // Messages name the file, which an import of 1.x may find beside its entry point.
        let name = self.root.display_name(&file);
        let name = name.strip_suffix(&format!(".{EXTENSION}")).unwrap_or(&name);
        let module = self.evaluate(engine, global, name, &file, position);
        let mut state = lock(&self.state);
        state.open.pop();
        let module: SharedModule = module?.into();
        state.loaded.insert(file.clone(), Arc::clone(&module));
        drop(state);
        set_apart(engine, import).map_err(|error| {
            lock(&self.state).loaded.remove(&file);
            // Where in the function that no file has is nobody's concern.
            let mut inner = innermost(*error);
            inner.set_position(Position::NONE);
            Box::new(EvalAltResult::ErrorInModule(name.into(), Box::new(inner), position))
        })?;
        Ok(module)
    }

    fn evaluate(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        import: &str,
        file: &Path,
        position: Position,
    ) -> Result<Module, Box<EvalAltResult>> {
        let text = self
            .root
            .read(file)
            .map_err(|error| Box::new(EvalAltResult::ErrorRuntime(format!("{}", error).into(), position)))?;
        self.evaluate_text(engine, global, import, &text, position)
    }

    /// A plugin of 2.x, which is no file of ours. It has no state, so it does not matter that each import makes it anew.
    fn plugin(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        import: &str,
        script: &str,
        position: Position,
    ) -> Result<SharedModule, Box<EvalAltResult>> {
        self.evaluate_text(engine, global, import, script, position).map(Into::into)
    }

    fn evaluate_text(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        import: &str,
        text: &str,
        position: Position,
    ) -> Result<Module, Box<EvalAltResult>> {
        let within = |inner: Box<EvalAltResult>| {
            Box::new(EvalAltResult::ErrorInModule(import.into(), inner, position))
        };
        let placed = |error: ScriptError| {
            let at = Position::new(clamp(error.location.line), clamp(error.location.column));
            let text = error.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
            within(Box::new(EvalAltResult::ErrorRuntime(format!("{}{text}", error.message).into(), at)))
        };
        let ast = declaration::compile(engine, &file_name(import), text).map_err(placed)?;
        if ast.iter_functions().any(|function| !function.name.starts_with(NO_NAME)) {
            self.root.imports_functions.store(true, Ordering::Relaxed);
        }
        self.root.check_names(&file_name(import), &ast).map_err(placed)?;
        preload(engine, &ast).map_err(within)?;
        let apart = engine.compile(format!("fn {APART}() {{ {UNSHARE}() }}"));
        let apart = apart.map_err(|error| within(error.into()))?;
        let ast = export_constants(ast.merge(&apart), import);
        // A module must not see the importer's variables.
        let mut module =
            Module::eval_ast_as_new_raw(engine, &mut Scope::new(), global, &ast).map_err(within)?;
        unshare_module(&mut module).map_err(|Endless| {
            within(Box::new(EvalAltResult::ErrorRuntime(Endless::MESSAGE.into(), Position::NONE)))
        })?;
        Ok(module)
    }
}

impl ModuleResolver for Resolver {
    fn resolve(
        &self,
        engine: &Engine,
        _source: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<SharedModule, Box<EvalAltResult>> {
        self.load(engine, &mut engine.new_global_runtime_state(), path, position)
    }

    fn resolve_raw(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        _scope: &mut Scope,
        path: &str,
        position: Position,
    ) -> Result<SharedModule, Box<EvalAltResult>> {
        self.load(engine, global, path, position)
    }
}

/// Has the functions of a script that is loaded reach constants that share nothing: what closures among these have captured.
/// Nobody but such a function can see them, so one is called.
fn set_apart(engine: &Engine, import: &str) -> Result<(), Box<EvalAltResult>> {
    let mut scope = Scope::new();
    scope.push_constant("path", import.to_owned());
    engine.run_with_scope(&mut scope, &format!("import path as script; script::{APART}();"))
}

/// An error without what it went through.
fn innermost(error: EvalAltResult) -> EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => {
            innermost(*inner)
        }
        other => other,
    }
}

/// Registers what that function calls. Scripts may call it too: it changes nothing then.
pub(super) fn register(engine: &mut Engine) {
    engine.register_fn(UNSHARE, |context: NativeCallContext| -> Result<(), Box<EvalAltResult>> {
        unshare_constants(context.global_runtime_state()).map_err(|Endless| Endless::MESSAGE.into())
    });
}

/// Top-level constants of a module are visible to importers even without `export`: the documentation of vSL says so, and
/// declarations of 1.x are constants.
fn export_constants(ast: AST, source: &str) -> AST {
    let statements = ast.statements().iter().cloned().map(|statement| match statement {
        Stmt::Var(definition, flags, position) if flags.contains(ASTFlags::CONSTANT) => {
            Stmt::Var(definition, flags | ASTFlags::EXPORTED, position)
        }
        other => other,
    });
    AST::new_with_source(statements.collect::<Vec<_>>(), Arc::clone(ast.shared_lib()), source)
}

/// Loads every import with a literal path, those inside function bodies too, so that a rule never reads a file.
pub(super) fn preload(engine: &Engine, ast: &AST) -> Result<(), Box<EvalAltResult>> {
    for (import, position) in imports(ast) {
        engine.module_resolver().resolve(engine, None, &import, position)?;
    }
    Ok(())
}

/// The same; what is wrong with any of them.
pub fn wrong_imports(engine: &Engine, file: &str, ast: &AST) -> Vec<ScriptError> {
    let all = imports(ast).into_iter();
    let failed = all.filter_map(|(import, position)| {
        engine.module_resolver().resolve(engine, None, &import, position).err()
    });
    failed.map(|error| ScriptError::from_eval(file, &error)).collect()
}

/// Imports with a literal path.
fn imports(ast: &AST) -> Vec<(ImmutableString, Position)> {
    let mut imports = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, position))) = path.last()
            && let Expr::StringConstant(text, _) = &import.0
        {
            imports.push((text.clone(), *position));
        }
        true
    });
    imports
}

/// Rhai's positions count in 16 bits, lines from 1.
fn clamp(number: usize) -> u16 {
    u16::try_from(number.max(1)).unwrap_or(u16::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
