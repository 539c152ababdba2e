//! Scripts as they are loaded and run: stages, directives, limits, and where errors are.

use std::path::Path;
use std::time::{Duration, Instant};

use rhai::NativeCallContext;

use super::*;
use crate::engine::{self, Limits, Watch};

fn engine_in(root: &Arc<Root>, limits: &Limits) -> Engine {
    let mut engine = engine::bare(root, limits);
    engine.register_fn("next", || Status::Next);
    engine.register_fn("accept", || Status::Accept(None));
    engine.register_fn("deny", Status::deny_default);
    engine.register_fn("scanner", || {
        Arc::new(crate::service::SmtpService {
            address: ([127, 0, 0, 1], 10026).into(),
            timeout: Duration::from_secs(30),
            receiver: ([127, 0, 0, 1], 10024).into(),
            return_within: Duration::from_secs(3600),
            open: false,
        })
    });
    engine.register_fn("seen", |context: NativeCallContext| context.tag().cloned().unwrap_or_default());
    engine
}

fn loaded(text: &str) -> (Engine, Result<LoadedScript, ScriptError>) {
    let root = Root::none();
    root.declare(vec![engine::Callable { module: "state", name: "next", arguments: 0 }]);
    let engine = engine_in(&root, &Limits::default());
    let script = engine::load_text(&engine, &root, "filter.vsl", text);
    (engine, script)
}

fn call(text: &str) -> Vec<Result<Status, String>> {
    let (engine, script) = loaded(text);
    let script = script.unwrap();
    let directives = script.stage(Stage::Connect).iter();
    directives.map(|d| d.call(&engine, &mut Dynamic::from(7_i64)).map_err(|f| f.error.to_string())).collect()
}

#[test]
fn every_form_of_a_directive_works() {
    let all = call(
        r#"
            // As a statement a directive is made and dropped.
            action "alone" || 42;
            rule "block" || { next() }
            action "map" #{ evaluate: || 1 };
            #{ connect: [
                rule "block" || { let a = 1; next() },
                rule "expression" || accept(),
                rule "trailing semicolon" || { deny(); },
                rule "return" || { if true { return accept(); } deny() },
                rule "statement" || if 1 is 2 { deny() } else { next() },
                rule "not" || if 1 not 2 { accept() } else { deny() },
                rule "map" #{ evaluate: || next(), color: "red" },
                rule "plain block" { accept() },
                rule "" || next(),
                action "action" || 42,
                action "for" || for x in [1, 2] { x += 1; },
                rule "tag" || if seen() == 7 { accept() } else { deny() },
                rule "catch" || { try { throw "x"; } catch (e) { } next() },
                rule "bare catch" || { try { throw "x" } catch { } next() },
                rule "switch" || switch 1 { 1 => accept(), _ => deny() },
            ] }"#,
    );
    let names: Vec<&str> = all.iter().map(|r| r.as_ref().unwrap().name()).collect();
    let expected = "next accept deny accept next accept next accept next next next accept next next accept";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn bodies_see_constants_variables_functions_and_imports() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("services")).unwrap();
    let module =
        "const echo = 5; export const list = [1, 2]; let hidden = 1; fn twice(x) { x * 2 + base::ten() }";
    std::fs::write(dir.path().join("services/x.vsl"), format!("import \"base\" as base;\n{module}")).unwrap();
    std::fs::write(dir.path().join("base.vsl"), "fn ten() { 10 }").unwrap();
    std::fs::write(
        dir.path().join("filter.vsl"),
        r#"import "services/x" as x;
            const LIMIT = 3;
            let counter = [0];
            fn helper(n) { n + global::LIMIT }
            export const outside = rule "made outside" || if LIMIT == 3 { accept() } else { deny() };
            #{ connect: [
                rule "import" || if x::echo == 5 && 2 in x::list { accept() } else { deny() },
                rule "function" || if helper(1) == 4 { accept() } else { deny() },
                rule "module function" || if x::twice(2) == 14 { accept() } else { deny() },
                rule "constant" || if LIMIT == 3 { accept() } else { deny() },
                rule "nested closure" || if [1, 5].filter(|v| v > LIMIT) == [5] { accept() } else { deny() },
                rule "late import" || { import "base" as b; if b::ten() == 10 { accept() } else { deny() } },
                action "import alone" || import "base" as late,
                rule "variable" || { counter.push(1); if counter == [0, 1] { accept() } else { deny() } },
                rule "unchanged" || if counter == [0] { accept() } else { deny() },
                outside,
            ] }"#,
    )
    .unwrap();
    let root = Root::open(dir.path()).unwrap();
    let engine = engine_in(&root, &Limits::default());
    let script = engine::load(&engine, &root, Path::new("filter.vsl")).unwrap();
    for directive in script.stage(Stage::Connect) {
        // Twice: what one call does to a variable, no other call sees.
        for _ in 0..2 {
            let result = directive.call(&engine, &mut Dynamic::default());
            let expected =
                if directive.kind == DirectiveKind::Action { Status::Next } else { Status::Accept(None) };
            assert_eq!(result.unwrap(), expected, "{}", directive.name);
        }
    }
}

#[test]
fn closures_that_rules_capture_remember_nothing_of_other_messages() {
    let dir = tempfile::tempdir().unwrap();
    let count = "let n = 0; let f = || { n += 1; n };";
    let part = format!("{count} export const g = f; export const h = #{{ f: f }};");
    std::fs::write(dir.path().join("part.vsl"), part).unwrap();
    let own = format!("{count} const G = #{{ f: [f] }}; fn counted() {{ global::G.f[0].call() }}");
    std::fs::write(dir.path().join("own.vsl"), &own).unwrap();
    std::fs::write(dir.path().join("deep.vsl"), "import \"own\" as own; fn counted() { own::counted() }")
        .unwrap();
    std::fs::write(dir.path().join("left.vsl"), format!("{own}\nif true {{ return 1; }}")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let engine = engine_in(&root, &Limits::default());
    for (before, counted) in [
        ("import \"own\" as own;", "own::counted()"),
        ("import \"deep\" as deep;", "deep::counted()"),
        ("import \"left\" as left;", "left::counted()"),
        ("fn counted() { import \"own\" as own; own::counted() }", "counted()"),
        ("", "f.call()"),
        ("let all = [f];", "all[0].call()"),
        ("let all = #{ f: [f] };", "all.f[0].call()"),
        ("let g = || f.call();", "g.call()"),
        ("const G = f;", "global::G.call()"),
        ("const G = #{ f: [f] };", "global::G.f[0].call()"),
        ("const G = f; fn counted() { global::G.call() }", "counted()"),
        ("import \"part\" as part;", "part::g.call()"),
        ("import \"part\" as part;", "part::h.f.call()"),
    ] {
        let text = format!(
            "{count} {before} #{{ connect: [ rule \"a\" || if {counted} > 1 {{ deny() }} else {{ next() }},
                    rule \"b\" || if {counted} > 1 {{ deny() }} else {{ next() }} ] }}"
        );
        let script = engine::load_text(&engine, &root, "filter.vsl", &text).unwrap();
        for directive in script.stage(Stage::Connect).iter().cycle().take(6) {
            let result = directive.call(&engine, &mut Dynamic::default());
            assert_eq!(result.unwrap(), Status::Next, "{text}");
        }
    }
    // A closure that is made within the rule counts as ever.
    let text = format!(
        "#{{ connect: [ rule \"a\" || {{ {count} f.call(); if f.call() == 2 && n == 2 {{ next() }} else {{ deny() }} }} ] }}"
    );
    let script = engine::load_text(&engine, &root, "filter.vsl", &text).unwrap();
    let result = script.stage(Stage::Connect)[0].call(&engine, &mut Dynamic::default());
    assert_eq!(result.unwrap(), Status::Next);
}

#[test]
fn a_captured_variable_that_leads_back_to_itself_is_refused() {
    let text = "let f = #{}; let g = || f; f.g = g; #{ connect: [ rule \"a\" || { f; next() } ] }";
    let error = loaded(text).1.unwrap_err();
    assert!(error.to_string().contains("leads back to itself"), "{error}");
}

#[test]
fn a_name_means_the_function_of_the_script_that_calls_it_however_often_rules_run() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("other.vsl"), "fn one() { 2 } fn two() { one() }").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let engine = engine_in(&root, &Limits::default());
    let text = r#"import "other" as other; fn one() { 1 }
            #{ connect: [ rule "a" || if one() == 1 && other::two() == 2 { accept() } else { deny() } ] }"#;
    let script = engine::load_text(&engine, &root, "filter.vsl", text).unwrap();
    for _ in 0..4 {
        let result = script.stage(Stage::Connect)[0].call(&engine, &mut Dynamic::default());
        assert_eq!(result.unwrap(), Status::Accept(None));
    }
}

#[test]
fn each_call_begins_with_all_that_the_limits_allow_after_one_that_failed_too() {
    let limits = Limits { operations: 1_000, ..Limits::default() };
    let root = Root::none();
    let mut engine = engine_in(&root, &limits);
    let turns = Arc::new(std::sync::atomic::AtomicI64::new(0));
    engine.register_fn("turn", move || turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
    let text = r#"#{ connect: [ rule "a" || {
            if turn() % 3 == 0 { throw "third" }
            let n = 0; while n < 60 { n += 1; }
            if Fn("accept").call().type_of() != "" { deny() } else { next() }
        } ] }"#;
    let script = engine::load_text(&engine, &root, "filter.vsl", text).unwrap();
    let directive = &script.stage(Stage::Connect)[0];
    for turn in 1..=9 {
        let result =
            directive.call(&engine, &mut Dynamic::default()).map_err(|failure| failure.error.message);
        let expected = if turn % 3 == 0 { Err("third".to_owned()) } else { Ok(Status::deny_default()) };
        assert_eq!(result, expected, "turn {turn}");
    }
}

#[test]
fn names_that_clients_make_up_are_not_kept_without_end() {
    let (engine, script) =
        loaded(r#"#{ connect: [ rule "a" || { try { Fn(seen()).call() } catch { } next() } ] }"#);
    let script = script.unwrap();
    let directive = &script.stage(Stage::Connect)[0];
    for number in 0..5_000 {
        let mut tag = Dynamic::from(format!("f{number}"));
        assert_eq!(directive.call(&engine, &mut tag).unwrap(), Status::Next);
    }
    assert!((1..=1_024).contains(&directive.body.names_kept()), "{}", directive.body.names_kept());
}

#[test]
fn an_import_alias_wins_over_a_built_in_module() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("n.vsl"), "fn ten() { 10 }").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let mut engine = engine_in(&root, &Limits::default());
    let mut module = rhai::Module::new();
    module.set_native_fn("ten", || Ok(1_i64));
    engine.register_static_module("net", module.into());
    root.declare(vec![engine::Callable { module: "net", name: "ten", arguments: 0 }]);
    let text = r#"import "n" as net; #{ connect: [ rule "a" || if net::ten() == 10 { accept() } else { deny() } ] }"#;
    let script = engine::load_text(&engine, &root, "filter.vsl", text).unwrap();
    assert_eq!(
        script.stage(Stage::Connect)[0].call(&engine, &mut Dynamic::default()).unwrap(),
        Status::Accept(None)
    );
}

#[test]
fn wrong_shapes_are_refused_with_place_and_advice() {
    for (text, place, message, hint) in [
        ("#{ rcpts: [] }", ":1:1", "'rcpts' does not exist", "did you mean 'rcpt'"),
        ("#{ other: [] }", ":1:1", "'other' does not exist", "connect, helo"),
        ("#{ rcpt: 1 }", ":1:1", "must be a list", "rcpt: ["),
        (
            "#{\n rcpt: [],\n data: [ rule \"r\" || next() ] }",
            ":3:2",
            "'data' does not exist",
            "the stages are",
        ),
        ("#{\n rcpt: rule \"r\" || next() }", ":2:2", "must be a list, found directive", "rcpt: ["),
        ("#{ rcpt: [1] }", ":1:1", "entry 1", "rule"),
        ("let x = 1;\n5", ":2:1", "map of stages", "rcpt"),
        (
            "#{ rcpt: [\n rule \"a\" || next(),\n rule \"a\" || next() ] }",
            ":3:7",
            "used twice, first at filter.vsl:2:7",
            "unique",
        ),
        ("#{ rcpt: [\n rule \"a\" || next() ],\n mail: [ action \"a\" || 1 ] }", ":", "used twice", "unique"),
        ("#{ rcpt: [\n rule \"a\" 5 ] }", ":2:11", "must be ||", ""),
        ("#{ rcpt: [ rule \"a\" #{ } ] }", ":1:", "no 'evaluate'", ""),
        ("#{ rcpt: [ rule \"a\" |x| next() ] }", ":1:", "without parameters", ""),
        ("#{ rcpt: [ rule \"a\" ] }", ":1:", "needs a body", ""),
        (
            "#{ rcpt: [ delegate scanner() \"a\" || next() ] }",
            ":1:31",
            "cannot stand at the stage 'rcpt'",
            "postq",
        ),
        (
            "#{ postq: [ delegate 1 \"a\" #{ evaluate: || next() } ] }",
            ":1:22",
            "delegate 'a' needs a service",
            "",
        ),
        ("#{ postq: [ delegate \"a\" || next() ] }", ":1:", "string", ""),
        ("#{ postq: [ delegate || next() ] }", ":1:", "needs a service and a name", ""),
        ("#{ postq: [ delegate scanner() \"a\" 5 ] }", ":1:36", "must be ||", ""),
        (
            "#{ mail: [ rule \"a\" || next() ], postq: [ delegate scanner() \"a\" || next() ] }",
            ":1:",
            "used twice",
            "unique",
        ),
        ("#{ rcpt: [ rule a || next() ] }", ":1:", "string", ""),
        ("#{ rcpt: [ rule \"a\" || undefined_variable ] }", ":1:", "undefined_variable", ""),
        ("object loop rg4 = \"127.0.0.0/8\"; #{}", ":1:1", "object", "words of the language are no names"),
        ("#{ rcpt: [ rule \"a\" || nowhere::f() ] }", ":1:24", "no module 'nowhere'", "import"),
        ("#{ rcpt: [ rule \"a\" || stat::next() ] }", ":1:24", "no module 'stat'", "did you mean state::"),
        ("#{ rcpt: [ rule \"a\" || nowhere::x ] }", ":1:", "no module 'nowhere'", "import"),
        ("fn f() { stat::next() } #{}", ":1:10", "Undefined module: stat", ""),
        (
            "#{ rcpt: [ rule \"a\" ||\n state::nxt() ] }",
            ":2:2",
            "no function state::nxt",
            "did you mean state::next",
        ),
        ("#{ rcpt: [ rule \"a\" || state::next(1) ] }", ":1:", "takes 0 arguments, not 1", ""),
        ("#{ rcpt: [", ":1:", "", ""),
        ("eval(\"1\")", ":1:1", "eval", ""),
    ] {
        let error = loaded(text).1.unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("filter.vsl{place}")), "{text}: {shown}");
        assert!(error.message.contains(message), "{text}: {shown}");
        assert!(error.hint.unwrap_or_default().contains(hint), "{text}: {shown}");
    }
}

#[test]
fn a_rule_that_fails_names_its_line() {
    for (body, place, words) in [
        ("\n  nothing()", ":3:3", "nothing"),
        ("\n  throw \"custom\"", ":3:3", "custom"),
        ("\n  5", ":2:8", "status"),
        ("\n  if next() { 1 } else { 2 }", ":3:6", "incorrect: status (expecting bool)"),
        ("\n  switch 1 { 2 => next() }", ":2:8", "status"),
        ("\n  throw next()", ":3:3", "status"),
        ("\n  throw \"vsmtp_filter::status::Status\"", ":3:3", "vsmtp_filter::status::status"),
        ("\n  throw [\"vsmtp_filter::x\"]", ":3:3", "vsmtp_filter::x"),
        ("\n  next().nothing", ":3:", "type 'status'"),
        ("\n  scanner()", ":2:8", "arc<smtpservice>"),
        ("\n  let a = [1]; a[5]", ":3:", "out of bounds"),
        ("\n  1 / 0", ":3:", "zero"),
        ("\n  loop { }", ":2:8", "operations"),
        ("\n  recurse(1)", ":", "stack overflow"),
        ("\n  let s = \"x\"; loop { s += s; }", ":", "string"),
        ("\n  let s = []; loop { s.push(s); }", ":", "size"),
    ] {
        let text =
            format!("fn recurse(x) {{ recurse(x + 1) }} #{{ connect: [\n  rule \"r\" || {{{body} }} ] }}");
        let (engine, script) = loaded(&text);
        let script = script.unwrap();
        let error = script.stage(Stage::Connect)[0].call(&engine, &mut Dynamic::default()).unwrap_err().error;
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("filter.vsl{place}")), "{body}: {shown}");
        assert!(error.message.to_ascii_lowercase().contains(words), "{body}: {shown}");
    }
}

#[test]
fn imports_cannot_leave_the_root_or_go_in_circles() {
    let dir = tempfile::tempdir().unwrap();
    let root_dir = dir.path().join("etc");
    std::fs::create_dir(&root_dir).unwrap();
    std::fs::write(dir.path().join("secret.vsl"), "fn f() { 1 }").unwrap();
    std::os::unix::fs::symlink(dir.path().join("secret.vsl"), root_dir.join("link.vsl")).unwrap();
    std::fs::write(root_dir.join("a.vsl"), "import \"b\" as b;").unwrap();
    std::fs::write(root_dir.join("b.vsl"), "import \"a\" as a;").unwrap();
    let absolute = dir.path().join("secret").display().to_string();
    let root = Root::open(&root_dir).unwrap();
    for (path, words) in [
        ("../secret", "without '..'"),
        ("x/../../secret", "without '..'"),
        (absolute.as_str(), "relative"),
        ("link", "outside"),
        ("missing", "cannot be read"),
        ("", "empty"),
        ("a", "import cycle: a.vsl -> b.vsl -> a.vsl"),
    ] {
        let engine = engine_in(&root, &Limits::default());
        let error = engine::load_text(&engine, &root, "f.vsl", &format!("import \"{path}\" as m; #{{}}"))
            .unwrap_err();
        assert!(error.message.contains(words), "{path}: {error}");
    }
}

#[test]
fn the_clock_stops_a_script_that_the_operation_count_would_not() {
    let limits = Limits { operations: 0, ..Limits::default() };
    let engine = engine_in(&Root::none(), &limits);
    let script =
        engine::load_text(&engine, &Root::none(), "f.vsl", "#{ connect: [ rule \"r\" || loop { } ] }")
            .unwrap();
    let _watch = Watch::until(Instant::now() - Duration::from_secs(1));
    let error = script.stage(Stage::Connect)[0].call(&engine, &mut Dynamic::default()).unwrap_err().error;
    assert!(error.message.contains("time limit"), "{error}");
}

#[test]
fn what_a_script_throws_is_said_as_it_is_however_long() {
    let hostile = "vsmtp_filter::a ".repeat(1 << 18);
    let thrown = EvalAltResult::ErrorRuntime(hostile.clone().into(), Position::NONE);
    assert_eq!(ScriptError::from_eval("f.vsl", &thrown).message, hostile);
    let unknown = EvalAltResult::ErrorPropertyNotFound(hostile.clone(), Position::NONE);
    assert!(ScriptError::from_eval("f.vsl", &unknown).message.ends_with(&hostile));
    let named = EvalAltResult::ErrorFunctionNotFound(format!("f ({hostile})"), Position::NONE);
    assert!(ScriptError::from_eval("f.vsl", &named).message.contains("f (a a a "));
}

#[test]
fn what_stops_an_imported_script_last_is_what_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("one.vsl"), "const N = 1;").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let engine = engine_in(&root, &Limits { call_levels: 0, ..Limits::default() });
    let error = engine::load_text(&engine, &root, "f.vsl", "import \"one\" as one; #{}").unwrap_err();
    assert_eq!((error.location.file.as_str(), error.message.as_str()), ("one.vsl", "Stack overflow"));
}
