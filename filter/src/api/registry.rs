//! How a function becomes known: module name and global names at once, with the check of the stage in one place.

mod waiting;

use std::collections::BTreeMap;

use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Module, NativeCallContext, Position, Variant};

use crate::object::{Fault, Object};
use crate::stage::Stage;
use crate::transaction::{Shared, Transaction};

/// One row of the table of functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
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
}

/// What a function that can fail returns.
pub(super) type Outcome<T> = Result<T, Fault>;

/// The name of a function in both dialects.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub module: &'static str,
    pub name: &'static str,
    pub global: &'static [&'static str],
}

pub(super) const fn name(module: &'static str, name: &'static str, global: &'static [&'static str]) -> Name {
    Name { module, name, global }
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
    table: Vec<Function>,
}

impl<'e> Registry<'e> {
    pub fn new(engine: &'e mut Engine) -> Self {
        Registry { engine, modules: BTreeMap::new(), table: Vec::new() }
    }

    pub fn finish(self) -> Vec<Function> {
        for (name, module) in self.modules {
            self.engine.register_static_module(name, module.into());
        }
        self.table
    }

    fn row(&mut self, name: Name, arguments: usize, from: Option<Stage>) {
        let Name { module, name, global } = name;
        let row = Function { module, name, global, arguments, from };
        if !self.table.contains(&row) {
            self.table.push(row);
        }
    }

    /// A function without arguments that looks at the transaction.
    pub fn on0<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        self.row(name, 0, Some(from));
        let call = move |context: NativeCallContext| within(&context, name, from, body);
        for global in name.global {
            self.engine.register_fn(*global, call);
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function without arguments that looks at the transaction for itself, and does not hold it while it waits.
    pub fn shared0<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        self.row(name, 0, Some(from));
        let call = move |context: NativeCallContext| {
            let shared = shared(&context, name, from)?;
            body(&shared).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.engine.register_fn(*global, call);
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of one argument that looks at the transaction.
    pub fn on1<A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, A) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        self.row(name, 1, Some(from));
        let call = move |context: NativeCallContext, a: A| within(&context, name, from, |t| body(t, a));
        for global in name.global {
            self.engine.register_fn(*global, call);
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of two arguments that looks at the transaction.
    pub fn on2<A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, A, B) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        self.row(name, 2, Some(from));
        let call =
            move |context: NativeCallContext, a: A, b: B| within(&context, name, from, |t| body(t, a, b));
        for global in name.global {
            self.engine.register_fn(*global, call);
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// [`Registry::on1`] for strings and objects.
    pub fn text1<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&mut Transaction, &str) -> Outcome<R> + Copy + Send + Sync + 'static,
    ) {
        self.on1(name, from, move |t, a: ImmutableString| body(t, &a));
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

    /// A function without arguments that does not look at the transaction.
    pub fn free0<R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn() -> R + Clone + Send + Sync + 'static,
    ) {
        self.row(name, 0, None);
        for global in name.global {
            let body = body.clone();
            self.engine.register_fn(*global, body);
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, move || Ok(body()));
        }
    }

    /// A function of one argument that does not look at the transaction.
    pub fn free1<A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(A) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(name, 1, None);
        let call = move |context: NativeCallContext, a: A| body(a).map_err(|fault| raise(&context, fault));
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of two arguments that does not look at the transaction.
    pub fn free2<A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(A, B) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(name, 2, None);
        let call =
            move |context: NativeCallContext, a: A, b: B| body(a, b).map_err(|fault| raise(&context, fault));
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of three arguments that does not look at the transaction.
    pub fn free3<A: Variant + Clone, B: Variant + Clone, C: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(A, B, C) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(name, 3, None);
        let call = move |context: NativeCallContext, a: A, b: B, c: C| {
            body(a, b, c).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A property of objects.
    pub fn property<R: Variant + Clone>(
        &mut self,
        name: &str,
        body: impl Fn(&Object) -> Outcome<R> + Send + Sync + 'static,
    ) {
        self.engine.register_get(name, move |context: NativeCallContext, object: &mut Object| {
            body(object).map_err(|fault| raise(&context, fault))
        });
    }
}

/// Runs a function on the transaction of the running script, if its stage allows.
fn within<R>(
    context: &NativeCallContext,
    name: Name,
    from: Stage,
    body: impl FnOnce(&mut Transaction) -> Outcome<R>,
) -> Result<R, Box<EvalAltResult>> {
    let shared = shared(context, name, from)?;
    let mut transaction = shared.lock();
    body(&mut transaction).map_err(|fault| raise(context, fault))
}

/// The transaction of the running script, if its stage allows this function.
fn shared(context: &NativeCallContext, name: Name, from: Stage) -> Result<Shared, Box<EvalAltResult>> {
    let tag = context.tag().and_then(Dynamic::read_lock::<Shared>);
    let Some(shared) = tag else {
        let message =
            format!("{} looks at a transaction; there is none while a script is loaded", full_name(name));
        return Err(raise(context, Fault(message)));
    };
    let stage = shared.lock().stage;
    if stage < from {
        let message =
            format!("{} is available from the stage '{from}' on, not at '{stage}'", full_name(name));
        return Err(raise(context, Fault(message)));
    }
    Ok(shared.clone())
}

fn full_name(name: Name) -> String {
    if name.module.is_empty() { name.name.to_owned() } else { format!("{}::{}", name.module, name.name) }
}

pub(super) fn raise(context: &NativeCallContext, fault: Fault) -> Box<EvalAltResult> {
    let position: Position = context.call_position();
    Box::new(EvalAltResult::ErrorRuntime(fault.0.into(), position))
}
