//! Rules that keep values in a real memcached, and go on without it.

use std::fs;

use vsmtp_tests::{Client, Memcached, Mta, Sink, needs_programs};

use crate::settings;

/// As a site of 2.x has it: a service in a file of its own, made by a plugin.
const SERVICE: &str = r##"
    import "plugins/libvsmtp_plugin_memcached" as cache;
    export const srv = cache::connect(#{ url: "URL", timeout: "4m", connections: 1 });
"##;

const RULES: &str = r##"
    import "services/cache" as cache;
    fn say(text) { state::reject(`550 5.7.1 ${text}`) }
    fn why(of) { let said = "nothing"; try { of.call(); } catch (why) { said = why; } said }
    #{
        mail: [ rule "ask" || {
            let sender = ctx::mail_from();
            switch sender.domain.to_string() {
                "values.test" => {
                    cache::srv.set("a", "two words\r\nEND", 60);
                    cache::srv.set("n", 5, 60);
                    cache::srv.append("n", "0");
                    cache::srv.prepend("n", 1);
                    cache::srv.touch("n", 30);
                    let seen = cache::srv.get_with_cas("n");
                    say([
                        cache::srv.get("a").len, seen.value, cache::srv.cas("n", 7, 60, seen.cas_id),
                        cache::srv.cas("n", 8, 60, seen.cas_id), cache::srv.increment("n", 3), cache::srv.decrement("n", 20),
                        cache::srv.gets(["a", "n", "a", "x"]).len(), cache::srv.gets_with_cas(["n"]).n.value,
                        cache::srv.set_new("n", 1, 0), cache::srv.delete("n"), cache::srv.delete("n"), cache::srv.get("n"),
                        cache::srv.set_new("n", true, 0), cache::srv.get("n"), cache::srv.stats().contains("version: "),
                    ])
                },
                "errors.test" => {
                    cache::srv.flush();
                    cache::srv.add("there", 1, 0);
                    let all = [ || cache::srv.add("there", 1, 0), || cache::srv.replace("x", 1, 0), || cache::srv.append("x", 1),
                                || cache::srv.increment("x", 1), || cache::srv.touch("x", 1) ];
                    say(all.map(|of| why(of).contains("value")))
                },
                "count.test" => {
                    let key = sender.to_string();
                    if cache::srv.set_new(key, 1, 60) { say(1) } else { say(cache::srv.increment(key, 1)) }
                },
                "odd.test" => { cache::srv.set("word", "x", 0); cache::srv.increment("word", 1); state::next() },
                _ => state::next(),
            }
        } ],
    }"##;

fn mail_from(mta: &Mta, sender: &str) -> String {
    Client::hello(mta.port()).mail(sender, &["b@dst.test"], "Subject: x\r\n\r\nx\r\n").0
}

#[test]
fn rules_keep_values_in_memcached_and_clients_do_not() {
    if !needs_programs("rules_keep_values_in_memcached_and_clients_do_not", &[Memcached::PROGRAM]) {
        return;
    }
    let mut server = Memcached::prepare();
    let sink = Sink::start();
    let config = "config.filter.timeout = \"5m\"; config.filter.on_error = \"deny\";";
    let mut mta = Mta::prepare(&settings(RULES, &sink, config));
    let services = mta.root().join("etc/vsmtp/services");
    fs::create_dir_all(&services).unwrap();
    fs::write(services.join("cache.vsl"), SERVICE.replace("URL", &server.url())).unwrap();
    mta.launch();
    assert!(mail_from(&mta, "a@count.test").starts_with("451 "), "{}", mta.log());
    server.start();
    let all = "[14, 150, true, false, 10, 0, 2, 0, false, true, false, (), true, true, true]";
    assert_eq!(mail_from(&mta, "a@values.test"), format!("550 5.7.1 {all}"), "{}", mta.log());
    let errors = "[true, true, true, true, true]";
    assert_eq!(mail_from(&mta, "a@errors.test"), format!("550 5.7.1 {errors}"), "{}", mta.log());
    for count in 1..=3 {
        assert_eq!(mail_from(&mta, "a@count.test"), format!("550 5.7.1 {count}"), "{}", mta.log());
    }
    // What cannot be a key is an error of the rule that makes it one; the server hears nothing of it.
    assert!(mail_from(&mta, "\"a flush_all\"@count.test").starts_with("554 "), "{}", mta.log());
    assert_eq!(mail_from(&mta, "a@count.test"), "550 5.7.1 4", "{}", mta.log());
    // What the server refuses is for later, and the next one is asked.
    assert!(mail_from(&mta, "a@odd.test").starts_with("451 "), "{}", mta.log());
    // It goes away under open connections, and comes back.
    server.stop();
    assert!(mail_from(&mta, "a@count.test").starts_with("451 "), "{}", mta.log());
    server.start();
    assert_eq!(mail_from(&mta, "a@count.test"), "550 5.7.1 1", "{}", mta.log());
}
