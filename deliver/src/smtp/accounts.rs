//! Our accounts at next hops, from a file that is read before the jail. Passwords are in no log, no error and no `Debug`.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use vsmtp_config::TlsDestination;
use vsmtp_mail::NextHop;

use crate::smtp::sasl::Salted;

/// Most octets of the file.
const MAX_FILE: u64 = 1024 * 1024;
/// Permissions that nobody may have: any for others.
const OTHERS: u32 = 0o007;

/// The accounts by next hop.
#[derive(Default)]
pub struct Accounts {
    by_next_hop: HashMap<NextHop, Rc<Account>>,
}

/// One account.
#[derive(Clone)]
pub struct Account {
    /// Who we are there.
    pub user: Box<str>,
    /// The password, or for XOAUTH2 the token.
    pub password: Box<str>,
    /// The password is a token for XOAUTH2.
    pub token: bool,
    /// Encryption is enough: the server need not prove itself.
    pub unverified: bool,
    /// What SCRAM made of the password.
    pub salted: Salted,
}

/// Why the file cannot be used.
#[derive(Debug)]
pub enum AccountsError {
    /// Others may read or write it.
    Exposed,
    /// It is larger than a file of accounts is.
    TooLarge,
    /// That line is not `NEXT-HOP [xoauth2] [unverified] USER:PASSWORD`.
    Line(usize),
    /// It cannot be read.
    Io(std::io::Error),
}

impl Accounts {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or a line is wrong; the error shows nothing of the line.
    pub fn read(file: &mut std::fs::File) -> Result<Self, AccountsError> {
        if file.metadata().map_err(AccountsError::Io)?.mode() & OTHERS != 0 {
            return Err(AccountsError::Exposed);
        }
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(AccountsError::Io)?;
        if text.len() as u64 > MAX_FILE {
            return Err(AccountsError::TooLarge);
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, AccountsError> {
        let mut accounts = Accounts::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (next_hop, account) = parse_line(line).ok_or(AccountsError::Line(at + 1))?;
            accounts.by_next_hop.insert(next_hop, Rc::new(account));
        }
        Ok(accounts)
    }

    /// Our account at a next hop.
    pub fn of(&self, next_hop: &NextHop) -> Option<&Rc<Account>> {
        self.by_next_hop.get(next_hop)
    }

    /// Where we have accounts.
    pub fn next_hops(&self) -> impl Iterator<Item = &NextHop> {
        self.by_next_hop.keys()
    }
}

fn parse_line(line: &str) -> Option<(NextHop, Account)> {
    let (next_hop, mut rest) = line.split_once(char::is_whitespace)?;
    let TlsDestination::NextHop(next_hop) = TlsDestination::parse(next_hop)? else { return None };
    let (mut token, mut unverified) = (false, false);
    let (user, password) = loop {
        rest = rest.trim_start();
        match rest.split_once(char::is_whitespace) {
            Some(("xoauth2", more)) => (token, rest) = (true, more),
            Some(("unverified", more)) => (unverified, rest) = (true, more),
            _ => break rest.split_once(':')?,
        }
    };
    // NUL divides the words of PLAIN.
    let fits = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    let (name, salted) = (user.into(), Salted::default());
    let account = Account { user: name, password: password.into(), token, unverified, salted };
    (fits(user) && fits(password)).then_some((next_hop, account))
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Display for AccountsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountsError::Exposed => f.write_str("others may read or write it; chmod o= it"),
            AccountsError::TooLarge => f.write_str("it is too large"),
            AccountsError::Line(line) => {
                write!(f, "line {line} is not \"NEXT-HOP [xoauth2] [unverified] USER:PASSWORD\"")
            }
            AccountsError::Io(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn lines_name_a_next_hop_and_an_account() {
        let text = "# ours\n\n[smtp.example.net]:587 jane:pass:word with spaces\n\
                    example.com   xoauth2 unverified  joe:token\n";
        let accounts = Accounts::parse(text).unwrap();
        let of = |text| accounts.of(&NextHop::parse(text).unwrap()).unwrap();
        assert_eq!(&*of("smtp:[smtp.example.net]:587").password, "pass:word with spaces");
        let joe = of("smtp:example.com");
        assert!(&*joe.user == "joe" && joe.token && joe.unverified);
        assert!(accounts.of(&NextHop::parse("smtp:example.net").unwrap()).is_none());
        for bad in [
            "example.com",
            "example.com user",
            "example.com :x",
            "example.com x:",
            ".example.com a:b",
            "a b c",
        ] {
            assert!(matches!(Accounts::parse(bad), Err(AccountsError::Line(1))), "{bad}");
        }
    }

    #[test]
    fn nothing_shows_a_password_and_nobody_else_may_read_it() {
        let accounts = Accounts::parse("example.com jane:secret").unwrap();
        assert!(
            !format!("{:?}", accounts.of(&NextHop::parse("smtp:example.com").unwrap())).contains("secret")
        );
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"example.com jane:secret\n").unwrap();
        let read = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            Accounts::read(&mut file.reopen().unwrap())
        };
        assert!(read(0o640).is_ok() && matches!(read(0o644), Err(AccountsError::Exposed)));
    }
}
