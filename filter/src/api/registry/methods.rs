//! Properties and methods of values. Those that may wait for another process hold the transaction only while they look at it.

use rhai::{Dynamic, EvalAltResult, ImmutableString, NativeCallContext, Variant};

use super::{Form, Name, Outcome, Registry, raise, shared};
use crate::database::NoAnswer;
use crate::engine::PROPERTY;
use crate::object::Object;
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

    /// A property of values of one type.
    pub fn property<T: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(&T) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(Form::Property, name, 0, None);
        let read = move |context: NativeCallContext, value: &mut T| {
            body(value).map_err(|fault| raise(&context, fault))
        };
        self.natives.add(PROPERTY, name.name, read.clone());
        self.engine.register_get(name.name, read);
    }

    /// A method without arguments.
    pub fn method0<T: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(&T) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 0, None);
        self.globally(name.name, move |context: NativeCallContext, value: &mut T| {
            body(value).map_err(|fault| raise(&context, fault))
        });
    }

    /// A method with a string or an object.
    pub fn method_text<T: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(&T, &str) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 1, None);
        let of = body.clone();
        self.globally(name.name, move |context: NativeCallContext, value: &mut T, text: ImmutableString| {
            of(value, &text).map_err(|fault| raise(&context, fault))
        });
        self.globally(name.name, move |context: NativeCallContext, value: &mut T, object: Object| {
            body(value, &object.text()).map_err(|fault| raise(&context, fault))
        });
    }

    /// A method without arguments that may wait.
    pub fn method_waits0<T: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 0, Some(from));
        self.globally(name.name, move |context: NativeCallContext, value: &mut T| {
            let shared = shared(&context, name, from)?;
            body(&shared, value).map_err(|fault| raise(&context, fault))
        });
    }

    /// A method of one argument that may wait.
    pub fn method_waits1<T: Variant + Clone, A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T, A) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 1, Some(from));
        self.globally(name.name, move |context: NativeCallContext, value: &mut T, argument: A| {
            let shared = shared(&context, name, from)?;
            body(&shared, value, argument).map_err(|fault| raise(&context, fault))
        });
    }

    /// A method of one argument, which may ask a database; it looks at no transaction.
    pub fn method_asks<T: Variant + Clone, A: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(&T, A) -> Result<R, NoAnswer> + Clone + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 1, None);
        self.globally(name.name, move |context: NativeCallContext, value: &mut T, argument: A| {
            body(value, argument).map_err(|none| unanswered(&context, none))
        });
    }

    /// A method with a string or an object, which may ask a database; it looks at no transaction.
    pub fn method_text_asks<T: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        body: impl Fn(&T, &str) -> Result<R, NoAnswer> + Clone + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 1, None);
        let of = body.clone();
        self.globally(name.name, move |context: NativeCallContext, value: &mut T, text: ImmutableString| {
            of(value, &text).map_err(|none| unanswered(&context, none))
        });
        self.globally(name.name, move |context: NativeCallContext, value: &mut T, object: Object| {
            body(value, &object.text()).map_err(|none| unanswered(&context, none))
        });
    }

    /// A method of two arguments that may wait.
    pub fn method_waits2<T: Variant + Clone, A: Variant + Clone, B: Variant + Clone, R: Variant + Clone>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T, A, B) -> Outcome<R> + Clone + Send + Sync + 'static,
    ) {
        self.row(Form::Method, name, 2, Some(from));
        self.globally(name.name, move |context: NativeCallContext, value: &mut T, a: A, b: B| {
            let shared = shared(&context, name, from)?;
            body(&shared, value, a, b).map_err(|fault| raise(&context, fault))
        });
    }

    /// A method of three arguments that may wait.
    pub fn method_waits3<T, A, B, C, R>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T, A, B, C) -> Outcome<R> + Send + Sync + 'static,
    ) where
        T: Variant + Clone,
        A: Variant + Clone,
        B: Variant + Clone,
        C: Variant + Clone,
        R: Variant + Clone,
    {
        self.row(Form::Method, name, 3, Some(from));
        self.engine.register_fn(
            name.name,
            move |context: NativeCallContext, value: &mut T, a: A, b: B, c: C| {
                let shared = shared(&context, name, from)?;
                body(&shared, value, a, b, c).map_err(|fault| raise(&context, fault))
            },
        );
    }

    /// A method of four arguments that may wait.
    pub fn method_waits4<T, A, B, C, D, R>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T, A, B, C, D) -> Outcome<R> + Send + Sync + 'static,
    ) where
        T: Variant + Clone,
        A: Variant + Clone,
        B: Variant + Clone,
        C: Variant + Clone,
        D: Variant + Clone,
        R: Variant + Clone,
    {
        self.row(Form::Method, name, 4, Some(from));
        self.engine.register_fn(
            name.name,
            move |context: NativeCallContext, value: &mut T, a: A, b: B, c: C, d: D| {
                let shared = shared(&context, name, from)?;
                body(&shared, value, a, b, c, d).map_err(|fault| raise(&context, fault))
            },
        );
    }

    /// A method of five arguments that may wait.
    pub fn method_waits5<T, A, B, C, D, E, R>(
        &mut self,
        name: Name,
        from: Stage,
        body: impl Fn(&Shared, &T, A, B, C, D, E) -> Outcome<R> + Send + Sync + 'static,
    ) where
        T: Variant + Clone,
        A: Variant + Clone,
        B: Variant + Clone,
        C: Variant + Clone,
        D: Variant + Clone,
        E: Variant + Clone,
        R: Variant + Clone,
    {
        self.row(Form::Method, name, 5, Some(from));
        self.engine.register_fn(
            name.name,
            move |context: NativeCallContext, value: &mut T, a: A, b: B, c: C, d: D, e: E| {
                let shared = shared(&context, name, from)?;
                body(&shared, value, a, b, c, d, e).map_err(|fault| raise(&context, fault))
            },
        );
    }
}

/// What is thrown where a database has not answered. What fails because of that is a matter for later.
pub fn unanswered(context: &NativeCallContext, none: NoAnswer) -> Box<EvalAltResult> {
    let fault = match none {
        NoAnswer::Never(fault) => fault,
        NoAnswer::Later(fault) | NoAnswer::Busy(fault) => {
            if let Some(shared) = context.tag().and_then(Dynamic::read_lock::<Shared>) {
                shared.lock().was_busy = true;
            }
            fault
        }
    };
    raise(context, fault)
}
