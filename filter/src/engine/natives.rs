//! Functions of our own as they were registered, so that a plan can call them without looking for them anew: by module, name
//! and the types of their arguments. It owns a second handle of each; what a name means in a script, it does not know.

use std::any::TypeId;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use rhai::{Dynamic, EvalAltResult, ImmutableString, Module, NativeCallContext, RhaiNativeFunc};

/// The module of functions that are called without one, and of methods.
pub const GLOBAL: &str = "";
/// What stands for the module of properties. No script can write it.
pub const PROPERTY: &str = ".";

/// The built-in modules by the names that the engine has for them, and the functions that plans may call themselves.
#[derive(Debug, Default)]
pub struct BuiltIns {
    /// The modules.
    pub modules: BTreeMap<&'static str, Arc<Module>>,
    /// Functions, of modules and without.
    pub natives: Functions,
}

/// A function as Rhai calls it: arguments are taken, but for the first of a method.
type Code = dyn Fn(Option<NativeCallContext<'_>>, &mut [&mut Dynamic]) -> Result<Dynamic, Box<EvalAltResult>>
    + Send
    + Sync;

/// One function for arguments of certain types.
#[derive(Clone)]
pub(super) struct Native {
    types: Vec<TypeId>,
    code: Arc<Code>,
}

/// The functions that have one name.
pub(super) type Overloads = Arc<[Native]>;

/// All that were noted.
#[derive(Debug, Default)]
pub struct Functions(HashMap<(&'static str, String), Vec<Native>>);

impl Functions {
    /// Notes a function. Of two for the same types the last counts, as in Rhai.
    pub fn add<A: 'static, const N: usize, const X: bool, R: 'static, const F: bool>(
        &mut self,
        module: &'static str,
        name: &str,
        function: impl RhaiNativeFunc<A, N, X, R, F> + 'static,
    ) {
        let types = types_of(&function);
        let made = function.into_rhai_function(false, false);
        let Some(code) = made.get_native_fn() else { return };
        let overloads = self.0.entry((module, name.to_owned())).or_default();
        overloads.retain(|old| old.types != types);
        overloads.push(Native { types, code: Arc::clone(code) });
    }

    /// Those of a name, if there are any.
    pub(super) fn find(&self, module: &str, name: &str, arguments: usize) -> Option<Overloads> {
        let known = self.0.iter().find(|((of, called), _)| *of == module && called == name);
        let fit = |native: &&Native| native.types.len() == arguments;
        let found: Vec<Native> = known?.1.iter().filter(fit).cloned().collect();
        (!found.is_empty()).then(|| found.into())
    }
}

impl Native {
    /// True if it takes these values.
    pub fn takes(&self, values: &[Dynamic]) -> bool {
        self.types.iter().zip(values).all(|(wanted, value)| *wanted == value.type_id())
    }

    /// Calls it with values that it takes.
    pub fn call(
        &self,
        context: NativeCallContext<'_>,
        values: &mut [&mut Dynamic],
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        (self.code)(Some(context), values)
    }
}

/// The types of a function's parameters, as values have them: texts are all of one type.
fn types_of<A: 'static, const N: usize, const X: bool, R: 'static, const F: bool, T>(_: &T) -> Vec<TypeId>
where
    T: RhaiNativeFunc<A, N, X, R, F>,
{
    let is_text = |one: TypeId| one == TypeId::of::<String>() || one == TypeId::of::<&'static str>();
    let as_value = |one: TypeId| if is_text(one) { TypeId::of::<ImmutableString>() } else { one };
    T::param_types().into_iter().map(as_value).collect()
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").field("types", &self.types).finish_non_exhaustive()
    }
}
