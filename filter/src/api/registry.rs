//! How a function becomes known: module name and global names at once, with the check of the stage in one place, and with
//! what the reference says about it.

mod free;
mod methods;
mod waiting;

pub(super) use methods::unanswered;

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{
    Dynamic, Engine, EvalAltResult, ImmutableString, Module, NativeCallContext, Position, RhaiNativeFunc,
    Variant,
};

use super::handle::{Handle, MessageHandle};
use crate::engine::{BuiltIns, Functions, GLOBAL};
use crate::object::{Fault, Object};
use crate::stage::Stage;
use crate::transaction::{Shared, Transaction};

/// What a row of the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Called by its name.
    Function,
    /// Called on a value.
    Method,
    /// Read of a value.
    Property,
    /// A constant of a module.
    Constant,
    /// A function of another row, with `ctx()` or the like before its arguments (vSL 1.x).
    Alias,
}

/// What the reference says of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doc {
    /// Arguments and result, such as `(rcpt: address) -> bool`.
    pub signature: &'static str,
    /// What it does.
    pub text: &'static str,
    /// When it throws, stages apart.
    pub errors: &'static str,
    /// Statements that use it; run by a test. An expression with a truth value must be true.
    pub example: &'static str,
}

/// One row of the table of functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// What it is.
    pub form: Form,
    /// Module, such as `ctx`; empty for functions that are global only.
    pub module: &'static str,
    /// Name in the module.
    pub name: &'static str,
    /// Names in the global name space (vSL 1.x).
    pub global: &'static [&'static str],
    /// Number of arguments.
    pub arguments: usize,
    /// First stage at which it may be called; `None`: it does not look at the transaction.
    pub from: Option<Stage>,
    /// Last stage, if there is one: it throws at those behind.
    pub until: Option<Stage>,
    /// What the reference says.
    pub doc: Doc,
}

/// What a function that can fail returns.
pub(super) type Outcome<T> = Result<T, Fault>;

/// The name of a function in both dialects, and what it is for.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub module: &'static str,
    pub name: &'static str,
    pub global: &'static [&'static str],
    until: Option<Stage>,
    doc: Doc,
}

pub(super) const fn name(module: &'static str, name: &'static str, global: &'static [&'static str]) -> Name {
    Name { module, name, global, until: None, doc: Doc { signature: "", text: "", errors: "", example: "" } }
}

impl Name {
    /// The same name in another module, of which the reference says nothing.
    pub const fn also_in(self, module: &'static str) -> Self {
        name(module, self.name, &[])
    }

    /// The last stage at which it may be called; it throws at those behind by itself.
    pub const fn until(mut self, stage: Stage) -> Self {
        self.until = Some(stage);
        self
    }

    /// What it takes and gives, and what it does.
    pub const fn doc(mut self, signature: &'static str, text: &'static str) -> Self {
        self.doc.signature = signature;
        self.doc.text = text;
        self
    }

    /// When it throws.
    pub const fn errors(mut self, errors: &'static str) -> Self {
        self.doc.errors = errors;
        self
    }

    /// How it is used; tested.
    pub const fn example(mut self, example: &'static str) -> Self {
        self.doc.example = example;
        self
    }
}

/// An argument that may be a string or an object: scripts mix them freely.
pub(super) trait Text: Variant + Clone {
    fn text(&self) -> ImmutableString;
}

impl Text for ImmutableString {
    fn text(&self) -> ImmutableString {
        self.clone()
    }
}

impl Text for Object {
    fn text(&self) -> ImmutableString {
        Object::text(self)
    }
}

pub(super) struct Registry<'e> {
    pub engine: &'e mut Engine,
    modules: BTreeMap<&'static str, Module>,
    natives: Functions,
    table: Vec<Function>,
}

/// Modules whose functions may also be called on what `ctx()`, `msg()` and `srv()` return, and as `sys::name(ctx(), ...)`.
const ON_HANDLES: [&str; 6] = ["auth", "ctx", "envelop", "fs", "msg", "transport"];

impl<'e> Registry<'e> {
    pub fn new(engine: &'e mut Engine) -> Self {
        Registry { engine, modules: BTreeMap::new(), natives: Functions::default(), table: Vec::new() }
    }

    /// The table, and the modules as the engine has them.
    pub fn finish(self) -> (Vec<Function>, BuiltIns) {
        let mut modules = BTreeMap::new();
        for (name, mut module) in self.modules {
            // As the engine would do for itself: one that is not ready it copies.
            module.set_id(name);
            module.build_index();
            let module = Arc::new(module);
            modules.insert(name, Arc::clone(&module));
            self.engine.register_static_module(name, module);
        }
        (self.table, BuiltIns { modules, natives: self.natives })
    }

    /// Adds a row for what is registered elsewhere: a method, a property.
    pub fn row(&mut self, form: Form, name: Name, arguments: usize, from: Option<Stage>) {
        let Name { module, name, global, until, doc } = name;
        let row = Function { form, module, name, global, arguments, from, until, doc };
        let is_same = |old: &Function| {
            (old.form, old.module, old.name, old.arguments) == (form, module, name, arguments)
                && (doc.signature.is_empty() || old.doc.signature == doc.signature)
        };
        if !self.table.iter().any(is_same) {
            self.table.push(row);
        }
    }

    fn function(&mut self, name: Name, arguments: usize, from: Option<Stage>) {
        self.row(Form::Function, name, arguments, from);
    }

    /// A constant of a module.
    pub fn constant(&mut self, name: Name, value: impl Into<Dynamic>) {
        self.constant_of(Form::Constant, name, value);
    }

    /// The same as a row of another form.
    pub fn constant_of(&mut self, form: Form, name: Name, value: impl Into<Dynamic>) {
        self.row(form, name, 0, None);
        self.module(name).set_var(name.name, value.into());
    }

    fn module(&mut self, name: Name) -> &mut Module {
        self.modules.entry(name.module).or_default()
    }

    /// A function without a module, a method or an operator, which plans may call themselves.
    pub fn globally<A: 'static, const N: usize, const X: bool, R: Variant + Clone, const F: bool>(
        &mut self,
        name: &str,
        function: impl RhaiNativeFunc<A, N, X, R, F> + Clone + Send + Sync + 'static,
    ) {
        self.natives.add(GLOBAL, name, function.clone());
        self.engine.register_fn(name, function);
    }

    /// A function of a module, if it has one.
    fn in_module<A: 'static, const N: usize, const X: bool, R: Variant + Clone>(
        &mut self,
        name: Name,
        function: impl RhaiNativeFunc<A, N, X, R, true> + Clone + Send + Sync + 'static,
    ) {
        if !name.module.is_empty() {
            self.natives.add(name.module, name.name, function.clone());
            self.module(name).set_native_fn(name.name, function);
        }
    }

    /// The names under which a function is called on a handle; none if its module is not of that kind.
    fn on_handle(&mut self, name: Name, arguments: usize, from: Stage) -> Vec<&'static str> {
        if !ON_HANDLES.contains(&name.module) {
            return Vec::new();
        }
        let mut names = vec![name.name];
        names.extend(name.global.iter().filter(|global| **global != name.name));
        for alias in &names {
            let alias =
                Name { module: "sys", name: alias, global: &[], until: name.until, doc: Doc::default() };
            self.row(Form::Alias, alias, arguments + 1, Some(from));
        }
        names
    }

    /// A function without arguments that looks at the transaction.
    pub fn on0<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        self.function(name, 0, Some(from));
        let call = move |context: NativeCallContext| within(&context, name, from, body);
        for global in name.global {
            self.globally(global, call);
        }
        self.in_module(name, call);
        let aliases = self.on_handle(name, 0, from);
        match name.module {
            "msg" => self.attach0::<MessageHandle, R>(&aliases, name, from, body),
            _ => self.attach0::<Handle, R>(&aliases, name, from, body),
        }
    }

    fn attach0<H: Variant + Clone, R: Variant + Clone>(
        &mut self,
        aliases: &[&'static str],
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        let called = move |context: NativeCallContext, _: &mut H| within(&context, name, from, body);
        let by_value = move |context: NativeCallContext, _: H| within(&context, name, from, body);
        for alias in aliases {
            self.engine.register_fn(*alias, called);
            self.engine.register_get(alias, called);
            self.modules.entry("sys").or_default().set_native_fn(*alias, by_value);
        }
    }

    /// A function without arguments that looks at the transaction for itself, and does not hold it while it waits.
    pub fn shared0<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        self.function(name, 0, Some(from));
        let call = move |context: NativeCallContext| {
            let shared = shared(&context, name, from)?;
            body(&shared).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.globally(global, call);
        }
        self.in_module(name, call);
    }

    /// A function of one argument that looks at the transaction.
    pub fn on1<A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, A) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 1, Some(from));
        let of = body.clone();
        let call = move |context: NativeCallContext, a: A| within(&context, name, from, |t| of(t, a));
        for global in name.global {
            self.globally(global, call.clone());
        }
        self.in_module(name, call);
        let aliases = self.on_handle(name, 1, from);
        match name.module {
            "msg" => self.attach1::<MessageHandle, A, R>(&aliases, name, from, body),
            _ => self.attach1::<Handle, A, R>(&aliases, name, from, body),
        }
    }

    fn attach1<H: Variant + Clone, A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        aliases: &[&'static str],
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, A) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        for alias in aliases {
            let of = body.clone();
            let called =
                move |context: NativeCallContext, _: &mut H, a: A| within(&context, name, from, |t| of(t, a));
            self.engine.register_fn(*alias, called);
            let of = body.clone();
            let by_value =
                move |context: NativeCallContext, _: H, a: A| within(&context, name, from, |t| of(t, a));
            self.modules.entry("sys").or_default().set_native_fn(*alias, by_value);
        }
    }

    /// A function of two arguments that looks at the transaction.
    pub fn on2<A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, A, B) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 2, Some(from));
        let of = body.clone();
        let call =
            move |context: NativeCallContext, a: A, b: B| within(&context, name, from, |t| of(t, a, b));
        for global in name.global {
            self.globally(global, call.clone());
        }
        self.in_module(name, call);
        let aliases = self.on_handle(name, 2, from);
        match name.module {
            "msg" => self.attach2::<MessageHandle, A, B, R>(&aliases, name, from, body),
            _ => self.attach2::<Handle, A, B, R>(&aliases, name, from, body),
        }
    }

    /// A function of three arguments that looks at the transaction; called by its module's name only.
    pub fn on3<A: Variant + Clone, B: Variant + Clone, C: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, A, B, C) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 3, Some(from));
        let call = move |context: NativeCallContext, a: A, b: B, c: C| {
            within(&context, name, from, |t| body(t, a, b, c))
        };
        self.in_module(name, call);
    }

    fn attach2<H: Variant + Clone, A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        aliases: &[&'static str],
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, A, B) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        for alias in aliases {
            let of = body.clone();
            let called = move |context: NativeCallContext, _: &mut H, a: A, b: B| {
                within(&context, name, from, |t| of(t, a, b))
            };
            self.engine.register_fn(*alias, called);
            let of = body.clone();
            let by_value = move |context: NativeCallContext, _: H, a: A, b: B| {
                within(&context, name, from, |t| of(t, a, b))
            };
            self.modules.entry("sys").or_default().set_native_fn(*alias, by_value);
        }
    }

    /// [`Registry::on1`] for strings and objects.
    pub fn text1<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, &str) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        let of = body.clone();
        self.on1(name, from, move |t, a: ImmutableString| of(t, &a));
        self.on1(name, from, move |t, a: Object| body(t, &a.text()));
    }

    /// [`Registry::on2`] for the four mixes of strings and objects.
    pub fn text2<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, &str, &str) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        self.on2(name, from, move |t, a: ImmutableString, b: ImmutableString| body(t, &a, &b));
        self.on2(name, from, move |t, a: ImmutableString, b: Object| body(t, &a, &b.text()));
        self.on2(name, from, move |t, a: Object, b: ImmutableString| body(t, &a.text(), &b));
        self.on2(name, from, move |t, a: Object, b: Object| body(t, &a.text(), &b.text()));
    }
}

/// Runs a function on the transaction of the running script, if its stage allows.
fn within<R>(
    context: &NativeCallContext,
    name: Name,
    from: Stage,
    body: impl FnOnce(&mut Transaction) -> Outcome<R>,
) -> Result<R, Box<EvalAltResult>> {
    let Some(shared) = context.tag().and_then(Dynamic::read_lock::<Shared>) else {
        return Err(no_transaction(context, name));
    };
    let mut transaction = shared.lock();
    if transaction.stage < from {
        return Err(too_early(context, name, from, transaction.stage));
    }
    body(&mut transaction).map_err(|fault| raise(context, fault))
}

/// The transaction of the running script, if its stage allows this function.
fn shared(context: &NativeCallContext, name: Name, from: Stage) -> Result<Shared, Box<EvalAltResult>> {
    let Some(shared) = context.tag().and_then(Dynamic::read_lock::<Shared>) else {
        return Err(no_transaction(context, name));
    };
    let stage = shared.lock().stage;
    if stage < from { Err(too_early(context, name, from, stage)) } else { Ok(shared.clone()) }
}

#[cold]
fn no_transaction(context: &NativeCallContext, name: Name) -> Box<EvalAltResult> {
    let message =
        format!("{} looks at a transaction; there is none while a script is loaded", full_name(name));
    raise(context, Fault(message))
}

#[cold]
fn too_early(context: &NativeCallContext, name: Name, from: Stage, stage: Stage) -> Box<EvalAltResult> {
    let message = format!("{} is available from the stage '{from}' on, not at '{stage}'", full_name(name));
    raise(context, Fault(message))
}

fn full_name(name: Name) -> String {
    if name.module.is_empty() { name.name.to_owned() } else { format!("{}::{}", name.module, name.name) }
}

pub(super) fn raise(context: &NativeCallContext, fault: Fault) -> Box<EvalAltResult> {
    let position: Position = context.call_position();
    Box::new(EvalAltResult::ErrorRuntime(fault.0.into(), position))
}
