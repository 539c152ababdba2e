//! Between the tree of configuration values and what scripts hold. Neither way can fail: what no key can be travels as
//! the name of its type, so that the check of the keys can say what it found.

use rhai::{Array, Dynamic, ImmutableString, Map};
use vsmtp_config::{MAX_DEPTH, Value};

use crate::typename;

pub(crate) fn to_script(value: &Value) -> Dynamic {
    match value {
        Value::Null | Value::Other(_) => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => Dynamic::from_array(items.iter().map(to_script).collect()),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(name, value)| (name.as_str().into(), to_script(value)));
            Dynamic::from_map(entries.collect())
        }
    }
}

pub(crate) fn from_script(value: &Dynamic) -> Value {
    convert(value, 0)
}

fn convert(value: &Dynamic, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Other("map nested too deeply".to_owned());
    }
    if value.is_unit() {
        return Value::Null;
    }
    if let Ok(flag) = value.as_bool() {
        return Value::Bool(flag);
    }
    if let Ok(number) = value.as_int() {
        return Value::Int(number);
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Value::Text(text.to_string());
    }
    if let Some(items) = value.read_lock::<Array>() {
        return Value::List(items.iter().map(|item| convert(item, depth + 1)).collect());
    }
    if let Some(entries) = value.read_lock::<Map>() {
        let entries = entries.iter().map(|(name, value)| (name.to_string(), convert(value, depth + 1)));
        return Value::Map(entries.collect());
    }
    Value::Other(typename::of(value))
}
