//! Rules that loop, recurse, allocate and throw.

use std::time::{Duration, Instant};

use vsmtp_tests::{Client, Mta, Settings, say, wait_until};

use crate::{SLOWEST, message, send};

/// One bad rule for each sender; others pass.
const RULES: &str = r#"
fn deeper(n) { deeper(n + 1) }
fn longer() { let text = "x"; loop { text += text; } }
fn wider() { let list = [[]]; loop { list.push(list); } }
fn endless() { let n = 0; loop { n += 1; } }
#{
    rcpt: [
        rule "misbehave" || {
            let who = `${ctx::mail_from()}`;
            if who == "loop@src.test" { endless(); }
            if who == "recurse@src.test" { deeper(0); }
            if who == "text@src.test" { longer(); }
            if who == "list@src.test" { wider(); }
            if who == "throw@src.test" { throw "a tantrum"; }
            if who == "missing@src.test" { nobody_wrote_this(1, 2, 3); }
            if who == "type@src.test" { let n = 1 + "a".len + #{}; }
            state::next()
        },
    ],
}
"#;
const BAD: [&str; 7] = ["loop", "recurse", "text", "list", "throw", "missing", "type"];

#[test]
fn bad_rules_cost_their_own_messages_and_nobody_else() {
    let config = "config.filter.timeout = \"2s\";".to_owned();
    let mta = Mta::start(&Settings { config, filter: RULES.to_owned() });
    let before = mta.processes();
    let port = mta.port();
    let victims: Vec<_> = BAD
        .iter()
        .map(|name| {
            std::thread::spawn(move || {
                let mut client = Client::hello(port);
                client.mail(&format!("{name}@src.test"), &["b@local.test"], "x")
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let began = Instant::now();
        assert_eq!(send(&mta, "b@local.test", &message(number, 1000)).code(), 250);
        slowest = slowest.max(began.elapsed());
    }
    for (name, victim) in BAD.iter().zip(victims) {
        let reply = victim.join().expect("a client");
        assert_eq!(reply.code(), 451, "{name}: {reply:?}");
    }
    say(&format!("beside bad rules the slowest good message took {} ms", slowest.as_millis()));
    assert!(slowest < SLOWEST, "{slowest:?}");
    wait_until("failures are logged", || mta.log().matches("event=script-failed").count() >= BAD.len());
    mta.wait_for_mail("local.test", "b", 20);
    assert_eq!(mta.processes(), before, "nobody died");
}

/// A script that does not compile, or has no such function, is found at the reload and changes nothing.
#[test]
fn a_script_that_does_not_compile_is_refused_and_the_old_one_stays() {
    let filter = "#{ mail: [ rule \"no\" || if ctx::mail_from() is \"x@src.test\" { state::deny() } else { state::next() } ] }";
    let mta = Mta::start(&Settings { filter: filter.to_owned(), ..Settings::default() });
    mta.write_configuration(&Settings { filter: "#{ mail: [ rule \"half".to_owned(), ..Settings::default() });
    mta.hang_up();
    wait_until("the reload is refused", || mta.log().contains("event=reload-refused"));
    assert_eq!(Client::hello(mta.port()).mail("x@src.test", &["b@local.test"], "x").code(), 554);
    assert_eq!(Client::hello(mta.port()).mail("y@src.test", &["b@local.test"], "x").code(), 250);
}
