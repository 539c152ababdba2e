//! Values on their way between scripts and plugins, and objects that plugins have made.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vsmtp_plugin::Kind;

use crate::library::{Plugin, Type};

/// What a function of a plugin gets and gives.
#[derive(Debug, Clone)]
pub enum Value {
    /// `()`.
    Unit,
    /// True or false.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A string.
    Text(String),
    /// Octets.
    Blob(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// Keys with values; of two with one key the last counts.
    Map(Vec<(String, Value)>),
    /// An object.
    Object(Object),
}

impl Value {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Unit => Kind::Unit,
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Float(_) => Kind::Float,
            Value::Text(_) => Kind::Text,
            Value::Blob(_) => Kind::Blob,
            Value::Array(_) => Kind::Array,
            Value::Map(_) => Kind::Map,
            Value::Object(_) => Kind::Object,
        }
    }
}

/// An object that a plugin has made. The plugin ends it when the last copy is gone.
#[derive(Clone)]
pub struct Object(Arc<Held>);

struct Held {
    plugin: Arc<Plugin>,
    /// Which of its types.
    of: usize,
    data: *mut c_void,
}

// SAFETY: nobody here looks at what `data` points to. The interface demands of plugins that their objects may be used and
// ended from any thread, from several at once; who loads a plugin takes its word, as for everything else it does.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl Object {
    pub(crate) fn new(plugin: &Arc<Plugin>, of: usize, data: *mut c_void) -> Self {
        Object(Arc::new(Held { plugin: Arc::clone(plugin), of, data }))
    }

    /// Who made it.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.0.plugin
    }

    /// Its type.
    pub fn of(&self) -> &Type {
        &self.0.plugin.types()[self.0.of]
    }

    pub(crate) fn data(&self) -> *mut c_void {
        self.0.data
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.plugin().name(), self.of().name())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        static ENDS: AtomicU64 = AtomicU64::new(0);
        let number = ENDS.fetch_add(1, Ordering::Relaxed);
        ending().insert(number, (Instant::now(), Arc::clone(&self.plugin)));
        self.plugin.end(self.of, self.data);
        ending().remove(&number);
    }
}

/// Ends of objects that run: since when, and whose.
type Ending = BTreeMap<u64, (Instant, Arc<Plugin>)>;

fn ending() -> MutexGuard<'static, Ending> {
    static ENDING: Mutex<Ending> = Mutex::new(BTreeMap::new());
    ENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of all objects of this process that their plugins are ending: since when the first of them, and the name of its plugin.
pub fn longest_ending() -> Option<(Instant, String)> {
    ending().values().next().map(|(since, plugin)| (*since, plugin.name().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    type Gate = (Sender<()>, Mutex<Receiver<()>>);

    /// Says that it was called, and waits until it may go on.
    unsafe extern "C" fn waits(data: *mut c_void) {
        // SAFETY: it is the gate of the test, which outlives the object.
        let (called, go_on) = unsafe { &*data.cast::<Gate>() };
        called.send(()).unwrap();
        go_on.lock().unwrap().recv().unwrap();
    }

    #[test]
    fn an_end_that_does_not_come_to_an_end_is_known() {
        assert!(longest_ending().is_none());
        let (called, hear) = channel();
        let (say, go_on) = channel();
        let mut gate: Box<Gate> = Box::new((called, Mutex::new(go_on)));
        let of = Type { name: "gate".to_owned(), address: 0, destroy: Some(waits), methods: Vec::new() };
        let plugin = Plugin { types: vec![of], ..Arc::into_inner(Plugin::empty()).unwrap() };
        let object = Object::new(&Arc::new(plugin), 0, (&raw mut *gate).cast());
        let copy = object.clone();
        drop(object);
        assert!(longest_ending().is_none(), "somebody has it");
        let ends = std::thread::spawn(move || drop(copy));
        hear.recv().unwrap();
        let (since, name) = longest_ending().unwrap();
        assert!(name == "empty" && since <= Instant::now());
        say.send(()).unwrap();
        ends.join().unwrap();
        assert!(longest_ending().is_none());
    }
}
