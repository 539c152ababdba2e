//! The interface as Rust sees it: each declaration says the same as the one of that name in `include/vsmtp_plugin.h`, where
//! all of it is explained. `tests/header.rs` holds the two together. Nothing here does anything.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;

/// The number of this interface.
pub const ABI: u32 = 1;
/// Octets of a name.
pub const MAX_NAME: usize = 64;
/// Functions of a plugin, types of a plugin, methods of a type.
pub const MAX_FUNCTIONS: usize = 256;
/// Parameters of a function.
pub const MAX_PARAMS: usize = 8;
/// Values of one call.
pub const MAX_VALUES: usize = 100_000;
/// Octets of all strings, blobs and keys of one call.
pub const MAX_OCTETS: usize = 16 << 20;
/// Arrays and maps in each other.
pub const MAX_DEPTH: usize = 32;
/// Octets of an error's message, or of a line of the log.
pub const MAX_MESSAGE: usize = 1024;
/// A function never waits.
pub const QUICK: u32 = 1;
/// The name of the symbol.
pub const SYMBOL: &str = "vsl_plugin_v1";

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// `()`.
    Unit = 1,
    /// True or false.
    Bool = 2,
    /// A number of 64 bits with a sign.
    Int = 3,
    /// A number with a fraction.
    Float = 4,
    /// UTF-8.
    Text = 5,
    /// Octets.
    Blob = 6,
    /// A list.
    Array = 7,
    /// Keys with values.
    Map = 8,
    /// An object of a plugin.
    Object = 9,
    /// As a parameter only: any of these.
    Any = 255,
}

impl Kind {
    /// All that there are.
    pub const ALL: [Kind; 10] = [
        Kind::Unit,
        Kind::Bool,
        Kind::Int,
        Kind::Float,
        Kind::Text,
        Kind::Blob,
        Kind::Array,
        Kind::Map,
        Kind::Object,
        Kind::Any,
    ];

    /// The kind of a number; `None` if there is none.
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// What scripts call it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Unit => "()",
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Float => "float",
            Kind::Text => "string",
            Kind::Blob => "blob",
            Kind::Array => "array",
            Kind::Map => "map",
            Kind::Object => "object of a plugin",
            Kind::Any => "value",
        }
    }
}

/// A string or a blob.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct VsStr {
    /// NULL only if `len` is 0.
    pub data: *const c_char,
    /// Octets.
    pub len: usize,
}

impl VsStr {
    /// That of these octets, for as long as they stay where they are.
    pub const fn of(octets: &[u8]) -> Self {
        VsStr { data: octets.as_ptr().cast(), len: octets.len() }
    }
}

/// A value of one call; 0 is none.
pub type VsValue = u32;

/// One call. Only the host knows what is in it.
#[repr(C)]
pub struct VsCall {
    _opaque: [u8; 0],
    _stays_with_its_thread: PhantomData<*mut c_void>,
}

/// Runs a function.
pub type CallFn = unsafe extern "C" fn(call: *mut VsCall, this: *mut c_void, data: *mut c_void) -> i32;
/// Ends an object.
pub type DestroyFn = unsafe extern "C" fn(this: *mut c_void);
/// The entry symbol.
pub type EntryFn = unsafe extern "C" fn(host: *const VsHost) -> *const VsPlugin;

/// A function, or a method of a type.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header explains the fields")]
pub struct VsFunction {
    pub size: u32,
    pub abi: u32,
    pub name: VsStr,
    pub params: *const u32,
    pub param_count: u32,
    pub flags: u32,
    pub call: Option<CallFn>,
    pub data: *mut c_void,
}

/// A type of objects.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header explains the fields")]
pub struct VsType {
    pub size: u32,
    pub abi: u32,
    pub name: VsStr,
    pub destroy: Option<DestroyFn>,
    pub methods: *const *const VsFunction,
    pub method_count: u32,
    pub reserved: u32,
}

/// What a plugin has.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header explains the fields")]
pub struct VsPlugin {
    pub size: u32,
    pub abi: u32,
    pub name: VsStr,
    pub version: VsStr,
    pub functions: *const *const VsFunction,
    pub types: *const *const VsType,
    pub function_count: u32,
    pub type_count: u32,
}

/// What the host does for a plugin.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "the header explains the fields")]
pub struct VsHost {
    pub size: u32,
    pub abi: u32,
    pub features: u64,
    pub argument_count: unsafe extern "C" fn(*mut VsCall) -> u32,
    pub argument: unsafe extern "C" fn(*mut VsCall, u32) -> VsValue,
    pub kind: unsafe extern "C" fn(*mut VsCall, VsValue) -> u32,
    pub get_bool: unsafe extern "C" fn(*mut VsCall, VsValue, *mut i32) -> i32,
    pub get_int: unsafe extern "C" fn(*mut VsCall, VsValue, *mut i64) -> i32,
    pub get_float: unsafe extern "C" fn(*mut VsCall, VsValue, *mut f64) -> i32,
    pub get_string: unsafe extern "C" fn(*mut VsCall, VsValue, *mut VsStr) -> i32,
    pub get_blob: unsafe extern "C" fn(*mut VsCall, VsValue, *mut VsStr) -> i32,
    pub length: unsafe extern "C" fn(*mut VsCall, VsValue) -> usize,
    pub element: unsafe extern "C" fn(*mut VsCall, VsValue, usize) -> VsValue,
    pub entry: unsafe extern "C" fn(*mut VsCall, VsValue, usize, *mut VsStr) -> VsValue,
    pub lookup: unsafe extern "C" fn(*mut VsCall, VsValue, VsStr) -> VsValue,
    pub get_object: unsafe extern "C" fn(*mut VsCall, VsValue, *const VsType) -> *mut c_void,
    pub new_unit: unsafe extern "C" fn(*mut VsCall) -> VsValue,
    pub new_bool: unsafe extern "C" fn(*mut VsCall, i32) -> VsValue,
    pub new_int: unsafe extern "C" fn(*mut VsCall, i64) -> VsValue,
    pub new_float: unsafe extern "C" fn(*mut VsCall, f64) -> VsValue,
    pub new_string: unsafe extern "C" fn(*mut VsCall, VsStr) -> VsValue,
    pub new_blob: unsafe extern "C" fn(*mut VsCall, VsStr) -> VsValue,
    pub new_array: unsafe extern "C" fn(*mut VsCall) -> VsValue,
    pub new_map: unsafe extern "C" fn(*mut VsCall) -> VsValue,
    pub new_object: unsafe extern "C" fn(*mut VsCall, *const VsType, *mut c_void) -> VsValue,
    pub push: unsafe extern "C" fn(*mut VsCall, VsValue, VsValue) -> i32,
    pub insert: unsafe extern "C" fn(*mut VsCall, VsValue, VsStr, VsValue) -> i32,
    pub returns: unsafe extern "C" fn(*mut VsCall, VsValue) -> i32,
    pub fails: unsafe extern "C" fn(*mut VsCall, VsStr) -> i32,
    pub time_left_ms: unsafe extern "C" fn(*mut VsCall) -> u64,
    pub log: unsafe extern "C" fn(*mut VsCall, u32, VsStr),
}
