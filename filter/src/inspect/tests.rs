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
    assert_eq!(found(&[("filter.vsl", rules), ("lib/own.vsl", own)]), Vec::<String>::new());
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
        ("rule \"x\" || switch 1 { 1 => deny() }", false),
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
