//! Functions and methods of native plugins, as scripts call them: `import "plugins/NAME" as p;`, `p::function(...)`, and
//! `object.method(...)` on what these make, wherever that is. Plugins know nothing of a transaction but what they are given.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::sync::Arc;

use rhai::{
    Array, Blob, Dynamic, Engine, EvalAltResult, FuncRegistration, ImmutableString, Map, Module,
    NativeCallContext, RhaiFunc, Shared as RcShared,
};
use vsmtp_plugin_loader::{Function, Kind, Object as PluginObject, Plugin, Refused, Value};

use super::registry::raise;
use crate::engine::{Absent, Natives};
use crate::object::{Fault, Object};
use crate::plugins::{NotCalled, Plugins};
use crate::transaction::Shared;
use crate::typename;

/// Values in each other that are looked into; more than plugins take.
const MAX_DEPTH: usize = 40;

/// Makes methods known to an engine; answers the modules of all plugins, for imports.
pub fn install(engine: &mut Engine, plugins: &Arc<Plugins>) -> Natives {
    let loaded = || plugins.all().iter().filter_map(|(_, loaded)| loaded.as_ref().ok());
    if loaded().next().is_some() {
        engine.register_type_with_name::<PluginObject>("object of a plugin");
        engine.register_fn("to_string", |object: &mut PluginObject| format!("{object:?}"));
        engine.register_fn("to_debug", |object: &mut PluginObject| format!("{object:?}"));
    }
    // Objects of several types may have methods of one name.
    let methods: BTreeSet<(&str, usize)> = loaded()
        .flat_map(|plugin| plugin.types().iter().flat_map(|of| of.methods()))
        .map(|method| (method.name(), method.params().len()))
        .collect();
    for (name, arguments) in methods {
        register_method(engine, plugins, name, arguments);
    }
    let modules = plugins.all().iter().map(|(name, loaded)| {
        let module = match loaded {
            Ok(plugin) => Ok(module(plugins, name, plugin)),
            Err(refused) => {
                let is_foreign = matches!(refused, Refused::Foreign(_));
                Err(Absent { why: refused.to_string(), is_foreign })
            }
        };
        (name.clone(), module)
    });
    let functions = plugins.all().iter().filter_map(|(name, loaded)| {
        let functions = loaded.as_ref().ok()?.functions().iter();
        Some((name.clone(), functions.map(|one| (one.name().to_owned(), one.params().len())).collect()))
    });
    Natives { modules: modules.collect(), functions: functions.collect(), fault: plugins.fault().cloned() }
}

type Raised<T> = Result<T, Box<EvalAltResult>>;

fn register_method(engine: &mut Engine, plugins: &Arc<Plugins>, name: &str, arguments: usize) {
    let types: Vec<TypeId> = std::iter::once(TypeId::of::<PluginObject>())
        .chain(std::iter::repeat_n(TypeId::of::<Dynamic>(), arguments))
        .collect();
    let (plugins, named) = (Arc::clone(plugins), name.to_owned());
    engine.register_raw_fn(name, types, move |context, given: &mut [&mut Dynamic]| -> Raised<Dynamic> {
        let object = given.first().and_then(|this| this.read_lock::<PluginObject>().map(|this| this.clone()));
        let fits = |method: &&Function| method.name() == named && method.params().len() == arguments;
        let Some(object) = object else { return Err(raise(&context, Fault::new("no object"))) };
        let Some(method) = object.of().methods().iter().find(fits) else {
            let why = format!("{object:?} has no method {named} with {arguments} arguments");
            return Err(raise(&context, Fault(why)));
        };
        let label = format!("{object:?}.{named}");
        call(&plugins, &context, &label, method, &given[1..], |values, deadline| {
            object.call(method, values, Some(deadline))
        })
    });
}

fn module(plugins: &Arc<Plugins>, name: &str, plugin: &Arc<Plugin>) -> RcShared<Module> {
    let mut module = Module::new();
    for at in 0..plugin.functions().len() {
        let function = &plugin.functions()[at];
        let types = vec![TypeId::of::<Dynamic>(); function.params().len()];
        let named = function.name().to_owned();
        let label = format!("{name}::{named}");
        let (plugins, plugin) = (Arc::clone(plugins), Arc::clone(plugin));
        let body = move |context: Option<NativeCallContext>, given: &mut [&mut Dynamic]| -> Raised<Dynamic> {
            // It says that it wants one.
            let Some(context) = context else { return Err("no context".into()) };
            let function = &plugin.functions()[at];
            call(&plugins, &context, &label, function, given, |values, deadline| {
                plugin.call(function, values, Some(deadline))
            })
        };
        let body = RhaiFunc::Pure {
            func: RcShared::new(body),
            has_context: true,
            is_pure: false,
            // No two calls need say the same, so none is made while a script is read.
            is_volatile: true,
        };
        FuncRegistration::new(named).set_into_module_raw(&mut module, types, body);
    }
    module.build_index();
    module.into()
}

fn call(
    plugins: &Plugins,
    context: &NativeCallContext,
    label: &str,
    function: &Function,
    given: &[&mut Dynamic],
    run: impl FnOnce(Vec<Value>, std::time::Instant) -> Result<Value, String>,
) -> Raised<Dynamic> {
    let values = given.iter().zip(function.params()).enumerate().map(|(at, (value, kind))| {
        argument(value, *kind).map_err(|found| {
            let wanted = kind.name();
            raise(context, Fault(format!("{label} takes a {wanted} as its argument {}, not {found}", at + 1)))
        })
    });
    let values = values.collect::<Raised<Vec<Value>>>()?;
    match plugins.call(label, function, |deadline| run(values, deadline)) {
        Ok(value) => Ok(to_script(value)),
        Err(NotCalled::Failed(fault)) => Err(raise(context, fault)),
        Err(NotCalled::Busy(fault)) => {
            if let Some(shared) = context.tag().and_then(Dynamic::read_lock::<Shared>) {
                shared.lock().was_busy = true;
            }
            Err(raise(context, fault))
        }
    }
}

/// An argument of a kind; the error is what was found instead.
fn argument(given: &Dynamic, wanted: Kind) -> Result<Value, String> {
    let found = || typename::of(given);
    match (from_script(given, 0).ok_or_else(found)?, wanted) {
        (value, Kind::Any) => Ok(value),
        (Value::Int(number), Kind::Float) => Ok(Value::Float(number as f64)),
        (value, wanted) if value.kind() == wanted => Ok(value),
        _ => Err(found()),
    }
}

/// `None`: it is nothing that plugins know.
fn from_script(value: &Dynamic, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    if value.is_shared() {
        return from_script(&value.flatten_clone(), depth + 1);
    }
    Some(if value.is_unit() {
        Value::Unit
    } else if let Ok(value) = value.as_bool() {
        Value::Bool(value)
    } else if let Ok(value) = value.as_int() {
        Value::Int(value)
    } else if let Ok(value) = value.as_float() {
        Value::Float(value)
    } else if let Some(text) = value.read_lock::<ImmutableString>() {
        Value::Text(text.to_string())
    } else if let Some(octets) = value.read_lock::<Blob>() {
        Value::Blob(octets.clone())
    } else if let Some(list) = value.read_lock::<Array>() {
        Value::Array(list.iter().map(|one| from_script(one, depth + 1)).collect::<Option<_>>()?)
    } else if let Some(map) = value.read_lock::<Map>() {
        let entries = map.iter().map(|(key, one)| Some((key.to_string(), from_script(one, depth + 1)?)));
        Value::Map(entries.collect::<Option<_>>()?)
    } else if let Some(object) = value.read_lock::<Object>() {
        match object.members() {
            Some(members) => {
                Value::Array(members.iter().map(|one| Value::Text(one.text().to_string())).collect())
            }
            None => Value::Text(object.text().to_string()),
        }
    } else {
        Value::Object(value.read_lock::<PluginObject>()?.clone())
    })
}

fn to_script(value: Value) -> Dynamic {
    match value {
        Value::Unit => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::Text(text) => text.into(),
        Value::Blob(octets) => Dynamic::from_blob(octets),
        Value::Array(values) => Dynamic::from_array(values.into_iter().map(to_script).collect()),
        Value::Map(entries) => Dynamic::from_map(
            entries.into_iter().map(|(key, value)| (key.into(), to_script(value))).collect(),
        ),
        Value::Object(object) => Dynamic::from(object),
    }
}
