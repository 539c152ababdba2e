//! Rules that search a real directory: in clear, by TLS in both ways, and by its socket; and clients that say filters.

use std::fs;

use vsmtp_tests::{Client, DIRECTORY, Directory, Mta, Sink, needs_programs, signal, wait_until};

use crate::settings;

const PEOPLE: &str = "dn: uid=jane,dc=example,dc=com\nobjectClass: inetOrgPerson\nuid: jane\ncn: Jane\nsn: Doe\nsn: Dough\n\
                      mail: jane@example.com\nmail: a*b@example.com\n\ndn: uid=joe,dc=example,dc=com\n\
                      objectClass: inetOrgPerson\nuid: joe\ncn: Joe\nsn: Roe\nmail: joe@example.com\n";

/// As a site of 2.x has it: a service in a file of its own, made by a plugin.
const SERVICE: &str = r##"
    import "plugins/libvsmtp_plugin_ldap" as ldap;
    export const people = ldap::connect(#{ url: "URL", timeout: "4m", connections: 2, bind: #{ dn: "cn=mail,dc=example,dc=com", pw: "s3cret:@/" } });
"##;

const RULES: &str = r##"
    import "services/ds" as ds;
    const BASE = "dc=example,dc=com";
    const BIND = #{ dn: "cn=mail,dc=example,dc=com", pw: "s3cret:@/" };
    const start = ldap::connect(#{ url: "NAMED", timeout: "4m", bind: BIND, tls: #{ starttls: true, cafile: "CAFILE" } });
    const whole = ldap::connect(#{ url: "WHOLE", timeout: "4m", bind: BIND, tls: #{ cafile: "CAFILE" } });
    const by_socket = ldap::connect(#{ url: "LOCAL", timeout: "4m", bind: BIND });
    const nobody = ldap::connect(#{ url: "URL", timeout: "4m" });
    const unknown = ldap::connect(#{ url: "WHOLE", timeout: "4m", bind: BIND, tls: #{ cafile: "OTHER" } });
    const elsewhere = ldap::connect(#{ url: "ELSEWHERE", timeout: "4m", bind: BIND, tls: #{ starttls: true, cafile: "CAFILE" } });
    const wrong = ldap::connect(#{ url: "URL", timeout: "4m", bind: #{ dn: "cn=mail,dc=example,dc=com", pw: "other" } });
    const named = ldap::connect("people");
    fn say(text) { state::reject(`550 5.7.1 ${text}`) }
    fn found(server, of) {
        let all = server.search(global::BASE, "sub", "(mail=?)", ["uid"], [of]);
        if all.result != "ok" { return all.error; }
        all.entries.map(|entry| entry.attrs.uid[0])
    }
    fn caught(server, of) { let said = "nothing"; try { said = found(server, of); } catch (why) { said = "caught"; } said }
    #{
        mail: [ rule "ask" || {
            let sender = ctx::mail_from();
            let jane = "jane@example.com";
            switch sender.domain.to_string() {
                "example.com" => say(found(ds::people, sender)),
                "careless.test" => say(ds::people.search(BASE, "sub", `(uid=${sender.local_part})`, ["uid"]).entries.len()),
                "careful.test" => say(ds::people.search(BASE, "sub", `(uid=${ldap::escape(sender.local_part)})`, ["uid"]).entries.len()),
                "all.test" => say([found(start, jane), found(whole, jane), found(by_socket, jane), found(named, jane)]),
                "none.test" => say([caught(nobody, jane), caught(unknown, jane), caught(elsewhere, jane), caught(wrong, jane)]),
                "entry.test" => say(ds::people.search(`uid=${ldap::escape_dn("jane")},${BASE}`, "base", "(&(sn=D*)(!(uid=joe)))", []).entries[0].attrs.sn),
                "base.test" => say(ds::people.search("ou=x,dc=example,dc=com", "sub", "(uid=*)", [])),
                "compare.test" => say([
                    ds::people.compare("uid=jane,dc=example,dc=com", "mail", "JANE@example.com"),
                    ds::people.compare("uid=jane,dc=example,dc=com", "mail", "joe@example.com"),
                ]),
                _ => state::next(),
            }
        } ],
    }"##;

fn prepare(server: &Directory, sink: &Sink) -> Mta {
    let config = format!(
        "config.filter.databases = #{{ people: #{{ url: \"{}\", timeout: \"4m\", connections: 1,
             bind: #{{ dn: \"cn=mail,dc=example,dc=com\", pw: \"{}\" }}, tls: #{{ cafile: \"{}\" }} }} }};
         config.filter.timeout = \"5m\"; config.filter.on_error = \"deny\";",
        server.tls_url(),
        Directory::PASSWORD,
        server.ca_file()
    );
    let mta = Mta::prepare(&settings("", sink, ""));
    let etc = mta.root().join("etc/vsmtp");
    // Its certificate is not for this name of it.
    let elsewhere = server.url();
    let rules = RULES
        .replace("NAMED", &server.named_url())
        .replace("WHOLE", &server.tls_url())
        .replace("LOCAL", &server.local_url())
        .replace("CAFILE", &server.ca_file())
        .replace("OTHER", &server.other_ca_file())
        .replace("ELSEWHERE", &elsewhere)
        .replace("\"URL\"", &format!("\"{}\"", server.url()));
    mta.write_configuration(&settings(&rules, sink, &config));
    fs::create_dir_all(etc.join("services")).unwrap();
    fs::write(etc.join("services/ds.vsl"), SERVICE.replace("URL", &server.url())).unwrap();
    mta
}

fn mail_from(mta: &Mta, sender: &str) -> String {
    Client::hello(mta.port()).mail(sender, &["b@dst.test"], "Subject: x\r\n\r\nx\r\n").0
}

#[test]
fn rules_search_a_directory_and_clients_do_not() {
    if !needs_programs("rules_search_a_directory_and_clients_do_not", &DIRECTORY) {
        return;
    }
    let mut server = Directory::prepare(PEOPLE);
    let sink = Sink::start();
    let mut mta = prepare(&server, &sink);
    // It is away at the start: that is no error of the configuration, and mail comes again later.
    mta.launch();
    assert!(mail_from(&mta, "jane@example.com").starts_with("451 "), "{}", mta.log());
    server.start();
    let says = |sender: &str, what: &str| {
        assert_eq!(mail_from(&mta, sender), format!("550 5.7.1 {what}"), "{sender}: {}", mta.log());
    };
    says("jane@example.com", "[\"jane\"]");
    says("nobody@example.com", "[]");
    says("x@all.test", "[[\"jane\"], [\"jane\"], [\"jane\"], [\"jane\"]]");
    says("x@entry.test", "[\"Doe\", \"Dough\"]");
    says("x@compare.test", "[true, false]");
    assert!(mail_from(&mta, "x@base.test").contains("noSuchObject (32)"), "{}", mta.log());
    // Who is nobody there finds nothing; a certificate of another authority, or for another name, is not taken.
    says("x@none.test", "[\"noSuchObject (32)\", \"caught\", \"caught\", \"caught\"]");
    mta.logged("invalidCredentials (49)");
    assert!(!mta.log().contains("database-authorities"), "the files were read: {}", mta.log());
    clients_that_say_filters(&mta);
    one_that_hangs(&mta, &server);
    server.stop();
    assert!(mail_from(&mta, "jane@example.com").starts_with("451 "), "{}", mta.log());
    server.start();
    wait_until("it is asked again", || mail_from(&mta, "jane@example.com") == "550 5.7.1 [\"jane\"]");
    let config = String::from_utf8_lossy(&mta.ctl(&["config", "show"]).stdout).into_owned();
    assert!(config.contains("ldaps://localhost") && config.contains("cn=mail,dc=example,dc=com"), "{config}");
    for said in [config, mta.log()] {
        assert!(!said.contains("s3cret"), "{said}");
    }
}

/// What a client says is a value, wherever it stands; only where a rule puts it into a filter as it is, it is a part of that.
fn clients_that_say_filters(mta: &Mta) {
    for (sender, what) in [
        ("*@example.com", "[]"),
        ("j*@example.com", "[]"),
        ("a*b@example.com", "[\"jane\"]"),
        ("\"*)(uid=*\"@example.com", "[]"),
        ("\"\\\\2a\"@example.com", "[]"),
        ("*@careful.test", "0"),
        ("jane@careful.test", "1"),
        ("\"*)(uid=*\"@careful.test", "0"),
        ("*@careless.test", "2"),
    ] {
        assert_eq!(mail_from(mta, sender), format!("550 5.7.1 {what}"), "{sender}: {}", mta.log());
    }
    let said = mail_from(mta, "\"*)(uid=*\"@careless.test");
    assert!(said.starts_with("451 "), "a text that is no filter: {said} {}", mta.log());
}

/// A directory that hangs keeps those waiting who ask it, and nobody else.
fn one_that_hangs(mta: &Mta, server: &Directory) {
    signal(&[server.pid()], "STOP");
    let mut waiting = Client::hello(mta.port());
    waiting.send(b"MAIL FROM:<joe@example.com>\r\n");
    assert!(mail_from(mta, "a@src.test").starts_with("250"), "{}", mta.log());
    signal(&[server.pid()], "CONT");
    assert_eq!(waiting.reply().0, "550 5.7.1 [\"joe\"]", "{}", mta.log());
}
