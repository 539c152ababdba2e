//! From an address to the name of its mailbox on disk. Whatever a stranger writes into a local part, the result is one
//! safe path component for the domain and one for the user; two different users never share one.

use std::path::PathBuf;

use vsmtp_mail::{Address, fold_local_part};

/// Longest path component that common file systems take, less room for `.mbox.lock`.
const MAX_COMPONENT: usize = 240;
/// Endings that files beside the Maildirs have.
const RESERVED_ENDINGS: [&str; 2] = [".mbox", ".lock"];

/// Where one user's mail lies, relative to the mail root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxName {
    /// Folder of the domain.
    pub domain: String,
    /// Folder of the user's Maildir; the mbox has the same name with `.mbox`.
    pub user: String,
}

impl MailboxName {
    /// The mailbox of an address; `None` if no file name can hold it.
    ///
    /// Policy: the local part is folded to lower case and composed, and cut at the first delimiter that is not its first character.
    /// Characters outside `A-Z a-z 0-9`, the other atext of RFC 5322 and non-ASCII letters, a leading dot, and the dot
    /// of an ending that our own files have, become `%` and two hexadecimal digits.
    pub fn of(address: &Address, delimiters: &str) -> Option<Self> {
        let user = encode(&fold_local_part(without_extension(address.local_part(), delimiters)));
        let domain = encode(address.domain().as_str());
        let fits = user.len() <= MAX_COMPONENT && domain.len() <= MAX_COMPONENT;
        fits.then_some(MailboxName { domain, user })
    }

    /// A folder of the Maildir.
    pub fn maildir(&self, folder: &str) -> PathBuf {
        [&self.domain, &self.user, folder].iter().collect()
    }

    /// File name of the mbox, inside the domain's folder.
    pub fn mbox(&self) -> String {
        format!("{}.mbox", self.user)
    }
}

fn without_extension<'a>(local: &'a str, delimiters: &str) -> &'a str {
    let cut = local.char_indices().skip(1).find(|(_, c)| delimiters.contains(*c)).map(|(at, _)| at);
    cut.and_then(|at| local.get(..at)).unwrap_or(local)
}

fn encode(name: &str) -> String {
    let reserved_dot =
        RESERVED_ENDINGS.iter().find(|end| name.ends_with(**end)).map(|end| name.len() - end.len());
    let mut out = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        let plain = if c == '.' { at != 0 && Some(at) != reserved_dot } else { is_plain(c) };
        if plain {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$&'*+-=?^_`{|}~[]:".contains(c) || (!c.is_ascii() && c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use super::*;

    fn name(address: &str) -> (String, String) {
        let name = MailboxName::of(&Address::parse(address).unwrap(), "+").unwrap();
        (name.domain, name.user)
    }

    #[test]
    fn ordinary_names_stay_readable() {
        assert_eq!(name("Jane.Doe@Example.COM"), ("example.com".into(), "jane.doe".into()));
        assert_eq!(name("josé+lists+x@dst.test"), ("dst.test".into(), "josé".into()));
        assert_eq!(name("+x@[192.0.2.1]"), ("[192.0.2.1]".into(), "+x".into()));
    }

    #[test]
    fn no_local_part_leaves_its_folder_or_takes_anothers_file() {
        for (local, expected) in [
            (r#""..""#, "%2E."),
            (r#"".""#, "%2E"),
            (r#""../../etc/passwd""#, "%2E.%2F..%2Fetc%2Fpasswd"),
            (r#""a/b""#, "a%2Fb"),
            ("a%2Fb", "a%252fb"),
            (r#""a b\"c\\""#, "a%20b%22c%5C"),
            ("x.mbox", "x%2Embox"),
            ("x.mbox.lock", "x.mbox%2Elock"),
            (r#"".hidden""#, "%2Ehidden"),
        ] {
            assert_eq!(name(&format!("{local}@dst.test")).1, expected, "{local}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_local_part_gives_one_plain_component_and_keeps_its_own(one in "[^\\x00-\\x1f\\x7f]{1,16}", two in "[./%a+A]{1,4}") {
            let name = |local: &str| {
                let address = Address::new(local, vsmtp_mail::Domain::parse("dst.test").unwrap()).ok()?;
                MailboxName::of(&address, "").map(|name| name.user)
            };
            for user in [name(&one), name(&two)].into_iter().flatten() {
                let parts: Vec<_> = Path::new(&user).components().collect();
                proptest::prop_assert!(matches!(parts[..], [Component::Normal(_)]), "{user}");
            }
            if name(&one).is_some() && name(&one) == name(&two) {
                proptest::prop_assert_eq!(fold_local_part(&one), fold_local_part(&two));
            }
        }
    }
}
