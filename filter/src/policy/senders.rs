//! Which client may use which sender: the rows of `server.auth.sender_login`, whether everybody else may only be itself, and
//! whether others must log in for what belongs to somebody. Senders at our own domains are compared as recipients there are: folded, with
//! and without their extension, so that no spelling of a mailbox's name is somebody else's.

use std::collections::HashMap;

use vsmtp_config::{AddressPattern, FilterSlice, Recipients};
use vsmtp_mail::{Address, Domain, fold_local_part};

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
                    drop(senders.local.insert(fold_local_part(local), logins));
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

    /// True if this login may use this sender. Logins compare without regard to ASCII case.
    pub fn allow(&self, sender: &Address, login: &str, recipients: &Recipients) -> bool {
        let spelled = Spelled::new(sender, recipients);
        match self.row(&spelled) {
            Some(logins) => logins.iter().any(|one| one.eq_ignore_ascii_case(login)),
            None => !self.own_only || spelled.is_of(login),
        }
    }

    /// True if whoever has not authenticated may use this sender.
    pub fn allow_stranger(&self, sender: &Address, recipients: &Recipients) -> bool {
        if !self.need_login {
            return true;
        }
        let spelled = Spelled::new(sender, recipients);
        self.row(&spelled).is_none() && !(self.own_only && spelled.own)
    }

    /// The logins of the most exact row.
    fn row(&self, sender: &Spelled) -> Option<&Vec<String>> {
        let local = |form: &Address| self.local.get(&form.folded_local_part()).filter(|_| sender.own);
        let own = sender.forms.iter().find_map(|form| self.exact.get(&key(form)).or_else(|| local(form)));
        own.or_else(|| self.domains.get(sender.forms.first()?.domain()))
            .or_else(|| self.any.as_ref().filter(|_| sender.own))
    }
}

/// A sender as it is looked up.
struct Spelled {
    /// Itself first, then, at one of our own domains, without its extension, unless it is somebody's with it. How others split
    /// their addresses is not known.
    forms: Vec<Address>,
    /// The domain is one of ours.
    own: bool,
}

impl Spelled {
    fn new(sender: &Address, recipients: &Recipients) -> Self {
        let own = recipients.is_own(sender.domain());
        let is_split = own && !recipients.is_named(sender);
        Spelled { forms: if is_split { recipients.forms(sender) } else { vec![sender.clone()] }, own }
    }

    /// The login is the sender, or its local part at one of our own domains.
    fn is_of(&self, login: &str) -> bool {
        let address = Address::parse(login).ok().map(|address| key(&address));
        let name = fold_local_part(login);
        self.forms.iter().any(|form| match &address {
            Some(address) => key(form) == *address,
            None => self.own && form.folded_local_part() == name,
        })
    }
}

fn key(address: &Address) -> String {
    format!("{}@{}", address.folded_local_part(), address.domain())
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

    fn recipients() -> Recipients {
        Recipients::new(&slice(&[]))
    }

    fn allows(senders: &Senders, sender: &str, login: &str) -> bool {
        senders.allow(&Address::parse(sender).unwrap(), login, &recipients())
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
    fn who_has_a_name_with_a_delimiter_in_it_is_somebody_else() {
        let names = ["jane", "jane-doe"].map(|name| Value::Text(name.to_owned()));
        let recipients = Recipients::new(&slice(&[
            ("delivery.recipient_delimiter", Value::Text("-".to_owned())),
            ("delivery.mailboxes", Value::List(names.to_vec())),
        ]));
        let rows = map(&[("jane@example.com", &["jane", "assistant"])]);
        let senders = Senders::new(&slice(&[
            ("server.auth.own_sender_only", Value::Bool(true)),
            ("server.auth.sender_login", rows),
        ]));
        for (sender, login, allowed) in [
            ("jane-doe@example.com", "jane", false),
            ("jane-doe@example.com", "jane-doe", true),
            ("jane-doe@example.com", "assistant", false),
            ("jane-news@example.com", "jane", true),
            ("jane-news@example.com", "jane-doe", false),
        ] {
            let sender_address = Address::parse(sender).unwrap();
            assert_eq!(senders.allow(&sender_address, login, &recipients), allowed, "{sender} {login}");
        }
    }

    #[test]
    fn a_row_for_the_extension_comes_before_one_for_the_rest() {
        let rows = map(&[("sales@example.com", &["jane"]), ("sales+press", &["joe"])]);
        let senders = Senders::new(&slice(&[("server.auth.sender_login", rows)]));
        assert!(allows(&senders, "sales+press@example.com", "joe"));
        assert!(!allows(&senders, "sales+press@example.com", "jane"));
        assert!(allows(&senders, "sales+news@example.com", "jane"));
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
                let allowed = senders.allow_stranger(&Address::parse(sender).unwrap(), &recipients());
                assert_eq!(allowed, !refused.contains(&sender), "{sender} of {refused:?}");
            }
        }
    }

    #[test]
    fn no_spelling_of_a_mailbox_is_somebody_elses() {
        let rows = map(&[
            ("sales@example.com", &["jane"]),
            ("jörg@example.com", &["joe"]),
            ("näme", &["joe"]),
            ("sales+press@example.com", &["joe"]),
            ("x@partner.example", &["joe"]),
        ]);
        let senders = Senders::new(&slice(&[
            ("server.auth.sender_login", rows),
            ("server.auth.senders_need_login", Value::Bool(true)),
        ]));
        for (sender, owner) in [
            ("sales+x@example.com", Some("jane")),
            ("SALES+x+y@example.com", Some("jane")),
            ("sales+press@example.com", Some("joe")),
            ("JÖRG@example.com", Some("joe")),
            ("jo\u{308}rg@example.com", Some("joe")),
            ("JÖRG+list@example.com", Some("joe")),
            ("NÄME+x@example.org", Some("joe")),
            ("X@partner.example", Some("joe")),
            ("x+y@partner.example", None),
            ("+sales@example.com", None),
        ] {
            let stranger = senders.allow_stranger(&Address::parse(sender).unwrap(), &recipients());
            assert_eq!(stranger, owner.is_none(), "{sender} of nobody");
            for login in ["jane", "joe"] {
                let allowed = owner.is_none_or(|owner| owner == login);
                assert_eq!(allows(&senders, sender, login), allowed, "{sender} of {login}");
            }
        }
        let own_only = Senders::new(&slice(&[("server.auth.own_sender_only", Value::Bool(true))]));
        for (sender, login, allowed) in [
            ("JÖRG@example.com", "jörg", true),
            ("jane+list@example.com", "jane", true),
            ("jane+list@example.com", "jane@example.com", true),
            ("jane+list@elsewhere.example", "jane@elsewhere.example", false),
            ("jane@example.com", "jane+list", false),
        ] {
            assert_eq!(allows(&own_only, sender, login), allowed, "{sender} {login}");
        }
    }
}
