//! Versions, cipher suites, and certificates by domain.

use std::collections::BTreeMap;

use vsmtp_mail::Domain;

use super::Kind;
use super::list::items;
use super::text::{FilePath, MaybePath};
use crate::keys::key;
use crate::legacy::Legacy;
use crate::value::Value;

/// Most domains with a certificate of their own.
const MAX_DOMAINS: usize = 1000;
/// Most keys that the mail of one domain is signed with.
const MAX_MAIL_KEYS: usize = 16;
/// Most items in a list of versions or suites.
const MAX_CHOICES: usize = 32;

/// Cipher suites by their IANA names and numbers.
const SUITES: [(&str, u16); 9] = [
    ("TLS_AES_128_GCM_SHA256", 0x1301),
    ("TLS_AES_256_GCM_SHA384", 0x1302),
    ("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0xc02c),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8),
];
/// The first byte of the numbers of suites of TLS 1.3.
const TLS13: u16 = 0x13;

/// Versions of TLS.
#[derive(Debug)]
pub(crate) struct Versions;

/// Which versions are spoken; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spoken {
    pub(crate) tls12: bool,
    pub(crate) tls13: bool,
}

impl Kind for Versions {
    type Out = Spoken;

    fn read(&self, value: &Value) -> Result<Spoken, String> {
        let version = |text: &str| match text {
            "TLSv1.2" => Some(false),
            "TLSv1.3" => Some(true),
            _ => None,
        };
        let found = items(value, MAX_CHOICES, version)?;
        match found.is_empty() {
            true => Err("none".to_owned()),
            false => Ok(Spoken { tls12: found.contains(&false), tls13: found.contains(&true) }),
        }
    }

    fn write(&self, out: &Spoken) -> Value {
        let both = [("TLSv1.2", out.tls12), ("TLSv1.3", out.tls13)];
        let spoken = both.into_iter().filter(|(_, spoken)| *spoken);
        Value::List(spoken.map(|(name, _)| Value::Text(name.to_owned())).collect())
    }

    fn expected(&self) -> String {
        "a list of \"TLSv1.2\" and \"TLSv1.3\"".to_owned()
    }
}

/// Cipher suites, by their numbers in the TLS registry.
#[derive(Debug)]
pub(crate) struct Suites;

impl Suites {
    /// True if the suite is one of TLS 1.3 rather than 1.2.
    pub(crate) fn is_of_tls13(number: u16) -> bool {
        number >> 8 == TLS13
    }

    fn parse(text: &str) -> Option<u16> {
        // Other versions of the program call those of TLS 1.3 so.
        let name = text.strip_prefix("TLS13_").map(|rest| format!("TLS_{rest}"));
        let name = name.as_deref().unwrap_or(text);
        SUITES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    }
}

impl Kind for Suites {
    type Out = Vec<u16>;

    fn read(&self, value: &Value) -> Result<Vec<u16>, String> {
        let found = items(value, MAX_CHOICES, Self::parse)?;
        if found.is_empty() { Err("none".to_owned()) } else { Ok(found) }
    }

    fn write(&self, out: &Vec<u16>) -> Value {
        let name = |number: &u16| SUITES.iter().find(|(_, known)| known == number);
        Value::List(out.iter().filter_map(name).map(|(name, _)| Value::Text((*name).to_owned())).collect())
    }

    fn expected(&self) -> String {
        "a list of cipher suites".to_owned()
    }
}

/// Settings by domain.
#[derive(Debug)]
pub(crate) struct VirtualDomains;

/// What a domain has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct VirtualDomain {
    /// Its certificate.
    pub(crate) tls: Option<DomainTls>,
    /// Keys that its mail is signed with.
    pub(crate) dkim: Vec<String>,
}

/// The certificate of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainTls {
    pub(crate) certificate: String,
    /// `None`: in the file of the certificate.
    pub(crate) private_key: Option<String>,
}

/// Says, in other versions, that the certificate is for clients that ask for no name too.
const DEFAULT: &str = "is_default";
/// What other versions have for each domain, and where it is now.
const WITHOUT_EFFECT: [(&str, &str); 4] = [
    ("dns", "server.dns holds for all domains"),
    ("tls.is_default", "name that certificate in server.tls"),
    ("tls.protocol_version", "server.tls.protocol_version and server.tls.listeners hold for all domains"),
    ("tls.sender_security_level", "delivery.tls says how deliveries use TLS"),
];

impl VirtualDomains {
    fn row(value: &Value) -> Result<VirtualDomain, String> {
        let mut row = VirtualDomain::default();
        let Some(fields) = fields(value)? else { return Ok(row) };
        for (name, value) in fields {
            match name.as_str() {
                "tls" => row.tls = Self::tls(value)?,
                "dkim" => row.dkim = Self::dkim(value)?,
                "dns" => Self::dns(value)?,
                _ if value.says_nothing() => {}
                _ => return Err(Value::Text(name.clone()).describe()),
            }
        }
        Ok(row)
    }

    /// What `server.dns` may hold, as other versions have it by domain too. It has no effect, so names must be right and values
    /// need not, but for that of the type, which is a name itself.
    fn dns(value: &Value) -> Result<(), String> {
        const TYPE: &str = "server.dns.type";
        let check = |path: String, field: &str, value: &Value| match key(&path) {
            _ if value.says_nothing() => Ok(()),
            Some(key) if key.name == TYPE => key.canonical(value).map(|_| ()),
            None if Legacy::of(&path).is_none() => Err(shown(field)),
            _ => Ok(()),
        };
        for (name, value) in fields(value)?.into_iter().flatten() {
            match name.as_str() {
                "config" | "options" => {
                    for (field, value) in fields(value)?.into_iter().flatten() {
                        check(format!("server.dns.{name}.{field}"), field, value)?;
                    }
                }
                _ => check(format!("server.dns.{name}"), name, value)?,
            }
        }
        Ok(())
    }

    /// One path or several.
    fn dkim(value: &Value) -> Result<Vec<String>, String> {
        let Some(fields) = fields(value)? else { return Ok(Vec::new()) };
        if let Some(name) = fields.keys().find(|name| *name != "private_key") {
            return Err(Value::Text(name.clone()).describe());
        }
        let paths = match fields.get("private_key") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::List(paths)) => {
                paths.iter().map(|path| FilePath.read(path)).collect::<Result<_, _>>()?
            }
            Some(path) => vec![FilePath.read(path)?],
        };
        let paths: Vec<String> = paths;
        if paths.len() > MAX_MAIL_KEYS {
            return Err(format!("{} keys (at most {MAX_MAIL_KEYS})", paths.len()));
        }
        Ok(paths)
    }

    fn tls(value: &Value) -> Result<Option<DomainTls>, String> {
        let Some(fields) = fields(value)? else { return Ok(None) };
        let path = |name: &str| fields.get(name).map_or(Ok(None), |value| MaybePath.read(value));
        // The last three have no effect; `remarks` says so.
        let known = ["certificate", "private_key", "protocol_version", "sender_security_level", DEFAULT];
        if let Some((name, _)) = fields.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(Value::Text(name.clone()).describe());
        }
        match (path("certificate")?, path("private_key")?) {
            (Some(certificate), private_key) => Ok(Some(DomainTls { certificate, private_key })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err("a private key without a certificate".to_owned()),
        }
    }
}

/// True for `dns` that says what holds anyway, and no more.
fn is_system(dns: Option<&Value>) -> bool {
    let system = |(name, value): (&String, &Value)| {
        value.says_nothing() || name == "type" && *value == Value::Text("system".to_owned())
    };
    matches!(dns, Some(Value::Map(fields)) if fields.iter().all(system))
}

fn shown(name: &str) -> String {
    Value::Text(name.to_owned()).describe()
}

fn fields(value: &Value) -> Result<Option<&BTreeMap<String, Value>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Map(map) => Ok(Some(map)),
        other => Err(other.describe()),
    }
}

impl Kind for VirtualDomains {
    type Out = Vec<(Domain, VirtualDomain)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let Some(map) = fields(value)? else { return Ok(Vec::new()) };
        if map.len() > MAX_DOMAINS {
            return Err(format!("a map of {} domains (at most {MAX_DOMAINS})", map.len()));
        }
        let row = |(name, value): (&String, &Value)| {
            let shown = shown(name);
            let domain = Domain::parse(name).ok().filter(|domain| domain.as_literal().is_none());
            let domain = domain.ok_or_else(|| shown.clone())?;
            Ok((domain, Self::row(value).map_err(|found| format!("{found} for {shown}"))?))
        };
        map.iter().map(row).collect()
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(domain, own): &(Domain, VirtualDomain)| {
            let mut value = Value::map();
            if !own.dkim.is_empty() {
                let paths = own.dkim.iter().cloned().map(Value::Text).collect();
                value.set("dkim.private_key", Value::List(paths));
            }
            if let Some(tls) = &own.tls {
                value.set("tls.certificate", Value::Text(tls.certificate.clone()));
                if let Some(key) = &tls.private_key {
                    value.set("tls.private_key", Value::Text(key.clone()));
                }
            }
            (domain.to_string(), value)
        };
        Value::Map(out.iter().map(row).collect())
    }

    fn remarks(&self, value: &Value) -> Vec<String> {
        let mut remarks = Vec::new();
        for (name, own) in fields(value).ok().flatten().into_iter().flatten() {
            for (path, instead) in WITHOUT_EFFECT {
                let said = own.at(path).is_some_and(|value| !value.says_nothing());
                if said && !(path == "dns" && is_system(own.at(path))) {
                    let key = path.rsplit('.').next().unwrap_or(path);
                    remarks.push(format!("{key} of {} has no effect: {instead}", shown(name)));
                }
            }
        }
        remarks
    }

    fn expected(&self) -> String {
        "a map of domains, each with a map such as #{tls: #{certificate: \"chain.pem\", private_key: \"key.pem\"}}"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(fields: &[(&str, Value)]) -> Value {
        let mut row = Value::map();
        for (path, value) in fields {
            row.set(path, value.clone());
        }
        Value::Map([("example.com".to_owned(), row)].into())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn a_domain_has_a_certificate_or_nothing() {
        let read = |fields: &[(&str, Value)]| {
            VirtualDomains.read(&domain(fields)).map(|mut rows| rows.remove(0).1.tls)
        };
        let both = [("tls.certificate", text("c")), ("tls.private_key", text("k"))];
        let tls = DomainTls { certificate: "c".to_owned(), private_key: Some("k".to_owned()) };
        assert_eq!(read(&both), Ok(Some(tls)));
        assert_eq!(read(&both[..1]).unwrap().unwrap().private_key, None);
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("tls", Value::Null), ("dns", Value::map())]), Ok(None));
        assert_eq!(
            read(&both[1..]),
            Err("a private key without a certificate for \"example.com\"".to_owned())
        );
        assert_eq!(read(&[("tls.colour", text("red"))]), Err("\"colour\" for \"example.com\"".to_owned()));
        assert_eq!(read(&[("colour", text("red"))]), Err("\"colour\" for \"example.com\"".to_owned()));
        let dkim = |value: Value| {
            VirtualDomains.read(&domain(&[("dkim.private_key", value)])).map(|mut rows| rows.remove(0).1.dkim)
        };
        assert_eq!(dkim(text("k")), Ok(vec!["k".to_owned()]));
        assert_eq!(dkim(Value::List(vec![text("k"), text("l")])), Ok(vec!["k".to_owned(), "l".to_owned()]));
        assert_eq!(dkim(Value::Null), Ok(Vec::new()));
        assert!(dkim(Value::Int(1)).is_err() && dkim(Value::List(vec![text("k"); 17])).is_err());
        assert_eq!(read(&[("dkim.colour", text("k"))]), Err("\"colour\" for \"example.com\"".to_owned()));
        for (path, value, remark) in [
            ("dns.type", text("google"), "dns of \"example.com\" has no effect"),
            ("dns.options.timeout", text("2s"), "dns of \"example.com\" has no effect"),
            ("dns.options.ndots", Value::Int(1), "dns of \"example.com\" has no effect"),
            ("tls.is_default", Value::Bool(true), "is_default of \"example.com\" has no effect"),
            ("tls.protocol_version", text("TLSv1.3"), "protocol_version of \"example.com\" has no effect"),
            (
                "tls.sender_security_level",
                text("Encrypt"),
                "sender_security_level of \"example.com\" has no effect",
            ),
        ] {
            assert_eq!(read(&[(path, value.clone())]), Ok(None));
            let remarks = VirtualDomains.remarks(&domain(&[(path, value)]));
            assert!(remarks.len() == 1 && remarks[0].starts_with(remark), "{remarks:?}");
        }
        assert!(VirtualDomains.remarks(&domain(&[("dns.type", text("system"))])).is_empty());
        assert!(read(&[("dns", text("google"))]).is_err());
        for (path, value, wrong) in [
            ("dns.tpye", text("google"), "\"tpye\""),
            ("dns.type", text("gogle"), "\"gogle\""),
            ("dns.options.tmeout", text("2s"), "\"tmeout\""),
            ("dns.config", text("x"), "\"x\""),
        ] {
            assert_eq!(read(&[(path, value)]), Err(format!("{wrong} for \"example.com\"")), "{path}");
        }
        assert!(VirtualDomains.read(&Value::Map([("-".to_owned(), Value::Null)].into())).is_err());
    }

    #[test]
    fn suites_by_both_names_and_versions_by_theirs() {
        assert_eq!(Suites.read(&text("TLS13_AES_128_GCM_SHA256")), Ok(vec![0x1301]));
        assert_eq!(Suites.read(&text("TLS_AES_128_GCM_SHA256")), Ok(vec![0x1301]));
        assert!(Suites.read(&text("TLS_RSA_WITH_AES_128_CBC_SHA")).is_err());
        assert!(Suites.read(&Value::List(vec![])).is_err());
        assert_eq!(Versions.read(&text("TLSv1.3")), Ok(Spoken { tls12: false, tls13: true }));
        assert!(Versions.read(&text("TLSv1.1")).is_err() && Versions.read(&Value::List(vec![])).is_err());
    }
}
