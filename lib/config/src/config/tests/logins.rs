//! Who must log in, where, and who judges it.

use super::*;

#[test]
fn each_door_has_one_purpose() {
    let list = |items: &[&str]| Value::List(items.iter().map(|item| text(item)).collect());
    let errors = with(&[("server.interfaces.addr_lmtp", list(&["127.0.0.1:24", "127.0.0.1:25"]))]);
    let errors: Vec<_> = errors.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["server.interfaces.addr_lmtp: 127.0.0.1:25 is listened on twice"]);
    let config = with(&[
        ("server.interfaces.addr", Value::List(vec![])),
        ("server.interfaces.addr_lmtp", list(&["127.0.0.1:24"])),
    ]);
    let doors: Vec<_> = config.unwrap().master().listeners;
    assert_eq!(doors, [("127.0.0.1:24".parse().unwrap(), vsmtp_mail::Service::Lmtp.into())]);
    assert_eq!(
        complaint("server.interfaces.proxied", list(&["127.0.0.1:26"])),
        "server.interfaces.proxied: 127.0.0.1:26 is not listened on; \
         server.interfaces.proxies: must name those who reach the proxied addresses"
    );
}

#[test]
fn clients_must_log_in_where_the_operator_says_so() {
    let list = |items: &[&str]| Value::List(items.iter().map(|item| text(item)).collect());
    let required = ("server.smtp.auth.must_be_authenticated", Value::Bool(true));
    let config = with(&[required.clone(), ("server.esmtp.auth.mechanisms", list(&["PLAIN"]))]).unwrap();
    assert!(config.receiver().auth_required);
    let errors = with(&[required]).unwrap_err();
    assert!(errors[0].to_string().contains("must_be_authenticated: needs AUTH"), "{errors:?}");
}

#[test]
fn what_is_said_of_logins_has_somebody_who_can_judge_them() {
    let list = |items: &[&str]| Value::List(items.iter().map(|item| text(item)).collect());
    let wrong = |settings: &[(&'static str, Value)], key: &str, words: &str| {
        let errors = with(settings).unwrap_err();
        assert!(
            errors[0].to_string().starts_with(key) && errors[0].to_string().contains(words),
            "{errors:?}"
        );
    };
    let file = ("server.auth.backends", list(&["file:users"]));
    for setting in [
        ("server.auth.oauth.issuer", text("https://id.test/")),
        ("server.auth.oauth.audience", list(&["mail"])),
        ("server.auth.oauth.scope", text("smtp")),
    ] {
        wrong(&[file.clone(), setting], "server.auth.oauth", "no oauth:");
    }
    let oauth = [
        ("server.auth.oauth.issuer", text("https://id.test/")),
        ("server.auth.oauth.audience", list(&["mail"])),
    ];
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256"] {
        let mut settings = oauth.to_vec();
        settings.push(("server.esmtp.auth.mechanisms", list(&["XOAUTH2", mechanism])));
        settings.push(("server.auth.backends", list(&["oauth:keys.json"])));
        wrong(&settings, "server.esmtp.auth.mechanisms", "for passwords");
        settings.push(("server.auth.backends", list(&["oauth:keys.json", "shadow"])));
        with(&settings).unwrap();
    }
    let proxies = ("server.auth.proxies", list(&["192.0.2.0/25"]));
    wrong(
        std::slice::from_ref(&proxies),
        "server.auth.proxies",
        "192.0.2.0/25 is not in server.smtp.xclient_from",
    );
    let speakers = |network| ("server.smtp.xclient_from", list(&[network]));
    wrong(&[proxies.clone(), speakers("192.0.2.0/26")], "server.auth.proxies", "is not in");
    let config = with(&[proxies, speakers("192.0.2.0/24")]).unwrap();
    assert_eq!((config.auth().proxies.len(), config.receiver().login_from.len()), (1, 1));
    // Who may only say who the client is, says nothing of logins.
    let config = with(&[speakers("192.0.2.0/24")]).unwrap();
    assert!(config.auth().proxies.is_empty() && config.receiver().login_from.is_empty());
}

#[test]
fn doors_for_users_are_opened_without_auth_and_that_is_told() {
    let door = ("server.interfaces.addr_submission", Value::List(vec![text("127.0.0.1:587")]));
    let config = with(std::slice::from_ref(&door)).unwrap();
    assert_eq!(config.master().listeners.len(), 2);
    let told: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    assert!(told[0].starts_with("server.interfaces.addr_submission: takes no mail"), "{told:?}");
    assert_eq!(told.len(), 1);
    let config = with(&[door, ("server.auth.backends", text("shadow"))]).unwrap();
    assert_eq!(config.warnings(), []);
    let services =
        Value::Map([("clam".to_owned(), Value::Map([("type".to_owned(), text("shell"))].into()))].into());
    let config = with(&[("app.services", services)]).unwrap();
    assert!(config.warnings()[0].to_string().contains("service NAME cmd"));
}

#[test]
fn an_address_without_auth_is_one_where_nobody_must_log_in() {
    let off = |address: &str| {
        let mut row = Value::map();
        row.set("auth", Value::Bool(false));
        ("server.esmtp.listeners", Value::Map([(address.to_owned(), row)].into()))
    };
    let doors = || ("server.interfaces.addr_submission", text("127.0.0.1:587"));
    let backend = || ("server.auth.backends", text("file:/etc/vsmtp/users"));
    let all = || ("server.esmtp.discard", Value::List(vec![text("LIMITS")]));
    let slice = with(&[doors(), backend(), all(), off("127.0.0.1:25")]).unwrap().receiver();
    let [row] = &slice.listeners[..] else { panic!("{:?}", slice.listeners) };
    assert_eq!((row.auth, &row.discard), (false, &slice.discard));
    let must = ("server.esmtp.auth.must_be_authenticated", Value::Bool(true));
    for (keys, wanted) in [
        (vec![doors(), backend(), off("127.0.0.1:587")], "127.0.0.1:587 has auth"),
        (vec![backend(), off("127.0.0.1:26")], "127.0.0.1:26 is not listened on"),
        (vec![backend(), must, off("127.0.0.1:25")], "127.0.0.1:25 turns AUTH off"),
    ] {
        let said = with(&keys).unwrap_err();
        assert!(said.len() == 1 && said[0].to_string().contains(wanted), "{said:?}");
    }
}
