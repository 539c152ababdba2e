//! Between the host and the functions of a plugin: descriptors that stay, and calls that no panic leaves.

use std::any::{Any, TypeId};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;
use std::sync::OnceLock;

use crate::abi::{ABI, QUICK, VsCall, VsFunction, VsHost, VsPlugin, VsStr, VsType};
use crate::plugin::{Body, Function, Plugin, Type, Within, forever};
use crate::value::{Caller, Error, Object, Value};

/// The host and our types, once the host has come.
struct Known {
    host: &'static VsHost,
    types: &'static [(TypeId, &'static VsType)],
}

// SAFETY: descriptors are made once, stay, and are only read; so is the host's table.
unsafe impl Send for Known {}
// SAFETY: as above.
unsafe impl Sync for Known {}

static KNOWN: OnceLock<Known> = OnceLock::new();

/// What the entry symbol does: makes the plugin and describes it to the host. Null if it cannot: the host is too old, it has
/// been here before, or making the plugin has panicked.
///
/// # Safety
/// `host` is null, or a table of a host that stays as it is until the process ends.
pub unsafe fn enter(host: *const VsHost, make: fn() -> Plugin) -> *const VsPlugin {
    // SAFETY: by the contract above.
    let Some(host) = (unsafe { host.as_ref::<'static>() }) else { return null() };
    if host.abi != ABI || (host.size as usize) < size_of::<VsHost>() {
        return null();
    }
    catch_unwind(|| describe(host, make())).ok().flatten().map_or(null(), |plugin| plugin)
}

fn describe(host: &'static VsHost, plugin: Plugin) -> Option<&'static VsPlugin> {
    let Plugin { name, version, functions, types } = plugin;
    let ids: Vec<TypeId> = types.iter().map(|of| of.id).collect();
    let types: &'static Vec<&VsType> = forever(types.into_iter().map(of_type).collect());
    let known: &'static Vec<_> = forever(ids.into_iter().zip(types.iter().copied()).collect());
    KNOWN.set(Known { host, types: known }).ok()?;
    let functions = all(functions);
    Some(forever(VsPlugin {
        size: size(size_of::<VsPlugin>()),
        abi: ABI,
        name: text(name),
        version: text(version),
        functions: functions.as_ptr().cast(),
        types: types.as_ptr().cast(),
        function_count: size(functions.len()),
        type_count: size(types.len()),
    }))
}

fn of_type(of: Type) -> &'static VsType {
    let methods = all(of.methods);
    forever(VsType {
        size: size(size_of::<VsType>()),
        abi: ABI,
        name: text(of.name),
        destroy: Some(destroy),
        methods: methods.as_ptr().cast(),
        method_count: size(methods.len()),
        reserved: 0,
    })
}

fn all(functions: Vec<Function>) -> &'static Vec<&'static VsFunction> {
    forever(functions.into_iter().map(of_function).collect())
}

fn of_function(of: Function) -> &'static VsFunction {
    let params: &'static Vec<u32> = forever(of.params.iter().map(|kind| *kind as u32).collect());
    forever(VsFunction {
        size: size(size_of::<VsFunction>()),
        abi: ABI,
        name: text(of.name),
        params: params.as_ptr(),
        param_count: size(params.len()),
        flags: if of.is_quick { QUICK } else { 0 },
        call: Some(trampoline),
        data: (&raw const *forever(of.body)).cast_mut().cast(),
    })
}

fn text(of: String) -> VsStr {
    VsStr::of(forever(of).as_bytes())
}

/// The host refuses what is larger anyway.
fn size(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Every function of ours.
unsafe extern "C" fn trampoline(call: *mut VsCall, this: *mut c_void, data: *mut c_void) -> i32 {
    let Some(Known { host, types }) = KNOWN.get() else { return 1 };
    // SAFETY: the host calls, and waits for us on this thread.
    let caller = unsafe { Caller::new(host, call, types) };
    let _within = Within::call(host, call);
    let run = || -> Result<(), Error> {
        // SAFETY: the host gives back what `of_function` gave it, a body that stays.
        let body = unsafe { &*data.cast::<Body>() };
        // SAFETY: the host gives objects to methods of their own type only, and keeps them while it calls.
        let this = (!this.is_null()).then(|| unsafe { Object::of_raw(this) });
        let value: Value = body(this.as_ref(), &caller.arguments()?)?;
        caller.returns(value)
    };
    // A body that has panicked may have left what it shares with others half done: that is its author's to think of, and
    // nothing of ours.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => caller.fails(&error),
        Err(panic) => caller.fails(&Error(format!("the plugin has panicked: {}", said(&*panic)))),
    }
}

/// The end of every object of ours.
unsafe extern "C" fn destroy(this: *mut c_void) {
    // SAFETY: the host ends what it keeps once.
    let end = || unsafe { Object::end(this) };
    // There is nobody to tell.
    let _ = catch_unwind(AssertUnwindSafe(end));
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
