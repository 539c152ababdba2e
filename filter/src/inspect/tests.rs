//! Everything that is wrong is found where it stands, and nothing else.

use super::*;

fn found(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let config = dir.path().join("vsmtp.vsl");
    if !config.exists() {
        std::fs::write(&config, "fn on_config(config) { config }").unwrap();
    }
    let request = Evaluate {
        config_path: config.display().to_string(),
        hostname: "mx.test".into(),
        cores: 1,
        root: String::new(),
    };
    problems(&request, &Surroundings::default()).iter().map(ToString::to_string).collect()
}

fn in_rules(text: &str) -> Vec<String> {
    found(&[("filter.vsl", text)])
}

#[test]
fn good_rules_have_no_problems() {
    let rules = r#"
        import "lib/own" as own;
        const FRIENDS = ["a@b.test"];
        fn is_friend(who) { who in global::FRIENDS }
        fn greet() { this + "x" }
        object me address = "me@b.test";
        object friends file:address = "/etc/vsmtp/lib/friends.txt";
        #{
            connect: [
                rule "ip" || { if ctx::client_ip() in [ip4("192.0.2.1")] { return accept(); } next() },
                action "log" || { log("info", `hello ${client_ip()}`); let f = |x| x + 1; f.call(1); },
            ],
            mail: [ rule "friend" || {
                let table = #{ act: |x| x, size: 1 };
                if is_friend(mail_from()) || own::twice(2) == 4 || table.act(1) == 2 { accept() } else { next() }
            } ],
            rcpt: [
                rule "rcpt" || { for x in [1, 2] { print(x); } "abc".greet(); type_of(rcpt()); next() },
                rule "caught" || { try { msg::get_header("a"); mail(); } catch { } next() },
                rule "last" || deny(),
            ],
            preq: [
                action "edit" || { msg::append_header("X", "y"); [3, 1].sort(); },
                rule "either" || if msg::size() > 3 { accept() } else { next() },
                rule "switch" || switch msg::size() { 1 => deny(), _ => next() },
                rule "throw" || { if msg::size() == 9 { throw "no" } next() },
            ],
        }"#;
    let own = "fn twice(x) { x * 2 }";
    let friends = ("lib/friends.txt", "jane@b.test\n");
    assert_eq!(found(&[("filter.vsl", rules), ("lib/own.vsl", own), friends]), Vec::<String>::new());
}

#[test]
fn calls_that_nobody_answers() {
    let found = in_rules(
        "fn own(a) { a }
#{ rcpt: [
  rule \"a\" || { clientip(); next() },
  rule \"b\" || { own(1, 2); next() },
  rule \"c\" || { msg::append_header(\"X\", 5); next() },
  rule \"d\" || { log(\"info\"); next() },
  rule \"e\" || { rcpt().nothing_like_this(1); next() },
  rule \"f\" || { if envelop::add_rcpt(true) {} next() },
] }",
    );
    assert_eq!(
        found,
        [
            "filter.vsl:3:17: there is no function clientip (did you mean client_ip?)",
            "filter.vsl:4:17: own takes 1 arguments, not 2",
            "filter.vsl:5:17: msg::append_header takes no int as its argument 2 (docs/vsl/msg.md says what it takes)",
            "filter.vsl:6:17: log takes no string as its argument 1 (docs/vsl/globals.md says what it takes)",
            "filter.vsl:7:24: there is no method nothing_like_this",
            "filter.vsl:8:20: envelop::add_rcpt takes no bool as its argument 1 (docs/vsl/envelop.md says what it takes)",
        ]
    );
}

#[test]
fn conditions_that_are_neither_true_nor_false() {
    let found = in_rules(
        "fn helo() { true }
fn asked(n) { while !msg::size() { } ctx::is_local() && n }
#{ preq: [
  rule \"a\" || if ratelimit::check(\"a\", ctx::client_ip(), 1, 60) { state::deny() } else { state::next() },
  rule \"b\" || if client_ip() || ctx::is_local() { deny() } else { next() },
  rule \"c\" || if helo() || msg::has_header(\"A\") || msg::rm_header(\"B\") { deny() } else { next() },
  rule \"d\" || if !(ctx::client_port()) { deny() } else { next() },
  action \"e\" || { if msg::append_header(\"A\", \"b\") { deny(); } },
  rule \"f\" || switch ctx::client_port() { 1 if ctx::server_name() => deny(), 2 if asked(1) => deny(), _ => next() },
  action \"g\" || { do { } until env(\"A\") },
] }",
    );
    assert_eq!(
        found,
        [
            "filter.vsl:2:22: a condition must be true or false: msg::size gives int (compare it with something)",
            "filter.vsl:4:18: a condition must be true or false: ratelimit::check gives status (compare it: == state::next())",
            "filter.vsl:5:18: a condition must be true or false: client_ip gives string (compare it with something)",
            "filter.vsl:7:20: a condition must be true or false: ctx::client_port gives int (compare it with something)",
            "filter.vsl:8:22: a condition must be true or false: msg::append_header gives nothing (compare it with something)",
            "filter.vsl:9:48: a condition must be true or false: ctx::server_name gives string (compare it with something)",
            "filter.vsl:10:32: a condition must be true or false: env gives string (compare it with something)",
        ]
    );
}

#[test]
fn variables_that_functions_do_not_see_are_found_beside_declarations_in_expressions_too() {
    let rules = "object nets group = [ object office rg4 = \"10.0.0.0/8\", object home ip4 = \"127.0.0.1\" ];
fn trusted() { ctx::client_ip() in nets }
fn seen(a) { let b = a; for (c, d) in [b] { c + d; } try { b.len(); } catch (e) { e; } |f| f + b; global::nets; net_10 }
#{ connect: [
    rule \"a\" || if trusted() || ctx::client_ip() in nets || seen(1) { accept() } else { next() },
    rule \"b\" || if in_domain(object r address = \"a@b.c\") { accept() } else { next() },
] }";
    let expected = "filter.vsl:2:36: there is no variable nets here (a function sees its arguments, its own variables and imports; reach a top-level constant by global::NAME)";
    let found = in_rules(rules);
    assert!(found.contains(&expected.to_owned()), "{found:#?}");
    assert_eq!(found.iter().filter(|problem| problem.contains("no variable")).count(), 1, "{found:#?}");
}

#[test]
fn names_of_modules_are_all_found_at_once_in_imports_too() {
    let rules = "import \"lib/own\" as own;\n#{ rcpt: [\n rule \"a\" || { ctx::clientip(); another_one_of_ours::x(); own::f() } ] }";
    let found = found(&[("filter.vsl", rules), ("lib/own.vsl", "fn f() {\n state::nxt()\n}")]);
    assert_eq!(
        found,
        [
            "filter.vsl:3:16: there is no function ctx::clientip (did you mean ctx::client_ip?)",
            "filter.vsl:3:33: there is no module 'another_one_of_ours' (import \"path/to/file\" as another_one_of_ours;)",
            "lib/own.vsl:2:2: there is no function state::nxt (did you mean state::next?)",
        ]
    );
}

#[test]
fn calls_before_their_stage_also_in_functions_that_are_called() {
    let found = in_rules(
        "fn deep() { deeper() }
fn deeper() { [1].map(|x| msg::size()) }
fn unused() { msg::size() }
#{ connect: [ rule \"a\" || { ctx::helo(); deep(); next() } ],
   mail: [ action \"b\" || { rcpt() } ] }",
    );
    assert_eq!(
        found,
        [
            "filter.vsl:2:27: msg::size is available from the stage 'preq' on, not at 'connect' (move the rule to 'preq', or to a later stage)",
            "filter.vsl:4:29: ctx::helo is available from the stage 'helo' on, not at 'connect' (move the rule to 'helo', or to a later stage)",
            "filter.vsl:5:28: rcpt is available from the stage 'rcpt' on, not at 'mail' (move the rule to 'rcpt', or to a later stage)",
        ]
    );
}

#[test]
fn calls_behind_their_last_stage() {
    let found = in_rules(
        "#{ preq: [ rule \"a\" || greylist::check(), rule \"tls\" || if tls::is_secured() { next() } else { accept() } ],
   postq: [ action \"b\" || log(\"info\", tls::protocol() + ctx::client_name() + ctx::client_ip()) ] }",
    );
    assert_eq!(
        found,
        [
            "filter.vsl:1:24: greylist::check is available up to the stage 'rcpt', not at 'preq' (move the rule to 'rcpt')",
            "filter.vsl:2:39: tls::protocol is available up to the stage 'preq', not at 'postq' (move the rule to 'preq', or to an earlier stage)",
            "filter.vsl:2:57: ctx::client_name is available up to the stage 'preq', not at 'postq' (move the rule to 'preq', or to an earlier stage)",
        ]
    );
}

#[test]
fn calls_before_their_stage_in_imported_scripts_and_where_something_was_caught() {
    let rules = "import \"lib/own\" as own;
#{ connect: [
    rule \"a\" || { own::outer(1); next() },
    rule \"b\" || { try { msg::size(); own::tried(); } catch { ctx::helo(); } next() },
] }";
    let own =
        "fn outer(x) { inner() }\nfn inner() { msg::size() }\nfn tried() { rcpt() }\nfn unused() { rcpt() }";
    assert_eq!(
        found(&[("filter.vsl", rules), ("lib/own.vsl", own)]),
        [
            "filter.vsl:4:62: ctx::helo is available from the stage 'helo' on, not at 'connect' (move the rule to 'helo', or to a later stage)",
            "lib/own.vsl:2:14: msg::size is available from the stage 'preq' on, not at 'connect' (move the rule to 'preq', or to a later stage)",
        ]
    );
}

#[test]
fn calls_before_their_stage_in_what_imported_scripts_import() {
    let rules = "import \"lib/own\" as own;
#{ connect: [
    rule \"a\" || { own::outer(); next() },
    rule \"b\" || { own::deep::deepest::last(); next() },
    rule \"c\" || { own::shadowed(); next() },
] }";
    let own = "import \"lib/deep\" as deep;\nimport \"lib/msg\" as msg;\nfn outer() { deep::inner() }\nfn shadowed() { msg::size() }";
    let deep = "import \"lib/deepest\" as deepest;\nfn inner() { deepest::first() }\nfn unused() { rcpt() }";
    let deepest = "fn first() { helo() }\nfn last() { rcpt() }";
    let late = |at: &str, name: &str, stage: &str| {
        format!(
            "lib/deepest.vsl:{at}: {name} is available from the stage '{stage}' on, not at 'connect' (move the rule to '{stage}', or to a later stage)"
        )
    };
    assert_eq!(
        found(&[
            ("filter.vsl", rules),
            ("lib/own.vsl", own),
            ("lib/deep.vsl", deep),
            ("lib/deepest.vsl", deepest),
            ("lib/msg.vsl", "fn size() { 1 }"),
        ]),
        [late("1:14", "helo", "helo"), late("2:13", "rcpt", "rcpt")]
    );
}

#[test]
fn calls_before_their_stage_in_scripts_that_are_imported_within_a_function() {
    let rules = "import \"lib/other\" as own;
fn helper() { import \"lib/own\" as own; own::first() }
#{ connect: [
    rule \"a\" || { helper(); next() },
    rule \"b\" || { import \"lib/own\" as mine; [1].map(|x| mine::second()); next() },
    rule \"c\" || { own::first(); next() },
    rule \"d\" || { import \"lib/own\" as mine; mine::verdict() },
] }";
    let own = "fn first() { helo() }\nfn second() { import \"lib/deep\" as deep; deep::third() }\nfn verdict() { 5 }";
    let late = |at: &str, name: &str, stage: &str| {
        format!(
            "{at}: {name} is available from the stage '{stage}' on, not at 'connect' (move the rule to '{stage}', or to a later stage)"
        )
    };
    assert_eq!(
        found(&[
            ("filter.vsl", rules),
            ("lib/own.vsl", own),
            ("lib/other.vsl", "fn first() { 1 }"),
            ("lib/deep.vsl", "fn third() { rcpt() }"),
        ]),
        [
            "filter.vsl:7:45: rule 'd' can end without a status: verdict() may give none, at lib/own.vsl:3:16 (give a status on each of its paths)".to_owned(),
            late("lib/deep.vsl:1:14", "rcpt", "rcpt"),
            late("lib/own.vsl:1:14", "helo", "helo"),
        ]
    );
}

#[test]
fn functions_of_the_script_come_before_those_of_vsl() {
    let rules = "import \"lib/msg\" as msg;
fn rcpt() { \"a@b.test\" }
fn deny() { state::next() }
#{ connect: [
    rule \"own\" || { rcpt(); msg::size(); deny() },
    rule \"after\" || next(),
] }";
    assert_eq!(found(&[("filter.vsl", rules), ("lib/msg.vsl", "fn size() { 1 }")]), Vec::<String>::new());
}

#[test]
fn directives_that_can_never_run() {
    for (before, ends) in [
        ("rule \"x\" || deny()", true),
        ("rule \"x\" || { log(\"info\", \"x\"); state::accept() }", true),
        ("rule \"x\" || if ctx::is_local() { faccept() } else { return deny(\"550 no\"); }", true),
        ("rule \"x\" || switch 1 { 1 => deny(), _ => state::quarantine(\"q\") }", true),
        ("rule \"x\" || { if ctx::is_local() { return next(); } deny() }", false),
        ("rule \"x\" || if ctx::is_local() { deny() } else { next() }", false),
        ("rule \"x\" || next()", false),
        ("action \"x\" || deny()", false),
    ] {
        let found = in_rules(&format!("#{{ rcpt: [\n{before},\nrule \"late\" || next() ] }}"));
        let expected =
            "filter.vsl:3:6: this rule never runs at the stage 'rcpt' ('x' before it always ends the stage)";
        let expected: Vec<&str> = ends.then_some(expected).into_iter().collect();
        assert_eq!(found, expected, "{before}");
    }
}

#[test]
fn rules_that_can_end_without_a_status() {
    let late = "state::next()";
    let mut differ = Vec::new();
    for (body, place, what, hint) in [
        (
            "{ if ctx::is_local() { next() } }",
            "2:15",
            "this 'if' has no 'else'",
            "add else { state::next() }",
        ),
        ("if ctx::is_local() { deny() } else if ctx::is_secured() { next() }", "2:48", "this 'if'", "else"),
        ("{ if ctx::is_local() { return; } next() }", "2:36", "this gives ()", late),
        ("{ if ctx::is_local() { return 5; } next() }", "2:43", "this gives int", late),
        ("{ log(\"info\", \"x\") }", "2:15", "this gives ()", late),
        ("{ msg::append_header(\"X\", \"y\"); }", "2:15", "this gives ()", late),
        ("ctx::client_ip()", "2:13", "this gives string", late),
        ("print(\"x\")", "2:13", "this gives ()", late),
        ("{ let a = next(); }", "2:15", "this gives ()", late),
        ("{ }", "2:6", "this gives ()", late),
        ("ctx::is_local() && ctx::is_secured()", "2:29", "this gives bool", late),
        ("ctx::client_ip() == \"::1\"", "2:30", "this gives bool", late),
        ("[next()]", "2:13", "this gives array", late),
        ("switch msg::size() { 1 => deny() }", "2:13", "this 'switch' says nothing of other values", "_ => "),
        ("switch msg::size() { 1 => deny(), _ => 2 }", "2:52", "this gives int", late),
        (
            "switch ctx::is_local() { true if 1 == ctx::client_port() => deny(), false => next() }",
            "2:13",
            "switch",
            "_",
        ),
        ("for x in [1, 2] { if x == 3 { return deny(); } }", "2:13", "when this loop is over", "behind it"),
        ("{ let n = 1; while n < 3 { n += 1; } }", "2:26", "when this loop is over", "behind it"),
        ("loop { if ctx::is_local() { break; } }", "2:13", "when this loop is over", "behind it"),
        ("loop { if ctx::is_local() { break 5; } }", "2:47", "this gives int", late),
        (
            "try { deny() } catch { next() }",
            "2:13",
            "the value of a 'catch' is lost",
            "return state::next();",
        ),
        ("helper()", "2:13", "helper() may give none, at filter.vsl:1:40", "each of its paths"),
        ("{ return own::deep(); }", "2:22", "deep() may give none, at lib/own.vsl:1:13", "each of its paths"),
    ] {
        let rules = format!(
            "import \"lib/own\" as own; fn helper() {{ if later() {{ deny() }} }} fn later() {{ true }} #{{ preq: [\nrule \"x\" || {body},\n] }}"
        );
        let found =
            found(&[("filter.vsl", &rules), ("lib/own.vsl", "fn deep() { inner() } fn inner() { 5 }")]);
        let start = format!("filter.vsl:{place}: rule 'x' can end without a status: ");
        let is_told = |told: &String| told.starts_with(&start) && told.contains(what) && told.contains(hint);
        if found.len() != 1 || !found.iter().all(is_told) {
            differ.push(format!("{body}: {place} {what}, found {found:#?}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn what_may_be_a_status_is_left_alone() {
    for body in [
        "{ let s = next(); s }",
        "{ let f = || next(); f.call() }",
        "{ let m = #{ s: next() }; m.s }",
        "{ if ctx::is_local() { throw \"no\" } else { next() } }",
        "{ if ctx::is_local() { return next(); } else { throw 1 } }",
        "{ throw \"no\" }",
        "{ deny(); return next(); }",
        "loop { if ctx::is_local() { return deny(); } }",
        "loop { if ctx::is_local() { break deny(); } }",
        "loop { for x in [1] { break; } return next(); }",
        "switch ctx::is_local() { true => deny(), false => next() }",
        "switch spf::check_raw().result { \"none\" | \"neutral\" => next(), \"pass\" | \"softfail\" => next(), \"fail\" => deny(), \"temperror\" | \"permerror\" => { return info(\"450 x\"); } }",
        "switch auth::credentials().type { \"Verify\" => next(), \"AnonymousToken\" => deny() }",
        "{ try { return deny(); } catch { } next() }",
        "try { deny() } catch { return next(); }",
        "try { deny() } catch (e) { throw e; }",
        "spf::check()",
        "dmarc::check()",
        "check_spf(\"none\")",
        "recursive(3)",
        "own::deep()",
        "own::OUTCOME",
        "{ switch 1 { 1 => { return next(); } _ => { return deny(); } } }",
        "check_mail_relay(net_10)",
    ] {
        let rules = format!(
            "import \"lib/own\" as own;\nfn recursive(n) {{ if n == 0 {{ next() }} else {{ recursive(n - 1) }} }}\n#{{ preq: [ rule \"x\" || {body} ], postq: [ action \"a\" || 5, action \"b\" || {{ }} ] }}"
        );
        let own = "const OUTCOME = next(); fn deep() { global::OUTCOME }";
        assert_eq!(found(&[("filter.vsl", &rules), ("lib/own.vsl", own)]), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn that_nobody_knows_passwords_is_found_where_they_are_asked_for() {
    let config = |more: &str| {
        format!(
            "fn on_config(config) {{\n  config.server.esmtp.auth.mechanisms = [\"PLAIN\"];{more}\n  config\n}}"
        )
    };
    let judged = "#{ authenticate: [ rule \"a\" || state::accept() ] }";
    let said = found(&[("vsmtp.vsl", &config("")), ("filter.vsl", "#{}")]);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with("vsmtp.vsl:2:3: nobody can tell whether a password is right"), "{said:#?}");
    assert_eq!(found(&[("vsmtp.vsl", &config("")), ("filter.vsl", judged)]), Vec::<String>::new());
    let backend = config(" config.server.auth.backends = [\"shadow\"];");
    assert_eq!(found(&[("vsmtp.vsl", &backend), ("filter.vsl", "#{}")]), Vec::<String>::new());
    // It may be in what could not be loaded.
    let said = found(&[("vsmtp.vsl", &config("")), ("filter.vsl", "#{ rcptt: [] }")]);
    assert!(said.len() == 1 && said[0].starts_with("filter.vsl"), "{said:#?}");
}

#[test]
fn what_keeps_scripts_from_being_loaded_is_told_of_each() {
    let found = found(&[
        ("vsmtp.vsl", "fn on_config(config) {\n  config.server.naem = \"x\";\n  config\n}"),
        ("filter.vsl", "#{ rcpt: [ rule \"a\" || next(), rule \"a\" || next() ] }"),
        ("domain-enabled/example.test/incoming.vsl", "#{ rcptt: [] }"),
        ("domain-enabled/example.test/outgoing.vsl", "#{ rcpt: [ ;"),
    ]);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(
        found[0].starts_with("domain-enabled/example.test/incoming.vsl:1:1: the stage 'rcptt'"),
        "{found:#?}"
    );
    assert!(found[1].starts_with("domain-enabled/example.test/outgoing.vsl:1:"), "{found:#?}");
    assert!(found[2].contains("filter.vsl:1:37: the name 'a' is used twice"), "{found:#?}");
    assert!(found[3].starts_with("vsmtp.vsl:2:3: server.naem"), "{found:#?}");
}
