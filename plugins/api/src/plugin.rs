//! What a plugin says of itself, and what it may ask while it is called.

use std::any::TypeId;
use std::cell::Cell;
use std::ptr::null_mut;
use std::time::Duration;

use crate::abi::{Kind, VsCall, VsHost, VsStr};
use crate::value::{Error, Object, Value};

/// The body of a function or method.
pub(crate) type Body = Box<dyn Fn(Option<&Object>, &[Value]) -> Result<Value, Error> + Send + Sync>;

/// A function or method before the host knows it.
pub(crate) struct Function {
    pub name: String,
    pub params: Vec<Kind>,
    pub is_quick: bool,
    pub body: Body,
}

/// A type before the host knows it.
pub(crate) struct Type {
    pub name: String,
    pub id: TypeId,
    pub methods: Vec<Function>,
}

/// A plugin: its functions and the types of its objects. Names are of `a-z`, `0-9` and `_` and do not begin with a digit;
/// there may be several functions of one name if they take different numbers of arguments.
pub struct Plugin {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) functions: Vec<Function>,
    pub(crate) types: Vec<Type>,
}

impl Plugin {
    /// One that has nothing yet; name and version are for the log.
    pub fn new(name: &str, version: &str) -> Self {
        Plugin {
            name: name.to_owned(),
            version: version.to_owned(),
            functions: Vec::new(),
            types: Vec::new(),
        }
    }

    /// A function that may wait: for a disk, for a lock, for whatever takes more than about a millisecond.
    #[must_use]
    pub fn function<R: Into<Value>>(
        self,
        name: &str,
        params: &[Kind],
        body: impl Fn(&[Value]) -> Result<R, Error> + Send + Sync + 'static,
    ) -> Self {
        self.with(name, params, false, body)
    }

    /// A function that never waits.
    #[must_use]
    pub fn quick<R: Into<Value>>(
        self,
        name: &str,
        params: &[Kind],
        body: impl Fn(&[Value]) -> Result<R, Error> + Send + Sync + 'static,
    ) -> Self {
        self.with(name, params, true, body)
    }

    fn with<R: Into<Value>>(
        mut self,
        name: &str,
        params: &[Kind],
        is_quick: bool,
        body: impl Fn(&[Value]) -> Result<R, Error> + Send + Sync + 'static,
    ) -> Self {
        let body: Body = Box::new(move |_, arguments| body(arguments).map(Into::into));
        self.functions.push(Function { name: name.to_owned(), params: params.to_vec(), is_quick, body });
        self
    }

    /// A type of objects, which [`Value::object`] makes, with its methods.
    #[must_use]
    pub fn object<T: Send + Sync + 'static>(
        mut self,
        name: &str,
        methods: impl FnOnce(Methods<T>) -> Methods<T>,
    ) -> Self {
        let methods = methods(Methods { all: Vec::new(), of: std::marker::PhantomData }).all;
        self.types.push(Type { name: name.to_owned(), id: TypeId::of::<T>(), methods });
        self
    }
}

/// The methods of a type.
pub struct Methods<T> {
    all: Vec<Function>,
    of: std::marker::PhantomData<fn(T)>,
}

impl<T: Send + Sync + 'static> Methods<T> {
    /// A method that may wait.
    #[must_use]
    pub fn method<R: Into<Value>>(
        self,
        name: &str,
        params: &[Kind],
        body: impl Fn(&T, &[Value]) -> Result<R, Error> + Send + Sync + 'static,
    ) -> Self {
        self.with(name, params, false, body)
    }

    /// A method that never waits.
    #[must_use]
    pub fn quick<R: Into<Value>>(
        self,
        name: &str,
        params: &[Kind],
        body: impl Fn(&T, &[Value]) -> Result<R, Error> + Send + Sync + 'static,
    ) -> Self {
        self.with(name, params, true, body)
    }

    fn with<R: Into<Value>>(
        mut self,
        name: &str,
        params: &[Kind],
        is_quick: bool,
        body: impl Fn(&T, &[Value]) -> Result<R, Error> + Send + Sync + 'static,
    ) -> Self {
        let body: Body = Box::new(move |this, arguments| {
            let this = this.and_then(Object::get::<T>);
            let this = this.ok_or_else(|| Error::new("the object is of another type"))?;
            body(this, arguments).map(Into::into)
        });
        self.all.push(Function { name: name.to_owned(), params: params.to_vec(), is_quick, body });
        self
    }
}

thread_local! {
    /// The call that this thread is in.
    static CALL: Cell<(Option<&'static VsHost>, *mut VsCall)> = const { Cell::new((None, null_mut())) };
}

/// Notes what this thread is called for, until it is dropped.
pub(crate) struct Within((Option<&'static VsHost>, *mut VsCall));

impl Within {
    pub fn call(host: &'static VsHost, call: *mut VsCall) -> Self {
        Within(CALL.replace((Some(host), call)))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        CALL.set(self.0);
    }
}

/// What the rule that called has left of its time; `None`: there is no limit, or nobody has called this thread.
pub fn time_left() -> Option<Duration> {
    let (Some(host), call) = CALL.get() else { return None };
    // SAFETY: `Within` takes it away before the call returns, and only this thread sees it.
    let left = unsafe { (host.time_left_ms)(call) };
    (left != u64::MAX).then(|| Duration::from_millis(left))
}

/// Writes a line into the log, from 1 (an error) to 4 (for debugging). Only a thread that was called can.
pub fn log(level: u32, text: &str) {
    if let (Some(host), call) = CALL.get() {
        // SAFETY: as in `time_left`; the host copies the text.
        unsafe { (host.log)(call, level, VsStr::of(text.as_bytes())) };
    }
}

/// Kept for the whole life of the process.
pub(crate) fn forever<T>(of: T) -> &'static T {
    Box::leak(Box::new(of))
}
