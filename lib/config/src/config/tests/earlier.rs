//! Keys of earlier versions, and what they offered.

use super::*;

#[test]
fn old_names_still_speak() {
    let mut tree = default_tree(&context());
    tree.set("server.esmtp.size", Value::Int(20_000_000));
    tree.set("server.system.thread_pool.receiver", Value::Int(6));
    let config = Config::build(&context(), &tree).unwrap();
    assert_eq!(config.receiver().message_size_limit, 20_000_000);
    assert_eq!(config.warnings().len(), 2);
    tree.set("server.message_size_limit", Value::Int(10_000_000));
    assert!(Config::build(&context(), &tree).is_err());
}

#[test]
fn what_says_nothing_is_said_in_silence() {
    let config = with(&[
        ("server.smtp.disable_ehlo", Value::Bool(false)),
        ("server.tls", Value::Null),
        ("server.interfaces.addr_submission", Value::List(vec![])),
    ]);
    assert_eq!(config.unwrap().warnings(), []);
    let config = with(&[("server.smtp.disable_ehlo", Value::Bool(true))]).unwrap();
    assert!(!config.receiver().ehlo && config.warnings().is_empty());
}

#[test]
fn what_other_versions_offer_and_this_one_does_not_is_left_out_with_a_word() {
    let list = |items: &[&str]| Value::List(items.iter().map(|item| text(item)).collect());
    let config = with(&[
        ("server.esmtp.auth.mechanisms", list(&["PLAIN", "cram-md5", "ANONYMOUS", "LOGIN"])),
        ("server.logs.level", list(&["default=WARN", "rules=debug", "receiver=Info", "vsmtp_server=trace"])),
        ("server.virtual", {
            let mut own = Value::map();
            own.set("dns.type", text("google"));
            Value::Map([("example.com".to_owned(), own)].into())
        }),
        ("server.system.group_local", text("mail")),
        ("server.dns.options.ndots", Value::Int(1)),
    ])
    .unwrap();
    assert_eq!(config.receiver().auth_mechanisms, ["PLAIN", "LOGIN"]);
    assert_eq!(config.log().level(Role::Filter).name(), "warn");
    assert_eq!(config.log().level(Role::Receiver).name(), "info");
    let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    for words in [
        "mechanisms: CRAM-MD5 is not offered",
        "mechanisms: ANONYMOUS is not offered",
        "server.logs.level: 'rules' is no part",
        "server.logs.level: 'vsmtp_server' is no part",
        "server.virtual: dns of \"example.com\" has no effect",
        "server.system.group_local: has no effect",
        "server.dns.options.ndots: has no effect",
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(words)), "{words}: {warnings:?}");
    }
    assert!(with(&[("server.logs.level", list(&["ruels=debug"]))]).is_err());
    assert!(with(&[("server.esmtp.auth.mechanisms", list(&["CRAM-MD6"]))]).is_err());
}
