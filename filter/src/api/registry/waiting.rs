//! Functions that may wait for another process: they hold the transaction only while they look at it.

use rhai::{ImmutableString, NativeCallContext, Variant};

use super::super::handle::Handle;
use super::{Form, Name, Outcome, Registry, Text, raise, shared};
use crate::object::Object;
use crate::stage::Stage;
use crate::transaction::Shared;

impl Registry<'_> {
    /// A function without arguments.
    pub fn waits0<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 0, Some(from));
        let call = move |context: NativeCallContext| {
            let shared = shared(&context, name, from)?;
            body(&shared).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of one argument.
    pub fn waits1<A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, A) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 1, Some(from));
        let call = move |context: NativeCallContext, a: A| {
            let shared = shared(&context, name, from)?;
            body(&shared, a).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of a string or an object, which may be called on a handle too.
    pub fn waits_text<R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &str) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.waits_on_handle::<ImmutableString, R>(name, from, body.clone());
        self.waits_on_handle::<Object, R>(name, from, body);
    }

    fn waits_on_handle<A: Text, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &str) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        let of = body.clone();
        self.waits1(name, from, move |shared, a: A| of(shared, &a.text()));
        let call = move |context: &NativeCallContext, a: A| {
            let shared = shared(context, name, from)?;
            body(&shared, &a.text()).map_err(|fault| raise(context, fault))
        };
        for alias in self.on_handle(name, 1, from) {
            let of = call.clone();
            let called = move |context: NativeCallContext, _: &mut Handle, a: A| of(&context, a);
            self.engine.register_fn(alias, called);
            let of = call.clone();
            let by_value = move |context: NativeCallContext, _: Handle, a: A| of(&context, a);
            self.modules.entry("sys").or_default().set_native_fn(alias, by_value);
        }
    }

    /// A function of two arguments.
    pub fn waits2<A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, A, B) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 2, Some(from));
        let call = move |context: NativeCallContext, a: A, b: B| {
            let shared = shared(&context, name, from)?;
            body(&shared, a, b).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of two arguments that is in `sys::` only.
    pub fn system_waits2<A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: &'static str,
        from: Stage,
        body: impl Fn(&Shared, A, B) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        let name = super::name("sys", name, &[]);
        self.row(Form::Alias, name, 2, Some(from));
        let call = move |context: NativeCallContext, a: A, b: B| {
            let shared = shared(&context, name, from)?;
            body(&shared, a, b).map_err(|fault| raise(&context, fault))
        };
        self.modules.entry("sys").or_default().set_native_fn(name.name, call);
    }

    /// A function of three arguments.
    pub fn waits3<A: Variant + Clone, B: Variant + Clone, C: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, A, B, C) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 3, Some(from));
        let call = move |context: NativeCallContext, a: A, b: B, c: C| {
            let shared = shared(&context, name, from)?;
            body(&shared, a, b, c).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of four arguments.
    pub fn waits4<
        A: Variant + Clone,
        B: Variant + Clone,
        C: Variant + Clone,
        D: Variant + Clone,
        R: Variant + Clone,
    >(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, A, B, C, D) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 4, Some(from));
        let call = move |context: NativeCallContext, a: A, b: B, c: C, d: D| {
            let shared = shared(&context, name, from)?;
            body(&shared, a, b, c, d).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }

    /// A function of five arguments.
    pub fn waits5<
        A: Variant + Clone,
        B: Variant + Clone,
        C: Variant + Clone,
        D: Variant + Clone,
        E: Variant + Clone,
        R: Variant + Clone,
    >(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, A, B, C, D, E) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 5, Some(from));
        let call = move |context: NativeCallContext, a: A, b: B, c: C, d: D, e: E| {
            let shared = shared(&context, name, from)?;
            body(&shared, a, b, c, d, e).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.engine.register_fn(*global, call.clone());
        }
        if !name.module.is_empty() {
            self.modules.entry(name.module).or_default().set_native_fn(name.name, call);
        }
    }
}
