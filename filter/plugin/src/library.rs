//! A library that was loaded, and calls into it. It stays in the process for good: it is never unloaded, because what it has
//! left behind (threads, data of threads, handlers) would go on in memory that is gone.

use std::ffi::c_void;
use std::fmt;
use std::fs::File;
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Instant;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use vsmtp_plugin::Kind;
use vsmtp_plugin::abi::{CallFn, DestroyFn, EntryFn, SYMBOL};

use crate::descriptor;
use crate::frame::Frame;
use crate::host::HOST;
use crate::value::{Object, Value};

/// Why a file is no plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is a library, and of another kind: it does not have the symbol.
    Foreign(String),
    /// Anything else.
    Broken(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Foreign(why) | Refused::Broken(why) => f.write_str(why),
        }
    }
}

/// A plugin that is loaded.
#[derive(Debug)]
pub struct Plugin {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) functions: Vec<Function>,
    pub(crate) types: Vec<Type>,
}

/// A function or method.
#[derive(Debug)]
pub struct Function {
    pub(crate) name: String,
    pub(crate) params: Vec<Kind>,
    pub(crate) is_quick: bool,
    pub(crate) call: CallFn,
    /// The plugin's own pointer; nothing is done with it here.
    pub(crate) data: usize,
}

/// A type of objects.
#[derive(Debug)]
pub struct Type {
    pub(crate) name: String,
    /// Where its descriptor is: what the plugin names it by.
    pub(crate) address: usize,
    pub(crate) destroy: Option<DestroyFn>,
    pub(crate) methods: Vec<Function>,
}

impl Function {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its arguments must be.
    pub fn params(&self) -> &[Kind] {
        &self.params
    }

    /// It says that it never waits.
    pub fn is_quick(&self) -> bool {
        self.is_quick
    }
}

impl Type {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its methods.
    pub fn methods(&self) -> &[Function] {
        &self.methods
    }
}

impl Plugin {
    /// Loads a library and asks it what it has. From here on its code runs: the jail must be closed.
    ///
    /// # Errors
    /// It is no library, or no plugin, or one of another version of the interface.
    pub fn load(file: &File, path: &Path) -> Result<Arc<Self>, Refused> {
        let shown = path.display();
        let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        let broken = |why: String| Refused::Broken(format!("{shown}: {why}"));
        // SAFETY: its constructors run. Whoever may put a file there may have anything run here; see the crate.
        let library = unsafe { Library::open(Some(&descriptor), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| {
            broken(format!("cannot be loaded: {}", error.to_string().replace(&descriptor, "the file")))
        })?;
        // SAFETY: the interface says of which type it is.
        let entry = unsafe { library.get::<EntryFn>(SYMBOL.as_bytes()) }.map(|symbol| *symbol);
        forget(library);
        let entry = entry.map_err(|_| {
            Refused::Foreign(format!(
                "{shown}: has no symbol {SYMBOL}, so it is no plugin of this vSMTP; libraries for vSMTP 2.x are none"
            ))
        })?;
        // SAFETY: the table is static, as the interface demands.
        let plugin = unsafe { entry(&raw const HOST) };
        // SAFETY: it is what the interface says, or the plugin is broken.
        let read = unsafe { descriptor::read(plugin) };
        read.map(Arc::new).map_err(broken)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its functions.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The types of its objects.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// Calls a function, with as many arguments as it has parameters and of their kinds. It may take however long it likes;
    /// `deadline` is only told.
    ///
    /// # Errors
    /// It has failed, or the arguments or the result are too large.
    pub fn call(
        self: &Arc<Self>,
        function: &Function,
        arguments: Vec<Value>,
        deadline: Option<Instant>,
    ) -> Result<Value, String> {
        self.run(function, null_mut(), arguments, deadline)
    }

    fn run(
        self: &Arc<Self>,
        function: &Function,
        this: *mut c_void,
        arguments: Vec<Value>,
        deadline: Option<Instant>,
    ) -> Result<Value, String> {
        let frame = Frame::new(Arc::clone(self), arguments, deadline);
        let mut frame = frame.ok_or_else(|| "the arguments are too large for a plugin".to_owned())?;
        let call = (&raw mut frame).cast();
        let data = std::ptr::with_exposed_provenance_mut(function.data);
        // SAFETY: the function is of a library that is never unloaded. `call` is a frame that lives until after the call, and
        // that nobody else has; `this` is what the plugin has made for such a method; `data` is its own.
        let status = unsafe { (function.call)(call, this, data) };
        match (status, frame.failure.take()) {
            (0, _) => frame.into_result(),
            (_, Some(why)) => Err(why),
            (status, None) => Err(format!("it failed with {status}, and did not say why")),
        }
    }

    /// Ends an object.
    pub(crate) fn end(&self, of: usize, data: *mut c_void) {
        if let Some(destroy) = self.types.get(of).and_then(|of| of.destroy) {
            // SAFETY: the last copy of the object is gone, and the plugin has said that any thread may end it.
            unsafe { destroy(data) };
        }
    }

    #[cfg(test)]
    pub(crate) fn empty() -> Arc<Self> {
        let (name, version) = ("empty".to_owned(), "1".to_owned());
        Arc::new(Plugin { name, version, functions: Vec::new(), types: Vec::new() })
    }
}

impl Object {
    /// Calls a method; see [`Plugin::call`].
    ///
    /// # Errors
    /// As there.
    pub fn call(
        &self,
        method: &Function,
        arguments: Vec<Value>,
        deadline: Option<Instant>,
    ) -> Result<Value, String> {
        self.plugin().run(method, self.data(), arguments, deadline)
    }
}
