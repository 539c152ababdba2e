//! What rules come to must be what Rhai comes to, whatever is told of it beforehand.

use std::path::Path;
use std::sync::Arc;

use rhai::{Dynamic, Engine, Module};

use crate::engine::{self, BuiltIns, LoadedScript, Root};
use crate::stage::Stage;
use crate::status::Status;

/// A value of our own; nothing but a script can change what a variable of it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct List(i64);

fn engine_in(root: &Arc<Root>) -> Engine {
    let mut engine = engine::bare(root, &engine::Limits::default());
    engine.register_type_with_name::<List>("list").register_fn("list", List);
    engine.register_fn("contains", |list: &mut List, number: i64| list.0 == number);
    engine.register_fn("==", |a: List, b: List| a == b);
    let mut state = Module::new();
    state.set_native_fn("next", || Ok(Status::Next));
    state.set_native_fn("accept", || Ok(Status::Accept(None)));
    state.set_native_fn("deny", || Ok(Status::deny_default()));
    let mut net = Module::new();
    net.set_native_fn("ten", || Ok(10_i64));
    net.set_var("SIX", 6_i64);
    let mut built_ins = BuiltIns::default();
    for (name, mut module) in [("state", state), ("net", net)] {
        module.set_id(name);
        module.build_index();
        let module = Arc::new(module);
        built_ins.modules.insert(name, Arc::clone(&module));
        engine.register_static_module(name, module);
    }
    root.give(built_ins);
    engine
}

fn load(engine: &Engine, root: &Root, text: &str) -> LoadedScript {
    engine::load_text(engine, root, "filter.vsl", text).unwrap()
}

/// The rules of a script, each called three times.
fn outcomes(engine: &Engine, script: &LoadedScript) -> Vec<Vec<Result<Status, String>>> {
    let once = |rule: &Arc<engine::Directive>| {
        rule.call(engine, &mut Dynamic::default()).map_err(|failure| failure.error.message)
    };
    script.stage(Stage::Connect).iter().map(|rule| (0..3).map(|_| once(rule)).collect()).collect()
}

const BODIES: [&str; 22] = [
    "state::next()",
    "{ state::next() }",
    "{ state::next(); }",
    "{ return state::next(); }",
    "{ return state::accept(); }",
    "{ { state::next() } }",
    "if net::ten() == 10 { state::deny() } else { state::next() }",
    "if net::ten() != 10 { state::deny() } else { state::next() }",
    "if net::ten() == 9 { state::deny() } else if net::SIX == 6 { state::accept() } else { state::next() }",
    "{ if net::ten() == 10 { return state::deny(); } state::next() }",
    "{ if net::ten() == 9 { return state::deny(); } state::next() }",
    "{ if net::ten() == 10 { return state::next(); } state::accept() }",
    "{ if net::ten() == 10 { state::next() } state::accept() }",
    "{ if net::ten() == 10 { let a = 1; if a == 1 { return state::accept(); } } state::next() }",
    "{ let a = net::ten(); if a == 10 { return state::deny(); } state::next() }",
    "{ let a = 0; for i in 0..3 { a += i; } if a == 3 { state::accept() } else { state::next() } }",
    "{ let f = |x| x + net::ten(); if f.call(1) == 11 { state::accept() } else { state::next() } }",
    "{ let s = `${net::ten()}-${net::SIX}`; if s == \"10-6\" { state::accept() } else { state::next() } }",
    "{ let s = #{ a: [net::ten()] }; if s.a[0] == 10 { state::accept() } else { state::next() } }",
    "{ try { throw 1 } catch { return state::accept(); } state::next() }",
    "{ switch net::ten() { 10 => state::accept(), _ => state::next() } }",
    "if net::ten() > 5 && net::SIX < 7 || net::ten() == 1 { state::accept() } else { state::next() }",
];

#[test]
fn a_rule_comes_to_what_rhai_makes_of_its_body() {
    let root = Root::none();
    let engine = engine_in(&root);
    for body in BODIES {
        let ast = engine.compile(format!("fn f() {{ {body} }} f()")).unwrap();
        let expected: Status = engine.eval_ast(&ast).unwrap();
        let script = load(&engine, &root, &format!("#{{ connect: [ rule \"a\" || {body} ] }}"));
        let found = outcomes(&engine, &script);
        assert_eq!(found, [vec![Ok(expected.clone()), Ok(expected.clone()), Ok(expected)]], "{body}");
    }
}

#[test]
fn a_rule_fails_where_rhai_does() {
    let root = Root::none();
    let engine = engine_in(&root);
    for (body, place, words) in [
        ("if\n net::ten() { state::deny() } else { state::next() }", "filter.vsl:2:7", "expecting bool"),
        ("{ if true {\n throw \"x\" } state::next() }", "filter.vsl:2:2", "x"),
        ("{ if false { 1 }\n nothing() }", "filter.vsl:2:2", "nothing"),
        ("{ state::next();\n 5 }", "filter.vsl:1:20", "a status such as"),
        ("{ if true { } else { state::next() } }", "filter.vsl:1:20", "a status such as"),
        ("{ if false { state::next() } }", "filter.vsl:1:20", "a status such as"),
    ] {
        let script = load(&engine, &root, &format!("#{{ connect: [ rule \"a\" || {body} ] }}"));
        let rule = &script.stage(Stage::Connect)[0];
        for _ in 0..3 {
            let error = rule.call(&engine, &mut Dynamic::default()).unwrap_err().error;
            let shown = error.to_string();
            assert!(shown.starts_with(place) && error.message.contains(words), "{body}: {shown}");
        }
    }
}

#[test]
fn what_is_called_is_found_beforehand_except_where_a_body_imports() {
    let dir = folder();
    let root = Root::open(dir.path()).unwrap();
    let engine = engine_in(&root);
    let text = r#"import "one" as one; import "two" as two;
        #{ connect: [
            rule "a" || if [one::N, two::N, net::SIX] == [1, 2, 6] { state::accept() } else { state::deny() },
            rule "b" || if [3].map(|x| [x, one::N, two::N]) == [[3, 1, 2]] && net::ten() == 10 {
                state::accept()
            } else {
                state::deny()
            },
            rule "c" || { import "two" as net; if net::N == 2 { state::accept() } else { state::deny() } },
            rule "d" || { import "one" as other; if other::N + net::SIX == 7 { state::accept() } else { state::deny() } },
        ] }"#;
    let script = load(&engine, &root, text);
    assert_eq!(outcomes(&engine, &script), vec![vec![Ok(Status::Accept(None)); 3]; 4]);
    let found: Vec<bool> = script.stage(Stage::Connect).iter().map(|rule| rule.body.has_found()).collect();
    assert_eq!(found, [true, true, false, false]);
}

#[test]
fn what_a_script_imports_as_a_built_in_module_is_what_its_rules_call() {
    let dir = folder();
    let root = Root::open(dir.path()).unwrap();
    let engine = engine_in(&root);
    for text in [
        r#"import "mine" as state; #{ connect: [ rule "a" || state::next() ] }"#,
        r#"#{ connect: [ rule "a" || { import "mine" as state; state::next() } ] }"#,
        r#"#{ connect: [ rule "a" || { import "mine" as state; if true { state::next() } else { 1 } } ] }"#,
    ] {
        let script = load(&engine, &root, text);
        let failed = outcomes(&engine, &script).concat();
        assert!(
            failed.iter().all(|one| one.as_ref().is_err_and(|said| said.contains("found i64"))),
            "{failed:?}"
        );
    }
}

#[test]
fn functions_of_a_script_are_what_its_rules_call() {
    let root = Root::none();
    let engine = engine_in(&root);
    for body in [
        "if contains(1, 2) == 3 { state::accept() } else { state::deny() }",
        "if list(7).contains(2) == 9 { state::accept() } else { state::deny() }",
        "if 2 in 1 == 3 { state::accept() } else { state::deny() }",
        "if twice(4).twice() == 16 { state::accept() } else { state::deny() }",
        "if [1, 2].map(|x| twice(x)) == [2, 4] && [1].len() == 1 { state::accept() } else { state::deny() }",
        "if call(Fn(\"twice\"), 2) == 4 && Fn(\"twice\").call(3) == 6 { state::accept() } else { state::deny() }",
        "if is_def_fn(\"twice\", 1) && !is_def_fn(\"thrice\", 1) { state::accept() } else { state::deny() }",
    ] {
        let text = format!(
            "fn contains(a, b) {{ a + b }} fn contains(a) {{ 7 + a }} fn twice(x) {{ x * 2 }} fn twice() {{ this * 2 }}
            #{{ connect: [ rule \"a\" || {body} ] }}"
        );
        let script = load(&engine, &root, &text);
        let ast = engine
            .compile(text.replace("#{ connect: [ rule \"a\" || ", "fn f() { ").replace(" ] }", " } f()"));
        let expected: Status = engine.eval_ast(&ast.unwrap()).unwrap();
        assert_eq!(
            outcomes(&engine, &script),
            [vec![Ok(expected.clone()), Ok(expected.clone()), Ok(expected)]],
            "{body}"
        );
        assert!(script.stage(Stage::Connect)[0].body.has_found());
    }
}

#[test]
fn methods_of_an_imported_script_are_what_rules_call() {
    let dir = folder();
    let root = Root::open(dir.path()).unwrap();
    let engine = engine_in(&root);
    let text = r#"import "typed" as other;
        #{ connect: [
            rule "a" || { let l = list(7); if l.contains(7) && l == list(8) { state::accept() } else { state::deny() } },
            rule "b" || if list(7).contains(7) { state::accept() } else { state::deny() },
        ] }"#;
    let script = load(&engine, &root, text);
    assert_eq!(outcomes(&engine, &script), vec![vec![Ok(Status::Accept(None)); 3]; 2]);
    assert!(script.stage(Stage::Connect).iter().all(|rule| !rule.body.has_found()));
}

#[test]
fn no_message_sees_what_another_did_to_a_captured_variable() {
    let dir = folder();
    let root = Root::open(dir.path()).unwrap();
    let engine = engine_in(&root);
    for (body, is_kept) in [
        ("if known.contains(7) { state::accept() } else { state::deny() }", true),
        ("if contains(known, 7) { state::accept() } else { state::deny() }", true),
        ("{ let was = known.contains(7); known = list(8); ok(was) }", false),
        ("{ let was = known.contains(7); known.take(); ok(was) }", false),
        ("{ let was = known.contains(7); take(known); ok(was) }", false),
        ("{ let was = known.contains(7) && known.tag == 0; known.set_tag(5); ok(was) }", false),
        ("{ let was = known.contains(7) && known.tag == 0; known.tag = 5; ok(was) }", false),
        ("{ let was = known.contains(7); known.change(); ok(was) }", false),
        ("{ let was = known.contains(7); let f = || { this = list(8) }; known.call(f); ok(was) }", false),
        ("{ let was = known.contains(7); let f = || { known = list(8) }; f.call(); ok(was) }", false),
        (
            "{ let was = known.contains(7); let known = list(8); if was { state::accept() } else { known } }",
            true,
        ),
        ("{ let was = known.contains(7) && words == [1]; words.push(2); ok(was) }", false),
        ("{ let was = known.contains(7) && number == 1; number += 1; ok(was) }", false),
        (
            "if name == \"a\" && number == 1 && name.len() == 1 { state::accept() } else { state::deny() }",
            true,
        ),
        ("{ let was = name == \"a\"; name.append(\"b\"); ok(was) }", false),
        ("{ let was = name == \"a\"; name += \"b\"; ok(was) }", false),
        ("{ let was = name.contains(\"a\") && name.len() == 1; name[0] = 'b'; ok(was) }", false),
        ("{ let was = name.len() == 1; name.clear(); ok(was) }", false),
        ("{ let was = name == \"a\"; append(name, \"b\"); ok(was) }", false),
    ] {
        let text = format!(
            "fn change() {{ this = list(8); }}
            fn ok(was) {{ if was {{ state::accept() }} else {{ state::deny() }} }}
            let known = list(7); let words = [1]; let number = 1; let name = \"a\";
            #{{ connect: [ rule \"a\" || {body} ] }}"
        );
        let script = load(&engine, &root, &text);
        assert_eq!(outcomes(&engine, &script), [vec![Ok(Status::Accept(None)); 3]], "{body}");
        assert_eq!(script.stage(Stage::Connect)[0].body.leaves_captured(), is_kept, "{body}");
    }
    for import in ["typed", "typed within"] {
        let text = format!(
            "import \"{import}\" as other; let known = list(7);
            #{{ connect: [ rule \"a\" || if known.contains(7) {{ state::accept() }} else {{ state::deny() }} ] }}"
        );
        let script = load(&engine, &root, &text);
        assert_eq!(outcomes(&engine, &script), [vec![Ok(Status::Accept(None)); 3]], "{import}");
        assert!(!script.stage(Stage::Connect)[0].body.leaves_captured(), "{import}");
    }
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(Path::new(name)), text).unwrap();
    write("one.vsl", "export const N = 1;");
    write("two.vsl", "export const N = 2;");
    write("mine.vsl", "fn next() { 1 }");
    write("typed.vsl", "fn \"list\".contains(x) { let was = this == list(x); this = list(8); was }");
    write("typed within.vsl", "import \"typed\" as typed;");
    dir
}
