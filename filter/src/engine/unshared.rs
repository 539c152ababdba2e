//! Values that share nothing. What a closure captures is shared with all copies of the closure, and a rule must not see what
//! another message did to it: once a script is loaded, a closure has what it captured for itself, and each call of it begins
//! with that.

use std::sync::PoisonError;

use rhai::{Array, Dynamic, FnPtr, GlobalRuntimeState, Map, Module};

/// Most shared values within one, and how many of them one within the other; those that lead back to themselves have no end.
const MAX_SHARED: usize = 4_096;
const MAX_DEPTH: usize = 32;

/// A value that leads back to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endless;

impl Endless {
    /// What is wrong.
    pub const MESSAGE: &str = "a variable that closures capture leads back to itself";
}

/// Puts copies in the place of shared values, in lists, maps and what closures have captured too.
pub(super) fn unshare(value: &mut Dynamic) -> Result<(), Endless> {
    unshare_within(value, MAX_DEPTH, &mut { MAX_SHARED })
}

fn unshare_within(value: &mut Dynamic, mut depth: usize, left: &mut usize) -> Result<(), Endless> {
    if value.is_shared() {
        depth = depth.checked_sub(1).ok_or(Endless)?;
        *left = left.checked_sub(1).ok_or(Endless)?;
        *value = value.flatten_clone();
        // Rhai gives a shared one where it is in use.
        if value.is_shared() {
            return Err(Endless);
        }
    }
    let each = |inner: &mut Dynamic| unshare_within(inner, depth, left);
    if let Some(mut list) = value.write_lock::<Array>() {
        return list.iter_mut().try_for_each(each);
    }
    if let Some(mut map) = value.write_lock::<Map>() {
        return map.values_mut().try_for_each(each);
    }
    if let Some(mut closure) = value.write_lock::<FnPtr>() {
        return closure.iter_curry_mut().try_for_each(each);
    }
    Ok(())
}

/// The same for the constants that functions reach by `global::`.
pub(super) fn unshare_constants(environment: &GlobalRuntimeState) -> Result<(), Endless> {
    let Some(constants) = &environment.constants else { return Ok(()) };
    let mut constants = constants.write().unwrap_or_else(PoisonError::into_inner);
    constants.values_mut().try_for_each(unshare)
}

/// The same for what a module exports.
pub(super) fn unshare_module(module: &mut Module) -> Result<(), Endless> {
    let values: Vec<(String, Dynamic)> =
        module.iter_var().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    for (name, mut value) in values {
        unshare(&mut value)?;
        module.set_var(name, value);
    }
    Ok(())
}
