//! Kinds of keys about authentication.

use std::collections::{BTreeMap, HashMap};

use super::Kind;
use super::list::{MAX_ITEMS, items, rows, texts};
use crate::backend::AuthBackend;
use crate::certificate::CertificatePattern;
use crate::pattern::AddressPattern;
use crate::value::Value;

/// Most back-ends.
const MAX_BACKENDS: usize = 16;
/// Most names for one of which a token must be.
const MAX_AUDIENCES: usize = 64;
/// Longest text that is compared with one in a token, in octets.
const MAX_CLAIM: usize = 1024;
/// Longest login, in octets.
const MAX_LOGIN: usize = 255;
/// The mechanisms that can be offered.
const MECHANISMS: [&str; 7] =
    ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"];
/// Mechanisms that other versions of the program name, and why this one does not offer them.
const OUTDATED: [(&str, &str); 2] = [
    ("CRAM-MD5", "it needs passwords that can be read on the server; SCRAM-SHA-256 does not"),
    ("ANONYMOUS", "who logs in as nobody is nobody"),
];

fn outdated(text: &str) -> Option<(&'static str, &'static str)> {
    OUTDATED.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text))
}

/// SASL mechanisms.
#[derive(Debug)]
pub(crate) struct Mechanisms;

impl Kind for Mechanisms {
    type Out = Vec<&'static str>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let known = |text: &str| {
            let offered = MECHANISMS.into_iter().find(|name| name.eq_ignore_ascii_case(text));
            offered.map(Some).or_else(|| outdated(text).map(|_| None))
        };
        let found = items(value, MECHANISMS.len() + OUTDATED.len(), known)?;
        let offered: Vec<&str> = found.iter().copied().flatten().collect();
        // An empty list says "the usual ones", among them those that show the password: nothing that was asked for.
        if offered.is_empty() && !found.is_empty() {
            let named = items(value, found.len(), |text| outdated(text).map(|(name, _)| name))?;
            return Err(format!("only {}, which this version does not offer", named.join(" and ")));
        }
        Ok(offered)
    }

    fn remarks(&self, value: &Value) -> Vec<String> {
        let found = items(value, usize::MAX, |text| Some(outdated(text))).unwrap_or_default();
        found.into_iter().flatten().map(|(name, why)| format!("{name} is not offered: {why}")).collect()
    }

    fn write(&self, out: &Self::Out) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        format!("a list of {}", MECHANISMS.join(", "))
    }
}

/// Who knows passwords.
#[derive(Debug)]
pub(crate) struct Backends;

impl Kind for Backends {
    type Out = Vec<AuthBackend>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        items(value, MAX_BACKENDS, AuthBackend::parse)
    }

    fn write(&self, out: &Self::Out) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        "a list of \"file:PATH\", \"shadow\", \"dovecot:SOCKET\", \"saslauthd:SOCKET\", \"oauth:PATH\""
            .to_owned()
    }
}

/// For whom tokens may be.
#[derive(Debug)]
pub(crate) struct Audiences;

impl Kind for Audiences {
    type Out = Vec<String>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        items(value, MAX_AUDIENCES, claim)
    }

    fn write(&self, out: &Self::Out) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        "a list of texts as tokens have them (aud)".to_owned()
    }
}

/// A value, or the name, of a claim in tokens, or nothing.
#[derive(Debug)]
pub(crate) struct MaybeClaim;

impl Kind for MaybeClaim {
    type Out = Option<String>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        match value {
            Value::Null => Ok(None),
            Value::Text(text) => claim(text).map(Some).ok_or_else(|| value.describe()),
            other => Err(other.describe()),
        }
    }

    fn write(&self, out: &Self::Out) -> Value {
        out.clone().map_or(Value::Null, Value::Text)
    }

    fn expected(&self) -> String {
        "a text without blanks, as tokens have it, or ()".to_owned()
    }
}

/// Words of tokens that we compare: bounded, and without blanks, for in a scope they divide.
fn claim(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= MAX_CLAIM;
    (fits && !text.contains(|c: char| c.is_control() || c.is_whitespace())).then(|| text.to_owned())
}

/// Senders and who may use them.
#[derive(Debug)]
pub(crate) struct SenderLogins;

impl Kind for SenderLogins {
    type Out = Vec<(AddressPattern, Vec<String>)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        rows(value, |sender, logins, name| {
            let pattern = AddressPattern::parse(sender).ok_or_else(|| name.to_owned())?;
            let logins = items(logins, MAX_ITEMS, login).map_err(|found| format!("{found} for {name}"))?;
            Ok((pattern, logins))
        })
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(sender, logins): &(AddressPattern, Vec<String>)| (sender.to_string(), texts(logins));
        Value::Map(out.iter().map(row).collect::<BTreeMap<_, _>>())
    }

    fn expected(&self) -> String {
        "a map of \"user\", \"user@domain\", \"*@domain\" or \"*\" to a login or a list of logins".to_owned()
    }
}

/// Certificates of clients and whose they are.
#[derive(Debug)]
pub(crate) struct CertificateLogins;

impl Kind for CertificateLogins {
    type Out = Vec<(CertificatePattern, String)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let found = rows(value, |text, of, name| {
            let pattern = CertificatePattern::parse(text).ok_or_else(|| name.to_owned())?;
            let logins = items(of, 1, login).map_err(|found| format!("{found} for {name}"))?;
            let login = logins.into_iter().next().ok_or_else(|| format!("nobody for {name}"))?;
            if login == CertificatePattern::ITSELF && !pattern.is_name() {
                return Err(format!("\"*\" for {name}, which is no name"));
            }
            Ok((name.to_owned(), pattern, login))
        })?;
        // Two spellings of one certificate are two keys of the map, and only one of them could count.
        let mut names: HashMap<&CertificatePattern, &str> = HashMap::new();
        for (name, pattern, _) in &found {
            if let Some(before) = names.insert(pattern, name) {
                return Err(format!("{before} and {name}, which are the same"));
            }
        }
        Ok(found.into_iter().map(|(_, pattern, login)| (pattern, login)).collect())
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(pattern, login): &(CertificatePattern, String)| {
            (pattern.to_string(), Value::Text(login.clone()))
        };
        Value::Map(out.iter().map(row).collect::<BTreeMap<_, _>>())
    }

    fn expected(&self) -> String {
        "a map of \"sha256:FINGERPRINT\", \"email:ADDRESS\", \"email:*@DOMAIN\" or \"dns:HOST\" to a login"
            .to_owned()
    }
}

fn login(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= MAX_LOGIN && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn mechanisms_have_one_way_to_be_written() {
        assert_eq!(Mechanisms.read(&text("scram-sha-256")), Ok(vec!["SCRAM-SHA-256"]));
        assert_eq!(Mechanisms.read(&text("CRAM-MD6")), Err("\"CRAM-MD6\"".to_owned()));
    }

    #[test]
    fn who_names_only_what_is_not_offered_does_not_get_the_usual_mechanisms() {
        let list = |names: &[&str]| Value::List(names.iter().map(|name| text(name)).collect());
        let only = |names: &str| Err(format!("only {names}, which this version does not offer"));
        assert_eq!(Mechanisms.read(&text("cram-md5")), only("CRAM-MD5"));
        assert_eq!(Mechanisms.read(&list(&["CRAM-MD5", "ANONYMOUS"])), only("CRAM-MD5 and ANONYMOUS"));
        assert!(Mechanisms.expected().contains("SCRAM-SHA-256"));
        assert_eq!(Mechanisms.read(&list(&["CRAM-MD5", "SCRAM-SHA-256"])), Ok(vec!["SCRAM-SHA-256"]));
        assert_eq!(Mechanisms.read(&list(&[])), Ok(vec![]));
    }

    #[test]
    fn a_certificate_is_somebodys() {
        let map = |from: &str, to: Value| Value::Map(BTreeMap::from([(from.to_owned(), to)]));
        let print = "ab".repeat(32);
        let read = CertificateLogins.read(&map(&format!("sha256:{}", print.to_uppercase()), text("jane")));
        let read = read.unwrap();
        assert_eq!(CertificateLogins.write(&read), map(&format!("sha256:{print}"), text("jane")));
        for bad in ["sha256:ab", "sha1:ab", &print, ""] {
            assert!(CertificateLogins.read(&map(bad, text("jane"))).is_err(), "{bad}");
        }
        assert!(CertificateLogins.read(&map(&format!("sha256:{print}"), text("*"))).is_err());
        for (written, canonical) in [
            ("email:Jane@Own.TEST", "email:Jane@own.test"),
            ("email:*@Own.TEST", "email:*@own.test"),
            ("dns:MX.own.test", "dns:mx.own.test"),
        ] {
            let read = CertificateLogins.read(&map(written, text("*"))).unwrap();
            assert_eq!(CertificateLogins.write(&read), map(canonical, text("*")));
        }
        for bad in [
            "email:jane",
            "email:@own.test",
            "email:a*@own.test",
            "email:*@*",
            "dns:*.own.test",
            "dns:[192.0.2.1]",
            "dns:",
        ] {
            assert!(CertificateLogins.read(&map(bad, text("jane"))).is_err(), "{bad}");
        }
        assert!(CertificateLogins.read(&map(&format!("sha256:{print}"), text(""))).is_err());
    }

    #[test]
    fn a_certificate_has_one_row_however_it_is_written() {
        let read = |keys: &[&str], login: &str| {
            let row = |(at, key): (usize, &&str)| ((*key).to_owned(), text(&format!("{login}{at}")));
            CertificateLogins.read(&Value::Map(keys.iter().enumerate().map(row).collect()))
        };
        let print = format!("sha256:{}", "ab".repeat(32));
        let shouted = format!("sha256:{}", "AB".repeat(32));
        for (one, other) in [
            ("email:jane@A.test", "email:jane@a.test"),
            ("email:*@A.test", "email:*@a.test"),
            ("dns:MX.a.test", "dns:mx.a.test"),
            (&*shouted, &*print),
        ] {
            let found =
                format!("{} and {}, which are the same", text(one).describe(), text(other).describe());
            assert_eq!(read(&[one, other], "login"), Err(found));
        }
        // These are not the same.
        for keys in [["email:Jane@a.test", "email:jane@a.test"], ["email:*@a.test", "email:jane@a.test"]] {
            assert_eq!(read(&keys, "login").map(|rows| rows.len()), Ok(2), "{keys:?}");
        }
    }

    #[test]
    fn rows_name_what_is_wrong() {
        let map = |from: &str, to: Value| Value::Map(BTreeMap::from([(from.to_owned(), to)]));
        assert_eq!(SenderLogins.read(&map("*@example.com", text("jane"))).unwrap().len(), 1);
        assert_eq!(SenderLogins.read(&map("sales", Value::List(Vec::new()))).unwrap()[0].1.len(), 0);
        assert_eq!(SenderLogins.read(&map("a b", text("jane"))), Err("\"a b\"".to_owned()));
        assert_eq!(SenderLogins.read(&map("sales", text(""))), Err("\"\" for \"sales\"".to_owned()));
    }
}
