//! Which folders the jail is to let rules reach: those that they use, and no other.

use super::*;

/// Rules with a module beside them, and whether they may write files.
fn writes(script: &str, module: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("filter.vsl"), script).unwrap();
    fs::write(dir.path().join("lib.vsl"), module).unwrap();
    let app = dir.path().join("app");
    fs::create_dir(&app).unwrap();
    let slice = FilterSlice {
        config_dir: dir.path().display().to_string(),
        filter_path: dir.path().join("filter.vsl").display().to_string(),
        app_dir: app.display().to_string(),
        ..slice(&[])
    };
    let judge =
        Judge::load(&slice, &Surroundings::default()).unwrap_or_else(|error| panic!("{script}: {error}"));
    let folders = judge.folders();
    assert_eq!((folders.watched, folders.kept), (None, None), "{script}");
    assert!(folders.written.is_none_or(|folder| folder == app));
    folders.written.is_some()
}

#[test]
fn rules_that_write_files_are_found_wherever_they_do_it() {
    for script in [
        "#{ preq: [ action \"a\" || fs::write(\"x\") ] }",
        "#{ preq: [ action \"a\" || { if ctx::helo() == \"x\" { dump(\"x\"); } } ] }",
        "#{ postq: [ action \"a\" || { try { ctx().dump(\"x\"); } catch {} } ] }",
        "#{ postq: [ action \"a\" || sys::write(ctx(), \"x\") ] }",
        "fn keep() { fs::dump(\"x\") } #{ postq: [ action \"a\" || keep() ] }",
        "const KEEP = Fn(\"write\"); #{ postq: [ action \"a\" || global::KEEP.call(\"x\") ] }",
        "#{ postq: [ action \"a\" || { let keep = Fn(\"dump\"); keep.call(\"x\") } ] }",
    ] {
        assert!(writes(script, ""), "{script}");
    }
    assert!(writes(
        "import \"lib\" as lib; #{ preq: [ action \"a\" || lib::keep() ] }",
        "fn keep() { fs::write(\"x\") }"
    ));
}

#[test]
fn rules_that_write_none_reach_no_folder() {
    for script in ["#{}", "#{ preq: [ action \"written\" || log(\"info\", \"I write, and dump\") ] }"] {
        assert!(!writes(script, "fn keep() { fs::write(\"x\") }"), "{script}");
    }
}
