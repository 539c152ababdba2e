//! The header and the Rust declarations say the same: a small program in C prints what its compiler makes of the header.

use std::fmt::Write;
use std::mem::{offset_of, size_of};
use std::process::Command;

use vsmtp_plugin::abi::*;

macro_rules! fields {
    ($lines:ident, $program:ident, $($type:ident { $($field:ident),* $(,)? })*) => {$(
        writeln!($lines, "{} {}", stringify!($type), size_of::<$type>()).unwrap();
        writeln!($program, "P(sizeof({0}), \"{0} %zu\\n\")", stringify!($type)).unwrap();
        $(
            writeln!($lines, "{}.{} {}", stringify!($type), stringify!($field), offset_of!($type, $field)).unwrap();
            writeln!($program, "P(offsetof({0}, {1}), \"{0}.{1} %zu\\n\")", stringify!($type), stringify!($field)).unwrap();
        )*
    )*};
}

#[test]
fn header_and_rust_say_the_same() {
    let (mut expected, mut body) = (String::new(), String::new());
    fields! { expected, body,
        VsStr { data, len }
        VsFunction { size, abi, name, params, param_count, flags, call, data }
        VsType { size, abi, name, destroy, methods, method_count, reserved }
        VsPlugin { size, abi, name, version, functions, types, function_count, type_count }
        VsHost {
            size, abi, features, argument_count, argument, kind, get_bool, get_int, get_float, get_string, get_blob, length,
            element, entry, lookup, get_object, new_unit, new_bool, new_int, new_float, new_string, new_blob, new_array,
            new_map, new_object, push, insert, returns, fails, time_left_ms, log,
        }
    }
    let constants = [
        ("VS_ABI", ABI as usize),
        ("VS_MAX_NAME", MAX_NAME),
        ("VS_MAX_FUNCTIONS", MAX_FUNCTIONS),
        ("VS_MAX_PARAMS", MAX_PARAMS),
        ("VS_MAX_VALUES", MAX_VALUES),
        ("VS_MAX_OCTETS", MAX_OCTETS),
        ("VS_MAX_DEPTH", MAX_DEPTH),
        ("VS_MAX_MESSAGE", MAX_MESSAGE),
        ("VS_QUICK", QUICK as usize),
    ];
    let names = ["UNIT", "BOOL", "INT", "FLOAT", "STRING", "BLOB", "ARRAY", "MAP", "OBJECT", "ANY"];
    let kinds = names.iter().map(|name| format!("VS_{name}")).zip(Kind::ALL.map(|kind| kind as usize));
    for (name, value) in constants.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(kinds) {
        writeln!(expected, "{name} {value}").unwrap();
        writeln!(body, "P((size_t){name}, \"{name} %zu\\n\")").unwrap();
    }
    // The types of the functions, where an offset says nothing.
    let program = format!(
        "#include \"vsmtp_plugin.h\"\n#include <stdio.h>\n#define P(value, text) printf(text, (size_t)(value));\n\
         static const VsPlugin *(*entry)(const VsHost *) = {SYMBOL};\n\
         const VsPlugin *{SYMBOL}(const VsHost *host) {{ (void)host; return NULL; }}\n\
         int main(void) {{ (void)entry;\n{body}return 0; }}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let (source, made) = (folder.path().join("header.c"), folder.path().join("header"));
    std::fs::write(&source, program).unwrap();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    for standard in ["-std=c99", "-std=c11"] {
        let compiled = Command::new("cc")
            .args([standard, "-pedantic", "-Wall", "-Wextra", "-Werror", "-I", include, "-o"])
            .args([&made, &source])
            .output()
            .expect("run cc");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let printed = Command::new(&made).output().unwrap().stdout;
        assert_eq!(String::from_utf8(printed).unwrap(), expected, "{standard}");
    }
}
