//! What a plugin says of itself, read once: sizes, numbers and names are checked, and all of it is copied, so that nothing
//! the plugin does to it later counts. A pointer into nowhere ends the process, as anything does that a plugin does wrong.

use std::ptr::NonNull;

use vsmtp_plugin::Kind;
use vsmtp_plugin::abi::{
    ABI, MAX_FUNCTIONS, MAX_NAME, MAX_PARAMS, QUICK, VsFunction, VsPlugin, VsStr, VsType,
};

use crate::library::{Function, Plugin, Type};

/// A struct of the interface, which begins with its size and the interface's number.
trait Described: Copy {
    const NAME: &'static str;
    fn head(&self) -> (u32, u32);
}

macro_rules! heads {
    ($($of:ident),*) => {$(
        impl Described for $of {
            const NAME: &'static str = stringify!($of);
            fn head(&self) -> (u32, u32) {
                (self.size, self.abi)
            }
        }
    )*};
}

heads! { VsFunction, VsType, VsPlugin }

/// Reads a descriptor.
///
/// # Safety
/// `plugin` is null, or points to a `VsPlugin` by the rules of the interface.
pub(crate) unsafe fn read(plugin: *const VsPlugin) -> Result<Plugin, String> {
    // SAFETY: by the contract above.
    let said: VsPlugin = unsafe { take(plugin) }?;
    // SAFETY: as above.
    let name = unsafe { label(said.name, "the plugin's name") }?;
    // SAFETY: as above.
    let version = unsafe { label(said.version, "the plugin's version") }?;
    // SAFETY: as above.
    let functions = unsafe { functions(said.functions, said.function_count, "functions") }?;
    let count = counted(said.type_count, "types")?;
    let mut types: Vec<Type> = Vec::new();
    for at in 0..count {
        // SAFETY: as above; the list has `type_count` pointers.
        let of: *const VsType = unsafe { element(said.types, at, "types") }?;
        // SAFETY: as above.
        let read = unsafe { type_of(of) }?;
        if types.iter().any(|known| known.name == read.name) {
            return Err(format!("it has two types '{}'", read.name));
        }
        types.push(read);
    }
    Ok(Plugin { name, version, functions, types })
}

/// # Safety
/// As for [`read`].
unsafe fn type_of(at: *const VsType) -> Result<Type, String> {
    // SAFETY: by the contract above.
    let said: VsType = unsafe { take(at) }?;
    // SAFETY: as above.
    let name = unsafe { name(said.name) }?;
    // SAFETY: as above.
    let methods = unsafe { functions(said.methods, said.method_count, "methods") }?;
    Ok(Type { name, address: at.addr(), destroy: said.destroy, methods })
}

/// # Safety
/// As for [`read`].
unsafe fn functions(list: *const *const VsFunction, count: u32, what: &str) -> Result<Vec<Function>, String> {
    let mut all: Vec<Function> = Vec::new();
    for at in 0..counted(count, what)? {
        // SAFETY: by the contract above the list has `count` pointers.
        let of: *const VsFunction = unsafe { element(list, at, what) }?;
        // SAFETY: as above.
        let read = unsafe { function(of) }?;
        if all.iter().any(|known| known.name == read.name && known.params.len() == read.params.len()) {
            return Err(format!("it has two {what} '{}' with {} arguments", read.name, read.params.len()));
        }
        all.push(read);
    }
    Ok(all)
}

/// # Safety
/// As for [`read`].
unsafe fn function(at: *const VsFunction) -> Result<Function, String> {
    // SAFETY: by the contract above.
    let said: VsFunction = unsafe { take(at) }?;
    // SAFETY: as above.
    let name = unsafe { name(said.name) }?;
    let call = said.call.ok_or_else(|| format!("its function '{name}' has no code"))?;
    let count = said.param_count as usize;
    if count > MAX_PARAMS {
        return Err(format!("its function '{name}' has {count} parameters, more than {MAX_PARAMS}"));
    }
    let mut params = Vec::new();
    for at in 0..count {
        // SAFETY: as above; the list has `param_count` numbers.
        let number: u32 = unsafe { element(said.params, at, "parameters") }?;
        let kind = Kind::of(number);
        params.push(kind.ok_or_else(|| format!("its function '{name}' has a parameter of kind {number}"))?);
    }
    if said.flags & !QUICK != 0 {
        return Err(format!("its function '{name}' has flags that are not known: {:#x}", said.flags));
    }
    Ok(Function {
        name,
        params,
        is_quick: said.flags & QUICK != 0,
        call,
        data: said.data.expose_provenance(),
    })
}

/// A copy of a struct, if it is of our interface.
///
/// # Safety
/// As for [`read`].
unsafe fn take<T: Described>(at: *const T) -> Result<T, String> {
    let at = NonNull::new(at.cast_mut()).ok_or_else(|| format!("it gave no {} (NULL)", T::NAME))?;
    if !at.is_aligned() {
        return Err(format!("its {} is not where one can be", T::NAME));
    }
    // SAFETY: by the contract above; the two numbers are there in every version.
    let [size, abi] = unsafe { at.cast::<[u32; 2]>().read() };
    if abi != ABI {
        return Err(format!(
            "its {} is of version {abi} of the interface; this vSMTP has version {ABI}",
            T::NAME
        ));
    }
    if (size as usize) < size_of::<T>() {
        return Err(format!(
            "its {} has {size} octets, fewer than the {} of this version",
            T::NAME,
            size_of::<T>()
        ));
    }
    // SAFETY: it says itself that it is of this version and so large.
    let taken = unsafe { at.read() };
    if taken.head() == (size, abi) { Ok(taken) } else { Err(format!("its {} changes", T::NAME)) }
}

/// # Safety
/// The list is null or has more than `at` elements.
unsafe fn element<T: Copy>(list: *const T, at: usize, what: &str) -> Result<T, String> {
    let list =
        NonNull::new(list.cast_mut()).ok_or_else(|| format!("its list of {what} is missing (NULL)"))?;
    if !list.is_aligned() {
        return Err(format!("its list of {what} is not where one can be"));
    }
    // SAFETY: by the contract above.
    let place = unsafe { list.add(at) };
    // SAFETY: as above.
    Ok(unsafe { place.read() })
}

fn counted(count: u32, what: &str) -> Result<usize, String> {
    let count = count as usize;
    if count > MAX_FUNCTIONS {
        return Err(format!("it has {count} {what}, more than {MAX_FUNCTIONS}"));
    }
    Ok(count)
}

/// The name of a function or type.
///
/// # Safety
/// As for [`read`].
unsafe fn name(of: VsStr) -> Result<String, String> {
    // SAFETY: by the contract above.
    let name = unsafe { label(of, "a name in it") }?;
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(is_word) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(name)
    } else {
        Err(format!("the name '{name}' in it is not of a-z, 0-9 and _"))
    }
}

/// Printable text of bounded length.
///
/// # Safety
/// As for [`read`].
unsafe fn label(of: VsStr, what: &str) -> Result<String, String> {
    if of.len == 0 || of.len > MAX_NAME || of.data.is_null() {
        return Err(format!("{what} has {} octets; 1 to {MAX_NAME} may be", of.len));
    }
    // SAFETY: by the contract above; the length is bounded.
    let octets = unsafe { std::slice::from_raw_parts(of.data.cast::<u8>(), of.len) };
    match std::str::from_utf8(octets) {
        Ok(text) if text.bytes().all(|octet| (b' '..=b'~').contains(&octet)) => Ok(text.to_owned()),
        _ => Err(format!("{what} has octets that are no printable ASCII")),
    }
}
