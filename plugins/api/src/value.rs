//! What goes into a function and comes out of it, as values that own themselves; and the way there and back through the
//! host's table.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt::{self, Display};
use std::sync::Arc;

use crate::abi::{Kind, MAX_DEPTH, VsCall, VsHost, VsStr, VsType, VsValue};

/// A value of a script.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// `()`.
    #[default]
    Unit,
    /// True or false.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A string. Addresses, domains and the like of vSL come as such.
    Text(String),
    /// Octets.
    Blob(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// Keys with values.
    Map(BTreeMap<String, Value>),
    /// An object of this plugin.
    Object(Object),
}

/// An object of this plugin; cheap to copy, and gone when the last copy is.
#[derive(Clone)]
pub struct Object(Arc<dyn Any + Send + Sync>);

impl Object {
    /// One of a type that [`Plugin::object`](crate::Plugin::object) has named.
    pub fn new<T: Send + Sync + 'static>(of: T) -> Self {
        Object(Arc::new(of))
    }

    /// What it is, if it is that.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }

    pub(crate) fn type_id(&self) -> std::any::TypeId {
        (*self.0).type_id()
    }

    /// As the host keeps it, until `end`.
    fn into_raw(self) -> *mut c_void {
        Box::into_raw(Box::new(self)).cast()
    }

    /// One that the host keeps.
    ///
    /// # Safety
    /// `raw` is of `into_raw`, and not yet at its `end`.
    pub(crate) unsafe fn of_raw(raw: *mut c_void) -> Self {
        // SAFETY: by the contract above it points to an object that lives.
        unsafe { &*raw.cast::<Object>() }.clone()
    }

    /// The host keeps it no longer.
    ///
    /// # Safety
    /// `raw` is of `into_raw`, and this is its only end.
    pub(crate) unsafe fn end(raw: *mut c_void) {
        // SAFETY: by the contract above the box is ours again.
        drop(unsafe { Box::from_raw(raw.cast::<Object>()) });
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("object")
    }
}

/// Why a function fails; the script's author reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub(crate) String);

impl Error {
    /// With this text.
    pub fn new(text: impl Display) -> Self {
        Error(text.to_string())
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Error::new(error)
    }
}

impl Value {
    /// An object.
    pub fn object<T: Send + Sync + 'static>(of: T) -> Self {
        Value::Object(Object::new(of))
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The value of a key, if it is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(map) => map.get(key),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($of:ty => $variant:ident),* $(,)?) => {$(
        impl From<$of> for Value {
            fn from(of: $of) -> Self {
                Value::$variant(of.into())
            }
        }
    )*};
}

from! { bool => Bool, i64 => Int, i32 => Int, u32 => Int, f64 => Float, String => Text, &str => Text, Vec<u8> => Blob }
from! { Vec<Value> => Array, BTreeMap<String, Value> => Map, Object => Object }

impl From<()> for Value {
    fn from((): ()) -> Self {
        Value::Unit
    }
}

/// The host, while it calls.
pub(crate) struct Caller {
    host: &'static VsHost,
    call: *mut VsCall,
    types: &'static [(std::any::TypeId, &'static VsType)],
}

impl Caller {
    /// # Safety
    /// `call` is a call of this host that has not returned, on this thread, for as long as this lives.
    pub unsafe fn new(
        host: &'static VsHost,
        call: *mut VsCall,
        types: &'static [(std::any::TypeId, &'static VsType)],
    ) -> Self {
        Caller { host, call, types }
    }

    pub fn arguments(&self) -> Result<Vec<Value>, Error> {
        // SAFETY: the call is running.
        let count = unsafe { (self.host.argument_count)(self.call) };
        (0..count)
            .map(|at| {
                // SAFETY: the call is running.
                let handle = unsafe { (self.host.argument)(self.call, at) };
                self.read(handle, 0)
            })
            .collect()
    }

    fn read(&self, handle: VsValue, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new("an argument is nested too deep"));
        }
        let (host, call) = (self.host, self.call);
        // SAFETY: the call is running.
        let kind = unsafe { (host.kind)(call, handle) };
        Ok(match Kind::of(kind) {
            Some(Kind::Unit) => Value::Unit,
            Some(Kind::Bool) => {
                let mut out = 0;
                // SAFETY: the call is running, and `out` is there to be written.
                unsafe { (host.get_bool)(call, handle, &raw mut out) };
                Value::Bool(out != 0)
            }
            Some(Kind::Int) => {
                let mut out = 0;
                // SAFETY: as above.
                unsafe { (host.get_int)(call, handle, &raw mut out) };
                Value::Int(out)
            }
            Some(Kind::Float) => {
                let mut out = 0.0;
                // SAFETY: as above.
                unsafe { (host.get_float)(call, handle, &raw mut out) };
                Value::Float(out)
            }
            Some(Kind::Text) => Value::Text(text(self.octets(handle))),
            Some(Kind::Blob) => Value::Blob(self.octets(handle)),
            Some(Kind::Array) => {
                // SAFETY: the call is running.
                let length = unsafe { (host.length)(call, handle) };
                let elements = (0..length).map(|at| {
                    // SAFETY: the call is running.
                    self.read(unsafe { (host.element)(call, handle, at) }, depth + 1)
                });
                Value::Array(elements.collect::<Result<_, _>>()?)
            }
            Some(Kind::Map) => self.map(handle, depth)?,
            Some(Kind::Object) => self.object(handle)?,
            _ => return Err(Error::new("an argument is of an unknown kind")),
        })
    }

    fn map(&self, handle: VsValue, depth: usize) -> Result<Value, Error> {
        // SAFETY: the call is running.
        let length = unsafe { (self.host.length)(self.call, handle) };
        let mut map = BTreeMap::new();
        for at in 0..length {
            let mut key = VsStr::of(b"");
            // SAFETY: the call is running, and `key` is there to be written.
            let value = unsafe { (self.host.entry)(self.call, handle, at, &raw mut key) };
            // SAFETY: the host gave it just now.
            map.insert(text(unsafe { copied(key) }), self.read(value, depth + 1)?);
        }
        Ok(Value::Map(map))
    }

    fn object(&self, handle: VsValue) -> Result<Value, Error> {
        for (_, of) in self.types {
            // SAFETY: the call is running, and the type is one that the host was told of.
            let raw = unsafe { (self.host.get_object)(self.call, handle, *of) };
            if !raw.is_null() {
                // SAFETY: objects of our types are made by `make` alone, and the host keeps its own while it calls.
                return Ok(Value::Object(unsafe { Object::of_raw(raw) }));
            }
        }
        Err(Error::new("an argument is an object of another plugin"))
    }

    fn octets(&self, handle: VsValue) -> Vec<u8> {
        let mut out = VsStr::of(b"");
        // SAFETY: the call is running, and `out` is there to be written.
        unsafe { (self.host.get_blob)(self.call, handle, &raw mut out) };
        // SAFETY: the host gave it just now, or it is as it was.
        unsafe { copied(out) }
    }

    /// Says what the call comes to.
    pub fn returns(&self, value: Value) -> Result<(), Error> {
        let handle = self.make(value)?;
        // SAFETY: the call is running.
        unsafe { (self.host.returns)(self.call, handle) };
        Ok(())
    }

    /// Says why it fails.
    pub fn fails(&self, error: &Error) -> i32 {
        // SAFETY: the call is running; the host copies the text.
        unsafe { (self.host.fails)(self.call, VsStr::of(error.0.as_bytes())) }
    }

    fn make(&self, value: Value) -> Result<VsValue, Error> {
        let (host, call) = (self.host, self.call);
        // What the host is given it copies. SAFETY of each: the call is running.
        let handle = match value {
            // SAFETY: see above.
            Value::Unit => unsafe { (host.new_unit)(call) },
            // SAFETY: see above.
            Value::Bool(value) => unsafe { (host.new_bool)(call, i32::from(value)) },
            // SAFETY: see above.
            Value::Int(value) => unsafe { (host.new_int)(call, value) },
            // SAFETY: see above.
            Value::Float(value) => unsafe { (host.new_float)(call, value) },
            // SAFETY: see above.
            Value::Text(text) => unsafe { (host.new_string)(call, VsStr::of(text.as_bytes())) },
            // SAFETY: see above.
            Value::Blob(octets) => unsafe { (host.new_blob)(call, VsStr::of(&octets)) },
            Value::Array(elements) => {
                // SAFETY: see above.
                let array = taken(unsafe { (host.new_array)(call) })?;
                for element in elements {
                    let element = self.make(element)?;
                    // SAFETY: see above.
                    done(unsafe { (host.push)(call, array, element) })?;
                }
                array
            }
            Value::Map(entries) => {
                // SAFETY: see above.
                let map = taken(unsafe { (host.new_map)(call) })?;
                for (key, value) in entries {
                    let value = self.make(value)?;
                    // SAFETY: see above.
                    done(unsafe { (host.insert)(call, map, VsStr::of(key.as_bytes()), value) })?;
                }
                map
            }
            Value::Object(object) => self.make_object(object)?,
        };
        taken(handle)
    }

    fn make_object(&self, object: Object) -> Result<VsValue, Error> {
        let of = self.types.iter().find(|(id, _)| *id == object.type_id());
        let (_, of) = of.ok_or_else(|| Error::new("the plugin has not named the type of this object"))?;
        let raw = object.into_raw();
        // SAFETY: the call is running, and the type is one that the host was told of.
        let handle = unsafe { (self.host.new_object)(self.call, *of, raw) };
        if handle == 0 {
            // SAFETY: the host has not taken it.
            unsafe { Object::end(raw) };
        }
        Ok(handle)
    }
}

fn taken(handle: VsValue) -> Result<VsValue, Error> {
    if handle == 0 { Err(Error::new("the result is too large for the host")) } else { Ok(handle) }
}

fn done(answer: i32) -> Result<(), Error> {
    if answer == 0 { Ok(()) } else { Err(Error::new("the result is too large for the host")) }
}

/// # Safety
/// The octets are there.
unsafe fn copied(of: VsStr) -> Vec<u8> {
    if of.data.is_null() || of.len == 0 {
        return Vec::new();
    }
    // SAFETY: by the contract above.
    unsafe { std::slice::from_raw_parts(of.data.cast::<u8>(), of.len) }.to_vec()
}

fn text(octets: Vec<u8>) -> String {
    String::from_utf8_lossy(&octets).into_owned()
}
