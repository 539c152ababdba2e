//! Which client may use which sender: the rows of `server.auth.sender_login`, whether everybody else may only be itself, and
//! whether others must log in for what belongs to somebody.

use std::collections::HashMap;

use vsmtp_config::{AddressPattern, FilterSlice};
use vsmtp_mail::{Address, Domain};

/// The rows, the most exact first.
#[derive(Debug, Default)]
pub struct Senders {
    exact: HashMap<String, Vec<String>>,
    local: HashMap<String, Vec<String>>,
    domains: HashMap<Domain, Vec<String>>,
    any: Option<Vec<String>>,
    own_only: bool,
    need_login: bool,
}

impl Senders {
    /// The rows of a slice.
    pub fn new(slice: &FilterSlice) -> Self {
        let mut senders = Senders {
            own_only: slice.own_sender_only,
            need_login: slice.senders_need_login,
            ..Senders::default()
        };
        for row in &slice.sender_login {
            let logins = row.logins.clone();
            match &*row.sender {
                AddressPattern::Exact(address) => drop(senders.exact.insert(key(address), logins)),
                AddressPattern::Local(local) => {
                    drop(senders.local.insert(local.to_ascii_lowercase(), logins));
                }
                AddressPattern::Domain(domain) => drop(senders.domains.insert(domain.clone(), logins)),
                AddressPattern::Any => senders.any = Some(logins),
            }
        }
        senders
    }

    /// True if any sender can be refused.
    pub fn matter(&self) -> bool {
        self.own_only
            || self.any.is_some()
            || !(self.exact.is_empty() && self.local.is_empty() && self.domains.is_empty())
    }

    /// True if this login may use this sender. Local parts and logins compare without regard to ASCII case.
    pub fn allow(&self, sender: &Address, login: &str, is_own: impl Fn(&Domain) -> bool) -> bool {
        let own = is_own(sender.domain());
        match self.row(sender, own) {
            Some(logins) => logins.iter().any(|one| one.eq_ignore_ascii_case(login)),
            None => !self.own_only || is_itself(sender, login, own),
        }
    }

    /// True if whoever has not authenticated may use this sender.
    pub fn allow_stranger(&self, sender: &Address, is_own: impl Fn(&Domain) -> bool) -> bool {
        let own = is_own(sender.domain());
        !self.need_login || self.row(sender, own).is_none() && !(self.own_only && own)
    }

    /// The logins of the most exact row; `own`: the domain is one of ours.
    fn row(&self, sender: &Address, own: bool) -> Option<&Vec<String>> {
        let local = || self.local.get(&sender.local_part().to_ascii_lowercase()).filter(|_| own);
        self.exact
            .get(&key(sender))
            .or_else(local)
            .or_else(|| self.domains.get(sender.domain()))
            .or_else(|| self.any.as_ref().filter(|_| own))
    }
}

fn key(address: &Address) -> String {
    format!("{}@{}", address.local_part().to_ascii_lowercase(), address.domain())
}

/// The login is the sender, or its local part at one of our own domains.
fn is_itself(sender: &Address, login: &str, own: bool) -> bool {
    match Address::parse(login) {
        Ok(address) => key(&address) == key(sender),
        Err(_) => own && sender.local_part().eq_ignore_ascii_case(login),
    }
}

#[cfg(test)]
mod tests {
    use vsmtp_config::Value;

    use super::*;
    use crate::policy::tests::slice;

    fn map(rows: &[(&str, &[&str])]) -> Value {
        let list =
            |logins: &[&str]| Value::List(logins.iter().map(|one| Value::Text((*one).to_owned())).collect());
        Value::Map(rows.iter().map(|(sender, logins)| ((*sender).to_owned(), list(logins))).collect())
    }

    fn allows(senders: &Senders, sender: &str, login: &str) -> bool {
        let own = |domain: &Domain| domain.as_str() == "example.com";
        senders.allow(&Address::parse(sender).unwrap(), login, own)
    }

    #[test]
    fn the_most_exact_row_counts() {
        let rows = map(&[
            ("sales@example.com", &["jane", "joe"]),
            ("jane", &["jane"]),
            ("*@example.com", &["root"]),
            ("*@partner.example", &["joe"]),
            ("nobody@example.com", &[]),
        ]);
        let senders = Senders::new(&slice(&[("server.auth.sender_login", rows)]));
        assert!(senders.matter());
        for (sender, login, allowed) in [
            ("sales@example.com", "JOE", true),
            ("Sales@EXAMPLE.com", "jane", true),
            ("sales@example.com", "root", false),
            ("jane@example.com", "jane", true),
            ("jane@example.com", "joe", false),
            ("jane@partner.example", "jane", false),
            ("ann@example.com", "root", true),
            ("ann@example.com", "ann", false),
            ("x@partner.example", "joe", true),
            ("nobody@example.com", "root", false),
            ("x@elsewhere.example", "jane", true),
        ] {
            assert_eq!(allows(&senders, sender, login), allowed, "{sender} {login}");
        }
    }

    #[test]
    fn everybody_may_be_told_to_be_itself() {
        let senders = Senders::new(&slice(&[
            ("server.auth.own_sender_only", Value::Bool(true)),
            ("server.auth.sender_login", map(&[("sales@example.com", &["jane"])])),
        ]));
        for (sender, login, allowed) in [
            ("jane@example.com", "jane", true),
            ("Jane@example.com", "jane@example.com", true),
            ("jane@elsewhere.example", "jane", false),
            ("jane@elsewhere.example", "jane@elsewhere.example", true),
            ("joe@example.com", "jane", false),
            ("sales@example.com", "jane", true),
            ("sales@example.com", "sales", false),
        ] {
            assert_eq!(allows(&senders, sender, login), allowed, "{sender} {login}");
        }
        assert!(!Senders::new(&slice(&[])).matter());
    }

    #[test]
    fn strangers_may_be_told_to_log_in_for_what_belongs_to_somebody() {
        let rows = || ("server.auth.sender_login", map(&[("x@partner.example", &["joe"]), ("sales", &[])]));
        let own = |domain: &Domain| domain.as_str() == "example.com";
        let need = || ("server.auth.senders_need_login", Value::Bool(true));
        let only = || ("server.auth.own_sender_only", Value::Bool(true));
        for (keys, refused) in [
            (vec![rows()], &[][..]),
            (vec![rows(), need()], &["x@partner.example", "sales@example.com"]),
            (vec![rows(), need(), only()], &["x@partner.example", "sales@example.com", "ann@example.com"]),
        ] {
            let senders = Senders::new(&slice(&keys));
            for sender in
                ["x@partner.example", "sales@example.com", "ann@example.com", "sales@elsewhere.example"]
            {
                let allowed = senders.allow_stranger(&Address::parse(sender).unwrap(), own);
                assert_eq!(allowed, !refused.contains(&sender), "{sender} of {refused:?}");
            }
        }
    }
}
