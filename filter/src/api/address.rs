//! From what scripts pass to the addresses and domains that functions need.

use rhai::{Array, Dynamic, ImmutableString};
use vsmtp_mail::{Address, Domain};

use crate::object::{Fault, Object};
use crate::typename;

/// A mailbox of a string or an object's text.
pub(super) fn mailbox(text: &str) -> Result<Address, Fault> {
    Address::parse(text).map_err(|error| Fault(format!("'{text}' is not an address: {error}")))
}

/// The domain of an address, or the domain itself.
pub(super) fn domain_of(text: &str) -> Result<Domain, Fault> {
    if let Ok(address) = Address::parse(text) {
        return Ok(address.domain().clone());
    }
    Domain::parse(text)
        .map_err(|error| Fault(format!("'{text}' is neither an address nor a domain: {error}")))
}

/// The objects in an array of objects and strings.
pub(super) fn objects(items: &Array) -> Result<Vec<Object>, Fault> {
    items.iter().map(object).collect()
}

/// The object that a value stands for.
pub(super) fn object(item: &Dynamic) -> Result<Object, Fault> {
    if let Some(object) = item.read_lock::<Object>() {
        return Ok(object.clone());
    }
    if let Some(text) = item.read_lock::<ImmutableString>() {
        return Ok(Object::Identifier(text.clone()));
    }
    if let Some(items) = item.read_lock::<Array>() {
        return objects(&items).map(Object::from);
    }
    Err(Fault(format!("a {} cannot be a member of a group", typename::of(item))))
}
