//! The users and groups of this host, as `/etc/passwd` and `/etc/group` had them when the rules were loaded: the jail lets
//! nobody read them later. A password that still stands in them is never shown.

use std::collections::HashMap;

/// Where the password stands in a line of either file.
const PASSWORD: usize = 1;

/// Lines by name, in lower case.
pub type Lines = HashMap<Box<str>, Box<str>>;

/// Users and groups.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: Lines,
    groups: Lines,
}

impl Accounts {
    /// Reads both files.
    pub fn parse(passwd: &str, group: &str) -> Self {
        Accounts { users: lines(passwd, 7), groups: lines(group, 4) }
    }

    /// The lines of a table as Postfix names it, `passwd.byname` or `group.byname`.
    pub fn table(&self, name: &str) -> Option<&Lines> {
        match name {
            "passwd.byname" => Some(&self.users),
            "group.byname" => Some(&self.groups),
            _ => None,
        }
    }
}

/// What is no line of so many fields counts for nothing; the first of a name counts, as in the C library.
fn lines(text: &str, fields: usize) -> Lines {
    let mut found = Lines::new();
    for line in text.lines() {
        let mut parts: Vec<&str> = line.split(':').collect();
        let name = parts.first().copied().unwrap_or_default();
        if parts.len() != fields || name.is_empty() || name.starts_with(['#', '+', '-']) {
            continue;
        }
        let key = name.to_lowercase();
        if let Some(password) = parts.get_mut(PASSWORD) {
            *password = "x";
        }
        found.entry(key.into()).or_insert_with(|| parts.join(":").into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_name_and_show_no_password() {
        let accounts = Accounts::parse(
            "root:x:0:0:root:/root:/bin/sh\nJane:$6$salt$hash:1000:1000:Jane D,,,:/home/jane:/bin/sh\n\
             jane:x:1:1::/:\n+nis:x:1:1:::\nbroken:x:1\n::0:0:::\n",
            "staff:secret:50:jane,joe\nbroken:x:1:a:b\n",
        );
        let (users, groups) =
            (accounts.table("passwd.byname").unwrap(), accounts.table("group.byname").unwrap());
        assert_eq!(&*users["root"], "root:x:0:0:root:/root:/bin/sh");
        assert_eq!(&*users["jane"], "Jane:x:1000:1000:Jane D,,,:/home/jane:/bin/sh");
        assert_eq!(&*groups["staff"], "staff:x:50:jane,joe");
        assert_eq!((users.len(), groups.len()), (2, 1));
        assert!(accounts.table("passwd").is_none());
    }
}
