//! Files that are no plugins, or that anybody could have written: refused with file, line and reason, before mail comes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use vsmtp_tests::{Mta, is_root, native};

use crate::examples::as_nobody;
use crate::{check, said, site};

const HOSTILE: &str = "tests/tests/plugins/hostile.c";
/// The import stands in the second line.
const RULES: &str =
    "// rules\nimport \"plugins/x\" as x;\n#{ rcpt: [ action \"call\" || { x::act(\"\"); } ] }";

fn compiled(mta: &Mta, more: &[&str]) {
    let made = native::place(mta).join("built.so");
    native::compile(
        &native::source(HOSTILE),
        &made,
        &[&["-DROOT=\"\"", "-Wno-unused-const-variable"], more].concat(),
    );
    native::install(mta, "x", &made);
}

fn refused(mta: &Mta, why: &str) {
    let (works, text) = check(mta);
    assert!(!works && text.contains("filter.vsl:2") && text.contains(why), "wanted '{why}': {text}");
    assert!(text.contains("plugins/x"), "{text}");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set a mode");
}

#[test]
fn a_plugin_that_says_nonsense_of_itself_is_refused() {
    let mta = site(RULES, "");
    for (more, why) in [
        (&["-DLOAD=return NULL"][..], "it gave no VsPlugin (NULL)"),
        (&["-DSIZE=8"], "its VsPlugin has 8 octets, fewer than the"),
        (&["-DSIZE=0"], "its VsPlugin has 0 octets"),
        (&["-DABI=2"], "its VsPlugin is of version 2 of the interface; this vSMTP has version 1"),
        (&["-DNAME={ \"x\", 1ul << 40 }"], "the plugin's name has 1099511627776 octets"),
        (&["-DNAME={ 0, 5 }"], "the plugin's name has 5 octets"),
        (&["-DNAME={ \"\\xff\", 1 }"], "the plugin's name has octets that are no printable ASCII"),
        (&["-DCOUNT=100000"], "it has 100000 functions, more than 256"),
        (&["-DLIST=NULL"], "its list of functions is missing (NULL)"),
        (&["-DENTRY=vsl_plugin_v0"], "has no symbol vsl_plugin_v1"),
    ] {
        compiled(&mta, more);
        refused(&mta, why);
    }
    compiled(&mta, &[]);
    let (works, text) = check(&mta);
    assert!(works, "{text}");
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    let mta = site(RULES, "");
    refused(&mta, "neither plugins/x.so nor plugins/x.vsl is there");
    let library = native::place(&mta).join("x.so");
    native::link(&mta, "x", &library);
    refused(&mta, "neither plugins/x.so nor plugins/x.vsl is there");
    fs::create_dir(&library).expect("make a folder");
    refused(&mta, "is not a file");
    fs::remove_dir(&library).expect("remove a folder");
    fs::write(&library, "#!/bin/sh\n").expect("write a file");
    mode(&library, 0o755);
    refused(&mta, "cannot be loaded: ");
    fs::write(&library, b"\x7fELF").expect("write a file");
    refused(&mta, "cannot be loaded: ");
}

#[test]
fn a_function_that_a_plugin_does_not_have_is_an_error_at_the_start() {
    for (call, why) in [
        ("x::acts(1)", "there is no function x::acts (did you mean x::act?)"),
        ("x::act()", "x::act takes 1 arguments, not 0"),
    ] {
        let mta =
            site(&format!("import \"plugins/x\" as x;\n#{{ rcpt: [ action \"call\" || {call} ] }}"), "");
        compiled(&mta, &[]);
        let (works, text) = check(&mta);
        assert!(!works && text.contains("filter.vsl:2") && text.contains(why), "{text}");
    }
}

#[test]
fn a_file_that_others_may_write_is_refused() {
    let mta = site(RULES, "");
    compiled(&mta, &[]);
    let library = native::place(&mta).join("x.so");
    for bits in [0o775, 0o757] {
        mode(&library, bits);
        refused(&mta, "x.so can be written by others than its owner; chmod go-w it");
    }
    mode(&library, 0o755);
    for folder in [native::place(&mta), native::folder(&mta)] {
        mode(&folder, 0o775);
        refused(&mta, "can be written by others than its owner");
        mode(&folder, 0o755);
    }
    if is_root() {
        chown(&library, Some(12_345), None).expect("give the file away");
        refused(&mta, "belongs to the user 12345");
        chown(&library, Some(0), None).expect("take the file back");
    }
    let (works, text) = check(&mta);
    assert!(works, "{text}");
}

#[test]
fn what_is_refused_at_the_start_is_refused_by_whoever_checks_rules() {
    let mta = site(RULES, "");
    compiled(&mta, &[]);
    mode(&native::place(&mta).join("x.so"), 0o757);
    let words = ["vsl", "check"];
    let output = if is_root() { as_nobody(&mta, &words) } else { mta.ctl(&words) };
    let (works, text) = said(&output);
    assert!(!works && text.contains("filter.vsl:2"), "{text}");
    assert!(text.contains("x.so can be written by others than its owner; chmod go-w it"), "{text}");
}

#[test]
fn a_library_of_2x_does_not_stand_in_the_way_of_what_has_taken_its_place() {
    let rules = "import \"plugins/libvsmtp_plugin_csv\" as db;\n#{}";
    let mta = site(rules, "");
    let made = native::place(&mta).join("built.so");
    native::compile(&native::source(HOSTILE), &made, &["-DROOT=\"\"", "-DENTRY=module_entrypoint"]);
    native::install(&mta, "libvsmtp_plugin_csv", &made);
    let (works, text) = check(&mta);
    assert!(works, "{text}");
    assert!(text.contains("plugin-ignored") || mta.log().contains("plugin-ignored"), "{text}");
}
