//! One call as the host keeps it: its arguments, what the plugin makes of them, and what comes of it. Handles are places in
//! one list, so a wrong one is only a wrong number. What was handed out is never moved or changed before the call is over.

use std::sync::Arc;
use std::time::Instant;

use vsmtp_plugin::Kind;
use vsmtp_plugin::abi::{MAX_DEPTH, MAX_OCTETS, MAX_VALUES, VsValue};

use crate::library::Plugin;
use crate::value::{Object, Value};

/// A value; what is in it are handles.
pub(crate) enum Slot {
    Unit,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Blob(Vec<u8>),
    Array(Vec<VsValue>),
    Map(Vec<(String, VsValue)>),
    Object(Object),
}

/// A call.
pub(crate) struct Frame {
    pub plugin: Arc<Plugin>,
    slots: Vec<Slot>,
    arguments: Vec<VsValue>,
    octets: usize,
    /// When the rule's time is over.
    pub deadline: Option<Instant>,
    result: Option<VsValue>,
    /// Why it failed, if the plugin has said so.
    pub failure: Option<String>,
}

impl Frame {
    /// `None`: the arguments are too large for a plugin.
    pub fn new(plugin: Arc<Plugin>, arguments: Vec<Value>, deadline: Option<Instant>) -> Option<Self> {
        let mut frame = Frame {
            plugin,
            slots: Vec::new(),
            arguments: Vec::new(),
            octets: 0,
            deadline,
            result: None,
            failure: None,
        };
        for argument in arguments {
            let handle = frame.take_in(argument, 0)?;
            frame.arguments.push(handle);
        }
        Some(frame)
    }

    fn take_in(&mut self, value: Value, depth: usize) -> Option<VsValue> {
        if depth > MAX_DEPTH {
            return None;
        }
        let slot = match value {
            Value::Unit => Slot::Unit,
            Value::Bool(value) => Slot::Bool(value),
            Value::Int(value) => Slot::Int(value),
            Value::Float(value) => Slot::Float(value),
            Value::Text(text) => Slot::Text(text),
            Value::Blob(octets) => Slot::Blob(octets),
            Value::Object(object) => Slot::Object(object),
            Value::Array(elements) => {
                let handles = elements.into_iter().map(|element| self.take_in(element, depth + 1));
                Slot::Array(handles.collect::<Option<_>>()?)
            }
            Value::Map(entries) => {
                let mut handles: Vec<(String, VsValue)> = Vec::new();
                for (key, value) in entries {
                    self.count(key.len())?;
                    handles.push((key, self.take_in(value, depth + 1)?));
                }
                Slot::Map(handles)
            }
        };
        self.add(slot)
    }

    /// Counts octets; `None`: they are too many.
    fn count(&mut self, octets: usize) -> Option<()> {
        let all = self.octets.checked_add(octets).filter(|all| *all <= MAX_OCTETS)?;
        self.octets = all;
        Some(())
    }

    /// Keeps a value; `None`: a bound is reached.
    pub fn add(&mut self, slot: Slot) -> Option<VsValue> {
        if self.slots.len() >= MAX_VALUES {
            return None;
        }
        match &slot {
            Slot::Text(text) => self.count(text.len())?,
            Slot::Blob(octets) => self.count(octets.len())?,
            _ => {}
        }
        self.slots.push(slot);
        VsValue::try_from(self.slots.len()).ok()
    }

    pub fn arguments(&self) -> &[VsValue] {
        &self.arguments
    }

    pub fn get(&self, handle: VsValue) -> Option<&Slot> {
        self.slots.get((handle as usize).checked_sub(1)?)
    }

    fn get_mut(&mut self, handle: VsValue) -> Option<&mut Slot> {
        self.slots.get_mut((handle as usize).checked_sub(1)?)
    }

    pub fn kind(&self, handle: VsValue) -> Option<Kind> {
        Some(match self.get(handle)? {
            Slot::Unit => Kind::Unit,
            Slot::Bool(_) => Kind::Bool,
            Slot::Int(_) => Kind::Int,
            Slot::Float(_) => Kind::Float,
            Slot::Text(_) => Kind::Text,
            Slot::Blob(_) => Kind::Blob,
            Slot::Array(_) => Kind::Array,
            Slot::Map(_) => Kind::Map,
            Slot::Object(_) => Kind::Object,
        })
    }

    /// Puts a value in the place of one that nobody has seen yet.
    pub fn replace(&mut self, handle: VsValue, with: Slot) {
        if let Some(slot) = self.get_mut(handle) {
            *slot = with;
        }
    }

    /// Adds an element to an array.
    pub fn push(&mut self, array: VsValue, element: VsValue) -> Option<()> {
        self.get(element)?;
        let Slot::Array(elements) = self.get_mut(array)? else { return None };
        if elements.len() >= MAX_VALUES {
            return None;
        }
        elements.push(element);
        Some(())
    }

    /// Adds an entry to a map, or replaces the value of one.
    pub fn insert(&mut self, map: VsValue, key: &str, value: VsValue) -> Option<()> {
        self.get(value)?;
        self.count(key.len())?;
        let Slot::Map(entries) = self.get_mut(map)? else { return None };
        let is_full = entries.len() >= MAX_VALUES;
        // The key that is there stays: the plugin may have it. That only the last 64 are looked at keeps many entries from
        // taking their number's square; of two with one key the last counts.
        match entries.iter_mut().rev().take(64).find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None if is_full => return None,
            None => entries.push((key.to_owned(), value)),
        }
        Some(())
    }

    pub fn returns(&mut self, handle: VsValue) -> Option<()> {
        self.get(handle)?;
        self.result = Some(handle);
        Some(())
    }

    /// What the call has come to; the error is that of a plugin which makes nonsense of its result.
    pub fn into_result(self) -> Result<Value, String> {
        let Some(handle) = self.result else { return Ok(Value::Unit) };
        let mut left = (MAX_VALUES, MAX_OCTETS);
        self.give_out(handle, 0, &mut left).ok_or_else(|| {
            format!(
                "its result has more than {MAX_VALUES} values or {MAX_OCTETS} octets, or is nested deeper than {MAX_DEPTH}"
            )
        })
    }

    /// An array may be in many places of the result, and in itself: `left` values and octets bound what that comes to.
    fn give_out(&self, handle: VsValue, depth: usize, left: &mut (usize, usize)) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        left.0 = left.0.checked_sub(1)?;
        let mut octets = |count: usize| {
            left.1 = left.1.checked_sub(count)?;
            Some(())
        };
        Some(match self.get(handle)? {
            Slot::Unit => Value::Unit,
            Slot::Bool(value) => Value::Bool(*value),
            Slot::Int(value) => Value::Int(*value),
            Slot::Float(value) => Value::Float(*value),
            Slot::Text(text) => {
                octets(text.len())?;
                Value::Text(text.clone())
            }
            Slot::Blob(blob) => {
                octets(blob.len())?;
                Value::Blob(blob.clone())
            }
            Slot::Object(object) => Value::Object(object.clone()),
            Slot::Array(elements) => {
                let values = elements.iter().map(|element| self.give_out(*element, depth + 1, left));
                Value::Array(values.collect::<Option<_>>()?)
            }
            Slot::Map(entries) => {
                let mut values = Vec::new();
                for (key, value) in entries {
                    left.1 = left.1.checked_sub(key.len())?;
                    values.push((key.clone(), self.give_out(*value, depth + 1, left)?));
                }
                Value::Map(values)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(arguments: Vec<Value>) -> Option<Frame> {
        Frame::new(Plugin::empty(), arguments, None)
    }

    #[test]
    fn a_wrong_handle_is_nothing() {
        let mut frame = frame(vec![Value::Int(7)]).unwrap();
        for handle in [0, 2, VsValue::MAX] {
            assert!(frame.get(handle).is_none() && frame.kind(handle).is_none());
            assert!(frame.returns(handle).is_none());
        }
        assert!(frame.push(1, 1).is_none(), "a number is no array");
        assert!(frame.insert(1, "key", 1).is_none());
        let array = frame.add(Slot::Array(Vec::new())).unwrap();
        assert!(frame.push(array, 99).is_none());
        assert!(frame.push(array, 1).is_some());
        frame.returns(array).unwrap();
        assert!(matches!(frame.into_result().unwrap(), Value::Array(one) if one.len() == 1));
    }

    #[test]
    fn an_array_in_itself_ends() {
        let mut frame = frame(Vec::new()).unwrap();
        let array = frame.add(Slot::Array(Vec::new())).unwrap();
        frame.push(array, array).unwrap();
        frame.returns(array).unwrap();
        assert!(frame.into_result().unwrap_err().contains("nested deeper"));
    }

    #[test]
    fn what_one_array_says_many_times_is_bounded() {
        let mut frame = frame(Vec::new()).unwrap();
        // Two of the one before each, thirty times.
        let mut array = frame.add(Slot::Text("x".repeat(1000))).unwrap();
        for _ in 0..30 {
            array = frame.add(Slot::Array(vec![array, array])).unwrap();
        }
        frame.returns(array).unwrap();
        assert!(frame.into_result().unwrap_err().contains("more than"));
    }

    #[test]
    fn values_and_octets_of_a_call_are_bounded() {
        assert!(frame(vec![Value::Text("x".repeat(MAX_OCTETS + 1))]).is_none());
        assert!(frame(vec![Value::Array(vec![Value::Unit; MAX_VALUES])]).is_none());
        let deep = (0..=MAX_DEPTH).fold(Value::Unit, |inner, _| Value::Array(vec![inner]));
        assert!(frame(vec![deep]).is_none());
        let mut frame = frame(vec![Value::Text("x".repeat(MAX_OCTETS))]).unwrap();
        assert!(frame.add(Slot::Text("x".to_owned())).is_none());
        assert!(frame.add(Slot::Text(String::new())).is_some());
    }

    #[test]
    fn of_two_values_with_one_key_the_last_counts() {
        let mut frame = frame(vec![Value::Int(1), Value::Int(2)]).unwrap();
        let map = frame.add(Slot::Map(Vec::new())).unwrap();
        frame.insert(map, "key", 1).unwrap();
        frame.insert(map, "key", 2).unwrap();
        frame.returns(map).unwrap();
        let Value::Map(entries) = frame.into_result().unwrap() else { panic!() };
        assert!(matches!(entries.as_slice(), [(key, Value::Int(2))] if key == "key"), "{entries:?}");
    }
}
