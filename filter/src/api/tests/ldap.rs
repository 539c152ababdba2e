//! LDAP, without a directory.

use vsmtp_ipc::edge::filter_database::{Parameter, Rows};

use super::*;

/// Answers as a directory would in which there is jane.
pub fn answer(what: &str, parameters: &[Parameter]) -> Rows {
    let texts: Vec<&str> = parameters
        .iter()
        .map(|parameter| match parameter {
            Parameter::Text(text) => text.as_str(),
            Parameter::Int(1) => "1",
            other => panic!("{other:?}"),
        })
        .collect();
    let rows = |columns: &[&str], rows: &[[&str; 3]]| Rows {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        rows: rows
            .iter()
            .map(|row| {
                row.iter()
                    .take(columns.len())
                    .map(|text| (!text.is_empty()).then(|| (*text).to_owned()))
                    .collect()
            })
            .collect(),
    };
    let found = |entries: &[[&str; 3]]| rows(&["dn", "attribute", "value"], entries);
    let jane = ["uid=jane,dc=example,dc=com", "", ""];
    match (what, &texts[..]) {
        ("search", ["dc=example,dc=com", "sub", "(uid=jane)", "mail"]) => {
            found(&[jane, ["", "mail", "jane@example.com"], ["", "cn", ""]])
        }
        ("search", ["dc=example,dc=com", "one", "(uid=*)"]) => {
            found(&[jane, ["", "cn", "Jane"], ["", "cn", "Doe"], ["uid=joe,dc=example,dc=com", "", ""]])
        }
        ("search_values", ["dc=example,dc=com", "sub", "(mail=?)", "1", "cn", key]) => match *key {
            "jane@example.com" => found(&[jane, ["", "cn", "Jane"]]),
            _ => found(&[]),
        },
        ("search", _) => rows(&["error"], &[["noSuchObject (32)", "", ""]]),
        ("compare", [_, "mail", value]) => {
            rows(&["value"], &[[if *value == "jane@example.com" { "true" } else { "false" }, "", ""]])
        }
        ("compare", _) => rows(&["error"], &[["noSuchAttribute (16)", "", ""]]),
        other => panic!("{other:?}"),
    }
}

fn run(statement: &str) -> Result<(), String> {
    let script = format!("const people = ldap::connect(\"people\"); {statement}");
    run_example(&engine(), at(Stage::Rcpt), &script)
}

#[test]
fn what_a_directory_answers_is_a_value_of_the_language() {
    for condition in [
        "let all = people.search(\"dc=example,dc=com\", \"one\", \"(uid=*)\", []); all.result == \"ok\" && all.entries.len() == 2 && all.entries[0].attrs.cn == [\"Jane\", \"Doe\"] && all.entries[1] == #{ dn: \"uid=joe,dc=example,dc=com\", attrs: #{} }",
        "people.search(\"dc=example,dc=com\", \"sub\", \"(uid=jane)\", [\"mail\"]).entries[0].attrs.cn == []",
        "people.search(\"dc=example,dc=com\", \"sub\", \"(mail=?)\", [\"cn\"], [\"*\"]) == #{ result: \"ok\", entries: [] }",
        "people.search(\"dc=nowhere\", \"sub\", \"(uid=jane)\", []) == #{ result: \"error\", error: \"noSuchObject (32)\" }",
        "people.compare(\"uid=jane\", \"mail\", \"jane@example.com\") && !people.compare(\"uid=jane\", \"mail\", \"x\")",
        "service old db:ldap = #{ url: \"ldap://down.test\", tls: #{ starttls: true } }; `${old}` == \"ldap://down.test:389 with StartTLS\"",
        "ldap::escape(\"a\\\\b\\x00\\u00e9\") == \"a\\\\5cb\\\\00\\u00e9\" && ldap::escape(address(\"a*@b.test\")) == \"a\\\\2a@b.test\"",
        "ldap::escape_dn(\" a=b+c \") == \"\\\\20a\\\\3db\\\\2bc\\\\20\" && ldap::escape_dn(\"#x\") == \"\\\\23x\"",
    ] {
        run(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
    }
}

#[test]
fn what_is_no_search_or_directory_is_refused_and_no_password_is_said() {
    for (statement, words) in [
        ("people.search(\"dc=x\", \"all\", \"(a=b)\", [])", "a scope is"),
        ("people.search(\"dc=x\", \"sub\", \"(a=b)\", [1])", "the name of an attribute is"),
        ("people.search(\"dc=x\", \"sub\", \"(a=?)\", [], [1])", "a value is a string or an object"),
        ("people.compare(\"uid=jane\", \"cn\", \"x\")", "cannot be compared: noSuchAttribute"),
        (
            "ldap::connect(#{ url: \"ldap://ds\", bind: #{ dn: \"cn=a\", pw: \"secret\", x: 1 } })",
            "another part of bind",
        ),
        ("ldap::connect(#{ url: \"ldap://a:secret@ds\" })", "bind"),
        ("ldap::connect(#{ url: \"redis://ds\" })", "no URL of LDAP"),
        ("ldap::connect(\"counters\")", "no database of LDAP"),
        (
            "ldap::connect(#{ url: \"ldap://down.test\", bind: #{ dn: \"cn=a\", pw: \"secret\" } }).compare(\"a\", \"b\", \"c\")",
            "it is down",
        ),
    ] {
        let error = run(statement).unwrap_err();
        assert!(error.contains(words) && !error.contains("secret"), "{statement}: {error}");
    }
}
