//! Values on their way between scripts and plugins, and objects that plugins have made.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

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
        self.plugin.end(self.of, self.data);
    }
}
