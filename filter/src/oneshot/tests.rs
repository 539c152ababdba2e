//! Configurations of both entry points, good and bad, as the one-shot mode answers them.

use super::*;

fn host() -> Surroundings {
    Surroundings {
        hostname: "mx.test".into(),
        environment: [("PORT".to_owned(), "2525".to_owned())].into(),
        ..Surroundings::default()
    }
}

fn defaults() -> Value {
    let mut tree = Value::map();
    tree.set("server.name", Value::Text("localhost".into()));
    tree.set("server.smtp.rcpt_count_max", Value::Int(1000));
    tree.set("server.smtp.disable", Value::Bool(false));
    tree
}

fn text(script: &str) -> Result<Evaluated, ScriptError> {
    evaluate_text("vsmtp.vsl", script, &defaults(), &host())
}

#[test]
fn defaults_go_in_and_changes_come_out() {
    let script = "fn on_config(config) {
            config.server.name = hostname();
            config.server.interfaces = #{ addr: [`127.0.0.1:${env(\"PORT\")}`] };
            config.server.none = env(\"NOT_SET\");
            config
        }";
    let out = text(script).unwrap();
    assert_eq!(out.tree.at("server.name"), Some(&Value::Text("mx.test".into())));
    assert_eq!(out.tree.at("server.smtp.rcpt_count_max"), Some(&Value::Int(1000)));
    assert_eq!(
        out.tree.at("server.interfaces.addr"),
        Some(&Value::List(vec![Value::Text("127.0.0.1:2525".into())]))
    );
    assert_eq!(out.tree.at("server.none"), Some(&Value::Null));
    assert_eq!(out.places.locate("server.name").unwrap().line, 2);
    assert_eq!(out.places.locate("server.interfaces.addr").unwrap().line, 3);
}

#[test]
fn imports_are_relative_to_the_root_and_keys_are_found_in_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    let main = "import \"conf.d/config\" as cfg;\nfn on_config(config) { cfg::on_config(config) }";
    std::fs::write(dir.path().join("vsmtp.vsl"), main).unwrap();
    let part =
        "fn on_config(config) {\n  config.server = #{\n    \"name\": \"a.b\",\n  };\n  return config;\n}";
    std::fs::write(dir.path().join("conf.d/config.vsl"), part).unwrap();
    let out = evaluate(dir.path(), Path::new("vsmtp.vsl"), &defaults(), &host()).unwrap();
    assert_eq!(out.tree.at("server.name"), Some(&Value::Text("a.b".into())));
    assert_eq!(out.places.locate("server.name").unwrap().to_string(), "conf.d/config.vsl:3:5");
}

#[test]
fn errors_name_the_place() {
    for (script, place, words) in [
        ("fn on_config(config) {\n  config.x = ;\n}", "vsmtp.vsl:2:14", "';'"),
        ("fn other() {}", "vsmtp.vsl", "on_config"),
        ("fn on_config(config) {\n  nothing()\n}", "vsmtp.vsl:2:3", "nothing"),
        ("fn on_config(config) { config.x = 1; }", "vsmtp.vsl", "must return"),
        ("fn on_config(config) {\n loop { }\n}", "vsmtp.vsl", "operations"),
        ("fn on_config(config) {\n eval(\"1\")\n}", "vsmtp.vsl:2:2", "eval"),
        ("import \"x\" as y;\nfn on_config(config) { config }", "vsmtp.vsl:1:8", "directory"),
    ] {
        let error = text(script).unwrap_err();
        assert!(error.location.to_string().starts_with(place), "{script}: {error}");
        assert!(error.message.to_ascii_lowercase().contains(words), "{script}: {error}");
    }
}

#[test]
fn a_section_that_does_not_exist_is_an_unknown_key() {
    for (line, complaint) in [
        ("config.servr.name = \"x\";", "2:15: servr.name: unknown key; did you mean server.name?"),
        (
            "config.server.interfces.addr = [];",
            "2:26: server.interfces.addr: unknown key; did you mean server.interfaces.addr?",
        ),
        (
            "config.server.interfces.addr.push(\"x\");",
            "2:26: server.interfces.addr: unknown key; did you mean server.interfaces.addr?",
        ),
        (
            "config[\"server\"].interfces.addr = [];",
            "2:29: server.interfces.addr: unknown key; did you mean server.interfaces.addr?",
        ),
        ("config.colour.depth.bits = 3;", "2:16: colour.depth: unknown key"),
        ("config.server.interfces.pop();", "2:26: server.interfces: unknown key"),
        ("config.server.interfces.push(\"x\");", "2:26: server.interfces: unknown key"),
        // Texts with expressions in them, wherever they are.
        (
            "config.servr.name = 1;\n let x = 1; x = `${x}`;",
            "2:15: servr.name: unknown key; did you mean server.name?",
        ),
        (
            "let x = `a${ if true { 1 } else { 2 } } {${\"}\"} it's`; config.servr.name = 1;",
            "2:70: servr.name: unknown key; did you mean server.name?",
        ),
    ] {
        let script = format!("fn on_config(config) {{\n {line}\n config\n}}");
        let lines = answered(&[("vsmtp.vsl", &script)]).unwrap_err();
        assert_eq!(lines.trim_end(), format!("vsmtp.vsl:{complaint}"), "{line}");
        // In another file it is found there.
        let main = "import \"part\" as part;\nfn on_config(config) { part::on_config(config) }";
        let lines = answered(&[("vsmtp.vsl", main), ("part.vsl", &script)]).unwrap_err();
        assert_eq!(lines.trim_end(), format!("part.vsl:{complaint}"), "{line}");
    }
    // What a helper is handed counts as what it is.
    for (helper, call, complaint) in [
        (
            "fn all(c) {\n c.servr.name = 1;\n c\n}",
            "config = all(config);",
            "2:10: servr.name: unknown key; did you mean server.name?",
        ),
        (
            "fn tls(t) {\n t.rot.certificate = \"x\";\n t\n}",
            "config.server.tls = tls(config.server.tls);",
            "2:8: server.tls.rot.certificate: unknown key",
        ),
        (
            "fn own() {\n this.servr.name = 1;\n}",
            "config.own();",
            "2:13: servr.name: unknown key; did you mean server.name?",
        ),
        (
            "fn tls(t) {\n t.handshake_timeot = \"1s\";\n t\n}",
            "config.server.tls = tls(config.server.tls);",
            "2:2: server.tls.handshake_timeot: unknown key; did you mean server.tls.handshake_timeout?",
        ),
        (
            "fn names(s) {\n s.name = 5;\n s\n}",
            "config.server = names(config.server);",
            "2:2: server.name: expected a domain name, found 5",
        ),
    ] {
        let script = format!("{helper}\nfn on_config(config) {{\n {call}\n config\n}}");
        let lines = answered(&[("vsmtp.vsl", &script)]).unwrap_err();
        assert!(lines.starts_with(&format!("vsmtp.vsl:{complaint}")), "{helper}: {lines}");
        let main = format!("import \"part\" as part;\nfn on_config(config) {{\n {call}\n config\n}}");
        let main = ["all(", "tls(", "names("]
            .iter()
            .fold(main, |main, name| main.replace(&format!("= {name}"), &format!("= part::{name}")));
        if !main.contains("own()") {
            let lines = answered(&[("vsmtp.vsl", &main), ("part.vsl", helper)]).unwrap_err();
            assert!(lines.starts_with(&format!("part.vsl:{complaint}")), "{helper}: {lines}");
        }
    }
    // So is what is wrong with a variable of the script's own, and what is not about a key.
    for (lines, words) in [
        ("let site = #{ hosts: #{} };\n config.server.name = site.hosts.main.upper();", "upper"),
        ("let site = #{ hosts: #{} };\n config.server.name = site.hosts.main.first;", "'first'"),
        ("config.server.name = named(#{});", "'first'"),
        ("config.colour = 1;\n config.colour.nosuch();", "nosuch"),
    ] {
        let helper = "fn named(site) { site.main.first }";
        let script = format!("{helper}\nfn on_config(config) {{\n {lines}\n config\n}}");
        let said = answered(&[("vsmtp.vsl", &script)]).unwrap_err();
        assert!(said.contains(words) && !said.contains("unknown key"), "{lines}: {said}");
    }
    // What is wrong with a known key is said as before.
    let script = "fn on_config(config) {\n config.server.name.what = 1;\n config\n}";
    let lines = answered(&[("vsmtp.vsl", script)]).unwrap_err();
    assert!(lines.contains("'what'") && !lines.contains("unknown key"), "{lines}");
}

#[test]
fn a_folder_that_is_not_there_is_named_once() {
    let request = Evaluate {
        config_path: "/nonexistent/etc/vsmtp.vsl".into(),
        hostname: "mx.test".into(),
        cores: 2,
        root: String::new(),
    };
    let lines = answer(&request, &host()).unwrap_err();
    assert!(lines.starts_with("/nonexistent/etc: configuration directory cannot be opened: "), "{lines}");
}

#[test]
fn the_answer_is_a_tree_or_errors_with_file_line_and_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vsmtp.vsl");
    let request = Evaluate {
        config_path: file.display().to_string(),
        hostname: "mx.test".into(),
        cores: 2,
        root: String::new(),
    };
    let good = "fn on_config(config) { config.server.domains = [\"example.test\"]; config }";
    std::fs::write(&file, good).unwrap();
    let tree = Value::from_bytes(&answer(&request, &host()).unwrap()).unwrap();
    assert_eq!(tree.at("server.domains"), Some(&Value::List(vec![Value::Text("example.test".into())])));

    let bad = "fn on_config(config) {\n config.server.domain = \"x\";\n config.queue.lifetime = \"soon\";\n config\n}";
    std::fs::write(&file, bad).unwrap();
    let lines = answer(&request, &host()).unwrap_err();
    let place = file.display();
    assert!(lines.contains(&format!("{place}:3:2: queue.lifetime: expected ")), "{lines}");

    std::fs::write(&file, good).unwrap();
    std::fs::write(dir.path().join("filter.vsl"), "#{\n rcpts: [] }").unwrap();
    let lines = answer(&request, &host()).unwrap_err();
    let rules = dir.path().join("filter.vsl").display().to_string();
    assert!(lines.starts_with(&format!("{rules}:1:1: the stage 'rcpts' does not exist")), "{lines}");

    std::fs::write(&file, "fn on_config(config) {\n config.server.domainz = [];\n config\n}").unwrap();
    let lines = answer(&request, &host()).unwrap_err();
    assert!(lines.contains(&format!("{place}:2:2: server.domainz: unknown key")), "{lines}");
    assert!(lines.contains("server.domains"), "{lines}");
}

/// What the oneshot role says about a folder of files, the first of them the configuration.
fn answered(files: &[(&str, &str)]) -> Result<Value, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let request = Evaluate {
        config_path: dir.path().join(files[0].0).display().to_string(),
        hostname: "mx.test".into(),
        cores: 2,
        root: String::new(),
    };
    let answer = answer(&request, &host());
    let place = format!("{}/", dir.path().display());
    answer.map(|bytes| Value::from_bytes(&bytes).unwrap()).map_err(|lines| lines.replace(&place, ""))
}

fn texts(items: &[&str]) -> Option<Value> {
    Some(Value::List(items.iter().map(|item| Value::Text((*item).to_owned())).collect()))
}

#[test]
fn a_configuration_of_1x_is_read_with_its_rules() {
    let config = "version_requirement = \">=1.3.0, <2.0.0\"\n[server]\ndomain = \"mail.example.test\"\n\
            [server.interfaces]\naddr = [\"127.0.0.1:10025\"]\n[server.logs]\nfilepath = \"/var/log/vsmtp/vsmtp.log\"\n\
            [server.logs.level]\ndefault = \"info\"\n[server.tls]\nsecurity_level = \"May\"\nprotocol_version = \"TLSv1.3\"\n\
            [app.vsl]\nfilepath = \"rules/main.vsl\"\n";
    let rules = "import \"objects\" as vars;\n#{ connect: [ rule \"blacklist\" || {\n\
            if client_ip() == \"192.0.2.9\" { deny() } else { next() } } ],\n\
            rcpt: [ action \"log\" || log(\"debug\", `mail for ${vars::example}`) ] }";
    let objects = "object example fqdn = \"example.com\";";
    let files = [("vsmtp.toml", config), ("rules/main.vsl", rules), ("rules/objects.vsl", objects)];
    let tree = answered(&files).unwrap();
    assert_eq!(tree.at("server.domain"), Some(&Value::Text("mail.example.test".into())));
    let config = vsmtp_config::Config::build(&test_context(), &tree).unwrap();
    assert_eq!(config.filter().server_name.as_str(), "mail.example.test");
    assert!(config.filter().filter_path.ends_with("/rules/main.vsl"));
    // Without a word about the rules they are found where they were.
    let short = "[server]\ndomain = \"mail.example.test\"";
    let broken = rules.replace("next()", "nxt::x()");
    let files = [("vsmtp.toml", short), ("rules/main.vsl", broken.as_str()), ("rules/objects.vsl", objects)];
    let lines = answered(&files).unwrap_err();
    assert!(lines.starts_with("rules/main.vsl:3:") && lines.contains("no module 'nxt'"), "{lines}");
    // What is wrong in an import is told with the file's own name.
    let files =
        [files[0], ("rules/main.vsl", rules), ("rules/objects.vsl", "\nobject example fqdn = \"a b\";")];
    let lines = answered(&files).unwrap_err();
    assert!(lines.starts_with("rules/objects.vsl:2:"), "{lines}");
    let lines = answered(&[("vsmtp.toml", "[server]\ndomainz = \"x\"\n[smtp")]).unwrap_err();
    assert!(lines.starts_with("vsmtp.toml:3:"), "{lines}");
    let lines = answered(&[("vsmtp.toml", "[server]\ndomainz = \"x\"")]).unwrap_err();
    assert!(lines.starts_with("vsmtp.toml:2:1: server.domainz: unknown key"), "{lines}");
}

#[test]
fn every_key_of_1x_is_understood() {
    let all = include_str!("../../tests/data/configuration-of-1x.toml");
    let tree =
        answered(&[("vsmtp.toml", all), ("rules/main.vsl", "#{ authenticate: [ rule \"r\" || deny() ] }")])
            .unwrap();
    let config = vsmtp_config::Config::build(&test_context(), &tree).unwrap();
    let receiver = config.receiver();
    assert_eq!(receiver.auth_mechanisms, ["PLAIN", "LOGIN"]);
    assert!(receiver.auth_required && receiver.auth_in_clear && receiver.auth_attempts.is_none());
    assert_eq!(receiver.timeouts.helo.as_millis(), 300);
    assert_eq!(receiver.tls.unwrap().handshake_timeout.as_millis(), 200);
    let own = |name: &str, enhanced, text: &str| vsmtp_config::OwnReply {
        name: name.to_owned(),
        enhanced,
        text: text.to_owned(),
    };
    assert!(receiver.replies.contains(&own("Greetings", None, "mail.example.test at your service")));
    assert_eq!(config.filter().refusals, (None, Some(own("Failure", Some((4, 3, 0)), "come again"))));
    let warned: Vec<&str> = config.warnings().iter().map(|warning| warning.path.as_str()).collect();
    for key in [
        "version_requirement",
        "server.system.user",
        "server.system.group_local",
        "server.system.thread_pool",
        "server.logs.format",
        "server.queues.delivery",
        "server.virtual",
        "server.esmtp.auth.mechanisms",
        "server.dns.options.edns0",
        "server.smtp.codes",
        "app.logs",
    ] {
        assert!(warned.iter().any(|warned| warned.starts_with(key)), "{key}: {warned:?}");
    }
    let warned: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    for words in [
        "protocol_version of \"c.example.test\" has no effect",
        "dns of \"d.example.test\" has no effect",
        "sender_security_level of \"d.example.test\" has no effect",
    ] {
        assert!(warned.iter().any(|warned| warned.contains(words)), "{words}: {warned:?}");
    }
}

fn test_context() -> Context {
    Context {
        hostname: Domain::parse("mx.test").unwrap(),
        cores: 2,
        config_dir: "/nonexistent".to_owned(),
        root: String::new(),
    }
}

#[test]
fn domains_with_a_folder_are_ours_and_say_their_settings() {
    let domain =
        "fn on_domain_config(config) {\n  config.tls.certificate = \"chain.pem\";\n  return config;\n}";
    let main = "fn on_config(config) { config.server.name = \"mx.example.test\"; config }";
    let files = [
        ("vsmtp.vsl", main),
        ("domain-enabled/example.test/config.vsl", domain),
        ("domain-enabled/example.test/incoming.vsl", "#{}"),
        ("domain-enabled/example.org/outgoing.vsl", "#{}"),
        ("domain-enabled/README", ""),
    ];
    let tree = answered(&files).unwrap();
    let own = texts(&["mx.example.test", "localhost", "example.org", "example.test"]);
    assert_eq!(tree.at("server.domains"), own.as_ref());
    let Some(Value::Map(all)) = tree.at("server.virtual") else { panic!() };
    let chain = all.get("example.test").and_then(|domain| domain.at("tls.certificate"));
    assert_eq!(chain, Some(&Value::Text("chain.pem".into())));
    // What the operator says of the domains holds; those that are relayed are not ours.
    let said = main.replace("config }", "config.server.domains = [\"a.test\"]; config }");
    let tree = answered(&[("vsmtp.vsl", &said), files[2]]).unwrap();
    assert_eq!(tree.at("server.domains"), texts(&["a.test"]).as_ref());
    let relayed = main.replace("config }", "config.server.relay_domains = [\"example.org\"]; config }");
    let tree = answered(&[("vsmtp.vsl", &relayed), files[2], files[3]]).unwrap();
    assert_eq!(tree.at("server.domains"), texts(&["mx.example.test", "localhost", "example.test"]).as_ref());
    // A configuration of 1.x calls the server's name by its old name.
    let old = "[server]\ndomain = \"old.example.test\"\n";
    let tree = answered(&[("vsmtp.toml", old), files[2]]).unwrap();
    let own = texts(&["old.example.test", "localhost", "example.test"]);
    assert_eq!(tree.at("server.domains"), own.as_ref());
    // Domains that it names are its own without a folder.
    let tree = answered(&[("vsmtp.toml", &format!("{old}[server.virtual.\"b.test\"]\n"))]).unwrap();
    assert_eq!(tree.at("server.domains"), texts(&["old.example.test", "localhost", "b.test"]).as_ref());
    let shipped = include_str!("../../../etc/vsmtp/domain-available/example.com/config.vsl");
    answered(&[("vsmtp.vsl", main), ("domain-enabled/example.com/config.vsl", shipped)]).unwrap();
    // Errors name the domain's file.
    let wrong = domain.replace("config.tls", "config.tsl");
    let lines =
        answered(&[("vsmtp.vsl", main), ("domain-enabled/example.test/config.vsl", &wrong)]).unwrap_err();
    let words = "domain-enabled/example.test/config.vsl:2:14: server.virtual.example.test.tsl.certificate: unknown \
                     key; did you mean tls.certificate?";
    assert_eq!(lines.trim_end(), words);
    let wrong = domain.replace("config.tls.certificate", "config.tls.certificat");
    let lines =
        answered(&[("vsmtp.vsl", main), ("domain-enabled/example.test/config.vsl", &wrong)]).unwrap_err();
    assert!(lines.starts_with("domain-enabled/example.test/config.vsl:2:3: server.virtual"), "{lines}");
    let lines = answered(&[("vsmtp.vsl", main), ("domain-enabled/example.test/config.vsl", "fn f() {}")])
        .unwrap_err();
    assert!(lines.contains("on_domain_config(config) is missing"), "{lines}");
}

#[test]
fn a_wrong_import_names_the_file_and_line_inside_the_module() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.vsl"), "import \"b\" as b;\nfn on_config(config) { config }").unwrap();
    std::fs::write(dir.path().join("b.vsl"), "let x = 1;\nlet y = nothing();").unwrap();
    let error = evaluate(dir.path(), Path::new("a.vsl"), &defaults(), &host()).unwrap_err();
    assert_eq!(error.location.to_string(), "b.vsl:2:9");
    std::fs::write(dir.path().join("b.vsl"), "let x = 1;\nlet let").unwrap();
    let error = evaluate(dir.path(), Path::new("a.vsl"), &defaults(), &host()).unwrap_err();
    assert_eq!(error.location.file, "b.vsl");
    assert_eq!(error.location.line, 2);
}
