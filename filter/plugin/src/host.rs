//! What plugins call: the table of the interface over one [`Frame`]. Whatever a plugin says is checked, but for the pointers
//! themselves. Nothing here may panic: a panic cannot leave a function of C, and ends the process.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::slice::from_raw_parts;
use std::time::Instant;

use log::Level;
use vsmtp_plugin::abi::{ABI, MAX_MESSAGE, MAX_OCTETS, VsCall, VsHost, VsStr, VsType, VsValue};

use crate::frame::{Frame, Slot};
use crate::value::Object;

/// The table.
pub(crate) static HOST: VsHost = VsHost {
    size: size_of::<VsHost>() as u32,
    abi: ABI,
    features: 0,
    argument_count,
    argument,
    kind,
    get_bool,
    get_int,
    get_float,
    get_string,
    get_blob,
    length,
    element,
    entry,
    lookup,
    get_object,
    new_unit,
    new_bool,
    new_int,
    new_float,
    new_string,
    new_blob,
    new_array,
    new_map,
    new_object,
    push,
    insert,
    returns,
    fails,
    time_left_ms,
    log,
};

const DONE: i32 = 0;
const NOT: i32 = -1;

/// The frame of a call.
///
/// # Safety
/// `call` is null, or what the plugin was called with on this thread, in a call that has not returned: then it is a `Frame`
/// that nobody else uses, as `Plugin::run` sees to. The lifetime ends with the function of the table.
unsafe fn frame<'a>(call: *mut VsCall) -> Option<&'a mut Frame> {
    // SAFETY: by the contract above.
    unsafe { call.cast::<Frame>().as_mut() }
}

/// Octets that a plugin gives; `None` if they are too many, or nowhere.
///
/// # Safety
/// They are there.
unsafe fn octets<'a>(of: VsStr) -> Option<&'a [u8]> {
    match (of.data.is_null(), of.len) {
        (_, 0) => Some(&[]),
        (false, len) if len <= MAX_OCTETS => {
            // SAFETY: by the contract above; the length is bounded.
            Some(unsafe { from_raw_parts(of.data.cast::<u8>(), len) })
        }
        _ => None,
    }
}

/// # Safety
/// As for `octets`.
unsafe fn text<'a>(of: VsStr) -> Option<&'a str> {
    // SAFETY: by the contract above.
    std::str::from_utf8(unsafe { octets(of) }?).ok()
}

/// # Safety
/// As for `frame`.
unsafe fn slot<'a>(call: *mut VsCall, value: VsValue) -> Option<&'a Slot> {
    // SAFETY: by the contract above.
    unsafe { frame(call) }.and_then(|frame| frame.get(value))
}

/// # Safety
/// As for `frame`; and `out` is null, or a place to write to.
unsafe fn put<T>(out: *mut T, value: Option<T>) -> i32 {
    match value {
        Some(value) if !out.is_null() => {
            // SAFETY: by the contract above.
            unsafe { out.write(value) };
            DONE
        }
        _ => NOT,
    }
}

/// # Safety
/// As for `frame`.
unsafe fn add(call: *mut VsCall, slot: Option<Slot>) -> VsValue {
    // SAFETY: by the contract above.
    let frame = unsafe { frame(call) };
    frame.zip(slot).and_then(|(frame, slot)| frame.add(slot)).unwrap_or(0)
}

// What holds for all that follow. SAFETY: the plugin keeps to the rules of the interface: `call` is the call that it is in,
// and strings and places to write to are there.

unsafe extern "C" fn argument_count(call: *mut VsCall) -> u32 {
    // SAFETY: as said above.
    unsafe { frame(call) }.map_or(0, |frame| frame.arguments().len() as u32)
}

unsafe extern "C" fn argument(call: *mut VsCall, at: u32) -> VsValue {
    // SAFETY: as said above.
    unsafe { frame(call) }.and_then(|frame| frame.arguments().get(at as usize).copied()).unwrap_or(0)
}

unsafe extern "C" fn kind(call: *mut VsCall, value: VsValue) -> u32 {
    // SAFETY: as said above.
    unsafe { frame(call) }.and_then(|frame| frame.kind(value)).map_or(0, |kind| kind as u32)
}

unsafe extern "C" fn get_bool(call: *mut VsCall, value: VsValue, out: *mut i32) -> i32 {
    // SAFETY: as said above.
    let found = match unsafe { slot(call, value) } {
        Some(Slot::Bool(value)) => Some(i32::from(*value)),
        _ => None,
    };
    // SAFETY: as said above.
    unsafe { put(out, found) }
}

unsafe extern "C" fn get_int(call: *mut VsCall, value: VsValue, out: *mut i64) -> i32 {
    // SAFETY: as said above.
    let found = match unsafe { slot(call, value) } {
        Some(Slot::Int(value)) => Some(*value),
        _ => None,
    };
    // SAFETY: as said above.
    unsafe { put(out, found) }
}

unsafe extern "C" fn get_float(call: *mut VsCall, value: VsValue, out: *mut f64) -> i32 {
    // SAFETY: as said above.
    let found = match unsafe { slot(call, value) } {
        Some(Slot::Float(value)) => Some(*value),
        _ => None,
    };
    // SAFETY: as said above.
    unsafe { put(out, found) }
}

unsafe extern "C" fn get_string(call: *mut VsCall, value: VsValue, out: *mut VsStr) -> i32 {
    // SAFETY: as said above.
    let found = match unsafe { slot(call, value) } {
        Some(Slot::Text(text)) => Some(VsStr::of(text.as_bytes())),
        _ => None,
    };
    // SAFETY: as said above.
    unsafe { put(out, found) }
}

unsafe extern "C" fn get_blob(call: *mut VsCall, value: VsValue, out: *mut VsStr) -> i32 {
    // SAFETY: as said above.
    let found = match unsafe { slot(call, value) } {
        Some(Slot::Text(text)) => Some(VsStr::of(text.as_bytes())),
        Some(Slot::Blob(octets)) => Some(VsStr::of(octets)),
        _ => None,
    };
    // SAFETY: as said above.
    unsafe { put(out, found) }
}

unsafe extern "C" fn length(call: *mut VsCall, value: VsValue) -> usize {
    // SAFETY: as said above.
    match unsafe { slot(call, value) } {
        Some(Slot::Array(elements)) => elements.len(),
        Some(Slot::Map(entries)) => entries.len(),
        _ => 0,
    }
}

unsafe extern "C" fn element(call: *mut VsCall, array: VsValue, at: usize) -> VsValue {
    // SAFETY: as said above.
    match unsafe { slot(call, array) } {
        Some(Slot::Array(elements)) => elements.get(at).copied().unwrap_or(0),
        _ => 0,
    }
}

unsafe extern "C" fn entry(call: *mut VsCall, map: VsValue, at: usize, key: *mut VsStr) -> VsValue {
    // SAFETY: as said above.
    let Some(Slot::Map(entries)) = (unsafe { slot(call, map) }) else { return 0 };
    let Some((name, value)) = entries.get(at) else { return 0 };
    // SAFETY: as said above.
    unsafe { put(key, Some(VsStr::of(name.as_bytes()))) };
    *value
}

unsafe extern "C" fn lookup(call: *mut VsCall, map: VsValue, key: VsStr) -> VsValue {
    // SAFETY: as said above.
    let Some(Slot::Map(entries)) = (unsafe { slot(call, map) }) else { return 0 };
    // SAFETY: as said above.
    let Some(key) = (unsafe { text(key) }) else { return 0 };
    entries.iter().rev().find(|(name, _)| name == key).map_or(0, |(_, value)| *value)
}

unsafe extern "C" fn get_object(call: *mut VsCall, value: VsValue, of: *const VsType) -> *mut c_void {
    // SAFETY: as said above.
    match unsafe { slot(call, value) } {
        // Two plugins cannot have their descriptors in one place.
        Some(Slot::Object(object)) if object.of().address == of.addr() => object.data(),
        _ => null_mut(),
    }
}

unsafe extern "C" fn new_unit(call: *mut VsCall) -> VsValue {
    // SAFETY: as said above.
    unsafe { add(call, Some(Slot::Unit)) }
}

unsafe extern "C" fn new_bool(call: *mut VsCall, value: i32) -> VsValue {
    // SAFETY: as said above.
    unsafe { add(call, Some(Slot::Bool(value != 0))) }
}

unsafe extern "C" fn new_int(call: *mut VsCall, value: i64) -> VsValue {
    // SAFETY: as said above.
    unsafe { add(call, Some(Slot::Int(value))) }
}

unsafe extern "C" fn new_float(call: *mut VsCall, value: f64) -> VsValue {
    // SAFETY: as said above.
    unsafe { add(call, Some(Slot::Float(value))) }
}

unsafe extern "C" fn new_string(call: *mut VsCall, of: VsStr) -> VsValue {
    // SAFETY: as said above.
    let slot = unsafe { text(of) }.map(|text| Slot::Text(text.to_owned()));
    // SAFETY: as said above.
    unsafe { add(call, slot) }
}

unsafe extern "C" fn new_blob(call: *mut VsCall, of: VsStr) -> VsValue {
    // SAFETY: as said above.
    let slot = unsafe { octets(of) }.map(|octets| Slot::Blob(octets.to_owned()));
    // SAFETY: as said above.
    unsafe { add(call, slot) }
}

unsafe extern "C" fn new_array(call: *mut VsCall) -> VsValue {
    // SAFETY: as said above.
    unsafe { add(call, Some(Slot::Array(Vec::new()))) }
}

unsafe extern "C" fn new_map(call: *mut VsCall) -> VsValue {
    // SAFETY: as said above.
    unsafe { add(call, Some(Slot::Map(Vec::new()))) }
}

unsafe extern "C" fn new_object(call: *mut VsCall, of: *const VsType, data: *mut c_void) -> VsValue {
    // SAFETY: as said above.
    let Some(frame) = (unsafe { frame(call) }) else { return 0 };
    let Some(at) = frame.plugin.types().iter().position(|known| known.address == of.addr()) else { return 0 };
    // There must be room before the object is ours: whoever hears 0 keeps it.
    let Some(handle) = frame.add(Slot::Unit) else { return 0 };
    let object = Object::new(&frame.plugin, at, data);
    frame.replace(handle, Slot::Object(object));
    handle
}

unsafe extern "C" fn push(call: *mut VsCall, array: VsValue, value: VsValue) -> i32 {
    // SAFETY: as said above.
    let pushed = unsafe { frame(call) }.and_then(|frame| frame.push(array, value));
    pushed.map_or(NOT, |()| DONE)
}

unsafe extern "C" fn insert(call: *mut VsCall, map: VsValue, key: VsStr, value: VsValue) -> i32 {
    // SAFETY: as said above.
    let Some(key) = (unsafe { text(key) }) else { return NOT };
    // SAFETY: as said above.
    let inserted = unsafe { frame(call) }.and_then(|frame| frame.insert(map, key, value));
    inserted.map_or(NOT, |()| DONE)
}

unsafe extern "C" fn returns(call: *mut VsCall, value: VsValue) -> i32 {
    // SAFETY: as said above.
    unsafe { frame(call) }.and_then(|frame| frame.returns(value)).map_or(NOT, |()| DONE)
}

unsafe extern "C" fn fails(call: *mut VsCall, message: VsStr) -> i32 {
    // SAFETY: as said above.
    let message = unsafe { short(message) };
    // SAFETY: as said above.
    if let Some(frame) = unsafe { frame(call) } {
        frame.failure = Some(message);
    }
    1
}

unsafe extern "C" fn time_left_ms(call: *mut VsCall) -> u64 {
    // SAFETY: as said above.
    let deadline = unsafe { frame(call) }.and_then(|frame| frame.deadline);
    deadline.map_or(u64::MAX, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        u64::try_from(left).unwrap_or(u64::MAX - 1)
    })
}

unsafe extern "C" fn log(call: *mut VsCall, level: u32, message: VsStr) {
    // SAFETY: as said above.
    let message = unsafe { short(message) };
    // SAFETY: as said above.
    let Some(frame) = (unsafe { frame(call) }) else { return };
    let level = match level {
        1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        _ => Level::Debug,
    };
    log::log!(level, "event=plugin-log plugin={:?} text={message:?}", frame.plugin.name());
}

/// The beginning of a message.
///
/// # Safety
/// It is there.
unsafe fn short(message: VsStr) -> String {
    let cut = VsStr { data: message.data, len: message.len.min(MAX_MESSAGE) };
    // SAFETY: by the contract above.
    String::from_utf8_lossy(unsafe { octets(cut) }.unwrap_or_default()).into_owned()
}
