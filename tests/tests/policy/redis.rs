//! Rules that ask a real Redis: counters, a list that all hosts share, clients that say commands, a server that is away, and one
//! that hangs.

use std::fs;

use vsmtp_tests::{Client, Mta, RedisServer, Sink, needs_programs, signal, wait_until};

use crate::settings;

/// As a site of 2.x has it: a service in a file of its own, made by a plugin.
const SERVICE: &str = r##"
    import "plugins/libvsmtp_plugin_redis" as redis;
    export const client = redis::connect(#{ url: "URL", timeout: "4m", connections: 2 });
"##;

const RULES: &str = r##"
    import "services/cache" as services;
    service local db:redis = #{ url: "SOCKET", timeout: "4m" };
    const named = redis::connect("counters");
    fn say(text) { state::reject(`550 5.7.1 ${text}`) }
    #{
        mail: [ rule "ask" || {
            let sender = ctx::mail_from();
            switch sender.domain.to_string() {
                "count.test" => say(services::client.increment(sender)),
                "set.test" => say([
                    local.set("a", "b", 60), local.get("a"), local.set_new("a", "c", 60), local.append("a", "cd"),
                    local.get("a"), local.exists("a"), local.delete("a"), local.get("a"), local.delete("a"),
                    local.increment("n", 5), local.decrement("n"), local.expire("n", 60), local.get("n"), local.keys("*"),
                ]),
                "named.test" => {
                    let text = "none";
                    try { text = named.get("named"); } catch (why) { text = "caught"; }
                    say(text)
                },
                "odd.test" => { services::client.increment("text"); state::next() },
                "many.test" => { local.keys("many*"); state::next() },
                _ => state::next(),
            }
        } ],
        postq: [ action "seen" || {
            if ctx::mail_from().domain.to_string() == "later.test" {
                services::client.set("seen", ctx::mail_from());
            }
        } ],
    }"##;

fn prepare(server: &RedisServer, sink: &Sink) -> Mta {
    let [tcp, socket] = server.urls();
    let config = format!(
        "config.filter.databases = #{{ counters: #{{ url: \"{tcp}/3\", timeout: \"4m\", connections: 1 }} }};
         config.filter.timeout = \"5m\"; config.filter.on_error = \"deny\";"
    );
    let mta = Mta::prepare(&settings(&RULES.replace("SOCKET", &socket), sink, &config));
    let services = mta.root().join("etc/vsmtp/services");
    fs::create_dir_all(&services).unwrap();
    fs::write(services.join("cache.vsl"), SERVICE.replace("URL", &tcp)).unwrap();
    mta
}

fn mail_from(mta: &Mta, sender: &str) -> String {
    Client::hello(mta.port()).mail(sender, &["b@dst.test"], "Subject: x\r\n\r\nx\r\n").0
}

#[test]
fn rules_ask_redis_and_clients_do_not() {
    if !needs_programs("rules_ask_redis_and_clients_do_not", &RedisServer::PROGRAMS) {
        return;
    }
    let mut server = RedisServer::prepare();
    let sink = Sink::start();
    let mut mta = prepare(&server, &sink);
    // It is away at the start: that is no error of the configuration, and mail comes again later.
    mta.launch();
    assert!(mail_from(&mta, "a@count.test").starts_with("451 "), "{}", mta.log());
    assert_eq!(mail_from(&mta, "a@named.test"), "550 5.7.1 caught", "{}", mta.log());
    assert!(mail_from(&mta, "a@src.test").starts_with("250"), "who asks nothing is not concerned");
    server.start();
    for count in 1..=3 {
        assert_eq!(mail_from(&mta, "a@count.test"), format!("550 5.7.1 {count}"), "{}", mta.log());
    }
    let all = r#"["OK", "b", false, 3, "bcd", true, true, (), false, 5, 4, true, "4", ["n"]]"#;
    assert_eq!(mail_from(&mta, "a@set.test"), format!("550 5.7.1 {all}"), "{}", mta.log());
    server.command(&["-n", "3", "SET", "named", "x"]);
    assert_eq!(mail_from(&mta, "a@named.test"), "550 5.7.1 x", "{}", mta.log());
    clients_that_say_commands(&mta, &server);
    // What the server refuses, and what is too much, is for later, and the next one is asked.
    server.command(&["SET", "text", "x"]);
    assert!(mail_from(&mta, "a@odd.test").starts_with("451 "), "{}", mta.log());
    server.command(&["-n", "1", "EVAL", "for i=1,1001 do redis.call('SET', 'many' .. i, i) end", "0"]);
    assert!(mail_from(&mta, "a@many.test").starts_with("451 "), "{}", mta.log());
    mta.logged("larger than 1000 rows");
    one_that_hangs(&mta, &server);
    // After the queue too.
    assert!(mail_from(&mta, "a@later.test").starts_with("250"), "{}", mta.log());
    wait_until("the rules after the queue have asked", || {
        server.command(&["GET", "seen"]).trim() == "a@later.test"
    });
    // It goes away under open connections, and comes back.
    server.stop();
    assert!(mail_from(&mta, "a@count.test").starts_with("451 "), "{}", mta.log());
    server.start();
    assert_eq!(mail_from(&mta, "a@count.test"), "550 5.7.1 1", "{}", mta.log());
    let config = String::from_utf8_lossy(&mta.ctl(&["config", "show"]).stdout).into_owned();
    assert!(config.contains("redis://127.0.0.1"), "{config}");
    for said in [config, mta.log()] {
        assert!(!said.contains("s3cret"), "{said}");
    }
}

/// Whatever a client says is a key, and nothing else.
fn clients_that_say_commands(mta: &Mta, server: &RedisServer) {
    for local in ["\"x flushall\"", "\"*1 $8\"", "\"\\'\\\"; FLUSHALL\"", "a'||'b"] {
        let sender = format!("{local}@count.test");
        assert_eq!(mail_from(mta, &sender), "550 5.7.1 1", "{sender}: {}", mta.log());
        assert_eq!(mail_from(mta, &sender), "550 5.7.1 2", "{sender}: {}", mta.log());
    }
    assert_eq!(server.command(&["DBSIZE"]).trim(), "5", "each is a key of its own");
}

/// A server that hangs keeps those waiting who ask it, and nobody else.
fn one_that_hangs(mta: &Mta, server: &RedisServer) {
    signal(&[server.pid()], "STOP");
    let mut waiting = Client::hello(mta.port());
    waiting.send(b"MAIL FROM:<b@count.test>\r\n");
    assert!(mail_from(mta, "a@src.test").starts_with("250"), "{}", mta.log());
    signal(&[server.pid()], "CONT");
    assert_eq!(waiting.reply().0, "550 5.7.1 1", "{}", mta.log());
}
