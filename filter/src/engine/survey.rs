//! What a compiled script calls and how its directives end, found without running it: for those who check rules before
//! they are used. It knows no function of vSL by name but the statuses; what may be called where is for others to say.

mod conditions;
mod ending;

use std::any::TypeId;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rhai::{AST, ASTNode, Array, Dynamic, Engine, Expr, FnPtr, ImmutableString, Map, Module, Stmt};

use super::directive::{Directive, DirectiveKind};
use super::error::Location;
use super::resolver::file_name;
use ending::{Ending, Gaps, Statuses};

pub use conditions::conditions;
pub use ending::{Gap, Why};

/// Most functions that are followed from one directive.
const MAX_FOLLOWED: usize = 1_000;
/// Most parameters of a closure that is looked for.
const MAX_PARAMETERS: usize = 16;
/// Lists and maps in each other that are looked into.
const MAX_DEPTH: usize = 16;
/// Words of Rhai that look like functions.
const WORDS: [&str; 12] = [
    "print",
    "debug",
    "type_of",
    "is_shared",
    "Fn",
    "call",
    "curry",
    "is_def_fn",
    "is_def_var",
    "eval",
    "this",
    "import",
];

/// What an argument is, as far as it can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number without a fraction.
    Int,
    /// A number with one.
    Float,
    /// True or false.
    Bool,
    /// A string.
    Text,
    /// An array.
    List,
    /// A map.
    Map,
    /// Nothing: `()`.
    Unit,
    /// Only running tells.
    Unknown,
}

impl Kind {
    /// The name that scripts know.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Bool => "bool",
            Kind::Text => "string",
            Kind::List => "array",
            Kind::Map => "map",
            Kind::Unit => "()",
            Kind::Unknown => "?",
        }
    }

    /// True if a parameter of that type may get it.
    fn may_be(self, of: TypeId) -> bool {
        let own = match self {
            Kind::Int => TypeId::of::<i64>(),
            Kind::Float => TypeId::of::<f64>(),
            Kind::Bool => TypeId::of::<bool>(),
            Kind::Text => TypeId::of::<ImmutableString>(),
            Kind::List => TypeId::of::<Array>(),
            Kind::Map => TypeId::of::<Map>(),
            Kind::Unit => TypeId::of::<()>(),
            Kind::Unknown => return true,
        };
        of == own || of == TypeId::of::<Dynamic>()
    }

    fn of(expression: &Expr) -> Self {
        match expression {
            Expr::IntegerConstant(..) => Kind::Int,
            Expr::FloatConstant(..) => Kind::Float,
            Expr::BoolConstant(..) => Kind::Bool,
            Expr::StringConstant(..) | Expr::InterpolatedString(..) => Kind::Text,
            Expr::Array(..) => Kind::List,
            Expr::Map(..) => Kind::Map,
            Expr::Unit(_) => Kind::Unit,
            Expr::DynamicConstant(value, _) if value.is_array() => Kind::List,
            Expr::DynamicConstant(value, _) if value.is_map() => Kind::Map,
            _ => Kind::Unknown,
        }
    }
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The module that is named before it; of several the first.
    pub module: Option<String>,
    /// Modules that are named behind the first, each one in the one before.
    pub inner: Vec<String>,
    /// The function.
    pub name: String,
    /// Its arguments; for a method without the value it is called on.
    pub arguments: Vec<Kind>,
    /// It is called on a value.
    pub is_method: bool,
    /// The script catches what it throws.
    pub is_caught: bool,
    /// Where it stands.
    pub place: Location,
}

impl Call {
    /// The call that a node is, unless it is an operator or a word of the language.
    fn of(file: &str, path: &[ASTNode]) -> Option<Self> {
        let (call, is_method, position) = match path.last()? {
            ASTNode::Stmt(Stmt::FnCall(call, position)) | ASTNode::Expr(Expr::FnCall(call, position)) => {
                (call, false, *position)
            }
            ASTNode::Expr(Expr::MethodCall(call, position)) => (call, true, *position),
            _ => return None,
        };
        let is_name = call.name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if call.op_token.is_some() || !is_name || WORDS.contains(&call.name.as_str()) {
            return None;
        }
        let module = call.namespace.path.first();
        // The place of a qualified name is that of its first word.
        let position = module.map_or(position, |first| first.pos);
        Some(Call {
            module: module.map(|first| first.name.to_string()),
            inner: call.namespace.path.iter().skip(1).map(|inner| inner.name.to_string()).collect(),
            name: call.name.to_string(),
            arguments: call.args.iter().map(Kind::of).collect(),
            is_method,
            is_caught: path.windows(2).any(is_tried),
            place: Location::new(file, position),
        })
    }
}

/// True if the second node stands in the part of the first that is tried, and not in the one that catches.
fn is_tried(pair: &[ASTNode]) -> bool {
    let [ASTNode::Stmt(Stmt::TryCatch(parts, _)), ASTNode::Stmt(inner)] = pair else { return false };
    parts.body.statements().iter().any(|statement| std::ptr::eq(statement, *inner))
}

/// What a script calls, and what of it is its own.
#[derive(Debug, Default)]
pub struct Survey {
    /// All calls, those inside functions too.
    pub calls: Vec<Call>,
    /// Functions with the number of their parameters.
    functions: HashSet<(String, usize)>,
    /// Variables, parameters, keys of maps: each may hold a function.
    names: HashSet<String>,
    /// Modules that it imports.
    imports: HashSet<String>,
}

impl Survey {
    /// Looks through a script; `file` stands for it in places.
    pub fn of(file: &str, ast: &AST) -> Self {
        let mut survey = Survey::default();
        for function in ast.iter_functions() {
            survey.functions.insert((function.name.to_owned(), function.params.len()));
            survey.names.extend(function.params.iter().map(ToString::to_string));
        }
        ast.walk(&mut |path: &[ASTNode]| {
            survey.see(file, path);
            true
        });
        survey
    }

    fn see(&mut self, file: &str, path: &[ASTNode]) {
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Var(variable, ..))) => {
                self.names.insert(variable.0.name.to_string());
            }
            Some(ASTNode::Stmt(Stmt::For(variables, _))) => {
                self.names.insert(variables.0.name.to_string());
            }
            Some(ASTNode::Stmt(Stmt::Import(import, _))) => {
                self.imports.insert(import.1.name.to_string());
            }
            Some(ASTNode::Expr(Expr::Map(map, _))) => {
                self.names.extend(map.0.iter().map(|(key, _)| key.name.to_string()));
            }
            // A map whose values are all known is a constant.
            Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) => {
                within(value, 0, &mut |inner| {
                    if let Some(map) = inner.read_lock::<Map>() {
                        self.names.extend(map.keys().map(ToString::to_string));
                    }
                });
            }
            Some(ASTNode::Expr(Expr::Property(property, _))) => {
                self.names.insert(property.2.to_string());
            }
            _ => self.calls.extend(Call::of(file, path)),
        }
    }

    /// True if the script itself, or what it imports, has what is called.
    pub fn has(&self, call: &Call) -> bool {
        match &call.module {
            Some(module) => module == "global" || self.imports.contains(module),
            None => {
                self.names.contains(&call.name)
                    || self.functions.contains(&(call.name.clone(), call.arguments.len()))
            }
        }
    }

    /// How many arguments the script's own functions of that name take.
    pub fn arities(&self, name: &str) -> Vec<usize> {
        self.functions.iter().filter(|(own, _)| own == name).map(|(_, arity)| *arity).collect()
    }
}

/// The functions that are registered in an engine, as Rhai knows them.
#[derive(Debug, Default)]
pub struct Signatures(HashMap<(String, String), Vec<Vec<TypeId>>>);

impl Signatures {
    /// Those of an engine with all its modules.
    pub fn of(engine: &Engine) -> Self {
        let mut all: HashMap<(String, String), Vec<Vec<TypeId>>> = HashMap::new();
        let rows = engine.collect_fn_metadata(
            None,
            |info| {
                let name = (info.namespace.to_string(), info.metadata.name.to_string());
                Some((name, info.metadata.param_types.to_vec()))
            },
            true,
        );
        for (name, types) in rows {
            all.entry(name).or_default().push(types);
        }
        Signatures(all)
    }

    /// The forms of a function of a module, or of a global one if the module is empty.
    fn forms(&self, module: &str, name: &str) -> &[Vec<TypeId>] {
        self.0.get(&(module.to_owned(), name.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// How many arguments a function takes in its forms, without repetition; nothing if there is none.
    pub fn arities(&self, module: &str, name: &str) -> Vec<usize> {
        let mut arities: Vec<usize> = self.forms(module, name).iter().map(Vec::len).collect();
        arities.sort_unstable();
        arities.dedup();
        arities
    }

    /// Names of global functions.
    pub fn globals(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter(|(module, _)| module.is_empty()).map(|(_, name)| name.as_str())
    }

    /// The argument, from 0, that no form of the function takes although the number fits; `None` if one may take them all.
    pub fn unfit(&self, module: &str, name: &str, arguments: &[Kind]) -> Option<usize> {
        let forms = self.forms(module, name).iter().filter(|form| form.len() == arguments.len());
        let first_unfit =
            forms.map(|form| form.iter().zip(arguments).position(|(of, kind)| !kind.may_be(*of)));
        // The form that goes the furthest is the one that was meant.
        first_unfit.map(|at| at.unwrap_or(usize::MAX)).max().filter(|at| *at != usize::MAX)
    }
}

/// What those who look through directives know of what is not in them.
pub struct Known<'a> {
    /// What a function of vSL gives; `None` if that is a status, or if nobody knows.
    pub gives: &'a dyn Fn(&Call) -> Option<&'a str>,
    /// The script that an import names, if it was loaded.
    pub import: &'a dyn Fn(&str) -> Option<Arc<Module>>,
}

/// What running a directive can come to.
#[derive(Debug, Default)]
pub struct Reach {
    /// All calls of what is not the script's own, in its body, in the functions of its script that it calls, and in those of
    /// scripts that this imports.
    pub calls: Vec<Call>,
    /// Whatever happens, it ends the stage.
    pub always_ends: bool,
    /// Where it may end without a status although it must have one.
    pub gaps: Vec<Gap>,
}

/// A function of a script that is looked into.
struct Own {
    library: Arc<Module>,
    file: String,
    name: String,
    arity: usize,
    /// What the function imports that it is made in, by alias.
    inherited: HashMap<String, ImmutableString>,
    /// The same with what it imports itself, once somebody has asked; of two with one alias the last.
    imports: OnceCell<HashMap<String, ImmutableString>>,
}

impl Own {
    fn new(library: &Arc<Module>, file: &str, name: &str, arity: usize) -> Self {
        Own {
            library: Arc::clone(library),
            file: file.to_owned(),
            name: name.to_owned(),
            arity,
            inherited: HashMap::new(),
            imports: OnceCell::new(),
        }
    }

    /// Another function of the same script.
    fn sibling(&self, name: &str, arity: usize) -> Self {
        Own::new(&self.library, &self.file, name, arity)
    }

    /// A closure that is made in it, and sees what it imports.
    fn closure(&self, name: &str, arity: usize) -> Self {
        Own { inherited: self.imports().clone(), ..self.sibling(name, arity) }
    }

    fn imports(&self) -> &HashMap<String, ImmutableString> {
        self.imports.get_or_init(|| {
            let mut imports = self.inherited.clone();
            let Some(function) = self.library.get_script_fn(&self.name, self.arity) else { return imports };
            let mut alone = Module::new();
            alone.set_script_fn(Arc::clone(function));
            AST::new(Vec::new(), alone).walk(&mut |path: &[ASTNode]| {
                if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = path.last()
                    && let Expr::StringConstant(text, _) = &import.0
                {
                    imports.insert(import.1.name.to_string(), text.clone());
                }
                true
            });
            imports
        })
    }
}

impl Directive {
    /// Looks through the body and what it calls.
    pub fn reach(&self, known: &Known) -> Reach {
        let mut reach = Reach::default();
        let Some(library) = self.body.environment.lib.first() else { return reach };
        let function = &self.body.function;
        let body = Own::new(library, &self.location.file, function.fn_name(), function.curry().len());
        if matches!(self.kind, DirectiveKind::Rule | DirectiveKind::Delegate) {
            reach.gaps = Gaps::new(self, known).of(&body);
        }
        let mut pending = vec![body];
        let mut seen = HashSet::new();
        while let Some(own) = pending.pop() {
            if seen.len() >= MAX_FOLLOWED || !seen.insert((own.file.clone(), own.name.clone(), own.arity)) {
                continue;
            }
            let Some(function) = own.library.get_script_fn(&own.name, own.arity) else { continue };
            let mut alone = Module::new();
            alone.set_script_fn(Arc::clone(function));
            let mut ending = Ending { statuses: Statuses(&own.library), last: false, leaves: false };
            AST::new(Vec::new(), alone).walk(&mut |path: &[ASTNode]| {
                if let Some(ASTNode::Expr(Expr::DynamicConstant(value, _))) = path.last() {
                    within(value, 0, &mut |inner| {
                        let name = inner.read_lock::<FnPtr>().map(|closure| closure.fn_name().to_owned());
                        let forms =
                            name.map(|name| (0..=MAX_PARAMETERS).map(move |arity| (name.clone(), arity)));
                        pending.extend(
                            forms.into_iter().flatten().map(|(name, arity)| own.closure(&name, arity)),
                        );
                    });
                }
                if let Some(call) = Call::of(&own.file, path) {
                    match self.target(&own, &call, known) {
                        Some(_) if call.is_caught => {}
                        Some(target) => pending.push(target),
                        None => reach.calls.push(call),
                    }
                }
                ending.see(path);
                true
            });
            if seen.len() == 1 {
                // One that delegates may be passed by: its service may fail.
                reach.always_ends = self.kind == DirectiveKind::Rule && ending.is_final();
            }
        }
        reach
    }

    /// The function of a script that is called, which comes before one of vSL with the same name.
    fn target(&self, from: &Own, call: &Call, known: &Known) -> Option<Own> {
        let arity = call.arguments.len();
        let has = |library: &Arc<Module>| library.get_script_fn(&call.name, arity).is_some();
        let Some(alias) = &call.module else {
            return has(&from.library).then(|| from.sibling(&call.name, arity));
        };
        let is_here = self.body.environment.lib.first().is_some_and(|own| Arc::ptr_eq(own, &from.library));
        let first = if let Some(path) = from.imports().get(alias) {
            (known.import)(path)
        } else if is_here {
            self.body
                .environment
                .find_import(alias)
                .and_then(|number| self.body.environment.get_shared_import(number))
        } else {
            imported(&from.library, alias)
        };
        let library = call.inner.iter().try_fold(first?, |library, alias| imported(&library, alias))?;
        if !has(&library) {
            return None;
        }
        let file = file_name(library.id().unwrap_or(alias));
        Some(Own::new(&library, &file, &call.name, arity))
    }
}

/// What the script of a module has imported under that name.
fn imported(library: &Module, alias: &str) -> Option<Arc<Module>> {
    library.iter_sub_modules().find(|(name, _)| *name == alias).map(|(_, module)| Arc::clone(module))
}

/// Shows a constant and all that is in it.
fn within(value: &Dynamic, depth: usize, see: &mut impl FnMut(&Dynamic)) {
    see(value);
    if depth >= MAX_DEPTH {
        return;
    }
    if let Some(list) = value.read_lock::<Array>() {
        list.iter().for_each(|inner| within(inner, depth + 1, see));
    } else if let Some(map) = value.read_lock::<Map>() {
        map.values().for_each(|inner| within(inner, depth + 1, see));
    }
}
