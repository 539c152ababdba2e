//! Methods of values that may wait for another process: they hold the transaction only while they look at it.

use rhai::{NativeCallContext, Variant};

use super::{Form, Name, Outcome, Registry, raise, shared};
use crate::stage::Stage;
use crate::transaction::Shared;

impl Registry<'_> {
    /// A function by which a declaration of vSL 1.x makes its value; no script can write its name.
    pub fn constructor<A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: &str,
        body: impl Fn(A) -> Outcome<R> + Send + Sync + 'static,
    ) {
        self.engine.register_fn(name, move |context: NativeCallContext, argument: A| {
            body(argument).map_err(|fault| raise(&context, fault))
        });
    }

    /// A method without arguments.
    pub fn method_waits0<T: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T) -> Outcome<R> + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 0, Some(from));
        self.engine.register_fn(name.name, move |context: NativeCallContext, value: &mut T| {
            let shared = shared(&context, name, from)?;
            body(&shared, value).map_err(|fault| raise(&context, fault))
        });
    }

    /// A method of one argument.
    pub fn method_waits1<T: Variant + Clone, A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T, A) -> Outcome<R> + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 1, Some(from));
        self.engine.register_fn(name.name, move |context: NativeCallContext, value: &mut T, argument: A| {
            let shared = shared(&context, name, from)?;
            body(&shared, value, argument).map_err(|fault| raise(&context, fault))
        });
    }

    /// A method of two arguments.
    pub fn method_waits2<T: Variant + Clone, A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T, A, B) -> Outcome<R> + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 2, Some(from));
        self.engine.register_fn(name.name, move |context: NativeCallContext, value: &mut T, a: A, b: B| {
            let shared = shared(&context, name, from)?;
            body(&shared, value, a, b).map_err(|fault| raise(&context, fault))
        });
    }
}
