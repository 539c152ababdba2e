//! Declarations as scripts of 1.x write them, and the two words as names in scripts of 2.x.

use std::path::Path;

use rhai::Map;

use super::*;
use crate::engine::{self, Limits};
use crate::object::Object;
use crate::stage::Stage;
use crate::status::Status;

/// What `show()` prints of a value.
fn show(value: &Dynamic) -> String {
    match value.read_lock::<Object>() {
        Some(object) => format!("{}:{}", object.kind(), object.text().trim_end()),
        None => format!("{}:{value}", value.type_name()),
    }
}

fn engine_in(root: &Arc<Root>) -> Engine {
    let mut engine = engine::bare(root, &Limits::default());
    engine.register_fn("show", |value: Dynamic| show(&value));
    engine.register_fn("show", |value: Object| show(&Dynamic::from(value)));
    engine.register_fn("accept", || Status::Accept(None));
    engine.register_fn("deny", Status::deny_default);
    engine.register_fn(service_constructor("cmd"), |map: Map| {
        format!("the command {}", map.get("command").cloned().unwrap_or_default())
    });
    engine
}

fn folder() -> (tempfile::TempDir, Arc<Root>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("list.txt"), "a@b.c\n\n d@e.f \n").unwrap();
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

fn value_of(text: &str) -> Result<String, String> {
    let (_dir, root) = folder();
    value_in(&engine_in(&root), text)
}

fn value_in(engine: &Engine, text: &str) -> Result<String, String> {
    let ast = compile(engine, "f.vsl", text).map_err(|error| error.to_string())?;
    let value: Dynamic = engine
        .eval_ast_with_scope(&mut Scope::new(), &ast)
        .map_err(|error| ScriptError::from_eval("f.vsl", &error).to_string())?;
    Ok(value.to_string())
}

#[test]
fn every_form_of_a_declaration_works() {
    for (text, expected) in [
        (r#"object a ip4 = "192.0.2.1"; show(a)"#, "ip4:192.0.2.1"),
        (r#"object a address = `${"x"}@b.c`; show(a)"#, "address:x@b.c"),
        (r##"object a fqdn = #{ value: "b.c", color: "red" }; show(a)"##, "fqdn:b.c"),
        (r#"object a val = "x"; show(a)"#, "identifier:x"),
        (r#"object a addr = "x@y.z"; show(a)"#, "address:x@y.z"),
        (r#"object a string = "x"; show(a)"#, "string:x"),
        (r##"object a code = #{ code: 550, enhanced: "5.7.1", text: "no" }; show(a)"##, "code:550 5.7.1 no"),
        (r#"object a file:address = "list.txt"; show(a)"#, "file:[a@b.c, d@e.f]"),
        // Names that are types, and the words themselves as names.
        (r#"object ip4 ip4 = "192.0.2.1"; show(ip4)"#, "ip4:192.0.2.1"),
        (r#"object file file:address = "list.txt"; show(file)"#, "file:[a@b.c, d@e.f]"),
        (r#"object group group = ["a"]; show(group)"#, "group:[a]"),
        (r#"object object string = "x"; show(object)"#, "string:x"),
        // Groups of names, of groups, of declarations.
        (
            r#"object john address = "j@b.c"; object g group = [ john, object jane address = "k@b.c", ["z"] ]; show(g)"#,
            "group:[j@b.c, k@b.c, [z]]",
        ),
        (r#"object g group = [ object jane address = "k@b.c" ]; show(jane)"#, "address:k@b.c"),
        // What was there before a declaration within an expression is there behind it.
        (
            r#"object john address = "j@b.c"; const n = 1; object g group = [ object jane address = "k@b.c", john ]; `${show(john)} ${n} ${show(g)}`"#,
            "address:j@b.c 1 group:[k@b.c, j@b.c]",
        ),
        (
            r#"fn f(a, b) { let c = 1; let g = [object x string = "x", a, b]; for i in g { c += 1; } for (i, at) in g { c += at; } `${a}${b}${c}${x}` } f("p", "q")"#,
            "pq7x",
        ),
        (
            r#"let a = "1"; let f = |b| { let g = [object x string = "x", a, b]; try { throw "t" } catch (e) { return `${a}${b}${e}`; } }; f.call("2")"#,
            "12t",
        ),
        (
            r#"let list = [object a string = "1"]; let b = 2; let c = 3; list.push(object d string = "4"); `${list}${b}${c}${a}`"#,
            "[\"1\", \"4\"]231",
        ),
        (
            r##"let a = ["1"]; let b = ["2"]; let c = "3"; b.push(object x string = "4"); a[0] = object y string = "5"; c += object z string = "6"; let m = #{ k: object s string = "7" }; `${a}${b}${c}${s}`"##,
            "[\"5\"][\"2\", \"4\"]367",
        ),
        // What is looked up by its place behind the declaration is what it was.
        (
            r#"fn f(a, b) { `${a}${b}` } let a = "1"; let b = "2"; let c = f(b, object x string = "4"); `${c}${a}${b}`"#,
            "2412",
        ),
        (
            r#"fn f(a, b) { `${a}${b[1]}` } let a = "1"; let b = "2"; let c = f(b, ["3", object x string = "4"]); `${c}${a}${b}`"#,
            "2412",
        ),
        (
            r#"let a = ["1"]; let i = 0; let b = ["2"]; a[i] = object y string = "5"; `${a}${i}${b}`"#,
            "[\"5\"]0[\"2\"]",
        ),
        (
            r#"let a = ["1"]; let b = ["2"]; let c = b?[if (object y string = "0") == "0" { 0 } else { 1 }]; `${a}${b}${c}`"#,
            "[\"1\"][\"2\"]2",
        ),
        (
            r#"let a = ["1"]; let b = ["2"]; b[0] = a?[0] + (object y string = "0"); `${a}${b}`"#,
            "[\"1\"][\"10\"]",
        ),
        (r#"let b = ["2"]; object a string = b?[0]; show(a)"#, "string:2"),
        // As an argument, in a function, as the value of a block, in an interpolation.
        (r#"show(object r address = "a@b.c")"#, "address:a@b.c"),
        (r#"fn f() { object r ip4 = "192.0.2.1"; show(r) } f()"#, "ip4:192.0.2.1"),
        (r#"fn f() { object r ip4 = "192.0.2.1" } show(f())"#, "ip4:192.0.2.1"),
        (r#"fn f() { object r ip4 = "192.0.2.1"; } show(f())"#, "ip4:192.0.2.1"),
        (
            r#"`<${show(object r ip4 = "192.0.2.1")} ${"}"} ${ `${show(object s string = "t")}` }>`"#,
            "<ip4:192.0.2.1 } string:t>",
        ),
        // A name that is declared again is the later one; the last statement needs no semicolon.
        (r#"object a string = "x"; object a string = "y"; show(a)"#, "string:y"),
        (r#"object a string = "x""#, ""),
        ("object\n  a // a remark\n  string\n  =\n  \"x\";\nshow(a)", "string:x"),
        (r##"service s cmd = #{ command: "echo" }; show(s)"##, "string:the command echo"),
        (r##"fn f() { service s cmd = #{ command: "echo" }; s } f()"##, "the command echo"),
        (r##"show(service s cmd = #{ command: "echo" })"##, "string:the command echo"),
    ] {
        assert_eq!(value_of(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn the_words_are_names_where_no_declaration_follows() {
    for (text, expected) in [
        ("let object = 1; let service = 2; object + service", "3"),
        ("const service = 1; service == 1", "true"),
        ("const service = 1; service is 1", "true"),
        ("let object = 1; object not 2", "true"),
        ("let object = 1; object not object", "false"),
        ("#{ object: 1, service: 2 }.service", "2"),
        ("let m = #{ object: 1 }; m.object += 1; m.object", "2"),
        ("fn service(x) { x } fn object() { 4 } service(object())", "4"),
        ("let object = [1]; for service in object { return service }", "1"),
        (r#"let service = "x"; `object a ip4 = ${service}`"#, "object a ip4 = x"),
        (r#""object a ip4 = b""#, "object a ip4 = b"),
        ("/* object a ip4 = b */ // service x cmd\n 5", "5"),
    ] {
        assert_eq!(value_of(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn wrong_declarations_are_refused_with_place_and_advice() {
    for (text, place, words) in [
        ("object my_object unknown;", "f.vsl:1:1", "no type 'unknown'"),
        ("\n  object a ip5 = \"x\";", "f.vsl:2:3", "did you mean 'ip4'"),
        ("object a file:ip44 = \"x\";", "f.vsl:1:1", "did you mean 'file:ip4'"),
        ("object a file:group = \"x\";", "f.vsl:1:1", "no type 'file:group'"),
        ("object file:addr = #{};", "f.vsl:1:1", "type of object 'file' is missing"),
        ("object invalid_file file;", "f.vsl:1:1", "needs the type of its lines"),
        ("object a ip4;", "f.vsl:1:1", "object 'a' has no value"),
        ("object a = \"x\";", "f.vsl:1:1", "type of object 'a' is missing"),
        ("service a cmdd = #{};", "f.vsl:1:1", "did you mean 'cmd'"),
        ("service a db:csvs = #{};", "f.vsl:1:1", "did you mean 'db:csv'"),
        ("object a ip4 = \"x\";", "f.vsl:1:16", "not of type ip4"),
        ("object a ip4 = #{};", "f.vsl:1:16", "needs an entry 'value'"),
        ("object a file:ip4 = \"none\";", "f.vsl:1:21", "cannot be read"),
        ("object a file:ip4 = \"list.txt\";", "f.vsl:1:21", "line 1: 'a@b.c'"),
        ("object a file:ip4 = \"/etc/passwd\";", "f.vsl:1:21", "outside the configuration directory"),
        ("object a ip4 = ;", "f.vsl:1:16", ""),
        ("let g = []; g.push(object a string = \"x\"); print(a)", "f.vsl:1:", "a"),
        ("let g = [object a string = \"x\"]; print(nobody)", "f.vsl:1:40", "nobody"),
        // What is there in another function, or in a block that has ended, is not there.
        (
            "fn f(nobody) { nobody } fn g(a) { let b = [object x string = a]; b + nobody } g(1)",
            "f.vsl:1:",
            "nobody",
        ),
        (
            "fn g(a) { if a == 1 { let nobody = 2; } let b = [object x string = a]; b + nobody } g(1)",
            "f.vsl:1:",
            "nobody",
        ),
        ("let nobody = 1; fn g(a) { let b = [object x string = a]; b + nobody } g(1)", "f.vsl:1:", "nobody"),
        ("service a smtp = #{};", "f.vsl:1:18", "not there in this version"),
    ] {
        let error = value_of(text).unwrap_err();
        assert!(error.starts_with(place) && error.contains(words), "{text}: {error}");
    }
}

#[test]
fn declarations_of_a_module_are_exported_and_bodies_see_them() {
    let (dir, root) = folder();
    let vars = "object ip4 ip4 = \"192.0.2.1\";\nobject staff group = [ object john address = \"j@b.c\" ];\nobject last regex = \"^a\"";
    std::fs::write(dir.path().join("vars.vsl"), vars).unwrap();
    let script = r##"
        import "vars" as vars;
        object mine address = "m@b.c";
        object mixed group = [ object theirs address = "t@b.c", mine ];
        #{ connect: [
            rule "before an expression" || if show(mine) == "address:m@b.c" { accept() } else { deny() },
            rule "behind it" || if show(mixed) == "group:[t@b.c, m@b.c]" { accept() } else { deny() },
            rule "exported" || if show(vars::ip4) == "ip4:192.0.2.1" { accept() } else { deny() },
            rule "exported from an expression" || if show(vars::john) == "address:j@b.c" { accept() } else { deny() },
            rule "last" || if show(vars::last) == "regex:^a" { accept() } else { deny() },
            rule "own" || if show(mine) == "address:m@b.c" { accept() } else { deny() },
            rule "inside" || { object x ip4 = "192.0.2.9"; if show(x) == "ip4:192.0.2.9" { accept() } else { deny() } },
            rule "statement" || if show(object x string = "a") == "string:a" { accept() } else { deny() },
        ] }"##;
    std::fs::write(dir.path().join("main.vsl"), script).unwrap();
    let engine = engine_in(&root);
    let script = engine::load(&engine, &root, Path::new("main.vsl")).unwrap();
    for directive in script.stage(Stage::Connect) {
        for _ in 0..2 {
            assert_eq!(
                directive.call(&engine, &mut Dynamic::default()).unwrap(),
                Status::Accept(None),
                "{}",
                directive.name
            );
        }
    }
}

#[test]
fn garbage_around_the_words_is_harmless() {
    for text in [
        "object",
        "object a",
        "object a b",
        "object a file:",
        "object a file: =",
        "service x db:csv",
        "`${object",
        "`${ object a ip4 = `${",
        "object a ip4 = \"",
        "}}} object a ip4 = 1",
        "#{ object a ip4 = 1 }",
        "object object object = object",
    ] {
        assert!(value_of(text).is_err(), "{text}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(500))]

    #[test]
    fn no_order_of_words_and_signs_makes_the_parser_panic(
        words in proptest::collection::vec(proptest::sample::select(&[
            "object", "service", "a", "b", "ip4", "string", "group", "file", ":", "=", "\"x\"", "`", "${", "`t${", "}",
            "{", "#{", "(", ")", "[", "]", ";", ",", "||", "rule \"r\"", "delegate", "not", "is", "cmd", "db", "csv",
            "const", "let", "fn f()", "export", ".", "::", "\n", "//", "1",
        ][..]), 0..24)
    ) {
        thread_local!(static ENGINE: Engine = engine_in(&Root::none()));
        let _ = ENGINE.with(|engine| value_in(engine, &words.join(" ")));
    }
}
