//! Functions that do not look at the transaction: they may be called while a script is loaded.

use rhai::{ImmutableString, NativeCallContext, Variant};

use super::{Name, Outcome, Registry, raise};
use crate::object::Object;

impl Registry<'_> {
    /// A function without arguments that does not look at the transaction.
    pub fn free0<R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn() -> R + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 0, None);
        for global in name.global {
            self.globally(global, body.clone());
        }
        self.in_module(name, move || Ok(body()));
    }

    /// A function of one argument that does not look at the transaction.
    pub fn free1<A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(A) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 1, None);
        let call = move |context: NativeCallContext, a: A| body(a).map_err(|fault| raise(&context, fault));
        for global in name.global {
            self.globally(global, call.clone());
        }
        self.in_module(name, call);
    }

    /// [`Registry::free1`] for strings and objects.
    pub fn free_text<R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(&str) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        let of = body.clone();
        self.free1(name, move |a: ImmutableString| of(&a));
        self.free1(name, move |a: Object| body(&a.text()));
    }

    /// A function of two arguments that does not look at the transaction.
    pub fn free2<A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(A, B) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 2, None);
        let call =
            move |context: NativeCallContext, a: A, b: B| body(a, b).map_err(|fault| raise(&context, fault));
        for global in name.global {
            self.globally(global, call.clone());
        }
        self.in_module(name, call);
    }

    /// A function of three arguments that does not look at the transaction.
    pub fn free3<A: Variant + Clone, B: Variant + Clone, C: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(A, B, C) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.function(name, 3, None);
        let call = move |context: NativeCallContext, a: A, b: B, c: C| {
            body(a, b, c).map_err(|fault| raise(&context, fault))
        };
        for global in name.global {
            self.globally(global, call.clone());
        }
        self.in_module(name, call);
    }
}
