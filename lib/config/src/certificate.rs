//! Whose certificate is whose: rows by fingerprint or by a name, and what a certificate is under them.

use std::collections::HashMap;
use std::fmt;

use vsmtp_mail::{Address, Domain};

use crate::by_text::{ByText, Textual};
use crate::tls_policy::fingerprint;

/// Octets of a SHA-256.
const SHA256: usize = 32;

/// Which certificates a row is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CertificatePattern {
    /// The one with this SHA-256.
    Fingerprint([u8; SHA256]),
    /// Those with this mail address in them; its domain in lower case.
    Email(String),
    /// Those with any mail address of this domain, in lower case.
    EmailOf(String),
    /// Those with this host in them, in lower case.
    Host(String),
}

impl CertificatePattern {
    /// The login that stands for the name in the certificate.
    pub const ITSELF: &'static str = "*";

    /// As configuration writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "sha256" => fingerprint(rest).map(CertificatePattern::Fingerprint),
            "email" => match rest.strip_prefix("*@") {
                Some(domain) => host(domain).map(CertificatePattern::EmailOf),
                None => email(rest).map(CertificatePattern::Email),
            },
            "dns" => host(rest).map(CertificatePattern::Host),
            _ => None,
        }
    }

    /// True if it is about a name, which counts only in a certificate that leads to a trusted authority.
    pub fn is_name(&self) -> bool {
        !matches!(self, CertificatePattern::Fingerprint(_))
    }

    /// The name itself, as a login.
    fn itself(&self) -> Option<&str> {
        match self {
            CertificatePattern::Email(name) | CertificatePattern::Host(name) => Some(name),
            CertificatePattern::Fingerprint(_) | CertificatePattern::EmailOf(_) => None,
        }
    }
}

fn host(text: &str) -> Option<String> {
    let domain =
        Domain::parse(text).ok().filter(|domain| domain.as_literal().is_none() && text.is_ascii())?;
    Some(domain.to_string().to_ascii_lowercase())
}

fn email(text: &str) -> Option<String> {
    let address = Address::parse(text).ok().filter(|_| text.is_ascii() && !text.contains('*'))?;
    let (local, domain) = text.rsplit_once('@')?;
    address.domain().as_literal().is_none().then(|| format!("{local}@{}", domain.to_ascii_lowercase()))
}

impl Textual for CertificatePattern {
    fn from_text(text: &str) -> Option<Self> {
        CertificatePattern::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for CertificatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificatePattern::Fingerprint(print) => {
                f.write_str("sha256:")?;
                print.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
            CertificatePattern::Email(address) => write!(f, "email:{address}"),
            CertificatePattern::EmailOf(domain) => write!(f, "email:*@{domain}"),
            CertificatePattern::Host(host) => write!(f, "dns:{host}"),
        }
    }
}

/// All rows.
#[derive(Debug, Clone, Default)]
pub struct CertificateLogins(HashMap<CertificatePattern, String>);

impl CertificateLogins {
    /// Of these rows.
    pub fn new(rows: &[(ByText<CertificatePattern>, String)]) -> Self {
        CertificateLogins(
            rows.iter().map(|(pattern, login)| (CertificatePattern::clone(pattern), login.clone())).collect(),
        )
    }

    /// Whose a certificate is: what its fingerprint says; else the first of its names that has a row, of its own before that of
    /// its domain. `names` are patterns of single names, and none unless the certificate leads to a trusted authority.
    pub fn login<'a>(&'a self, print: &[u8; SHA256], names: &'a [CertificatePattern]) -> Option<&'a str> {
        if let Some(login) = self.0.get(&CertificatePattern::Fingerprint(*print)) {
            return Some(login);
        }
        let of_domain = |name: &CertificatePattern| {
            let CertificatePattern::Email(address) = name else { return None };
            let (_, domain) = address.rsplit_once('@')?;
            self.0.get(&CertificatePattern::EmailOf(domain.to_owned()))
        };
        let row = |name: &'a CertificatePattern| {
            let login = self.0.get(name).or_else(|| of_domain(name))?;
            let itself = name.itself()?;
            Some(if login == CertificatePattern::ITSELF { itself } else { login.as_str() })
        };
        names.iter().find_map(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_counts_most_then_the_first_name_with_a_row() {
        let print = format!("sha256:{}", "07".repeat(32));
        let rows = [
            (print.as_str(), "tim"),
            ("email:jane@own.test", "jane"),
            ("email:*@own.test", "*"),
            ("dns:relay.own.test", "relay"),
        ];
        let pattern = |text: &str| CertificatePattern::parse(text).unwrap();
        let logins =
            CertificateLogins::new(&rows.map(|(text, login)| (pattern(text).into(), login.to_owned())));
        let of = |print: u8, names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| pattern(name)).collect();
            logins.login(&[print; 32], &names).map(str::to_owned)
        };
        for (print, names, expected) in [
            (7, &["email:jane@own.test"][..], Some("tim")),
            (8, &["email:jane@OWN.test"], Some("jane")),
            (8, &["email:joe@own.test"], Some("joe@own.test")),
            (8, &["dns:other.test", "dns:relay.own.test", "email:jane@own.test"], Some("relay")),
            (8, &["email:Jane@own.test"], Some("Jane@own.test")),
            (8, &["email:jane@sub.own.test"], None),
            (8, &["dns:own.test"], None),
            // A name that looks like a row of many is not one.
            (8, &["email:*@own.test"], None),
            (8, &[], None),
        ] {
            assert_eq!(of(print, names).as_deref(), expected, "{print} {names:?}");
        }
    }
}
